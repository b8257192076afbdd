"""Approximate memory: where a bit lies, which cells are weak at an operating point, and which bits a read flips.

Theory of operation (EDEN: Koppula et al., 2019, models 0 to 3). Every cell has one fixed uniform number, hashed from
the module and its address. A model gives each cell a weak share P; the cell is weak where its number lies below P, so
the weak cells of a milder operating point are among those of a harsher one. A weak cell flips at a read with
probability F. Persistent errors are F = 1, transient ones P = 1; both have the bit error rate P F. Only several reads
of each cell tell P from F (`fit/dram.py`).

Bits of a tensor are those of its little-endian bytes in memory: bit p is bit p % 8 of byte p // 8, whatever the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from amble.core.bits import stored_bits
from amble.core.draws import chosen_many, hashed, hashed_below, key_of, stream
from amble.core.layout import Cells, Layout

__all__ = [
    "Bitline",
    "Cells",
    "DataDependent",
    "DramErrors",
    "ErrorModel",
    "Layout",
    "Lines",
    "Span",
    "Uniform",
    "WeakCells",
    "Wordline",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bits = NDArray[np.uint8]

_CHUNK = 1 << 17  # cells looked at together: what fits the cache


class ErrorModel(Protocol):
    """Which share of cells is weak, and how often a weak cell flips."""

    @property
    def most_weak(self) -> float:
        """Return the highest weak share of any cell."""
        ...

    @property
    def most_flip(self) -> float:
        """Return the highest flip probability of any weak cell."""
        ...

    @property
    def least_flip(self) -> float:
        """Return the lowest flip probability of any weak cell."""
        ...

    def weak(self, cells: Cells) -> Floats:
        """Return the weak share at each cell [cell]."""
        ...

    def flip(self, cells: Cells, stored: Bits) -> Floats:
        """Return the probability that a read flips each cell [cell], if weak, holding these bits [cell]."""
        ...

    def ber(self, ones: float) -> float:
        """Return the mean bit error rate of data of which this share of bits is 1."""
        ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """Model 0: all cells alike."""

    p_weak: float
    p_flip: float

    def __post_init__(self) -> None:
        """Check the shares."""
        _check_shares(p_weak=self.p_weak, p_flip=self.p_flip)

    @property
    def most_weak(self) -> float:
        """Return the weak share."""
        return self.p_weak

    @property
    def most_flip(self) -> float:
        """Return the flip probability."""
        return self.p_flip

    @property
    def least_flip(self) -> float:
        """Return the flip probability."""
        return self.p_flip

    def weak(self, cells: Cells) -> Floats:
        """Return the same share everywhere [cell]."""
        return np.full(cells.row.shape, self.p_weak)

    def flip(self, cells: Cells, stored: Bits) -> Floats:
        """Return the same probability everywhere [cell]."""
        return np.full(stored.shape, self.p_flip)

    def ber(self, ones: float) -> float:
        """Return P F."""
        return self.p_weak * self.p_flip


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Models 1 and 2: each bitline, or each row, has its own weak share and flip probability, both [line].

    Lines past the last one known start again with the first.
    """

    axis: Literal["bitline", "row"]
    p_weak: Floats
    p_flip: Floats
    most_weak: float = field(init=False)
    most_flip: float = field(init=False)
    least_flip: float = field(init=False)

    def __post_init__(self) -> None:
        """Take lists as well as arrays, and check them."""
        if self.axis not in ("bitline", "row"):
            raise ValueError(f"lines are 'bitline' or 'row', not {self.axis!r}")
        _take_lines(self)

    def weak(self, cells: Cells) -> Floats:
        """Return the share of each cell's line [cell]."""
        return self.p_weak[self._line(cells) % len(self.p_weak)]

    def flip(self, cells: Cells, stored: Bits) -> Floats:
        """Return the flip probability of each cell's line [cell]."""
        return self.p_flip[self._line(cells) % len(self.p_flip)]

    def ber(self, ones: float) -> float:
        """Return the mean of P F over the lines."""
        return float((self.p_weak * self.p_flip).mean())

    def _line(self, cells: Cells) -> Ints:
        return cells.bitline if self.axis == "bitline" else cells.row


