"""Powers measured over one clock → the power limit that the device keeps though nobody wrote it down, or None.

Two things tell of it: a workload that stays at the highest power of all, no faster, while the clock goes on rising; or
several workloads that differ at a lower clock and meet at that power. Shape letters: w workload, p measured point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["implied_limit"]

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

_AT_LIMIT = 0.03  # of the logarithm of power: what is as near to the highest runs at the limit
_CLIMB = 0.15  # of it, below which a workload once was, for its power to have risen at all
_STEP = 1.25  # of the clock, over which power and time stay as they are
_NO_FASTER = 0.03  # of the logarithm of time
_MEETING, _APART = 3, 0.12  # workloads that meet at the limit, and how far apart (deviation) they were below it


def implied_limit(knobs: tuple[str, ...], points: Floats, latency: Floats, power: Floats) -> float | None:
    """Return the logarithm of the power limit that measurements [w, p] at points [p, k] show; None where none does.

    latency, power: logarithms, NaN where not measured. Where more than the core's clock varies nothing is guessed.
    """
    if knobs != ("core_hz",) or np.isnan(latency).all() or np.isnan(power).all():
        return None
    core, most = points[:, 0], float(np.nanmax(power))
    met = []
    for time, drawn in zip(latency, power, strict=True):
        known = np.flatnonzero(~np.isnan(drawn))
        at, below = known[drawn[known] > most - _AT_LIMIT], known[drawn[known] <= most - _AT_LIMIT]
        if not len(at) or not len(below) or float(drawn[below].min()) > most - _CLIMB:
            continue
        if any(_stays(core, time, known[core[known] > core[low]], low, at) for low in at.tolist()):
            return most
        met.append(float(drawn[below[np.argmax(core[below])]]))
    return most if len(met) >= _MEETING and float(np.std(met)) > _APART else None


def _stays(core: Floats, time: Floats, higher: Indices, low: int, at: Indices) -> bool:
    """Whether a workload is at the limit at every higher clock, some well above, and is no faster there."""
    far = higher[core[higher] > _STEP * core[low]]
    return bool(len(far) and np.isin(higher, at).all() and (np.abs(time[far] - time[low]) < _NO_FASTER).all())
