"""The planners by name, in one table: graph, costs, deadline → schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from amble.core.graph import Graph
from amble.core.ports import CostModel
from amble.core.schedule import Deadline, Schedule
from amble.stages.plan import clocks, neurobalancer, punctuality

__all__ = ["PLANNERS", "Planner"]


class Planner(Protocol):
    """A way to choose clocks."""

    def __call__(self, graph: Graph, costs: CostModel, deadline: Deadline, *, period_s: float | None) -> Schedule:
        """Choose a point for every operator, for a request every ``period_s`` (None: every deadline)."""
        ...


PLANNERS: Mapping[str, Planner] = {
    "trellis": clocks.per_operator,
    "punctual": punctuality.on_time,
    "greedy": neurobalancer.balanced,
    "single": clocks.single,
    "max": clocks.fastest,
}
