"""Graph, CostModel, Deadline → a planning problem as arrays; a path found through it → Schedule.

Every planner starts and ends here, so that all of them foresee the same switches, count the same joules and differ in
the path alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.cost import Cost
from amble.core.errors import Infeasible
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import CostModel, CostTable, FloatArray
from amble.core.profile import SwitchCost
from amble.core.quantity import format_excess, format_time
from amble.core.schedule import Accounting, Deadline, Schedule, Step
from amble.stages.plan.delayed import Rest, delays, switching
from amble.stages.plan.dual import SLACK
from amble.stages.plan.grain import blocks
from amble.stages.plan.trellis import Ints, Solution, Trellis, Wait, totals

__all__ = ["Problem", "Task", "alone", "fastest_alone", "highest", "pose", "to_schedule", "too_slow"]


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked: a network with its costs, answers within a deadline, a request every ``period_s`` [s]."""

    graph: Graph
    costs: CostModel
    deadline: Deadline
    period_s: float

    def __post_init__(self) -> None:
        """Refuse what no period can be."""
        if not 0 < self.period_s < np.inf:
            raise ValueError(f"the time from one request to the next must be positive, not {self.period_s} s")

    @property
    def margin(self) -> float:
        """Return the ratio of the latency at the asked percentile to the predicted one, as the costs promise it."""
        return self.costs.margin(self.deadline.percentile)

    @property
    def budget_s(self) -> float:
        """Return the predicted latency [s] that keeps the deadline."""
        return self.deadline.latency_s / self.margin


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A task as arrays: the trellis has a column for each block of operators.

    starts: [block], the first operator of each. ``wait`` is None where idle power is unknown. Every path of the trellis
    takes longer than the schedule it stands for, by ``ahead_s`` [s] in total, and ``wait`` knows of it.
    each_ahead_s: [block], how much of that is in the step into it.
    """

    task: Task
    table: CostTable
    trellis: Trellis
    starts: Ints
    wait: Wait | None
    each_ahead_s: FloatArray
    switches: tuple[SwitchCost, ...]

    @property
    def ahead_s(self) -> float:
        """Return how much longer [s] every path takes than its schedule."""
        return float(self.each_ahead_s.sum())

    @property
    def limit_s(self) -> float:
        """Return the budget [s] as the trellis counts time."""
        return self.task.budget_s + self.ahead_s

    @property
    def metered(self) -> bool:
        """Tell whether energy is known."""
        return not bool(np.isnan(self.table.energy_j).any())

    @property
    def accounting(self) -> Accounting:
        """Return what the energies of paths count."""
        return "gross" if self.wait is None else "period"


def pose(task: Task, *, switches: Sequence[SwitchCost] | None = None) -> Problem:
    """Lay a task out; ``switches`` replaces what the device was measured to need for a change of clocks."""
    known = task.costs.switches if switches is None else tuple(switches)
    table = task.costs.table(task.graph)
    idle = [task.costs.idle_w(point.clocks) for point in table.points]
    idle_w = None if None in idle else np.array(idle, dtype=np.float64)
    energy_j = np.nan_to_num(table.energy_j, nan=0.0)
    changes = delays(table.points, known)
    starts = blocks(
        table.latency_s,
        energy_j,
        settle_s=float(changes.settle_s.max()),
        budget_s=task.budget_s,
        idle_w=0.0 if idle_w is None else float(idle_w.min()),
    )
    rest = Rest(idle_w, task.period_s - task.budget_s)
    switch, each_ahead_s = switching(table.latency_s, energy_j, starts, changes, rest)
    by_block_s, by_block_j = (np.add.reduceat(each, starts, axis=0) for each in (table.latency_s, energy_j))
    wait = None if idle_w is None else Wait(idle_w, task.period_s + float(each_ahead_s.sum()))
    return Problem(task, table, Trellis(by_block_s, by_block_j, switch), starts, wait, each_ahead_s, known)


def highest(points: Sequence[OperatingPoint]) -> int:
    """Return the index of the point with the highest clocks, and the highest power limit."""
    knobs = [[setting or 1.0 for setting in point.clocks.knobs()] for point in points]
    return int(np.log(knobs).sum(axis=1).argmax())


def alone(problem: Problem, node: int) -> Solution:
    """Return the path that stays at one node, also while waiting."""
    path = np.full(problem.trellis.num_operators, node, dtype=np.int64)
    cost = totals(problem.trellis, path, problem.wait, node if problem.wait else None)
    feasible = cost.latency_s <= problem.limit_s * (1 + SLACK)
    return Solution(path, node, cost.latency_s, cost.energy_j, cost.loss, -np.inf, np.inf, feasible)


def to_schedule(problem: Problem, solution: Solution, planner: str) -> Schedule:
    """Say in full what a path means."""
    task, known = problem.task, problem.metered
    path = np.repeat(solution.path, np.diff(np.append(problem.starts, len(task.graph.operators))))
    node = int(path[0]) if solution.wait_node is None else solution.wait_node
    return Schedule(
        task.graph.subject,
        task.costs.where,
        deadline=task.deadline,
        period_s=task.period_s,
        accounting=problem.accounting,
        margin=task.margin,
        steps=_steps(problem, path),
        wait=problem.table.points[node].clocks,
        predicted=Cost(solution.latency_s - problem.ahead_s, solution.energy_j if known else None),
        lower_bound_j=solution.lower_bound_j if known and np.isfinite(solution.lower_bound_j) else None,
        planner=planner,
        switches=problem.switches,
        idle_power_w=None if problem.wait is None else float(problem.wait.idle_w[node]),
    )


def _steps(problem: Problem, path: Ints) -> tuple[Step, ...]:
    rows = np.arange(len(path))
    latency_s: FloatArray = problem.table.latency_s[rows, path]
    energy_j: FloatArray = problem.table.energy_j[rows, path]
    points = [problem.table.points[node] for node in path]
    each = zip(problem.task.graph.operators, points, latency_s.tolist(), energy_j.tolist(), strict=True)
    return tuple(Step(op.name, point, Cost(t, None if np.isnan(e) else e)) for op, point, t, e in each)


def too_slow(problem: Problem) -> Infeasible:
    """Return the error for a deadline that no schedule keeps; it carries the fastest one."""
    task = problem.task
    typical_s = float(problem.table.latency_s.sum(axis=0).min())
    least_s = typical_s * task.margin
    late = least_s > task.deadline.latency_s or typical_s <= task.period_s
    what = f"keep {task.deadline}" if late else f"answer a request every {format_time(task.period_s)}"
    takes = f"{format_time(least_s)} at p{task.deadline.percentile * 100:g}" if late else format_time(typical_s)
    over = least_s / task.deadline.latency_s if late else typical_s / task.period_s
    return Infeasible(
        f"{task.graph.name} on {task.costs.where.device} cannot {what}: the fastest schedule takes {takes}, "
        f"{format_excess(over)}; allow that much, or use a smaller batch, a lower precision or a smaller model",
        fastest_s=least_s,
        fastest=fastest_alone(problem),
    )


def fastest_alone(problem: Problem) -> Schedule:
    """Return the fastest schedule that holds one setting."""
    node = int(problem.trellis.latency_s.sum(axis=0).argmin())
    return to_schedule(problem, alone(problem, node), "max")
