"""How long a layer takes at each width, as measured: points, the stairs found in them, and tables of them.

Latency over width is a staircase: a kernel works in blocks of channels (or waves of blocks), and a block that is
partly filled takes as long as a full one. Between measured points a time comes from the two lines through today's
widths, and from a grid where both widths were changed, which tells what the lines miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from amble.core.files import Format
from amble.core.layers import Shape
from amble.core.ports import FloatArray
from amble.core.subject import Where, placed
from amble.levers.widths.network import Layer, Network

__all__ = ["FORMAT", "Axis", "Point", "Staircase", "StaircaseTable", "Stairs", "shape_of", "worth"]


Axis = Literal["outputs", "inputs"]

_LEAST_SHARE = 0.01
_VECTOR = 4  # channels: kernels on CPUs dislike widths that are no multiple


def shape_of(layer: Layer, network: Network) -> Shape:
    """Return the shape of a layer of a network."""
    depthwise = layer.kind == "depthwise"
    return Shape(
        kind=layer.kind,
        inputs=layer.num_inputs,
        outputs=layer.num_outputs,
        kernel=layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=1 if depthwise else layer.groups,
        size=layer.size,
        vary_inputs=bool(layer.inputs),
        vary_outputs=layer.outputs is not None,
    )


@dataclass(frozen=True, slots=True)
class Point:
    """A layer timed at some widths: median over rounds [s], its median absolute deviation [s], energy [J] if known."""

    inputs: int
    outputs: int
    latency_s: float
    mad_s: float
    energy_j: float | None
    runs: int


@dataclass(frozen=True, slots=True)
class Stairs:
    """What was found along one axis.

    ``edges`` are right-hand edges located to one channel, ascending. ``block`` is the width of every stair where they
    are all alike, 1 where they are not or where there are none. ``checked`` and ``held`` count further edges that the
    block predicts and that were looked for.
    """

    edges: tuple[int, ...] = ()
    block: int = 1
    checked: int = 0
    held: int = 0


@dataclass(frozen=True)
class Staircase:
    """A layer's times at the widths that were measured, and the stairs found in them."""

    shape: Shape
    points: tuple[Point, ...]
    outputs: Stairs = field(default_factory=Stairs)
    inputs: Stairs = field(default_factory=Stairs)

    @property
    def noise(self) -> float:
        """Return the usual spread of a point: its deviation as a share of its time."""
        return float(np.median([each.mad_s / each.latency_s for each in self.points]))

    @property
    def tolerance(self) -> float:
        """Return by how much times must differ to count as different: at least 1 %, or two deviations."""
        return max(0.01, 2.0 * self.noise)

    def latency_s(self, inputs: int, outputs: int) -> float:
        """Return the time at any widths [s]."""
        return self._latency.at(inputs, outputs)

    def energy_j(self, inputs: int, outputs: int) -> float | None:
        """Return the energy at any widths [J]; None where it was not metered."""
        return None if self._energy is None else self._energy.at(inputs, outputs)

    def tail(self, inputs: int, outputs: int) -> float:
        """Return the share of its time that goes to channels which are not there."""
        shape = self.shape
        full_in = _up(inputs, self.inputs.block, shape.inputs)
        full_out = _up(outputs, self.outputs.block, shape.outputs)
        if shape.kind == "depthwise":
            return 1.0 - outputs / full_out
        return 1.0 - (inputs * outputs) / (full_in * full_out)

    def line(self, axis: Axis) -> tuple[tuple[int, Point], ...]:
        """Return the measured points along ``outputs`` or ``inputs``, the other width being today's."""
        return tuple(sorted((_along(p, axis), p) for p in self.points if self._on(p, axis)))

    def _on(self, point: Point, axis: Axis) -> bool:
        if self.shape.kind == "depthwise":
            return axis == "outputs"
        return point.inputs == self.shape.inputs if axis == "outputs" else point.outputs == self.shape.outputs

    @cached_property
    def _latency(self) -> _Surface:
        return _Surface(self, np.array([each.latency_s for each in self.points]))

    @cached_property
    def _energy(self) -> _Surface | None:
        known = [each.energy_j for each in self.points if each.energy_j is not None]
        return _Surface(self, np.array(known)) if len(known) == len(self.points) else None


