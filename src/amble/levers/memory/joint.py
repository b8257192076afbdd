"""A mapping to memory partitions, a graph, a cost model → costs and schedules in which the memory's energy counts.

A path cannot see capacities, so the mapping fixes where tensors live before the clocks are chosen. What an operator
moves then costs what its partitions take, and holding them costs power for as long as the schedule lasts. Times stay
those of the cost model: a deadline rests on nothing that was only predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from amble.core.cost import Cost
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.ports import CostModel, CostTable, Retabled
from amble.core.quantity import format_energy, format_time
from amble.core.schedule import Baseline, Schedule
from amble.levers.memory.partitions import DramPlan, LayerMemory

__all__ = ["AT_RATINGS", "layers_of", "moving", "with_memory"]

AT_RATINGS = "memory at its ratings"


def moving(costs: CostModel, moved_j: Mapping[str, float]) -> CostModel:
    """Return a cost model whose operators also take the energy [J] of what they move in memory, by name."""

    def table(graph: Graph) -> CostTable:
        alone = costs.table(graph)
        more_j = np.array([moved_j.get(operator.name, 0.0) for operator in graph.operators])
        return replace(alone, energy_j=alone.energy_j + more_j[:, None])

    return Retabled(costs, table)


def with_memory(graph: Graph, costs: CostModel, mapping: DramPlan, plan: Callable[[CostModel], Schedule]) -> Schedule:
    """Plan with the memory's energy in the costs; every step then says where its tensors live.

    Refused for a mapping of another network or precision, and for one that says nothing of layers.
    """
    layers = layers_of(graph, mapping)
    made = plan(moving(costs, {name: layer.moved_j for name, layer in layers.items()}))
    wrong = sorted({step.point.precision for step in made.steps} - {mapping.precision})
    if wrong:
        raise Refused(
            f"the mapping is of {mapping.precision}, the plan runs {', '.join(wrong)}; map that network instead"
        )
    steps = tuple(
        replace(step, point=replace(step.point, dram="+".join(layers[step.operator].partitions)))
        if step.operator in layers
        else step
        for step in made.steps
    )
    return _held(replace(made, steps=steps), mapping, layers)


def layers_of(graph: Graph, mapping: DramPlan) -> dict[str, LayerMemory]:
    """Return the layer of each operator that computes one, by the names that both have from the network's file.

    A network that was retrained for the mapping is in a file of its own, and so are its names: plan that one. Refused
    where either has a layer that the other has not.
    """
    if not mapping.layers:
        raise Refused("the mapping does not say what each layer moves, or not by name; make it anew with amble dram")
    operators = {each.layer: each.name for each in graph.operators if each.layer is not None}
    if not operators:
        raise Refused(f"the operators of {graph.name} name no layers of a file, so no mapping can be laid over them")
    layers = {each.layer: each for each in mapping.layers}
    for lacking, named, what in (
        (layers.keys() - operators, graph.name, "operator of its own"),
        (operators.keys() - layers, "the mapping", "layer"),
    ):
        if lacking:
            said = ", ".join(sorted(f"{each.name} ({each.num_weights} weights)" for each in lacking)[:3])
            raise Refused(
                f"the mapping is of another network: {named} has no {what} for {said}; map it anew with amble dram"
            )
    return {operators[layer]: each for layer, each in layers.items()}


def _held(schedule: Schedule, mapping: DramPlan, layers: Mapping[str, LayerMemory]) -> Schedule:
    """Add what holding the memory costs, the baseline at ratings, and what all of that rests on.

    Over a period that is the same whatever runs; without one each plan holds the memory for as long as it runs, and
    the lower bound, which knows no time, is that of the rest.
    """

    def held_s(latency_s: float) -> float:
        return {"period": schedule.period_s, "above_idle": 0.0, "gross": latency_s}[schedule.accounting]

    def held(cost: Cost) -> Cost:
        return _more(cost, mapping.held_w * held_s(cost.latency_s))

    least_j = mapping.held_w * held_s(0.0)
    saved_j = sum(layer.nominal_j - layer.moved_j for layer in layers.values())
    saved_j += (mapping.nominal_held_w - mapping.held_w) * held_s(schedule.predicted.latency_s)
    moved_j = sum(layer.moved_j for layer in layers.values())
    predicted = held(schedule.predicted)
    ratings = Baseline(AT_RATINGS, _more(predicted, saved_j), meets=True, idle_power_w=schedule.idle_power_w)
    held_j = mapping.held_w * held_s(schedule.predicted.latency_s)
    return replace(
        schedule,
        predicted=predicted,
        lower_bound_j=None if schedule.lower_bound_j is None else schedule.lower_bound_j + least_j,
        baselines=(*(replace(each, predicted=held(each.predicted)) for each in schedule.baselines), ratings),
        frontier=tuple(
            replace(
                each,
                energy_j=each.energy_j + mapping.held_w * held_s(each.latency_s),
                lower_bound_j=None if each.lower_bound_j is None else each.lower_bound_j + least_j,
            )
            for each in schedule.frontier
        ),
        notes=(
            *schedule.notes,
            f"energies include {format_energy(moved_j + held_j)} of memory an inference, predicted and not measured: "
            "a meter that covers the memory counts it again",
            f"{format_time(mapping.saved_s)} less waiting for rows is predicted, and not counted on",
            *mapping.labels,
        ),
    )


def _more(cost: Cost, energy_j: float) -> Cost:
    return cost if cost.energy_j is None else replace(cost, energy_j=cost.energy_j + energy_j)
