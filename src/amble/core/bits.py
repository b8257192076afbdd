"""Positions of bits → the words that hold them and the masks that flip them; bytes → single bits.

A word is an unsigned integer of any size. Bit p of an array is bit p % 8 of byte p // 8, whatever the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.core.draws import together

__all__ = ["masks_of", "masks_of_many", "stored_bits"]

Ints = NDArray[np.int64]
Bits = NDArray[np.uint8]
Words = NDArray[Any]  # of an unsigned integer

_SHIFTS = {1: 3, 2: 4, 4: 5, 8: 6}
_BITS: dict[int, Words] = {size: np.uint64(1) << np.arange(8 * size, dtype=np.uint64) for size in _SHIFTS}
_BITS = {size: bits.astype(f"u{size}") for size, bits in _BITS.items()}
_FEW = 32  # bits to one that shares a word with its neighbour


def stored_bits(stored: Bits, positions: Ints) -> Bits:
    """Return the bits at these positions [bit] of bytes [byte]: 0 or 1."""
    bits: Bits = (stored[positions >> 3] >> (positions & 7).astype(np.uint8)) & np.uint8(1)
    return bits


def masks_of(positions: Ints, word_bytes: int) -> tuple[Ints, Words]:
    """Return the words that hold these ascending bits [flip or fewer], and the bits to flip in each [the same].

    Where a word is named more than once, its last mask has all of its bits: an assignment by index keeps the last.
    """
    return masks_of_many([positions], word_bytes)[0]


def masks_of_many(positions: Sequence[Ints], word_bytes: int) -> list[tuple[Ints, Words]]:
    """Return ``masks_of`` of the positions in each of several tensors, in less time."""
    found: list[tuple[Ints, Words]] = []
    for start, stop in together([len(each) for each in positions]):
        found += _masks_together(positions[start:stop], word_bytes)
    return found


def _masks_together(positions: Sequence[Ints], word_bytes: int) -> list[tuple[Ints, Words]]:
    ends = list(accumulate(len(each) for each in positions))
    every = np.concatenate(positions)
    hit, masks = every >> _SHIFTS[word_bytes], _BITS[word_bytes].take(every & (8 * word_bytes - 1))
    again = np.flatnonzero(hit[1:] == hit[:-1])
    if _FEW * len(again) > len(hit):
        return [_merged(each, word_bytes) for each in positions]
    first = set(ends)  # of the next tensor: its words are others
    for place in again.tolist():
        if place + 1 not in first:
            masks[place + 1] ^= masks[place]
    return [
        (hit[end - len(each) : end], masks[end - len(each) : end]) for each, end in zip(positions, ends, strict=True)
    ]


def _merged(positions: Ints, word_bytes: int) -> tuple[Ints, Words]:
    """Return each word once, which pays where many bits share one."""
    hit, masks = positions >> _SHIFTS[word_bytes], _BITS[word_bytes].take(positions & (8 * word_bytes - 1))
    if not len(hit):
        return hit, masks
    first = np.flatnonzero(np.concatenate([[True], hit[1:] != hit[:-1]]))
    return hit[first], np.bitwise_xor.reduceat(masks, first)
