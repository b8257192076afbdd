"""Graph, CostModel, Deadline → Schedule: a clock setting for every operator, or one for all of them.

The planner turns costs into a trellis, lets the one solver find the path, and says what the plan would cost beside the
baselines: the maximum clocks, the best single setting, and the faithful greedy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from amble.core.cost import Cost
from amble.core.errors import Infeasible
from amble.core.graph import Graph
from amble.core.point import DOMAINS, OperatingPoint
from amble.core.ports import CostModel, CostTable, FloatArray
from amble.core.profile import SwitchCost
from amble.core.quantity import format_time
from amble.core.schedule import Accounting, Baseline, Deadline, FrontierPoint, Schedule, Step
from amble.plan import search
from amble.plan.grain import blocks
from amble.plan.trellis import DomainSwitch, Ints, Solution, Trellis, Wait, totals
from amble.plan.waking import parking, waking

__all__ = ["fastest", "frontier", "per_operator", "single"]


_FRONTIER = 9  # budgets


@dataclass(frozen=True, slots=True)
class _Problem:
    """One planning problem as arrays: the trellis has a column for each block of operators.

    starts: [block], the first operator of each. ``wait`` is None where idle power is unknown.
    """

    graph: Graph
    costs: CostModel
    deadline: Deadline
    period_s: float
    table: CostTable
    trellis: Trellis
    starts: Ints
    wait: Wait | None

    @property
    def margin(self) -> float:
        return self.costs.margin(self.deadline.percentile)

    @property
    def budget_s(self) -> float:
        return self.deadline.latency_s / self.margin

    @property
    def metered(self) -> bool:
        return not bool(np.isnan(self.table.energy_j).any())

    @property
    def accounting(self) -> Accounting:
        return "gross" if self.wait is None else "period"


def per_operator(
    graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None = None, exact: bool = False
) -> Schedule:
    """Choose a point for every operator: least energy within the deadline, switches and waiting counted.

    ``period_s`` [s] is the time from one request to the next, the deadline unless given. ``exact`` closes the gap to
    the lower bound. Infeasible when even the fastest schedule is too slow. Without an energy meter the plan is the
    fastest schedule, and says so.
    """
    problem = _problem(graph, costs, deadline, period_s)
    if not problem.metered:
        return replace(
            fastest(graph, costs, deadline, period_s=period_s),
            notes=("energy is unknown on this device, so this is the fastest schedule, not the most frugal",),
        )
    solution = search.solve(problem.trellis, problem.budget_s, wait=problem.wait, exact=exact)
    if not solution.feasible:
        raise _too_slow(problem)
    baselines = tuple(_baseline(name, plan) for name, plan in _baselines(problem))
    return replace(_schedule(problem, solution, "trellis"), baselines=baselines)


def single(graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None = None) -> Schedule:
    """Choose the one point for all operators that needs least energy within the deadline."""
    problem = _problem(graph, costs, deadline, period_s)
    latency_s = problem.table.latency_s.sum(axis=0)
    energies = np.array([_alone(problem, node).energy_j for node in range(len(latency_s))])
    within = latency_s <= problem.budget_s * (1 + 1e-12)
    if not within.any():
        raise _too_slow(problem)
    ranked = energies if problem.metered else latency_s
    return _schedule(problem, _alone(problem, int(np.argmin(np.where(within, ranked, np.inf)))), "single")


def fastest(graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None = None) -> Schedule:
    """Run everything at the highest clocks, as performance governors do; the highest clocks also while waiting."""
    problem = _problem(graph, costs, deadline, period_s)
    node = int(np.argmax([_height(point) for point in problem.table.points]))
    return _schedule(problem, _alone(problem, node), "max")


def frontier(
    graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None = None
) -> tuple[FrontierPoint, ...]:
    """Plan for budgets from the fastest to twice the deadline's, at one period; nothing where energy is unknown."""
    problem = _problem(graph, costs, deadline, period_s)
    if not problem.metered:
        return ()
    least_s = float(problem.table.latency_s.sum(axis=0).min())
    budgets_s = np.geomspace(least_s * 1.001, min(2 * problem.budget_s, problem.period_s), _FRONTIER)
    found = search.frontier(problem.trellis, [float(each) for each in budgets_s], wait=problem.wait)
    points = {each.latency_s: FrontierPoint(each.latency_s, each.energy_j, each.lower_bound_j) for each in found}
    return tuple(points[latency_s] for latency_s in sorted(points))


def _problem(graph: Graph, costs: CostModel, deadline: Deadline, period_s: float | None) -> _Problem:
    table = costs.table(graph)
    idle = [costs.idle_w(point.clocks) for point in table.points]
    period_s = deadline.latency_s if period_s is None else period_s
    known = [each for each in idle if each is not None]
    wait = Wait(np.array(known), period_s) if len(known) == len(idle) else None
    known_j = np.nan_to_num(table.energy_j, nan=0.0)
    starts = blocks(
        table.latency_s,
        known_j,
        dwell_s=max((switch.settle_s for switch in costs.switches), default=0.0),
        budget_s=deadline.latency_s / costs.margin(deadline.percentile),
        idle_w=min(known, default=0.0),
    )
    latency_s, energy_j = (np.add.reduceat(each, starts, axis=0) for each in (table.latency_s, known_j))
    trellis = Trellis(latency_s, energy_j, _switch(table, costs, wait))
    return _Problem(graph, costs, deadline, period_s, table, trellis, starts, wait)


