"""Graph, CostModel, Deadline → Schedule: a clock setting for every operator, or one for all of them.

The planner turns costs into a trellis, lets the one solver find the path, and says what the plan would cost beside the
baselines: the maximum clocks and the best single setting.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from amble.core.graph import Graph
from amble.core.ports import CostModel
from amble.core.quantity import format_time
from amble.core.schedule import Baseline, Deadline, FrontierPoint, Schedule
from amble.stages.plan import search
from amble.stages.plan.problem import Problem, Task, alone, highest, pose, to_schedule, too_slow
from amble.stages.plan.trellis import Solution

__all__ = ["baselines", "best_alone", "fastest", "frontier", "per_operator", "single"]


_FRONTIER = 9  # budgets
_WORTH = 2e-3  # share of the energy that changing clocks must save, less than which predictions cannot tell


def per_operator(
    graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None = None, exact: bool = False
) -> Schedule:
    """Choose a point for every operator: least energy within the deadline, switches and waiting counted.

    ``period_s`` [s] is the time from one request to the next, the deadline unless given. ``exact`` closes the gap to
    the lower bound. Where changing clocks saves too little to be told apart, one setting runs all, and the notes say
    so. Infeasible when even the fastest schedule is too slow. Without an energy meter the plan is the fastest schedule,
    and says so.
    """
    problem = _posed(graph, costs, deadline, period_s)
    if not problem.metered:
        return replace(
            _fastest(problem),
            notes=("energy is unknown on this device, so this is the fastest schedule, not the most frugal",),
        )
    solution = search.solve(problem.trellis, problem.limit_s, wait=problem.wait, exact=exact)
    if not solution.feasible:
        raise too_slow(problem)
    steady = best_alone(problem)
    if steady is not None and not exact:
        solution = _steadied(solution, [steady])
    plan = to_schedule(problem, solution, "trellis")
    return replace(plan, baselines=baselines(problem), notes=_notes(problem, plan, steady))


def single(graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None = None) -> Schedule:
    """Choose the one point for all operators that needs least energy within the deadline."""
    problem = _unswitched(graph, costs, deadline, period_s)
    found = best_alone(problem)
    if found is None:
        raise too_slow(problem)
    return to_schedule(problem, found, "single")


def fastest(graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None = None) -> Schedule:
    """Run everything at the highest clocks, as performance governors do; the highest clocks also while waiting."""
    return _fastest(_unswitched(graph, costs, deadline, period_s))


def frontier(
    graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None = None
) -> tuple[FrontierPoint, ...]:
    """Plan for budgets from the fastest to twice the deadline's, at one period; nothing where energy is unknown."""
    problem = _posed(graph, costs, deadline, period_s)
    if not problem.metered:
        return ()
    least_s = float(problem.table.latency_s.sum(axis=0).min())
    most_s = min(2 * problem.task.budget_s, problem.task.period_s)
    spread_s = np.geomspace(least_s * 1.001, max(most_s, least_s * 1.001), _FRONTIER)
    budgets_s = np.unique(np.append(spread_s, problem.task.budget_s)) + problem.ahead_s
    found = search.frontier(problem.trellis, budgets_s.tolist(), wait=problem.wait)
    singles = [alone(problem, node) for node in range(problem.trellis.num_nodes)]
    chosen = [
        _steadied(each, [single for single in singles if single.latency_s <= budget_s * (1 + 1e-12)])
        for each, budget_s in zip(found, budgets_s.tolist(), strict=True)
        if each.feasible
    ]
    points = {
        each.latency_s: FrontierPoint(each.latency_s - problem.ahead_s, each.energy_j, each.lower_bound_j)
        for each in chosen
    }
    return tuple(points[latency_s] for latency_s in sorted(points))


def _steadied(solution: Solution, singles: list[Solution]) -> Solution:
    """Return the best of single settings where changing clocks saves too little to be told apart."""
    steady = min(singles, key=lambda each: each.energy_j, default=None)
    if steady is None or steady.energy_j * (1 - _WORTH) > solution.energy_j:
        return solution
    return replace(steady, lower_bound_j=solution.lower_bound_j)


def baselines(problem: Problem) -> tuple[Baseline, ...]:
    """Return what the maximum clocks and the best single ones would cost; the latter only where one is fast enough."""
    steady = best_alone(problem)
    plans = [("maximum clocks", _fastest(problem))]
    if steady is not None:
        plans.append(("best single clocks", to_schedule(problem, steady, "single")))
    return tuple(
        Baseline(
            name,
            plan.predicted,
            plan.predicted.latency_s <= plan.budget_s * (1 + 1e-9),
            plan.steps[0].point,
            plan.idle_power_w,
        )
        for name, plan in plans
    )


def _posed(graph: Graph, costs: CostModel, deadline: Deadline, period_s: float | None) -> Problem:
    return pose(Task(graph, costs, deadline, deadline.latency_s if period_s is None else period_s))


def _unswitched(graph: Graph, costs: CostModel, deadline: Deadline, period_s: float | None) -> Problem:
    """Pose the problem of who never changes clocks, for whom it need not be known what changing costs."""
    task = Task(graph, costs, deadline, deadline.latency_s if period_s is None else period_s)
    return replace(pose(task, switches=()), switches=costs.switches)


def _fastest(problem: Problem) -> Schedule:
    return to_schedule(problem, alone(problem, highest(problem.table.points)), "max")


def best_alone(problem: Problem) -> Solution | None:
    """Return the best path that stays at one node; the fastest where energy is unknown; None where all are late."""
    found = [alone(problem, node) for node in range(problem.trellis.num_nodes)]
    within = [each for each in found if each.feasible]
    return min(within, key=lambda each: each.energy_j if problem.metered else each.latency_s, default=None)


def _notes(problem: Problem, plan: Schedule, steady: Solution | None) -> tuple[str, ...]:
    """Say what changing clocks is worth here."""
    settle_s = max((switch.settle_s for switch in problem.switches), default=0.0)
    slow = f"a change takes {format_time(settle_s)} to settle, the network {format_time(plan.predicted.latency_s)}"
    if len(plan.segments) == 1 and all(step.point.clocks == plan.wait for step in plan.steps):
        return (f"one setting for everything: changing clocks within a request does not pay ({slow})",)
    places = f"{len(plan.segments)} segments; clocks could change at {len(problem.starts) - 1} places ({slow})"
    if steady is None or plan.predicted.energy_j is None:
        return (f"{places}; no single setting keeps the deadline",)
    saved = 1 - plan.predicted.energy_j / steady.energy_j
    return (f"{places}; saves {100 * saved:.2g} % over the best single setting",)
