"""The knapsack greedy: the case that separates good from bad, its bound, and what it does not foresee."""

from __future__ import annotations

import numpy as np
import pytest

from amble.stages.plan.greedy import greedy, hull_greedy
from amble.stages.plan.search import DomainSwitch, Trellis, Wait, solve
from tests.stages.plan.trellises import clock_pairs

BLOCKED = Trellis(np.array([[0.0, 1, 2], [0, 1, 2]]), np.array([[10.0, 9.9, 2], [10, 9, 8.5]]))


def test_a_poor_point_blocks_the_plain_greedy_but_not_the_one_on_the_hull() -> None:
    assert greedy(BLOCKED, 2.0).energy_j == pytest.approx(18.5)
    assert hull_greedy(BLOCKED, 2.0).energy_j == pytest.approx(12.0)


def test_the_hull_leaves_no_gap_where_its_last_step_fits_exactly() -> None:
    found = hull_greedy(BLOCKED, 2.0)
    assert found.lower_bound_j == pytest.approx(12.0)
    assert found.gap == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("looseness", [1.0, 1.05, 1.3, 2.0, 9.0])
def test_without_switching_bound_optimum_and_greedy_are_in_order(looseness: float) -> None:
    made, _ = clock_pairs(seed=2, operators=25, cores=6, memories=4)
    trellis = Trellis(made.latency_s, made.energy_j)
    budget_s = looseness * made.latency_s.min(axis=1).sum()
    best = solve(trellis, budget_s, exact=True)
    on_hull = hull_greedy(trellis, budget_s)
    assert on_hull.lower_bound_j <= best.energy_j * (1 + 1e-9)
    for found in (greedy(trellis, budget_s), on_hull):
        assert found.feasible
        assert found.latency_s <= budget_s * (1 + 1e-9)
        assert best.energy_j * (1 - 1e-9) <= found.energy_j
    assert on_hull.energy_j <= best.energy_j * 1.02


def test_operators_of_a_group_share_a_node_and_count_as_often_as_they_occur() -> None:
    latency_s, energy_j = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 1.9]]), np.array([[9.0, 5.0], [9.0, 5.0], [9.0, 6.0]])
    trellis = Trellis(latency_s, energy_j)
    groups = np.array([7, 7, 3])
    assert greedy(trellis, 4.95, groups=groups).path.tolist() == [0, 0, 1]
    assert greedy(trellis, 5.0, groups=groups).path.tolist() == [1, 1, 0]
    assert greedy(trellis, 4.95).path.tolist() == [1, 0, 1]


def test_switches_are_charged_though_not_foreseen() -> None:
    switch = DomainSwitch(np.array([[0], [1]]), np.array([0.5]), np.array([3.0]))
    trellis = Trellis(np.array([[1.0, 2.0], [1.0, 9.0]]), np.array([[9.0, 5.0], [9.0, 1.0]]), switch)
    found = greedy(trellis, 3.0)
    assert found.path.tolist() == [1, 0]
    assert found.latency_s == pytest.approx(3.5)
    assert found.energy_j == pytest.approx(5 + 9 + 3)
    assert not found.feasible


def test_a_budget_below_the_fastest_gives_the_fastest_and_says_so() -> None:
    for planner in (greedy, hull_greedy):
        found = planner(BLOCKED, -1.0)
        assert found.path.tolist() == [0, 0]
        assert not found.feasible


def test_with_waiting_the_energy_is_that_of_the_period() -> None:
    found = greedy(BLOCKED, 2.0, wait=Wait(np.array([1.0, 2.0, 3.0]), period_s=5.0))
    assert found.wait_node == found.path[-1]
    assert found.energy_j == pytest.approx(18.5 + (5 - 2) * [1.0, 2.0, 3.0][found.path[-1]])


def test_a_group_without_a_common_node_is_refused() -> None:
    trellis = Trellis(np.array([[1.0, np.inf], [np.inf, 1.0]]), np.ones((2, 2)))
    with pytest.raises(ValueError, match="all of them may use"):
        greedy(trellis, 5.0, groups=np.array([0, 0]))
