"""Bytes times bytes → their sums, added up exactly in 32 bits or with pairs cut at 16 bits, as CPUs do either.

Without VNNI or AMX, x86 multiplies unsigned by signed bytes with VPMADDUBSW: neighbours along the inner dimension are
multiplied, and their sum is cut to −32,768…32,767 before it is added up in 32 bits. Two products of up to 255 · 127
do not fit. With VPDPBUSD (VNNI), AMX, and on ARM, nothing is cut. Letters of shapes: r rows, k inner, c columns.

Modelled as ONNX Runtime's kernels do it: pairs (0, 1), (2, 3), … along k; the zero points are taken off afterwards,
from exact sums; a last odd one is alone. Unsigned times unsigned, signed times signed by MatMulInteger, and depthwise
convolutions are exact everywhere. What is not modelled: `adapt.integer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["can_saturate", "count", "exact", "saturating"]

Bytes = npt.NDArray[Any]
Sums = npt.NDArray[np.int64]

_LEAST, _GREATEST = -(2**15), 2**15 - 1
_LARGEST = 255  # of an unsigned byte


def exact(left: Bytes, right: Bytes) -> Sums:
    """Multiply left [r, k] by right [k, c] → sums [r, c]."""
    products = left.astype(np.float64) @ right.astype(np.float64)  # below 2^53, so every sum is a whole number
    return np.asarray(products.astype(np.int64))


def saturating(left: Bytes, right: Bytes) -> Sums:
    """Multiply unsigned left [r, k] by signed right [k, c] → sums [r, c] of pairs that are cut at 16 bits."""
    sums = exact(left, right)
    for columns, pairs in _pairs(left, right):
        sums[:, columns] -= (pairs - np.clip(pairs, _LEAST, _GREATEST)).astype(np.int64)
    return sums


def count(left: Bytes, right: Bytes) -> int:
    """Count the pairs of left [r, k] and right [k, c] that are cut."""
    found = (np.count_nonzero((pairs < _LEAST) | (pairs > _GREATEST)) for _, pairs in _pairs(left, right))
    return int(sum(found))


def can_saturate(right: Bytes) -> npt.NDArray[np.bool_]:
    """Tell of signed weights [k, c] which pairs some activations make too large [⌈k/2⌉, c]."""
    pairs = _LARGEST * _halves(right)
    above = np.maximum(pairs, 0).sum(axis=1)
    below = np.minimum(pairs, 0).sum(axis=1)
    return np.asarray((above > _GREATEST) | (below < _LEAST))


def _pairs(left: Bytes, right: Bytes) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Yield columns and sums [r, column] for each pair along k that can be cut there."""
    possible = can_saturate(right)
    ours, theirs = left.astype(np.float32), _halves(right).astype(np.float32)  # whole numbers below 2^24
    for at in np.flatnonzero(possible.any(axis=1)):
        columns = np.flatnonzero(possible[at])
        yield columns, ours[:, 2 * at : 2 * at + 2] @ theirs[at][: ours.shape[1] - 2 * at, columns]


def _halves(right: Bytes) -> npt.NDArray[np.int64]:
    """Put neighbours together [k, c] → [⌈k/2⌉, 2, c]; beside a last odd one is a zero."""
    return np.pad(right.astype(np.int64), ((0, len(right) % 2), (0, 0))).reshape(-1, 2, right.shape[1])
