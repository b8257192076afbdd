"""Core clocks that were asked for and that ran → the clock that will run when one is asked for.

A request above what the chip sustains (a power limit, a boost that is not reached) runs at the highest clock that
ran; below that, ran / asked is interpolated between the measured requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AskedToRan", "learn"]

Floats = NDArray[np.floating[Any]]

_KEPT = 0.995  # a clock within half a percent of the request was kept


@dataclass(frozen=True, slots=True)
class AskedToRan:
    """Measured pairs, ascending; empty where every request is taken to run as asked."""

    asked_hz: tuple[float, ...] = ()
    ran_hz: tuple[float, ...] = ()

    def at(self, asked_hz: Floats) -> Floats:
        """Return the clock [Hz] that runs for each request [p]."""
        if not self.asked_hz:
            return asked_hz
        asked, ran = np.array(self.asked_hz), np.array(self.ran_hz)
        ratio = ran / asked
        kept = ratio >= _KEPT
        if not kept.any():
            found: Floats = asked_hz * np.interp(asked_hz, asked, ratio)
            return found
        # Past the last request that was kept the clock follows the request until it meets the highest that ran.
        last = int(np.flatnonzero(kept)[-1])
        below = asked_hz * np.interp(asked_hz, asked[: last + 1], ratio[: last + 1])
        lost = asked[last + 1 :]
        held: Floats = np.minimum(below, ran.max()) if len(lost) else below
        return held


def learn(asked_hz: Floats, ran_hz: Floats) -> AskedToRan:
    """Learn from requests [p] and clocks that ran [p] (NaN where not observed); equal requests are averaged."""
    known = ~np.isnan(asked_hz) & ~np.isnan(ran_hz)
    if not known.any():
        return AskedToRan()
    asked, which = np.unique(asked_hz[known], return_inverse=True)
    total = np.bincount(which, weights=ran_hz[known])
    ran = total / np.bincount(which)
    return AskedToRan(tuple(asked.tolist()), tuple(ran.tolist()))
