"""One layer at any width → its time and energy on a device that takes operators without weights: a simulated chip."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod

from amble.core.graph import Gemm, Graph, Operator, Port
from amble.core.layers import Shape
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Timing

__all__ = ["DeviceLayers", "operator_of"]

_ELEMENT_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0}


@dataclass(frozen=True, slots=True)
class DeviceLayers:
    """Times layers on a device at clocks that its caller holds and has let settle, in a precision that it has."""

    target: Device
    clocks: Clocks
    batch: int = 1
    precision: str = "fp32"

    @property
    def device(self) -> str:
        """Return the device's name."""
        return self.target.name

    @property
    def library(self) -> str:
        """Return whose kernels run, and at which clocks."""
        return f"{self.target.calibration}; {self.clocks}"

    def time(self, shape: Shape, inputs: int, outputs: int, runs: int) -> Timing:
        """Run the layer as a graph of one operator."""
        graph = _graph(operator_of(shape, inputs, outputs, self.batch, self.precision), self.batch, self.precision)
        found = self.target.runner.profile(graph, OperatingPoint(self.clocks, self.precision), runs)
        whole = found.operators[0]
        return Timing(whole.latency_s, whole.spread_s, whole.energy_j)


def operator_of(shape: Shape, inputs: int, outputs: int, batch: int, precision: str = "fp32") -> Operator:
    """Return the layer as an operator: its matrix product, and the bytes it moves."""
    groups = inputs if shape.kind == "depthwise" else shape.groups
    size = _output_size(shape)
    rows = batch * prod(size)
    depth = inputs // groups * prod(shape.kernel)
    element = _ELEMENT_BYTES[precision]
    weight_bytes = element * depth * outputs
    read_bytes = element * batch * inputs * prod(shape.size) + weight_bytes
    return Operator(
        name=str(shape),
        kind="Gemm" if shape.kind == "gemm" else "Conv",
        flops=2.0 * rows * depth * outputs,
        bytes_read=read_bytes,
        bytes_written=element * rows * outputs,
        weight_bytes=weight_bytes,
        output_shape=(batch, outputs, *size),
        gemm=Gemm(rows, outputs // groups, depth, groups),
    )


def _output_size(shape: Shape) -> tuple[int, int]:
    sides = zip(shape.size, shape.padding, shape.dilation, shape.kernel, shape.stride, strict=True)
    height, width = ((s + 2 * p - d * (k - 1) - 1) // t + 1 for s, p, d, k, t in sides)
    return height, width


def _graph(operator: Operator, batch: int, precision: str) -> Graph:
    digest = hashlib.sha256(repr((operator, batch, precision)).encode()).hexdigest()
    ports = (Port("input", (batch, 1), "float"),), (Port("output", operator.output_shape, "float"),)
    return Graph(operator.name, (operator,), batch, digest, *ports, precision=precision)
