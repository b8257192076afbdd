"""Requests answered alone and joined → whether joining changes an answer: what was proved on paper is tried as well.

Kernels may sum in another order for another number of rows, so answers may differ in their last bits. Floating point
may differ by `TOLERANCES`, as a share of the largest element of the same answer; everything else must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from amble.core.ports import Tensors
from amble.stages.control.tensors import join, split

__all__ = ["TOLERANCES", "Compared", "Draw", "Run", "Unlike", "compared", "difference"]

TOLERANCES: Mapping[str, float] = {"float64": 1e-10, "float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}
_SIZES = (2, 3)
_DISTINCT = 8

Run = Callable[[Tensors], Tensors]
Draw = Callable[[int], Tensors]
"""A seed → a request of one row."""


class Unlike(Exception):
    """A joined answer is not what the request gets alone; the text says by how much."""


@dataclass(frozen=True, slots=True)
class Compared:
    """How many answers were compared, and the largest difference, as a share of the answer's largest element."""

    answers: int
    worst: float
    how: str = "joined"

    def __str__(self) -> str:
        """Say it in one line."""
        if self.worst == 0.0:
            return f"{self.answers} {self.how} answers equal single ones bit for bit"
        return f"{self.answers} {self.how} answers equal single ones within {self.worst:.0e} of their largest element"


def compared(run: Run, draw: Draw, most: int) -> Compared:
    """Join single rows, drawn by their seed, to batches of several sizes up to ``most`` and compare. Unlike if not."""
    rows = [draw(seed) for seed in range(min(most, _DISTINCT))]
    alone = [run(each) for each in rows]
    worst, count = 0.0, 0
    for size in sorted({*(each for each in _SIZES if each < most), most}):
        for first in (0, 1):
            places = [(first + index * (1 + 2 * first)) % len(rows) for index in range(size)]
            together = split(run(join([rows[place] for place in places])), [1] * size)
            for place, answer in zip(places, together, strict=True):
                worst = max(worst, difference(alone[place], answer, f"in a batch of {size}"))
                count += 1
    return Compared(count, worst)


def difference(alone: Tensors, joined: Tensors, how: str) -> float:
    """Return the largest difference of two answers, as a share of the largest element. Unlike when it is too large."""
    worst = 0.0
    for name, want in alone.items():
        got = joined[name]
        if got.shape != want.shape or got.dtype != want.dtype:
            raise Unlike(f"output {name!r} has the shape {list(got.shape)} {how}, {list(want.shape)} alone")
        found = _distance(want, got)
        if not found <= TOLERANCES.get(str(want.dtype), 0.0):
            raise Unlike(f"output {name!r} differs by {found:.1e} of its largest element {how}")
        worst = max(worst, found)
    return worst


def _distance(want: npt.NDArray[Any], got: npt.NDArray[Any]) -> float:
    """Return the largest difference as a share of the largest element; infinite where they are unlike otherwise."""
    if want.size == 0 or np.array_equal(want, got):
        return 0.0
    if str(want.dtype) not in TOLERANCES:
        return float("inf")
    a, b = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    largest = float(np.abs(a[finite]).max())
    apart = float(np.abs(a[finite] - b[finite]).max())
    return apart / largest if largest else (0.0 if apart == 0.0 else float("inf"))
