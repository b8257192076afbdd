"""The greedy classifies, groups and plans as published; what its plan really costs is told."""

from itertools import pairwise

import numpy as np
import pytest

from amble.core.cost import Cost
from amble.core.errors import Infeasible
from amble.core.ports import CostTable
from amble.core.profile import SwitchCost
from amble.core.schedule import Deadline
from amble.stages.plan.clocks import per_operator
from amble.stages.plan.neurobalancer import balanced, classes, groups
from amble.stages.plan.problem import Task, pose
from amble.stages.plan.replay import replay
from amble.stages.plan.worth import break_even_s, worth
from tests.stages.plan.test_clocks import POINTS, MadeUp, energy_of, made_up

CORE, MEMORY = np.array([1, 1, 2, 2]), np.array([1, 2, 1, 2])
TIMES = np.array([1 / CORE, 1 / MEMORY, 0.5 / CORE + 0.5 / MEMORY, np.ones(4), 1 / CORE, 1 / CORE])
TABLE = CostTable(POINTS, TIMES, TIMES)


def test_operators_are_classed_by_the_clock_they_answer_to() -> None:
    assert classes(TABLE) == ("compute", "memory", "both", "neither", "compute", "compute")


def test_neighbours_of_one_class_are_one_group() -> None:
    assert groups(TABLE).tolist() == [0, 1, 2, 3, 4, 4]


def test_one_memory_clock_makes_no_operator_memory_bound() -> None:
    alone = CostTable(POINTS[::2], TIMES[:, ::2], TIMES[:, ::2])
    assert set(classes(alone)) == {"compute", "neither"}


@pytest.mark.parametrize("seed", range(4))
def test_a_greedy_plan_costs_what_it_says(seed: int) -> None:
    graph, costs = made_up(12, seed)
    plan = balanced(graph, costs, Deadline(1.6 * float(costs.latency_s.sum(axis=0).min())))
    path = tuple(POINTS.index(step.point) for step in plan.steps)
    latency_s, energy_j = energy_of(graph, costs, path, path[-1], plan.period_s)
    assert plan.predicted.latency_s == pytest.approx(latency_s)
    assert plan.predicted.energy_j == pytest.approx(energy_j)
    assert plan.lower_bound_j is None


@pytest.mark.parametrize("seed", range(4))
def test_the_greedy_is_never_better_than_the_optimum(seed: int) -> None:
    graph, costs = made_up(12, seed)
    deadline = Deadline(1.6 * float(costs.latency_s.sum(axis=0).min()))
    greedy, best = balanced(graph, costs, deadline), per_operator(graph, costs, deadline, exact=True)
    if greedy.predicted.latency_s <= greedy.budget_s:
        assert (greedy.predicted.energy_j or 0) >= (best.predicted.energy_j or 0) * (1 - 1e-9)


def test_clocks_change_only_between_groups() -> None:
    graph, costs = made_up(30, 1)
    plan = balanced(graph, costs, Deadline(1.4 * float(costs.latency_s.sum(axis=0).min())))
    of_group = groups(costs.table(graph))
    assert all(of_group[after.start] != of_group[after.start - 1] for after in plan.segments[1:])


def test_switching_that_breaks_the_deadline_is_told() -> None:
    slow = (SwitchCost("core", Cost(5e-3, 1e-3), 0.01), SwitchCost("memory", Cost(5e-3, 1e-3), 0.02))
    graph, costs = made_up(30, 1, switches=slow)
    plan = balanced(graph, costs, Deadline(1.05 * float(costs.latency_s.sum(axis=0).min())))
    assert len(plan.segments) > 1
    assert plan.predicted.latency_s > plan.budget_s
    assert "not foreseen" in plan.notes[0]


def test_a_deadline_below_the_fastest_is_refused() -> None:
    graph, costs = made_up()
    with pytest.raises(Infeasible):
        balanced(graph, costs, Deadline(0.5 * float(costs.latency_s.sum(axis=0).min())))


def test_a_replay_without_settling_adds_up() -> None:
    graph, costs = made_up(6, 3)
    task = Task(graph, costs, Deadline(1.0), 1.0)
    path = np.array([0, 0, 3, 3, 1, 2])
    latency_s, energy_j = energy_of(graph, costs, tuple(path.tolist()), 1, 1.0)
    found = replay(pose(task), path, 1)
    assert found.latency_s == pytest.approx(latency_s)
    assert found.energy_j == pytest.approx(energy_j)


@pytest.mark.parametrize("factor", [1.2, 1.5, 3.0])
def test_a_replay_of_a_plan_costs_what_the_plan_says(factor: float) -> None:
    settling = (SwitchCost("core", Cost(0.0, 1e-4), 0.004), SwitchCost("memory", Cost(0.0, 1e-4), 0.007))
    graph, costs = made_up(40, 4, switches=settling)
    deadline = Deadline(factor * float(costs.latency_s.sum(axis=0).min()))
    plan = per_operator(graph, costs, deadline, period_s=2 * deadline.latency_s, exact=True)
    path = np.array([POINTS.index(step.point) for step in plan.steps])
    wait = [point.clocks for point in POINTS].index(plan.wait)
    found = replay(pose(Task(graph, costs, deadline, plan.period_s)), path, wait)
    assert found.latency_s == pytest.approx(plan.predicted.latency_s, rel=1e-6)
    assert found.energy_j == pytest.approx(plan.predicted.energy_j, rel=1e-3)


def varied() -> tuple[MadeUp, Task]:
    """Half of the network wants a fast core, half a fast memory."""
    graph = made_up(40, 0)[0]
    latency_s = np.where(np.arange(40)[:, None] < 20, 1e-3 / CORE, 1e-3 / MEMORY) * np.ones((40, 4)) + 1e-5
    power_w = 0.5 + 2.0 * CORE + 2.0 * MEMORY + np.zeros((40, 4))
    better = MadeUp(latency_s, power_w, switches=(SwitchCost("core", Cost(1e-5, 1e-6), 1e-3),) * 1)
    return better, Task(graph, better, Deadline(0.025), 0.025)


def test_changing_clocks_is_worth_less_the_longer_it_takes() -> None:
    found = worth(varied()[1], (0.0, 1e-4, 1e-3, 1e-1))
    assert found[0].saving > 0.05
    assert all(after.saving <= before.saving + 2e-3 for before, after in pairwise(found))
    assert found[-1].saving == pytest.approx(0.0, abs=1e-9)
    assert found[-1].segments == 1
    assert all(each.lower_bound_j <= each.energy_j * (1 + 1e-9) for each in found)


def test_the_break_even_is_the_slowest_change_that_pays() -> None:
    found = worth(varied()[1], (0.0, 1e-4, 1e-1))
    assert break_even_s(found) == 1e-4
    assert break_even_s(found, least=0.99) is None
