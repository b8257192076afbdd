"""Graph, CostModel → the plans that are likely to be asked for: what is measured for their sake serves them best."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from amble.core.errors import Infeasible
from amble.core.graph import Graph
from amble.core.ports import CostModel
from amble.core.schedule import Deadline, Schedule
from amble.stages.plan import clocks

__all__ = ["prospects"]

_TYPICAL = (1.1, 1.5, 2.0, 3.0)  # deadlines, in units of the fastest time, when none is given


def prospects(graph: Graph, costs: CostModel, deadline: Deadline | None = None) -> Iterator[Schedule]:
    """Plan with one clock setting and with one for every operator: for a deadline, else from tight to loose.

    Deadlines that cannot be kept are left out.
    """
    for wanted in [deadline] if deadline else _typical(graph, costs):
        with suppress(Infeasible):
            for planner in (clocks.single, clocks.per_operator):
                yield planner(graph, costs, wanted)


def _typical(graph: Graph, costs: CostModel) -> list[Deadline]:
    fastest_s = float(costs.table(graph).latency_s.sum(axis=0).min()) * costs.margin(0.99)
    return [Deadline(factor * fastest_s) for factor in _TYPICAL]
