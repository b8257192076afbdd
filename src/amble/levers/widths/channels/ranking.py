"""What each place of a weight is worth → the order in which the channels of every group go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from amble.levers.widths.channels.coupling import Coupling
from amble.levers.widths.channels.cutting import cut
from amble.levers.widths.channels.file import Array, name_of
from amble.levers.widths.channels.step import Weights
from amble.levers.widths.network import Network, Widths

__all__ = ["Ranked", "normalisations", "ranked", "sizes", "written_axis"]

Worth = Callable[[str, int], "Array | None"]
"""A constant and an axis of it → what each place is worth [place]; None where it tells nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Coupled channels; of each group the classes, least important first."""

    coupled: Coupling
    network: Network
    order: Mapping[str, tuple[int, ...]]

    def gone(self, widths: Widths) -> list[int]:
        """Return the classes that go at these widths; ValueError for a width that a group cannot have."""
        found: list[int] = []
        for name, width in widths.items():
            group = self.network.by_name[name]
            if width not in group.allowed:
                raise ValueError(f"{name} cannot have {width} channels: {group.allowed[0]} to {group.width}")
            found += self.order[name][: (group.width - width) // group.multiple]
        return found

    def cut(self, widths: Widths) -> onnx.ModelProto:
        """Return the network with these widths: of every group the least important channels are gone."""
        return cut(self.coupled, self.gone(widths))


def ranked(coupled: Coupling, worth: Worth) -> Ranked:
    """Rank the classes of every group by their worth, summed over the layers that write them."""
    scores: dict[int, float] = dict.fromkeys((each for own in coupled.members.values() for each in own), 0.0)
    for (constant, axis), classes in coupled.places.items():
        values = worth(constant, axis)
        for each, value in zip(classes.tolist(), [] if values is None else values.tolist(), strict=False):
            if each in scores:
                scores[each] += value
    order = {name: tuple(sorted(own, key=scores.__getitem__)) for name, own in coupled.members.items()}
    groups = tuple(
        replace(group, importance=_spread([scores[each] for each in order[group.name]], group.multiple))
        for group in coupled.network.groups
    )
    return Ranked(coupled, replace(coupled.network, groups=groups), order)


def _spread(scores: list[float], multiple: int) -> tuple[float, ...]:
    """Share the worth of a class among its channels: [channel]."""
    return tuple(score / multiple for score in scores for _ in range(multiple))


def sizes(coupled: Coupling) -> Worth:
    """Return what channels are worth by the sizes of the weights that write them."""
    written = {(each.constant, written_axis(each)) for each in coupled.layers}

    def worth(constant: str, axis: int) -> Array | None:
        if (constant, axis) not in written:
            return None
        values = np.abs(coupled.file.constants[constant])
        return np.asarray(values.sum(axis=tuple(each for each in range(values.ndim) if each != axis)))

    return worth


def written_axis(layer: Weights) -> int:
    """Return the axis of its weights along which a layer writes."""
    if layer.node.op_type == "Conv" or layer.channelwise:
        return 0
    swapped = layer.node.op_type == "Gemm" and any(each.name == "transB" and each.i for each in layer.node.attribute)
    return 0 if swapped else 1


def normalisations(coupled: Coupling) -> dict[str, onnx.NodeProto]:
    """Return for layers, by their nodes' names, the batch normalisation that alone reads what they write."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in coupled.file.model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for layer in coupled.layers:
        after = readers.get(layer.node.output[0], [])
        if len(after) == 1 and after[0].op_type == "BatchNormalization":
            found[name_of(layer.node)] = after[0]
    return found