def _switch(table: CostTable, costs: CostModel, wait: Wait | None) -> DomainSwitch:
    """Charge a change its stall; the first one of a request, which nobody can ask for ahead, its settling too."""
    by_domain = {switch.domain: switch for switch in costs.switches}
    known = [by_domain.get(domain, SwitchCost(domain, Cost())) for domain in DOMAINS]
    levels = np.stack([_levels([point.clocks.of(domain) for point in table.points]) for domain in DOMAINS], axis=1)
    stall_s = np.array([switch.cost.latency_s for switch in known])
    stall_j = np.array([max(0.0, switch.cost.energy_j or 0.0) for switch in known])
    plain = DomainSwitch(levels, stall_s, stall_j)
    settle_s = np.array([switch.settle_s for switch in known])
    if wait is None or not settle_s.any():
        return plain
    begin_s, begin_j = plain.into(0, 1)
    wake_s, wake_j = waking(table.latency_s, table.energy_j, levels, settle_s)
    end_s, end_j = plain.into(1, 1)
    ends = ((begin_s + wake_s, begin_j + wake_j), (end_s, end_j + parking(wait.idle_w, settle_s)))
    return replace(plain, first=ends[0], last=ends[1])


def _levels(values: list[float | None]) -> Ints:
    return np.unique([0.0 if value is None else value for value in values], return_inverse=True)[1].astype(np.int64)


def _height(point: OperatingPoint) -> float:
    clocks = [point.clocks.of(domain) or 1.0 for domain in DOMAINS]
    return float(np.log(clocks).sum())


def _alone(problem: _Problem, node: int) -> Solution:
    """Return the path that stays at one node."""
    path = np.full(problem.trellis.num_operators, node, dtype=np.int64)
    cost = totals(problem.trellis, path, problem.wait, node if problem.wait else None)
    feasible = cost.latency_s <= problem.budget_s
    return Solution(path, node, cost.latency_s, cost.energy_j, cost.loss, -np.inf, np.inf, feasible)


def _baselines(problem: _Problem) -> list[tuple[str, Schedule]]:
    arguments = (problem.graph, problem.costs, problem.deadline)
    return [
        ("maximum clocks", fastest(*arguments, period_s=problem.period_s)),
        ("best single clocks", single(*arguments, period_s=problem.period_s)),
    ]


def _baseline(name: str, plan: Schedule) -> Baseline:
    return Baseline(name, plan.predicted, plan.predicted.latency_s <= plan.budget_s, plan.steps[0].point)


def _schedule(problem: _Problem, solution: Solution, planner: str) -> Schedule:
    path = np.repeat(solution.path, np.diff(np.append(problem.starts, len(problem.graph.operators))))
    points = [problem.table.points[node] for node in path]
    node = path[0] if solution.wait_node is None else solution.wait_node
    known = problem.metered
    return Schedule(
        graph=problem.graph.name,
        source=problem.graph.source,
        digest=problem.graph.digest,
        device=problem.costs.device,
        calibration=problem.costs.calibration,
        batch=problem.graph.batch,
        deadline=problem.deadline,
        period_s=problem.period_s,
        accounting=problem.accounting,
        margin=problem.margin,
        steps=tuple(_steps(problem, points, path)),
        wait=problem.table.points[node].clocks,
        predicted=Cost(solution.latency_s, solution.energy_j if known else None, solution.loss),
        lower_bound_j=solution.lower_bound_j if known and np.isfinite(solution.lower_bound_j) else None,
        planner=planner,
        switches=problem.costs.switches,
        idle_power_w=None if problem.wait is None else float(problem.wait.idle_w[node]),
        shapes=problem.graph.shapes,
    )


def _steps(problem: _Problem, points: list[OperatingPoint], path: Ints) -> list[Step]:
    rows = np.arange(len(path))
    latency_s: FloatArray = problem.table.latency_s[rows, path]
    energy_j: FloatArray = problem.table.energy_j[rows, path]
    return [
        Step(operator.name, point, Cost(float(t), None if np.isnan(e) else float(e)))
        for operator, point, t, e in zip(problem.graph.operators, points, latency_s, energy_j, strict=True)
    ]


def _too_slow(problem: _Problem) -> Infeasible:
    least_s = float(problem.table.latency_s.min(axis=1).sum()) * problem.margin
    return Infeasible(
        f"{problem.graph.name} on {problem.costs.device} cannot keep {problem.deadline}: the fastest schedule takes "
        f"{format_time(least_s)} at p{problem.deadline.percentile * 100:g}; allow that much, or use a smaller batch, "
        f"a lower precision or a smaller model",
        fastest_s=least_s,
    )
