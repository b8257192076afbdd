"""Groups of channels and the time of each layer → widths: what pruners choose that know of time, and that do not.

The rules follow F. Yu et al., "Towards Latency-aware DNN Optimization with GPU Runtime Analysis and Tail Effect
Elimination", 2020: after any pruner, widths move to edges of stairs. All rules rank channels by the same importance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amble.core.subject import Where
from amble.levers.widths.adjusting import filled, traded, trimmed
from amble.levers.widths.choosing import Pricing, choose, knapsack
from amble.levers.widths.network import Group, Layer, Network, Widths
from amble.levers.widths.staircase import StaircaseTable, worth

__all__ = ["Edges", "LayerTime", "Timed", "blind", "edges", "latency_s", "moved", "planned", "rounded", "uniform"]

LayerTime = Callable[[Layer, int, int], float]
"""(layer, inputs, outputs) → time [s]."""
Edges = dict[str, tuple[int, ...]]
"""Group → the widths worth using, ascending, today's among them."""

TOLERANCE = 0.02
_MOST_CUT = 0.9  # no layer loses more than this share to the blind pruner


@dataclass(frozen=True)
class Timed(Pricing):
    """Prices from a measurement of each layer at exactly these widths, not from a line through some of them."""

    time_s: LayerTime = lambda layer, inputs, outputs: 0.0

    @classmethod
    def of(cls, network: Network, time_s: LayerTime) -> Timed:
        nowhere = StaircaseTable(Where("host", "measured"), "onnxruntime", "fp32", 1, 0)
        return cls(network, nowhere, time_s=time_s)

    def layer(self, layer: Layer, widths: Widths) -> float:
        return self.time_s(layer, self.network.num_inputs(layer, widths), self.network.num_outputs(layer, widths))

    def tolerance(self, group: Group) -> float:
        return TOLERANCE


def latency_s(network: Network, widths: Widths, time_s: LayerTime) -> float:
    """Sum over the layers [s]."""
    return sum(
        time_s(each, network.num_inputs(each, widths), network.num_outputs(each, widths)) for each in network.layers
    )


def edges(network: Network, time_s: LayerTime, *, step: int) -> dict[str, tuple[int, ...]]:
    """Return the edges of each group's staircase: all layers it touches, the other groups as they are today."""
    found = {}
    for group in network.groups:
        widths = [each for each in group.allowed if each % step == 0 or each == group.width]
        touched = dict.fromkeys((*network.writers(group.name), *network.readers(group.name)))
        times_s = [_sum(network, tuple(touched), {group.name: each}, time_s) for each in widths]
        found[group.name] = worth(widths, times_s, TOLERANCE)
    return found


def blind(network: Network, ratio: float) -> dict[str, int]:
    """Remove this share of all channels, the least important first, wherever they are."""
    ranked = sorted((value, group.name) for group in network.groups for value in group.importance)
    left, to_go = network.today.copy(), round(ratio * len(ranked))
    for _, name in ranked:
        if to_go and left[name] > (1.0 - _MOST_CUT) * network.today[name] and left[name] > 1:
            left[name] -= 1
            to_go -= 1
    return {group.name: _allowed(group, left[group.name]) for group in network.groups}


def rounded(network: Network, widths: Widths, to: int) -> dict[str, int]:
    """Round down to a multiple as torch-pruning's `round_to` does, but to one block at least."""
    return {
        name: _allowed(network.by_name[name], max(width // to * to, min(to, network.today[name])))
        for name, width in widths.items()
    }


def uniform(network: Network, factor: float) -> dict[str, int]:
    """Return the same share of every group."""
    return {group.name: _allowed(group, round(factor * group.width)) for group in network.groups}


def moved(pricing: Timed, widths: Widths, at: Edges, budget_s: float) -> dict[str, int]:
    """Move the result of any pruner to edges of stairs: up where that is free, then down and up to the budget.

    Latency mode with a budget below what the pruner reached, accuracy mode with the same.
    """
    within = trimmed(pricing, filled(pricing, widths, at), at, budget_s)
    return traded(pricing, within, at, budget_s)


def planned(pricing: Timed, at: Edges, budget_s: float) -> dict[str, int]:
    """Choose all widths at once."""
    return choose(knapsack(pricing, at), budget_s).widths


def _allowed(group: Group, width: int) -> int:
    return max((each for each in group.allowed if each <= width), default=group.allowed[0])


def _sum(network: Network, layers: Sequence[Layer], widths: Widths, time_s: LayerTime) -> float:
    return sum(time_s(each, network.num_inputs(each, widths), network.num_outputs(each, widths)) for each in layers)
