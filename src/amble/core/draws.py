"""Names and numbers → random numbers that any machine and back end draws alike, and exact sparse samples from them.

Two kinds: `hashed` gives each cell of a memory one fixed number, at random access; `stream` and `chosen` give draws
that belong to a key (seed, tensor, read). Both rest on fixed integer arithmetic and on the raw output of Philox, whose
stream numpy keeps (Salmon et al., 2011).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["chosen", "hashed", "key_of", "stream"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
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


def hashed(key: int, cells: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the fixed uniform number in [0, 1) of each cell [...] (finaliser of SplitMix64; Steele et al., 2014)."""
    mixed = cells.astype(np.uint64)
    mixed *= _GOLDEN
    mixed += np.uint64(key & (2**64 - 1))
    for shift, factor in ((np.uint64(30), _MIX_1), (np.uint64(27), _MIX_2)):
        mixed ^= mixed >> shift
        mixed *= factor
    mixed ^= mixed >> np.uint64(31)
    mixed >>= np.uint64(11)
    return np.multiply(mixed, 2.0**-53, dtype=np.float64)


def chosen(key: int, count: int, probability: float) -> NDArray[np.int64]:
    """Choose each of 0..count-1 independently with this probability → the chosen ones [chosen], distinct, ascending.

    Exact, and in time that grows with the number chosen: the gaps between chosen positions are geometric.
    """
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"a probability lies in [0, 1], not {probability}")
    if count == 0 or probability == 0.0:
        return np.empty(0, dtype=np.int64)
    if probability == 1.0:
        return np.arange(count, dtype=np.int64)
    random = stream(key)
    if probability >= _DENSE:
        return np.flatnonzero(random.random(count) < probability)
    return _by_gaps(random, count, probability)


def _by_gaps(random: np.random.Generator, count: int, probability: float) -> NDArray[np.int64]:
    scale = max(1.0 / math.log1p(-probability), -1e300)  # finite: a gap past the end is all that matters
    parts: list[NDArray[np.int64]] = []
    last, expected = -1, count * probability
    while last < count:
        num = int(expected + 5.0 * math.sqrt(expected) + 16.0)
        gaps = np.log(1.0 - random.random(num))  # exact, and never the log of 0, since u < 1 has 53 bits
        gaps *= scale
        np.minimum(gaps, float(count), out=gaps)
        gaps += 1.0
        places = np.cumsum(gaps.astype(np.int64))
        places += last
        parts.append(places)
        last, expected = int(places[-1]), max((count - int(places[-1])) * probability, 1.0)
    found = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return found[: int(np.searchsorted(found, count))]
