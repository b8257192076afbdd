"""The solver against every path tried, against a mixed integer programme, and against what must always hold."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amble.stages.plan.search import DenseSwitch, DomainSwitch, Solution, Trellis, Wait, frontier, solve, totals
from tests.stages.plan.programme import solve_as_programme
from tests.stages.plan.trellises import best_by_trying, clock_pairs, small_trellises

SLOW = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
NEAR = 1e-8


def check(found: Solution, best_j: float, *, within: float) -> None:
    """Hold a solution against the optimum."""
    assert found.feasible == math.isfinite(best_j)
    if found.feasible:
        rounding_j = NEAR * abs(best_j)
        assert found.lower_bound_j <= best_j + rounding_j
        assert best_j - rounding_j <= found.energy_j <= best_j + within * abs(best_j) + rounding_j
        assert found.gap <= within + NEAR


@SLOW
@given(trellis=small_trellises(), share=st.floats(0.1, 1.3))
def test_it_equals_trying_every_path(trellis: Trellis, share: float) -> None:
    budget_s = share * trellis.num_operators
    best_j = best_by_trying(trellis, budget_s)
    check(solve(trellis, budget_s), best_j, within=1e-3)
    check(solve(trellis, budget_s, exact=True), best_j, within=NEAR)


@SLOW
@given(trellis=small_trellises(), share=st.floats(0.1, 1.3), spare=st.sampled_from([0.8, 1, 1.5]), data=st.data())
def test_with_waiting_it_equals_trying_every_path_and_node(
    trellis: Trellis, share: float, spare: float, data: st.DataObject
) -> None:
    budget_s = share * trellis.num_operators
    powers = st.lists(st.sampled_from([0, 0.1, 0.1, 0.4, 1, math.inf]), min_size=trellis.num_nodes - 1, max_size=9)
    idle_w = np.array([0.3, *data.draw(powers)])[: trellis.num_nodes]
    wait = Wait(idle_w, period_s=budget_s * spare)
    best_j = best_by_trying(trellis, budget_s, wait)
    check(solve(trellis, budget_s, wait=wait), best_j, within=1e-3)
    check(solve(trellis, budget_s, wait=wait, exact=True), best_j, within=NEAR)


@SLOW
@given(trellis=small_trellises(), share=st.floats(0.3, 1.3), lost=st.floats(0.1, 0.9))
def test_with_a_loss_budget_it_equals_trying_every_path(trellis: Trellis, share: float, lost: float) -> None:
    budget_s, max_loss = share * trellis.num_operators, lost * trellis.num_operators
    best_j = best_by_trying(trellis, budget_s, max_loss=max_loss)
    check(solve(trellis, budget_s, max_loss=max_loss), best_j, within=1e-3)
    check(solve(trellis, budget_s, max_loss=max_loss, exact=True), best_j, within=NEAR)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(trellis=small_trellises(), share=st.floats(0.3, 1.3), lost=st.floats(0.2, 0.9))
def test_with_waiting_and_a_loss_budget_too(trellis: Trellis, share: float, lost: float) -> None:
    budget_s, max_loss = share * trellis.num_operators, lost * trellis.num_operators
    wait = Wait(np.linspace(0.1, 0.9, trellis.num_nodes), period_s=budget_s)
    best_j = best_by_trying(trellis, budget_s, wait, max_loss)
    check(solve(trellis, budget_s, wait=wait, max_loss=max_loss, exact=True), best_j, within=NEAR)


@SLOW
@given(trellis=small_trellises(), share=st.floats(0.1, 1.3))
def test_a_solution_costs_what_its_path_costs(trellis: Trellis, share: float) -> None:
    budget_s = share * trellis.num_operators
    wait = Wait(np.linspace(0.1, 0.9, trellis.num_nodes), period_s=budget_s)
    for chosen in (None, wait):
        found = solve(trellis, budget_s, wait=chosen)
        if len(found.path):
            cost = totals(trellis, found.path, chosen, found.wait_node)
            assert (found.latency_s, found.energy_j, found.loss) == (cost.latency_s, cost.energy_j, cost.loss)
            assert not found.feasible or found.latency_s <= budget_s * (1 + 1e-11)


@SLOW
@given(trellis=small_trellises())
def test_a_budget_of_exactly_the_fastest_path_is_kept_and_less_is_not(trellis: Trellis) -> None:
    fastest = solve(trellis, -1.0)
    assert not fastest.feasible
    assert fastest.lower_bound_j == math.inf
    if not len(fastest.path):
        return
    assert solve(trellis, fastest.latency_s).feasible
    less = solve(trellis, fastest.latency_s * (1 - 1e-6))
    assert not less.feasible
    assert less.latency_s == pytest.approx(fastest.latency_s)


@pytest.mark.parametrize("switching", [0.0, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("looseness", [1.02, 1.3, 2.0])
def test_it_equals_an_integer_programme(switching: float, looseness: float) -> None:
    trellis, _ = clock_pairs(seed=3, operators=8, cores=3, memories=2, switching=switching)
    budget_s = looseness * trellis.latency_s.min(axis=1).sum()
    best_j = solve_as_programme(trellis, budget_s)
    check(solve(trellis, budget_s), best_j, within=1e-3)
    check(solve(trellis, budget_s, exact=True), best_j, within=NEAR)


def nearly_alike(seed: int) -> Trellis:
    """Paths that differ by some thousandths in energy, so that a search may stop short of the best of them."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(3, 6)), int(rng.integers(2, 5)))
    latency_s = rng.uniform(0.1, 1.0, shape)
    energy_j = 2.0 + 5e-3 * (1.0 - latency_s) + rng.uniform(0.0, 2e-3, shape)
    tables = rng.uniform(0.0, 1e-3, (2, shape[1], shape[1])) * (1.0 - np.eye(shape[1]))
    return Trellis(latency_s, energy_j, DenseSwitch(*tables) if seed % 2 else None, loss=rng.uniform(0.1, 1.0, shape))


