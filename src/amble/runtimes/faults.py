"""Tensors and the memory that each lives in → the same tensors with the bits flipped that a read of it would flip.

This is the one injector; the ONNX and torch adapters (`faulty_onnx`, `faulty_torch`) hand it their arrays. What flips
depends on the seed, the tensor's name and the number of the read alone, so every back end flips the same bits. A format
does not matter: FP32, FP16, BF16, INT8 and packed INT4 are bytes here, and only bounds look at values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from amble.core.bits import masks_of, masks_of_many
from amble.core.dram import DramErrors, Span, WeakCells
from amble.core.draws import key_of

__all__ = ["MARGIN", "Bounds", "Changed", "Flips", "Home", "Injector", "Wanted", "bounds_of"]

Array = npt.NDArray[Any]

MARGIN = 0.25
"""Of the range of clean values, on either side: what a load finds plausible, in use and in training alike."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Values outside [low, high], and NaN, are implausible: a load makes them 0, or (NaN apart) the nearer bound."""

    low: float
    high: float
    mode: Literal["zero", "saturate"]

    def __post_init__(self) -> None:
        """Check the order."""
        if not self.low <= self.high or self.mode not in ("zero", "saturate"):
            raise ValueError("bounds need low <= high and the mode 'zero' or 'saturate'")


