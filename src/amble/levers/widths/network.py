"""Layers whose widths may change, the groups of channels that change together, and what a channel is worth.

A *group* is a set of channels that must stay or go together: the outputs of one layer, or of all layers that a
residual sum, a depth-wise convolution or a gate ties together. Layers read some groups and write one. Sizes count
elements; widths count channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from amble.core.layers import Kind

__all__ = ["Group", "Layer", "Network", "Widths"]

Widths = Mapping[str, int]
"""How many channels of each group stay, by the group's name; a group that is not named keeps all."""


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that layers share: their importance, least first, which is the order in which they are removed.

    ``importance``: [channel], ascending, summed over the coupled layers. Widths that stay are multiples of
    ``multiple`` (grouped convolutions, attention heads) and at least ``least``.
    """

    name: str
    importance: tuple[float, ...]
    multiple: int = 1
    least: int = 1

    def __post_init__(self) -> None:
        """Check that the order of removal and the steps hold."""
        if any(after < before for before, after in zip(self.importance, self.importance[1:], strict=False)):
            raise ValueError(f"the importance of {self.name} is not in ascending order")
        if not 1 <= self.least <= self.width or self.multiple < 1 or self.width % self.multiple:
            raise ValueError(f"{self.name}: {self.width} channels in steps of {self.multiple}, at least {self.least}")

    @property
    def width(self) -> int:
        """Count today's channels."""
        return len(self.importance)

    @property
    def allowed(self) -> tuple[int, ...]:
        """Return every width the group may have, ascending."""
        first = -(-self.least // self.multiple) * self.multiple
        return tuple(range(first, self.width + 1, self.multiple))

    def lost(self) -> tuple[float, ...]:
        """Return the importance that is lost at each width, from 0 channels left to all: [width + 1], descending."""
        return tuple(reversed((0.0, *accumulate(self.importance))))


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution or dense layer with today's numbers of channels.

    ``inputs`` are the groups it reads (several after a concatenation), ``outputs`` the group it writes, None where its
    outputs must stay (the network's own answer). ``num_inputs`` and ``num_outputs`` count all of them, also those of no
    group. ``size`` is the height and width of what it reads; ``spread`` how many of its inputs one channel becomes
    (more than one in a dense layer after flattening). Where that differs between groups (behind a pixel shuffle it is
    below one), ``taken`` counts its inputs that come from each of ``inputs``.
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    outputs: str | None
    num_inputs: int
    num_outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    size: tuple[int, int] = (1, 1)
    spread: int = 1
    taken: tuple[int, ...] = ()

    @property
    def output_size(self) -> tuple[int, int]:
        """Return the height and width of what it writes."""
        sides = zip(self.size, self.padding, self.dilation, self.kernel, self.stride, strict=True)
        height, width = ((s + 2 * p - d * (k - 1) - 1) // t + 1 for s, p, d, k, t in sides)
        return height, width


@dataclass(frozen=True)
class Network:
    """Layers in execution order and the groups they read and write."""

    name: str
    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        """Check that every group is known, once."""
        known = {each.name for each in self.groups}
        if len(known) != len(self.groups):
            raise ValueError(f"{self.name} names a group twice")
        for layer in self.layers:
            if unknown := {*layer.inputs, *((layer.outputs,) if layer.outputs else ())} - known:
                raise ValueError(f"{layer.name} has channels of {sorted(unknown)}, which are no groups")

    @cached_property
    def today(self) -> dict[str, int]:
        """Return the widths as they are."""
        return {each.name: each.width for each in self.groups}

    @cached_property
    def by_name(self) -> dict[str, Group]:
        """Return the groups by their names."""
        return {each.name: each for each in self.groups}

    def readers(self, group: str) -> tuple[Layer, ...]:
        """Return the layers that read a group."""
        return tuple(each for each in self.layers if group in each.inputs)

    def writers(self, group: str) -> tuple[Layer, ...]:
        """Return the layers that write a group."""
        return tuple(each for each in self.layers if each.outputs == group)

    def num_inputs(self, layer: Layer, widths: Widths) -> int:
        """Count a layer's inputs at these widths."""
        return layer.num_inputs - sum(self._gone(layer, each, widths) for each in layer.inputs)

    def taken(self, layer: Layer, group: str) -> int:
        """Count a layer's inputs that today come from a group."""
        if not layer.taken:
            return layer.spread * self.by_name[group].width
        return layer.taken[layer.inputs.index(group)]

    def _gone(self, layer: Layer, group: str, widths: Widths) -> int:
        width = self.by_name[group].width
        return self.taken(layer, group) * (width - widths.get(group, width)) // width

    def num_outputs(self, layer: Layer, widths: Widths) -> int:
        """Count a layer's outputs at these widths (a depth-wise layer with a multiplier keeps its multiplier)."""
        if layer.outputs is None:
            return layer.num_outputs
        width = self.by_name[layer.outputs].width
        return layer.num_outputs * widths.get(layer.outputs, width) // width

    def num_groups(self, layer: Layer, widths: Widths) -> int:
        """Count a layer's own groups at these widths: for a depth-wise layer its inputs."""
        return self.num_inputs(layer, widths) if layer.kind == "depthwise" else layer.groups

    def flops(self, widths: Widths | None = None) -> float:
        """Count floating-point operations of one example, two for a multiply-add."""
        return sum(2.0 * self._weights(each, widths or {}) * _area(each.output_size) for each in self.layers)

    def params(self, widths: Widths | None = None) -> int:
        """Count weights, without biases and normalisation."""
        return sum(self._weights(each, widths or {}) for each in self.layers)

    def lost(self, widths: Widths) -> float:
        """Sum the importance of the channels that go."""
        return sum(sum(each.importance[: each.width - widths.get(each.name, each.width)]) for each in self.groups)

    def _weights(self, layer: Layer, widths: Widths) -> int:
        per_output = self.num_inputs(layer, widths) // self.num_groups(layer, widths) * _area(layer.kernel)
        return per_output * self.num_outputs(layer, widths)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