@pytest.mark.parametrize("kind", ["run", "wait", "loss"])
def test_where_the_search_stops_short_of_the_optimum_its_bound_does_not_pass_it(kind: str) -> None:
    short = 0
    for seed in range(60):
        trellis = nearly_alike(seed)
        budget_s = (0.35 + 0.3 * (seed % 7) / 7) * trellis.num_operators
        wait = Wait(np.linspace(0.0, 2e-3, trellis.num_nodes), 2 * budget_s) if kind == "wait" else None
        max_loss = 0.5 * trellis.num_operators if kind == "loss" else None
        found = solve(trellis, budget_s, wait=wait, max_loss=max_loss)
        best_j = best_by_trying(trellis, budget_s, wait, math.inf if max_loss is None else max_loss)
        check(found, best_j, within=1e-3)
        if found.feasible:
            assert found.gap == pytest.approx((found.energy_j - found.lower_bound_j) / found.energy_j, abs=1e-12)
            short += found.energy_j > best_j * (1 + 1e-6)
    assert short >= 5, "a search that always finds the optimum says nothing of its bound"


@pytest.mark.parametrize("switching", [0.0, 0.1, 1.0, 10.0])
def test_realistic_gaps_are_small(switching: float) -> None:
    trellis, idle_w = clock_pairs(seed=5, operators=120, cores=12, memories=6, switching=switching)
    budget_s = 1.2 * trellis.latency_s.min(axis=1).sum()
    for wait in (None, Wait(idle_w, budget_s), Wait(idle_w, 3 * budget_s)):
        assert solve(trellis, budget_s, wait=wait).gap <= 1e-3


def test_exact_closes_a_hundred_operators_over_a_grid() -> None:
    trellis, idle_w = clock_pairs(seed=7, operators=100, cores=12, memories=4, switching=0.5)
    budget_s = 1.15 * trellis.latency_s.min(axis=1).sum()
    found = solve(trellis, budget_s, wait=Wait(idle_w, budget_s), exact=True)
    assert found.gap <= 1e-8


def test_a_path_of_no_energy_has_a_gap_of_none_or_without_end() -> None:
    """Energies may be differences: the best path may take nothing at all, above a bound that is below it or not."""
    met = solve(Trellis(np.array([[1.0]]), np.array([[0.0]])), 2.0)
    assert (met.energy_j, met.lower_bound_j, met.gap) == (0.0, 0.0, 0.0)
    missed = solve(Trellis(np.array([[7.0, 5.0, 1.0]]), np.array([[-1.0, 0.0, 1.0]])), 5.0)
    assert missed.energy_j == 0.0
    assert missed.lower_bound_j < 0.0
    assert missed.gap == math.inf


