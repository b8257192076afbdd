"""A layer with weights as a kernel sees it, and the port that times one at any width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from amble.core.ports import Timing

__all__ = ["Kind", "Probe", "Shape"]

Kind = Literal["conv", "depthwise", "gemm"]
"""``conv`` may have groups of its own; ``depthwise`` has as many groups as channels; ``gemm`` is a dense layer."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A layer as a kernel sees it, at its full widths; ``vary_…`` tells which of its widths may change."""

    kind: Kind
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    size: tuple[int, int] = (1, 1)
    vary_inputs: bool = True
    vary_outputs: bool = True

    def __str__(self) -> str:
        """Write it short: ``conv 3x3 64->128 at 28x28``."""
        extra = f"/{self.stride[0]}" if self.stride != (1, 1) else ""
        kernel = "" if self.kind == "gemm" else f" {self.kernel[0]}x{self.kernel[1]}{extra}"
        place = "" if self.kind == "gemm" else f" at {self.size[0]}x{self.size[1]}"
        return f"{self.kind}{kernel} {self.inputs}->{self.outputs}{place}"


class Probe(Protocol):
    """Times one layer on a device. What is timed is the layer inside a network, not a network of one layer."""

    @property
    def device(self) -> str:
        """Return the device's name."""
        ...

    @property
    def library(self) -> str:
        """Return what runs the layers, with its version."""
        ...

    def time(self, shape: Shape, inputs: int, outputs: int, runs: int) -> Timing:
        """Run the layer at these widths so many times."""
        ...