@dataclass(frozen=True, slots=True)
class Home:
    """Where a tensor lives: its memory's errors, its first bit address there, and what a load finds implausible.

    ``every_value`` says that values without an error are checked too, as hardware does. Where the clean values are
    known to lie within the bounds (weights), checking those hit gives the same, sooner. ``each_example``: examples go
    through the same addresses one after the other, as they do when requests are answered singly.
    """

    errors: DramErrors
    start: int = 0
    bounds: Bounds | None = None
    every_value: bool = False
    each_example: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tensor that will be read: its name, where it lives, and its size; ``num_examples`` go through in turn."""

    name: str
    home: Home
    size_bytes: int
    word_bytes: int
    num_examples: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Flips:
    """What a read flips: words [word], the bits in each [word] (as `masks_of` has them), and how many bits in all."""

    words: npt.NDArray[np.int64]
    masks: Array
    num: int

    @classmethod
    def of(cls, positions: npt.NDArray[np.int64], word_bytes: int) -> Flips:
        """Take ascending distinct bit positions [flip]."""
        return cls(*masks_of(positions, word_bytes), len(positions))


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """What a read changed: flat indices and the values that were there before, in the order of the changes."""

    indices: npt.NDArray[np.int64]
    before: Array
    num_flips: int

    def undo(self, array: Array) -> None:
        """Put the values back, in place."""
        array.reshape(-1)[self.indices] = self.before


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Tensors whose flips are drawn together: of one memory and one size of words."""

    errors: DramErrors
    word_bytes: int
    names: tuple[str, ...]
    weak: tuple[WeakCells, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What is known of tensors before any read: flips that are always the same, and groups to draw."""

    wanted: tuple[Wanted, ...]
    fixed: dict[str, Flips]
    groups: tuple[_Group, ...]


class Injector:
    """Flips bits; keeps the weak cells of every place it was asked about, which are found once."""

    def __init__(self) -> None:
        self._weak: dict[tuple[DramErrors, Span, int], WeakCells] = {}
        self._flips: dict[tuple[DramErrors, Span, int, int], Flips] = {}
        self._prepared: _Prepared | None = None

    def inject(
        self, tensors: Mapping[str, Array], homes: Mapping[str, Home], seed: int, *, read: int = 0
    ) -> dict[str, Array]:
        """Return the tensors as one read finds them; those without a home are passed on as they are.

        ValueError for a home of a tensor that is not there.
        """
        unknown = homes.keys() - tensors.keys()
        if unknown:
            raise ValueError(f"no tensors {', '.join(sorted(unknown))}; there are {', '.join(tensors)}")
        found = {name: np.array(value, order="C") if name in homes else value for name, value in tensors.items()}
        for name, home in homes.items():
            self.corrupt(found[name], name, home, seed, read=read)
        return found

    def ahead(self, wanted: tuple[Wanted, ...], seed: int, *, read: int = 0) -> dict[str, Flips]:
        """Draw what reads of these tensors will flip, before their contents are known; by name.

        For ``corrupt``, which takes longer to draw one at a time. Tensors whose flips depend on contents are left out.
        What belongs to the tensors alone is kept for the next call with the same tuple.
        """
        if self._prepared is None or self._prepared.wanted is not wanted:
            self._prepared = self._prepare(wanted)
        found = dict(self._prepared.fixed)
        for group in self._prepared.groups:
            drawn = group.errors.drawn(group.weak, [key_of(seed, name, read) for name in group.names])
            masks = masks_of_many(drawn, group.word_bytes)
            for name, positions, each in zip(group.names, drawn, masks, strict=True):
                found[name] = Flips(*each, len(positions))
        return found

    def _prepare(self, wanted: tuple[Wanted, ...]) -> _Prepared:
        fixed: dict[str, Flips] = {}
        groups: dict[tuple[DramErrors, int], list[Wanted]] = {}
        for each in wanted:
            if each.home.errors.persistent:
                fixed[each.name] = self._fixed(each)
            elif each.home.errors.blind:
                groups.setdefault((each.home.errors, each.word_bytes), []).append(each)
        made = [
            _Group(
                errors,
                word_bytes,
                tuple(each.name for each in group),
                tuple(self.weak_cells(each.home, 8 * each.size_bytes, each.num_examples) for each in group),
            )
            for (errors, word_bytes), group in groups.items()
        ]
        return _Prepared(wanted, fixed, tuple(made))

    def corrupt(
        self,
        array: Array,
        name: str,
        home: Home,
        seed: int,
        *,
        read: int = 0,
        num_examples: int | None = None,
        flips: Flips | None = None,
    ) -> Changed:
        """Change one C-contiguous array in place into what a read of it finds → how to undo that.

        ``num_examples`` is how many it holds one after the other, its first axis if that is not given. ``flips``: what
        this seed and read flip, where ``ahead`` has drawn it.
        """
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} must be C-contiguous to have its bits flipped in place")
        flat = array.reshape(-1)
        if flips is None:
            repeats = (num_examples or len(array)) if home.each_example else 1
            weak = self.weak_cells(home, 8 * flat.nbytes, repeats)
            positions = home.errors.flips(weak, flat.view(np.uint8), key_of(seed, name, read))
            flips = Flips.of(positions, flat.itemsize)
        words, hit = flat.view(flips.masks.dtype), flips.words
        found = words[hit]
        words[hit] = found ^ flips.masks
        before = found.view(flat.dtype)
        if home.bounds is None:
            return Changed(hit, before, flips.num)
        _correct(flat, hit, home.bounds)
        if home.every_value:
            beyond = _beyond(flat, home.bounds)
            hit, before = np.concatenate([beyond, hit]), np.concatenate([flat[beyond], before])
            _correct(flat, beyond, home.bounds)
        return Changed(hit, before, flips.num)

    def _fixed(self, wanted: Wanted) -> Flips:
        """Return the flips of persistent errors, which are found once."""
        weak = self.weak_cells(wanted.home, 8 * wanted.size_bytes, wanted.num_examples)
        key = (wanted.home.errors, weak.span, weak.repeats, wanted.word_bytes)
        if key not in self._flips:
            (positions,) = wanted.home.errors.drawn([weak], [0])
            self._flips[key] = Flips.of(positions, wanted.word_bytes)
        return self._flips[key]

    def weak_cells(self, home: Home, num_bits: int, repeats: int = 1) -> WeakCells:
        """Return the weak cells of a tensor of so many bits, ``repeats`` contents in all; found at the first call."""
        key = (home.errors, Span(home.start, num_bits // repeats), repeats)
        if key not in self._weak:
            self._weak[key] = home.errors.weak_cells(key[1]).repeated(repeats)
        return self._weak[key]

    def forget(self) -> None:
        """Drop all weak cells, as for another module."""
        self._weak.clear()
        self._flips.clear()
        self._prepared = None


def bounds_of(values: Array, *, mode: Literal["zero", "saturate"], margin: float = MARGIN) -> Bounds:
    """Return bounds that clean values [...] lie within, widened by ``margin`` times their range on either side."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all() or margin < 0.0:
        raise ValueError("bounds need finite values and a margin of 0 or more")
    return Bounds(low - margin * (high - low), high + margin * (high - low), mode)


@np.errstate(invalid="ignore")  # flipped bits make signalling NaNs
def _correct(flat: Array, indices: npt.NDArray[np.int64], bounds: Bounds) -> None:
    """Replace the implausible among these values, in place."""
    values = flat[indices]
    wrong = ~((values >= bounds.low) & (values <= bounds.high))
    if not wrong.any():
        return
    if bounds.mode == "zero":
        flat[indices[wrong]] = 0
        return
    finite = np.where(np.isnan(values[wrong].astype(np.float64)), 0.0, values[wrong].astype(np.float64))
    flat[indices[wrong]] = np.clip(finite, bounds.low, bounds.high).astype(flat.dtype)


@np.errstate(invalid="ignore")
def _beyond(flat: Array, bounds: Bounds) -> npt.NDArray[np.int64]:
    """Return the indices of implausible values; two quick passes where there are none."""
    if not flat.size or (flat.min() >= bounds.low and flat.max() <= bounds.high):
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(~((flat >= bounds.low) & (flat <= bounds.high)))