def test_a_looser_deadline_never_costs_more() -> None:
    trellis, idle_w = clock_pairs(seed=11, operators=40, cores=6, memories=3)
    fastest_s = trellis.latency_s.min(axis=1).sum()
    wait = Wait(idle_w, 4 * fastest_s)
    budgets_s = fastest_s * np.linspace(1.05, 3.0, 14)
    exact = [found.energy_j for found in frontier(trellis, budgets_s, wait=wait, exact=True)]
    assert all(after <= before * (1 + NEAR) for before, after in itertools.pairwise(exact))
    for found, best_j in zip(frontier(trellis, budgets_s, wait=wait), exact, strict=True):
        assert found.lower_bound_j <= best_j * (1 + NEAR)
        assert best_j * (1 - NEAR) <= found.energy_j <= best_j * (1 + 1e-3)


def test_domain_switching_equals_the_same_costs_in_a_table() -> None:
    trellis, _ = clock_pairs(seed=13, operators=30, cores=5, memories=4, switching=0.3)
    table = Trellis(trellis.latency_s, trellis.energy_j, DenseSwitch(*trellis.into(1)))
    budget_s = 1.1 * trellis.latency_s.min(axis=1).sum()
    energies = [solve(each, budget_s, exact=True).energy_j for each in (trellis, table)]
    assert energies[0] == pytest.approx(energies[1], rel=NEAR)


def test_prohibitive_switching_leaves_one_node() -> None:
    trellis, _ = clock_pairs(seed=17, operators=20, cores=4, memories=3, switching=1e4)
    budget_s = 1.4 * trellis.latency_s.min(axis=1).sum()
    within = trellis.latency_s.sum(axis=0) <= budget_s
    found = solve(trellis, budget_s, exact=True)
    assert len(set(found.path.tolist())) == 1
    assert found.energy_j == pytest.approx(trellis.energy_j.sum(axis=0)[within].min())


def test_switches_that_may_never_happen_never_do() -> None:
    switch = DomainSwitch(np.array([[0, 0], [0, 1], [1, 0]]), np.array([np.inf, 0.0]), np.array([0.0, 0.1]))
    energy_j = np.array([[3.0, 4.0, 0.1], [3.0, 1.0, 9.0]])
    found = solve(Trellis(np.ones((2, 3)), energy_j, switch), 2.0)
    assert found.path.tolist() == [0, 1]
    assert found.energy_j == pytest.approx(4.1)


def test_a_table_without_any_path_is_said_to_have_none() -> None:
    barred = np.full((2, 2), np.inf)
    found = solve(Trellis(np.ones((3, 2)), np.ones((3, 2)), DenseSwitch(barred, barred)), 10.0)
    assert not found.feasible
    assert found.path.tolist() == []
    assert found.latency_s == math.inf


def test_waiting_moves_to_the_calm_node_only_if_the_period_pays_for_it() -> None:
    switch = DomainSwitch(np.array([[0], [1]]), np.array([0.1]), np.array([1.0]))
    trellis = Trellis(np.array([[1.0, 3.0]]), np.array([[5.0, 9.0]]), switch)
    short, long = (solve(trellis, 2.0, wait=Wait(np.array([1.0, 0.5]), period_s=period)) for period in (3.0, 9.0))
    assert (short.path.tolist(), short.wait_node) == ([0], 0)
    assert short.energy_j == pytest.approx(5 + 2 * 1.0)
    assert (long.path.tolist(), long.wait_node) == ([0], 1)
    assert long.latency_s == pytest.approx(1.1)
    assert long.energy_j == pytest.approx(5 + 1 + 1 + (9 - 1.2) * 0.5)


def test_many_equal_operators_are_no_trap() -> None:
    latency_s, energy_j = np.tile([1.0, 2.0, 3.0], (60, 1)), np.tile([9.0, 5.0, 4.0], (60, 1))
    found = solve(Trellis(latency_s, energy_j), 125.0, exact=True)
    assert found.energy_j == pytest.approx(60 * 5 - 5)
    assert found.gap <= 1e-8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget_s": math.nan}, "budget_s must be finite"),
        ({"budget_s": 1.0, "max_loss": 0.1}, "what each node loses"),
        ({"budget_s": 1.0, "wait": Wait(np.ones(3), 1.0)}, "one value per node: 2, not 3"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(Trellis(np.ones((1, 2)), np.ones((1, 2))), **arguments)
