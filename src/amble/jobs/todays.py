"""A plan for a board → the plan with what the board does today as a baseline: the clocks its power mode allows."""

from __future__ import annotations

from dataclasses import replace

from amble.core.address import Address
from amble.core.graph import Graph
from amble.core.ports import CostModel, CostTable, Retabled
from amble.core.schedule import Baseline, Schedule
from amble.devices import named
from amble.devices.powermodes import Mode, current_mode
from amble.stages.plan import clocks

__all__ = ["with_power_mode"]


def with_power_mode(schedule: Schedule, graph: Graph, costs: CostModel) -> Schedule:
    """Add the highest clocks that the board's current power mode allows to the plan's baselines.

    That is where its governor goes under load. The mode is that of the board this runs on: there is none for a plan
    made elsewhere, for another kind of device, or where the mode caps no clock that was planned over.
    """
    address = Address.parse(costs.where.device)
    mode = current_mode(named.root_of(address)) if address.scheme == "sysfs" else None
    if mode is None:
        return schedule
    allowed = Retabled(costs, lambda each: _under(costs.table(each), mode))
    points = costs.table(graph).points
    if not 0 < len(allowed.table(graph).points) < len(points):
        return schedule
    plan = clocks.fastest(graph, allowed, schedule.deadline, period_s=schedule.period_s)
    meets = plan.predicted.latency_s <= plan.budget_s * (1 + 1e-9)
    found = Baseline(f"power mode {mode.name}", plan.predicted, meets, plan.steps[0].point, plan.idle_power_w)
    return replace(schedule, baselines=(*schedule.baselines, found))


def _under(table: CostTable, mode: Mode) -> CostTable:
    kept = [index for index, point in enumerate(table.points) if mode.admits(point.clocks)]
    return CostTable(tuple(table.points[index] for index in kept), table.latency_s[:, kept], table.energy_j[:, kept])