Bitline = partial(Lines, "bitline")
"""Model 1, from P and F of each bitline."""

Wordline = partial(Lines, "row")
"""Model 2, from P and F of each row."""


@dataclass(frozen=True, slots=True)
class DataDependent:
    """Model 3: a weak cell flips with another probability when it holds a 1 than when it holds a 0."""

    p_weak: float
    p_flip_one: float
    p_flip_zero: float

    def __post_init__(self) -> None:
        """Check the shares."""
        _check_shares(p_weak=self.p_weak, p_flip_one=self.p_flip_one, p_flip_zero=self.p_flip_zero)

    @property
    def most_weak(self) -> float:
        """Return the weak share."""
        return self.p_weak

    @property
    def most_flip(self) -> float:
        """Return the higher flip probability."""
        return max(self.p_flip_one, self.p_flip_zero)

    @property
    def least_flip(self) -> float:
        """Return the lower flip probability."""
        return min(self.p_flip_one, self.p_flip_zero)

    def weak(self, cells: Cells) -> Floats:
        """Return the same share everywhere [cell]."""
        return np.full(cells.row.shape, self.p_weak)

    def flip(self, cells: Cells, stored: Bits) -> Floats:
        """Return the flip probability of the bit that each cell holds [cell]."""
        return np.where(stored, self.p_flip_one, self.p_flip_zero)

    def ber(self, ones: float) -> float:
        """Return P (π₁ F₁ + (1 - π₁) F₀)."""
        return self.p_weak * (ones * self.p_flip_one + (1.0 - ones) * self.p_flip_zero)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of memory: first bit address and number of bits."""

    start: int
    num_bits: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.start < 0 or self.num_bits < 0:
            raise ValueError("a span starts at 0 or later and holds no negative number of bits")


@dataclass(frozen=True, slots=True, eq=False)
class WeakCells:
    """The weak cells of a span: their positions from its start [weak], ascending; None where every cell is weak.

    ``repeats``: so many contents go through the span one after the other; positions count on through all of them.
    """

    span: Span
    positions: Ints | None
    repeats: int = 1

    @property
    def num(self) -> int:
        """Return how many cells are weak, counted at every repeat."""
        return self.span.num_bits * self.repeats if self.positions is None else len(self.positions)

    def at(self, drawn: Ints) -> Ints:
        """Return the positions of these weak cells, by their number [cell]."""
        return drawn if self.positions is None else self.positions[drawn]

    def repeated(self, repeats: int) -> WeakCells:
        """Return the same cells for so many contents."""
        if self.positions is None or repeats == 1:
            return WeakCells(self.span, self.positions, repeats)
        starts = np.arange(repeats, dtype=np.int64)[:, None] * self.span.num_bits
        return WeakCells(self.span, (starts + self.positions).reshape(-1), repeats)


@dataclass(frozen=True, slots=True)
class DramErrors:
    """The errors of one memory partition at one operating point; ``module`` tells one made module from another."""

    model: ErrorModel
    layout: Layout = field(default_factory=Layout)
    module: int = 0

    def weak_cells(self, span: Span) -> WeakCells:
        """Find the weak cells of a span: once for a place and an operating point, since it looks at every cell."""
        if isinstance(self.model, Uniform | DataDependent):
            if self.model.p_weak == 1.0:
                return WeakCells(span, None)
            if self.model.p_weak == 0.0:
                return WeakCells(span, np.empty(0, dtype=np.int64))
        if isinstance(self.model, Lines) and self.model.axis == "bitline" and self.layout.interleaving != "lines":
            return WeakCells(span, self._weak_on_bitlines(span, self.model) - span.start)
        found = [self._weak_among(chunk) for chunk in _chunks(span)]
        return WeakCells(span, np.concatenate(found) - span.start if found else np.empty(0, dtype=np.int64))

    @property
    def blind(self) -> bool:
        """Tell whether all weak cells flip as often, whatever they hold."""
        return self.model.least_flip == self.model.most_flip

    @property
    def persistent(self) -> bool:
        """Tell whether every read flips all weak cells."""
        return self.model.least_flip == 1.0

    def flips(self, weak: WeakCells, stored: Bits, key: int) -> Ints:
        """Draw one read of a span → the positions that it flips [flip], ascending and distinct.

        ``stored``: the bytes [byte] of the span; model 3 looks at the bits drawn. The same key flips the same bits.
        """
        (positions,) = self.drawn([weak], [key])
        most = self.model.most_flip
        if self.blind or not len(positions):
            return positions
        held = stored_bits(stored, positions)
        flip = self.model.flip(self.layout.cells(positions % weak.span.num_bits + weak.span.start), held)
        accepted: Ints = positions[stream(key_of(key, "kept")).random(len(positions)) * most < flip]
        return accepted

    def drawn(self, weak: Sequence[WeakCells], keys: Sequence[int]) -> list[Ints]:
        """Draw one read of each span, all cells flipping as often as the worst: exact where that is so (`blind`)."""
        if self.persistent and all(each.positions is not None for each in weak):
            return [each.positions for each in weak if each.positions is not None]
        found = chosen_many(keys, [each.num for each in weak], self.model.most_flip)
        return [each.at(chosen) for each, chosen in zip(weak, found, strict=True)]

    def _weak_on_bitlines(self, span: Span, model: Lines) -> Ints:
        """Return the addresses that are weak, where a row's worth of them crosses every bitline once, in order."""
        row_bits, stop = self.layout.row_bits, span.start + span.num_bits
        lines = np.arange(row_bits, dtype=np.int64)
        starts = np.arange(span.start // row_bits * row_bits, stop, row_bits, dtype=np.int64)
        at = hashed_below(key_of("cell", self.module), starts, lines, np.resize(model.p_weak, row_bits))
        at = at[np.searchsorted(at, span.start) : np.searchsorted(at, stop)]
        self.layout.cells(at)  # which refuses what lies outside the rank
        return at

    def _weak_among(self, addresses: Ints) -> Ints:
        """Return which of these cells are weak; the model is asked only about cells that could be."""
        numbers = hashed(key_of("cell", self.module), addresses)
        near = np.flatnonzero(numbers < self.model.most_weak)
        candidates = addresses[near]
        if isinstance(self.model, Uniform | DataDependent):
            return candidates
        return candidates[numbers[near] < self.model.weak(self.layout.cells(candidates))]


def _chunks(span: Span) -> Iterator[Ints]:
    stop = span.start + span.num_bits
    for first in range(span.start, stop, _CHUNK):
        yield np.arange(first, min(first + _CHUNK, stop), dtype=np.int64)


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} lies in [0, 1], not {share}")


def _take_lines(model: Lines) -> None:
    weak, flip = np.asarray(model.p_weak, np.float64), np.asarray(model.p_flip, np.float64)
    if weak.ndim != 1 or weak.shape != flip.shape or not weak.size:
        raise ValueError("p_weak and p_flip must both be [line], of one length and not empty")
    for name, shares in (("p_weak", weak), ("p_flip", flip)):
        if not ((shares >= 0.0) & (shares <= 1.0)).all():
            raise ValueError(f"every {name} lies in [0, 1]")
        object.__setattr__(model, name, shares)
    object.__setattr__(model, "most_weak", float(weak.max()))
    object.__setattr__(model, "most_flip", float(flip.max()))
    object.__setattr__(model, "least_flip", float(flip.min()))
