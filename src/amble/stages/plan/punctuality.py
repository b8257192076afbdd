"""Graph, CostModel, Deadline → Schedule that knows its rest from everywhere: what to do for whatever time is left.

A plan that is followed blindly must leave room for bad luck in every request. One that looks at the clock on its way
needs room only for what is still to come: it starts at a slower pace, and catches up where luck was bad. The rest of
the path is looked up in cost-to-go tables (`replan.py`), by the time that must be left for it:

- *pace*: all that follows, at the margin of the pace;
- *safety*: the next block as chosen and everything after it at the fastest, with room for bad luck in both. Were luck
  a random walk, a share x of the work would need sqrt(x) of the whole's room; a single long delay may hit any part,
  and then the room must not shrink at all. So it shrinks little, by x^0.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from amble.core.graph import Graph
from amble.core.ports import CostModel, FloatArray
from amble.core.schedule import Choice, Deadline, Rest, Schedule
from amble.stages.plan.clocks import per_operator
from amble.stages.plan.problem import Problem, Task, pose
from amble.stages.plan.replan import CostToGo, cost_to_go
from amble.stages.plan.trellis import Ints

__all__ = ["PACE", "on_time", "rest_of"]

PACE = 0.5  # share of the whole's room that is kept ahead of time
_LANES = 1_000  # continuations by column, shared out among the columns: coarse ones give slack away
_LUCK = 0.1  # exponent by which the room for bad luck shrinks with the work that is left


def on_time(
    graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None = None, pace: float = PACE
) -> Schedule:
    """Plan as `per_operator`, and add the rest from everywhere the plan or bad luck can get to.

    ``pace`` is the share of the margin kept from the start: 1 never hurries unless it must, 0 relies on catching up.
    """
    plan = per_operator(graph, costs, deadline, period_s=period_s)
    problem = pose(Task(graph, costs, deadline, plan.period_s))
    if not problem.metered or problem.wait is None:
        return plan
    return replace(plan, planner="punctual", rest=rest_of(problem, plan, pace=pace))


def rest_of(problem: Problem, plan: Schedule, *, pace: float = PACE) -> Rest:
    """Tabulate the rest of a plan that waits where this one does."""
    points = [point.clocks for point in problem.table.points]
    wait_node = points.index(plan.wait)
    lanes = int(np.clip(_LANES / problem.trellis.num_operators, 48, 128))
    tables = cost_to_go(problem.trellis, wait=problem.wait, wait_node=wait_node, lanes=lanes)
    needs_s = _needs(problem, tables, pace)
    found = list(_reachable(problem, tables, needs_s, wait_node))
    used = sorted({node for _, held, _, asks in found for node in (held, *asks)})
    number = {node: index for index, node in enumerate(used)}
    choices = tuple(
        Choice(int(problem.starts[block]), number[held], tuple(needs), tuple(number[ask] for ask in asks))
        for block, held, needs, asks in found
    )
    return Rest(tuple(points[node] for node in used), choices)


def _needs(problem: Problem, tables: CostToGo, pace: float) -> FloatArray:
    """Return the time [s] that must be left for each continuation: [block, node held, lane]."""
    num_blocks = problem.trellis.num_operators
    later_s = np.append(np.cumsum(problem.each_ahead_s[::-1])[::-1], 0.0)  # [block + 1]
    rest_s = tables.time_s - later_s[:num_blocks, None, None]
    fastest_s = np.concatenate([rest_s[1:, :, 0], np.zeros((1, rest_s.shape[1]))])  # [block, node of the block]
    block = np.arange(num_blocks)[:, None, None]
    after_s = np.concatenate([rest_s[1:], np.zeros((1, *rest_s.shape[1:]))])
    lane = np.arange(rest_s.shape[2])
    own_s = rest_s - after_s[block, tables.follow, lane]
    safe_s = own_s + fastest_s[block, tables.follow]
    whole_s, room = float(rest_s[0].min()), problem.task.margin - 1.0
    kept_s = room * whole_s * (np.maximum(safe_s, 0.0) / whole_s) ** _LUCK
    need_s = np.maximum(rest_s * (1 + pace * room), safe_s + kept_s)
    return np.maximum.accumulate(np.where(np.isnan(need_s), np.inf, need_s), axis=2)


def _reachable(
    problem: Problem, tables: CostToGo, needs_s: FloatArray, wait_node: int
) -> Iterator[tuple[int, int, list[float], list[int]]]:
    """Yield block, node held, times needed and nodes asked for, for every node held that can be met there."""
    held = {wait_node}
    for block in range(problem.trellis.num_operators):
        following: set[int] = set()
        for node in sorted(held):
            needs, asks = _steps(needs_s[block, node], tables.follow[block, node])
            following |= set(asks)
            yield block, node, needs, asks
        held = following


def _steps(needs_s: FloatArray, follow: Ints) -> tuple[list[float], list[int]]:
    """Keep one entry for each run of lanes that ask for the same node."""
    finite = np.isfinite(needs_s)
    finite[0] = True
    needs, asks = needs_s[finite], follow[finite]
    first = np.concatenate([[True], asks[1:] != asks[:-1]])
    shown = np.round(np.where(np.isfinite(needs[first]), needs[first], 0.0), 9)
    return shown.tolist(), asks[first].tolist()