@dataclass(frozen=True)
class _Line:
    """Values along one axis; between them the last block is filled. widths, values: [point], by width."""

    widths: FloatArray
    values: FloatArray
    block: int
    most: int

    def filled(self, width: int) -> int:
        """Return the end of a width's block."""
        return _up(width, self.block, self.most)

    def full(self, width: int) -> float:
        """Return the value where a width's block ends, by other ends: what lies between may be worth less."""
        at = self._ends if np.count_nonzero(self._ends) > 1 else slice(None)
        return _interpolated(self.filled(width), self.widths[at], self.values[at])

    def share(self, width: int) -> float:
        """Return what a width takes of its full block: 1 unless it was measured to differ.

        A width that is no multiple of a vector pays what those near by were measured to pay for it.
        """
        at = int(np.searchsorted(self.widths, width))
        if at < len(self.widths) and self.widths[at] == width:
            return float(self.values[at]) / self.full(width)
        widths, shares = self._odd
        return float(np.interp(width, widths, shares)) if width % _VECTOR and len(widths) else 1.0

    @cached_property
    def _ends(self) -> npt.NDArray[np.bool_]:
        return np.asarray((self.widths % self.block == 0) | (self.widths == self.most))

    @cached_property
    def _odd(self) -> tuple[FloatArray, FloatArray]:
        """Return the measured widths inside blocks that are no multiples of a vector, and their shares, at least 1."""
        widths = self.widths[~self._ends & (self.widths % _VECTOR != 0)]
        return widths, np.array([max(1.0, self.share(int(each))) for each in widths])


class _Surface:
    """Values at measured points [point] → values at any widths."""

    def __init__(self, staircase: Staircase, values: FloatArray) -> None:
        self._shape = staircase.shape
        self._value: dict[tuple[int, int], float] = {
            (p.inputs, p.outputs): v for p, v in zip(staircase.points, values.tolist(), strict=True)
        }
        self._outputs = self._line(staircase, "outputs", staircase.outputs.block)
        self._inputs = self._line(staircase, "inputs", staircase.inputs.block)
        self._grid = self._rates()

    def at(self, inputs: int, outputs: int) -> float:
        """Return the value at these widths."""
        if (inputs, outputs) in self._value:
            return self._value[inputs, outputs]
        if self._shape.kind == "depthwise":
            return self._outputs.full(outputs) * self._outputs.share(outputs)
        full = max(self._sum(inputs, outputs) + self._together(inputs, outputs), _LEAST_SHARE * self._whole)
        return full * self._inputs.share(inputs) * self._outputs.share(outputs)

    def _line(self, staircase: Staircase, axis: Axis, block: int) -> _Line:
        found = staircase.line(axis)
        widths = np.array([width for width, _ in found], dtype=np.float64)
        values = np.array([self._value[point.inputs, point.outputs] for _, point in found])
        return _Line(widths, values, block, self._shape.outputs if axis == "outputs" else self._shape.inputs)

    @property
    def _whole(self) -> float:
        return self._value[self._shape.inputs, self._shape.outputs]

    def _sum(self, inputs: int, outputs: int) -> float:
        """Return what the two lines give for full blocks, as if the axes had nothing to do with each other."""
        return self._outputs.full(outputs) + self._inputs.full(inputs) - self._whole

    def _gone(self, inputs: int, outputs: int) -> float:
        """Return how many pairs of a missing input and a missing output there are."""
        missing_in = self._shape.inputs - self._inputs.filled(inputs)
        return float(missing_in * (self._shape.outputs - self._outputs.filled(outputs)))

    def _together(self, inputs: int, outputs: int) -> float:
        """Return what the lines miss; for a time that is linear in both widths and their product it is exact."""
        if self._grid is None:
            product = self._outputs.full(outputs) * self._inputs.full(inputs) / self._whole
            return product - self._sum(inputs, outputs)
        rows, columns, rates = self._grid
        along = np.array([np.interp(self._outputs.filled(outputs), columns, row) for row in rates])
        return float(np.interp(self._inputs.filled(inputs), rows, along)) * self._gone(inputs, outputs)

    def _rates(self) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """Return the axes of the grid, and what the lines miss by missing pairs [inputs, outputs]; None without."""
        shape = self._shape
        inner = [(i, o) for i, o in self._value if i != shape.inputs and o != shape.outputs]
        inputs = sorted({i for i, _ in inner})
        outputs = sorted({o for _, o in inner})
        if shape.kind == "depthwise" or not inner or len(inner) != len(inputs) * len(outputs):
            return None
        rates = [[(self._value[i, o] - self._sum(i, o)) / self._gone(i, o) for o in outputs] for i in inputs]
        return np.array(inputs, float), np.array(outputs, float), np.array(rates)


