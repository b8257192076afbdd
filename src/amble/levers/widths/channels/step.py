"""One node on the way of labels through a network, and what rules ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from amble.levers.widths.channels.file import Array, File, name_of
from amble.levers.widths.channels.ties import Ids, Labels, Ties

__all__ = ["Step", "Weights"]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A layer: the node, its weights, what it reads along ``read_axis`` of its input and writes along another.

    ``channelwise``: it has a group for each input channel.
    """

    node: onnx.NodeProto
    constant: str
    read: Ids
    written: Ids
    channelwise: bool


@dataclass(slots=True)
class Step:
    """A node, the labels of its inputs, and where ties are kept; ``layers`` are noted in order.

    ``classes`` are those of an earlier pass; None in the first one, which makes no choices.
    """

    file: File
    node: onnx.NodeProto
    attributes: dict[str, Any]
    known: Mapping[str, Labels]
    ties: Ties
    classes: Ids | None
    layers: list[Weights] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the node's name and operator."""
        return f"{name_of(self.node)} ({self.node.op_type})"

    def has(self, index: int) -> bool:
        """Tell whether there is such an input."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def constant(self, index: int) -> Array | None:
        """Return an input that is constant."""
        return self.file.constants.get(self.node.input[index]) if self.has(index) else None

    def value(self, index: int) -> Array | None:
        """Return an input of whole numbers that is known, constant or computed from shapes."""
        return self.file.value(self.node.input[index]) if self.has(index) else None

    def given(self, index: int = 0) -> Labels:
        """Return the labels of an input."""
        return self.known[self.node.input[index]]

    def shape(self, output: int = 0) -> tuple[int, ...]:
        """Return the shape of an output."""
        return self.file.shapes.get(self.node.output[output], ())

    def labels(self, index: int, axis: int) -> Ids:
        """Return the labels of an axis of a constant input."""
        constant = self.node.input[index]
        return self.ties.labels(constant, axis, self.file.constants[constant].shape[axis])

    def setting(self, name: str, index: int) -> list[int] | None:
        """Return what newer operator sets take as an input and older ones as an attribute; None if it is not there."""
        value = self.value(index)
        if value is not None:
            return [int(each) for each in value.reshape(-1)]
        found = self.attributes.get(name)
        return None if found is None else [int(each) for each in np.atleast_1d(found)]

    def stays(self, why: str) -> list[Labels]:
        """Let all that it reads stay → labels of outputs that stay."""
        for name in self.node.input:
            if name in self.known:
                self.ties.stay(self.known[name].ids, why)
        return self.free()

    def free(self) -> list[Labels]:
        """Return labels of outputs that stay."""
        return [Labels.none(self.shape(at)) for at in range(len(self.node.output))]

    def reads(self, axis: int, index: int = 0) -> Ids | None:
        """Return the labels that it reads along an axis; None where they change along another one."""
        labels = self.given(index)
        return labels.along(axis) if set(labels.axes) <= {axis} else None
