"""Graph, CostModel, Deadline → Schedule by NeuroBalancer's greedy: slack goes where a second saves most energy.

Bin, Kim, Ha, Chong, Lee, "NeuroBalancer", IEEE Trans. Mobile Computing 24(5), 2025 (DOI 10.1109/TMC.2024.3524628):
operators are classified, each class has latency and energy over (core, memory) pairs, and a multiple-choice knapsack
gives the slack away; clocks change only where one group of operators ends and another begins. The paper's code is not
public. As there, the plan foresees neither how long changes take nor what idling costs; what it then really costs is
found by replaying it, and the notes say when that breaks the deadline.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from amble.core.graph import Graph
from amble.core.ports import CostModel, CostTable
from amble.core.quantity import format_time
from amble.core.schedule import Deadline, Schedule
from amble.stages.plan.clocks import baselines
from amble.stages.plan.greedy import greedy
from amble.stages.plan.problem import Problem, Task, pose, to_schedule, too_slow
from amble.stages.plan.replay import replay
from amble.stages.plan.trellis import Ints, Solution, Trellis

__all__ = ["Kind", "balanced", "classes", "groups"]

Kind = Literal["compute", "memory", "both", "neither"]

_FELT = 0.25  # elasticity of time in a clock from which an operator is said to be bound by it


def balanced(graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None = None) -> Schedule:
    """Plan by the greedy. Infeasible when even the fastest pairs are too slow, or energy is unknown."""
    problem = pose(Task(graph, costs, deadline, deadline.latency_s if period_s is None else period_s))
    if not problem.metered:
        raise ValueError("the greedy weighs energy, which is unknown on this device")
    table = problem.table
    trellis = Trellis(table.latency_s, table.energy_j)
    found = greedy(trellis, problem.task.budget_s, groups=groups(table))
    if not found.feasible:
        raise too_slow(problem)
    return _replayed(problem, found.path)


def classes(table: CostTable) -> tuple[Kind, ...]:
    """Return what bounds each operator: how its time answers to either clock around the fastest pair."""
    core = _elasticity(table, [point.clocks.core_hz or 1.0 for point in table.points], _memory(table))
    memory = _elasticity(table, _memory(table), [point.clocks.core_hz or 1.0 for point in table.points])
    kinds: dict[tuple[bool, bool], Kind] = {
        (True, False): "compute",
        (False, True): "memory",
        (True, True): "both",
        (False, False): "neither",
    }
    return tuple(kinds[bool(c > _FELT), bool(m > _FELT)] for c, m in zip(core, memory, strict=True))


def groups(table: CostTable) -> Ints:
    """Number the runs of neighbouring operators of one class: [operator]."""
    kinds = np.array(classes(table))
    return np.concatenate([[0], np.cumsum(kinds[1:] != kinds[:-1])]).astype(np.int64)


def _memory(table: CostTable) -> list[float]:
    return [point.clocks.memory_hz or 1.0 for point in table.points]


def _elasticity(
    table: CostTable, clock: list[float], other: list[float]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return -d log time / d log clock between half of the highest clock and the highest, the other at its highest."""
    hz = np.array(clock)
    held = np.flatnonzero(np.array(other) == max(other))
    ranked = held[np.argsort(hz[held])]
    high, low = ranked[-1], ranked[int(np.abs(hz[ranked] - hz[ranked[-1]] / 2).argmin())]
    if hz[high] == hz[low]:
        return np.zeros(len(table.latency_s))
    times_s = np.maximum(table.latency_s[:, [low, high]], 1e-12)
    return np.asarray(np.log(times_s[:, 0] / times_s[:, 1]) / np.log(hz[high] / hz[low]))


def _replayed(problem: Problem, path: Ints) -> Schedule:
    """Make the schedule of a path over operators, with what it really costs, waiting at the last pair."""
    by_operator = replace(problem, starts=np.arange(len(path)))
    cost = replay(problem, path, int(path[-1]))
    energy_j = cost.energy_j if cost.energy_j is not None else np.nan
    found = Solution(
        path, int(path[-1]), cost.latency_s + problem.ahead_s, energy_j, 0.0, -np.inf, np.inf, feasible=True
    )
    plan = to_schedule(by_operator, found, "greedy")
    late = cost.latency_s > plan.budget_s * (1 + 1e-9)
    note = f"switching was not foreseen: takes {format_time(cost.latency_s)} of {format_time(plan.budget_s)} allowed"
    return replace(plan, baselines=baselines(problem), notes=(note,) if late else ())