@dataclass(frozen=True, slots=True)
class StaircaseTable:
    """Staircases of distinct layer shapes, all on one device, library, element type and batch.

    ``between_bytes`` is what passed through the caches between two runs of a layer: what the rest of its network would
    have read. ``notes`` say what was found in plain words.
    """

    where: Where
    library: str
    dtype: str
    batch: int
    between_bytes: int
    staircases: tuple[Staircase, ...] = ()
    took_s: float = 0.0
    notes: tuple[str, ...] = ()

    def of(self, shape: Shape) -> Staircase:
        """Return the staircase of a shape; KeyError when it was not measured."""
        for each in self.staircases:
            if each.shape == shape:
                return each
        raise KeyError(str(shape))

    def knows(self, shape: Shape) -> bool:
        """Tell whether a shape was measured."""
        return any(each.shape == shape for each in self.staircases)

    def fits(self, other: StaircaseTable) -> bool:
        """Tell whether another table was made under the same conditions."""
        mine, theirs = (replace(each, staircases=(), took_s=0.0, notes=()) for each in (self, other))
        if None in (self.where.machine, other.where.machine):  # of an older file nobody knows which CPU it was
            mine, theirs = (replace(each, where=replace(each.where, machine=None)) for each in (mine, theirs))
        return mine == theirs

    def adding(self, found: Sequence[Staircase], took_s: float) -> StaircaseTable:
        """Return the table with more staircases."""
        return replace(self, staircases=(*self.staircases, *found), took_s=self.took_s + took_s)


def worth(widths: Sequence[int], times_s: Sequence[float], tolerance: float) -> tuple[int, ...]:
    """Return the widths worth using, ascending: going narrower must gain more than the tolerance each time.

    Scans from the widest down and keeps a width only when it is faster than the last one kept by the tolerance (the
    Pareto set with tolerance). No monotonicity is assumed. widths: ascending.
    """
    pairs = list(zip(widths, times_s, strict=True))
    kept = [pairs[-1]]
    for width, time_s in reversed(pairs[:-1]):
        if time_s * (1.0 + tolerance) < kept[-1][1]:
            kept.append((width, time_s))
    return tuple(width for width, _ in reversed(kept))


def _along(point: Point, axis: Axis) -> int:
    return point.outputs if axis == "outputs" else point.inputs


def _up(width: int, block: int, most: int) -> int:
    """Round up to whole blocks; the last block of a width that is no multiple ends with the width."""
    full = -(-width // block) * block
    return most if width <= most < full else full


def _interpolated(width: int, widths: FloatArray, values: FloatArray) -> float:
    """Interpolate a line; beyond its ends go on in proportion to its last piece, never below a hundredth."""
    if len(widths) == 1 or widths[0] <= width <= widths[-1]:
        return float(np.interp(width, widths, values))
    a, b = (0, 1) if width < widths[0] else (-2, -1)
    slope = (values[b] - values[a]) / (widths[b] - widths[a])
    return float(max(values[a] + slope * (width - widths[a]), 0.01 * values.min()))


FORMAT = Format("staircases", 2, StaircaseTable, {1: placed})
