"""Nodes asked for, operator by operator → what a request costs when clocks follow late: a plan run on its own costs.

Unlike a path through the trellis it may ask for clocks before the last ones have settled, as planners do that do not
foresee settling. The request returns every period, and the second time counts: it finds the clocks that the first left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from amble.core.cost import Cost
from amble.stages.plan.delayed import Delays, delays
from amble.stages.plan.problem import Problem
from amble.stages.plan.trellis import Ints

__all__ = ["replay"]

_SAME_S = 1e-12


def replay(problem: Problem, path: Ints, wait_node: int) -> Cost:
    """Return latency and energy of the period; path: [operator] node. Energy without known idle power is of the run."""
    run = _Run(problem, delays(problem.table.points, problem.switches), wait_node)
    for _ in range(2):
        begun_s, begun_j = run.now_s, run.energy_j
        for operator, node in enumerate(path.tolist()):
            run.ask(node)
            run.work(operator)
        latency_s = run.now_s - begun_s
        run.ask(wait_node)
        run.rest(begun_s + problem.task.period_s)
    return Cost(latency_s, run.energy_j - begun_j)


@dataclass(slots=True)
class _Run:
    """The clocks of a device and what they have cost so far."""

    problem: Problem
    changes: Delays
    node: int  # that runs
    asked: int = -1
    now_s: float = 0.0
    energy_j: float = 0.0
    pending: dict[int, tuple[float, int]] = field(default_factory=dict)  # domain: when, level

    def __post_init__(self) -> None:
        self.asked = self.node

    def ask(self, node: int) -> None:
        """Ask for a node: each domain that changes stalls the work, and settles later."""
        changed = np.flatnonzero(self.changes.levels[node] != self.changes.levels[self.asked])
        self.asked = node
        for domain in changed.tolist():
            due_s = self.now_s + float(self.changes.settle_s[domain])
            self.now_s += float(self.changes.stall_s[domain])
            self.energy_j += float(self.changes.stall_j[domain])
            self.pending[domain] = (due_s, int(self.changes.levels[node, domain]))
        self._settle()

    def work(self, operator: int) -> None:
        """Run one operator while clocks change under it."""
        left = 1.0
        while left > 0:
            whole_s = float(self.problem.table.latency_s[operator, self.node])
            spent_s = min(left * whole_s, float(self._next_s() - self.now_s))
            done = min(left, spent_s / whole_s) if whole_s > 0 else left
            left = 0.0 if spent_s >= left * whole_s else left - done
            self.now_s += spent_s
            self.energy_j += done * float(np.nan_to_num(self.problem.table.energy_j[operator, self.node]))
            self._settle()

    def rest(self, until_s: float) -> None:
        """Idle until then."""
        while self.now_s < until_s - _SAME_S:
            next_s = min(until_s, self._next_s())
            idle_w = 0.0 if self.problem.wait is None else float(self.problem.wait.idle_w[self.node])
            self.energy_j += idle_w * (next_s - self.now_s)
            self.now_s = next_s
            self._settle()

    def _next_s(self) -> float:
        return min((due_s for due_s, _ in self.pending.values()), default=math.inf)

    def _settle(self) -> None:
        levels = self.changes.levels[self.node].copy()
        for domain in [each for each, (due_s, _) in self.pending.items() if due_s <= self.now_s + _SAME_S]:
            levels[domain] = self.pending.pop(domain)[1]
        same = np.flatnonzero((self.changes.levels == levels).all(axis=1))
        self.node = int(same[0]) if len(same) else self.node
