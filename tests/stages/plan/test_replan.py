"""Tables of costs to go: what they promise is what the rest of the path costs, and late is said to be late."""

from __future__ import annotations

import timeit

import numpy as np
import pytest
from hypothesis import given, settings

from amble.stages.plan.replan import CostToGo, cost_to_go
from amble.stages.plan.search import Trellis, Wait, solve, totals
from tests.stages.plan.trellises import clock_pairs, small_trellises


def rest(trellis: Trellis, operator: int, held: int) -> Trellis:
    """What is left to run from before `operator`, holding a node."""
    return Trellis(trellis.latency_s[operator:], trellis.energy_j[operator:], trellis.switch, start=held)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(trellis=small_trellises().filter(lambda made: getattr(made.switch, "at_ends", None) is None))
def test_a_continuation_costs_what_it_says(trellis: Trellis) -> None:
    if trellis.switch is not None and trellis.switch.time_s.ndim == 3:
        return  # tables of steps cannot be cut short
    table = cost_to_go(trellis, lanes=6)
    for operator in range(trellis.num_operators):
        for held in range(trellis.num_nodes):
            for lane in np.flatnonzero(np.isfinite(table.time_s[operator, held])):
                cost = totals(rest(trellis, operator, held), table.path(operator, held, int(lane)))
                assert table.time_s[operator, held, lane] == pytest.approx(cost.latency_s)
                assert table.energy_j[operator, held, lane] == pytest.approx(cost.energy_j)


@pytest.fixture(scope="module")
def planned() -> tuple[Trellis, CostToGo]:
    trellis, _ = clock_pairs(seed=4, operators=40, cores=8, memories=4, switching=0.3)
    return trellis, cost_to_go(trellis)


def test_a_look_up_is_near_the_optimum_of_the_rest(planned: tuple[Trellis, CostToGo]) -> None:
    trellis, table = planned
    for operator, held in ((0, 3), (17, 20), (39, 5)):
        left = rest(trellis, operator, held)
        budget_s = 1.3 * solve(left, -1.0).latency_s
        found, best = table.look_up(operator, held, budget_s), solve(left, budget_s, exact=True)
        assert found.in_time
        assert found.time_s <= budget_s
        assert best.energy_j * (1 - 1e-9) <= found.energy_j <= best.energy_j * 1.15


def test_more_time_never_costs_more(planned: tuple[Trellis, CostToGo]) -> None:
    _, table = planned
    assert (np.diff(table.time_s, axis=2) >= 0).all()
    assert (np.diff(table.energy_j, axis=2) <= 1e-12).all()


def test_late_is_said_to_be_late_and_gets_the_fastest(planned: tuple[Trellis, CostToGo]) -> None:
    trellis, table = planned
    found = table.look_up(10, 7, 0.0)
    assert not found.in_time
    assert found.lane == 0
    assert found.time_s == pytest.approx(solve(rest(trellis, 10, 7), -1.0).latency_s)
    assert table.look_up(10, 7, found.time_s).in_time


def test_with_waiting_it_counts_above_idle_power() -> None:
    trellis, idle_w = clock_pairs(seed=6, operators=6, cores=4, memories=2, switching=0.3)
    wait = Wait(idle_w, period_s=1.0)
    table = cost_to_go(trellis, wait=wait, wait_node=0, lanes=8)
    lane = 4
    cost = totals(trellis, table.path(0, 0, lane), wait, 0)
    idle_j = float(idle_w[0]) * wait.period_s
    assert table.time_s[0, 0, lane] == pytest.approx(cost.latency_s)
    assert table.energy_j[0, 0, lane] == pytest.approx(cost.energy_j - idle_j)


def test_a_look_up_takes_microseconds(planned: tuple[Trellis, CostToGo]) -> None:
    _, table = planned
    times_s = timeit.repeat(lambda: table.look_up(20, 7, 0.002), number=100, repeat=20)
    assert min(times_s) / 100 < 20e-6


def test_wrong_arguments_are_named() -> None:
    trellis = Trellis(np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="two lanes or more"):
        cost_to_go(trellis, lanes=1)
    with pytest.raises(ValueError, match="a wait and its node together"):
        cost_to_go(trellis, wait=Wait(np.ones(2), 1.0))
