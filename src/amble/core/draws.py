"""Names and numbers → random numbers that any machine and back end draws alike, and exact sparse samples from them.

Two kinds: `hashed` gives each cell of a memory one fixed number, at random access; `stream` and `chosen` give draws
that belong to a key (seed, tensor, read). They rest on fixed integer arithmetic, and on the raw output of Philox
(Salmon et al., 2011), whose stream numpy keeps.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["chosen", "chosen_many", "hashed", "hashed_below", "key_of", "stream", "together"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_LOW = 2**64 - 1
_TOGETHER = 8192  # numbers: what the cache holds
_TABLE = 1 << 15  # numbers of a table, which has fewer passes to make
_DENSE = 0.2  # from this probability on, one draw a position is quicker than one draw a gap


def key_of(*parts: int | str) -> int:
    """Return a 128-bit key of these numbers and texts; another order or split gives another key.

    >>> key_of(1, "conv") == key_of(1, "conv"), key_of("ab", "c") == key_of("a", "bc")
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=16).digest(), "little")


def stream(key: int) -> np.random.Generator:
    """Return the random stream of a key."""
    return np.random.Generator(np.random.Philox(key=key))


def hashed(key: int, cells: Ints) -> Floats:
    """Return the fixed uniform number in [0, 1) of each cell [...] (finaliser of SplitMix64; Steele et al., 2014)."""
    mixed = cells.astype(np.uint64)
    mixed *= _GOLDEN
    mixed += np.uint64(key & _LOW)
    return _finished(mixed)


def hashed_below(key: int, starts: Ints, offsets: Ints, limits: Floats) -> Ints:
    """Return the cells start + offset whose ``hashed`` number lies below the limit of their offset, in that order.

    ``starts``: [row]; ``offsets`` and ``limits`` in [0, 1]: [column]. The same as asking ``hashed``, in a tenth of the
    time: states are compared as integers, those of a row are those of the first shifted.
    """
    offsets, limits = offsets[limits > 0.0], limits[limits > 0.0]
    most = (np.ceil(limits * 2.0**53).astype(np.uint64) << np.uint64(11)) - np.uint64(1)  # the last state below
    firsts = starts.astype(np.uint64) * _GOLDEN + np.uint64(key & _LOW)
    shifts = offsets.astype(np.uint64) * _GOLDEN
    step = max(_TABLE // max(len(offsets), 1), 1)
    found = [np.empty(0, dtype=np.int64)]
    for row in range(0, len(starts), step):
        below = _mixed(firsts[row : row + step, None] + shifts) <= most
        rows, columns = np.divmod(np.flatnonzero(below), max(len(offsets), 1))
        found.append(starts[row + rows] + offsets[columns])
    return np.concatenate(found)


def chosen(key: int, count: int, probability: float) -> Ints:
    """Choose each of 0..count-1 independently with this probability → the chosen ones [chosen], distinct, ascending.

    Exact, and in time that grows with the number chosen: the gaps between chosen positions are geometric.
    """
    return chosen_many([key], [count], probability)[0]


def chosen_many(keys: Sequence[int], counts: Sequence[int], probability: float) -> list[Ints]:
    """Return ``chosen`` of each key and count, many drawn together, which takes less time."""
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"a probability lies in [0, 1], not {probability}")
    if probability == 0.0:
        return [np.empty(0, dtype=np.int64) for _ in counts]
    if probability == 1.0:
        return [np.arange(count, dtype=np.int64) for count in counts]
    wanted = list(zip(keys, counts, strict=True))
    if probability >= _DENSE:
        return [np.flatnonzero(hashed(key, np.arange(1, count + 1)) < probability) for key, count in wanted]
    nums = [_enough(count * probability) for count in counts]
    return [
        found for start, stop in together(nums) for found in _by_gaps(wanted[start:stop], nums[start:stop], probability)
    ]


def together(nums: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield stretches (start, stop) of arrays of so many numbers that the cache holds together, or of one."""
    start, total = 0, 0
    for at, num in enumerate(nums):
        if total + num > _TOGETHER and at > start:
            yield start, at
            start, total = at, 0
        total += num
    if nums:
        yield start, len(nums)


def _enough(expected: float) -> int:
    """Return somewhat more draws than are expected to be needed."""
    return int(expected + 5.0 * math.sqrt(expected) + 16.0)


def _by_gaps(wanted: Sequence[tuple[int, int]], nums: Sequence[int], probability: float) -> Iterator[Ints]:
    """Yield the positions of each key and count; the few keys that fall short go on alone."""
    scale = max(1.0 / math.log1p(-probability), -1e300)  # finite: a gap past the end is all that matters
    most = max(count for _, count in wanted)
    gaps = _gaps(_uniform([key for key, _ in wanted], nums), scale, most)
    start = 0
    for (key, count), num in zip(wanted, nums, strict=True):
        places = gaps[start : start + num]
        start += num
        places[0] -= 1
        np.cumsum(places, out=places)
        if places[-1] < count:
            places = _further(places, key, count, scale)
        yield places[: int(places.searchsorted(count))]


def _uniform(keys: Sequence[int], nums: Sequence[int]) -> Floats:
    """Return the first so many numbers of each key's stream (SplitMix64), one stream after the other."""
    counters = np.concatenate([_counters(num) for num in nums])
    counters += np.repeat(np.array([key & _LOW for key in keys], dtype=np.uint64), nums)
    return _finished(counters)


@lru_cache(maxsize=1)
def _all_counters(num: int) -> NDArray[np.uint64]:
    return np.arange(1, num + 1, dtype=np.uint64) * _GOLDEN


def _counters(num: int) -> NDArray[np.uint64]:
    """Return the first so many states of a SplitMix64 that starts at 0."""
    return _all_counters(1 << max(num.bit_length(), 13))[:num]


def _finished(mixed: NDArray[np.uint64]) -> Floats:
    """Return uniform numbers in [0, 1) of 53 bits; overwrites the states."""
    states = _mixed(mixed)
    states >>= np.uint64(11)
    return np.multiply(states, 2.0**-53, dtype=np.float64)


def _mixed(states: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the states mixed, in place."""
    for shift, factor in ((np.uint64(30), _MIX_1), (np.uint64(27), _MIX_2)):
        states ^= states >> shift
        states *= factor
    states ^= states >> np.uint64(31)
    return states


def _gaps(uniform: Floats, scale: float, most: int) -> Ints:
    """Return geometric gaps of 1 or more, those past the end cut; overwrites the uniform numbers."""
    np.subtract(1.0, uniform, out=uniform)  # exact, and never 0, since u < 1 has 53 bits
    np.log(uniform, out=uniform)
    uniform *= scale
    np.minimum(uniform, float(most), out=uniform)
    gaps = uniform.astype(np.int64)
    gaps += 1
    return gaps


def _further(places: Ints, key: int, count: int, scale: float) -> Ints:
    """Go on with a key's stream where the numbers drawn so far end before the last position."""
    parts, drawn = [places], len(places)
    while parts[-1][-1] < count:
        num = _enough((count - int(parts[-1][-1])) / -scale)
        uniform = hashed(key, np.arange(drawn + 1, drawn + num + 1))
        parts.append(parts[-1][-1] + np.cumsum(_gaps(uniform, scale, count)))
        drawn += num
    return np.concatenate(parts)
