"""Predictions of the fitted workloads → what can be said of one that nobody measured, and of knobs held elsewhere.

Nothing measured tells the scale of a stranger: it is the middle of the workloads most like it (the same network at
other batches, then the same device, then all), and its interval is as wide as those differ. Shape letters: w fitted
workload, q asked point, x stranger.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.stages.fit.models import Z90, Prediction, fields_of

__all__ = ["completed", "elsewhere"]

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]
Key = tuple[str, ...]

_ALONE = 1.0  # deviation of the logarithm of a value of which a single other workload is all that is known
_BATCHES = 0.1  # deviation at least, of a value read off a line over other batch sizes


def completed(found: Prediction, workloads: tuple[Key, ...], strangers: tuple[Key, ...]) -> Prediction:
    """Fill rows [w] that lack a value that others have, and add rows of strangers: [w + x, q]."""
    keys = (*workloads, *strangers)
    fields = []
    whole = fields_of(found)
    for centre, low, high in (whole[:3], whole[3:]):
        rows = np.concatenate([np.stack([centre, low, high]), np.full((3, len(strangers), centre.shape[1]), np.nan)], 1)
        known = np.flatnonzero(~np.isnan(centre).any(axis=1))
        for row in np.flatnonzero(np.isnan(rows[0]).any(axis=1)).tolist() if len(known) else ():
            rows[:, row] = _estimated(rows[:, known], [workloads[place] for place in known], keys[row])
        fields += list(rows)
    return Prediction(*fields)


def elsewhere(found: Prediction, ratio: Floats) -> Prediction:
    """Widen the interval of each row [row] whose fixed knobs were set to this ratio of what was measured.

    A time may follow a clock fully or not at all: the middle is taken, and the interval holds both.
    """
    shift, reach = -0.5 * np.log(ratio), 0.6 * np.abs(np.log(ratio))
    fields = []
    for centre, low, high, sign in (
        (found.latency_s, found.latency_lo_s, found.latency_hi_s, 1.0),
        (found.power_w, found.power_lo_w, found.power_hi_w, -1.0),
    ):
        by = np.exp(sign * shift)
        fields += [centre * by, low * by * np.exp(-reach), high * by * np.exp(reach)]
    return Prediction(*fields)


def _estimated(rows: Floats, keys: list[Key], key: Key) -> Floats:
    """Centre and ends [3, q] for a workload, from those of others [3, w, q]."""
    alike = next(some for length in range(len(key) - 1, -1, -1) if (some := _alike(keys, key, length)))
    log = np.log(rows[:, alike])
    sizes = [_size(keys[place][-1]) for place in alike]
    if keys[alike[0]][:-1] == key[:-1] and len(set(sizes)) > 1 and not np.isnan([*sizes, _size(key[-1])]).any():
        middle, sd = _on_a_line(np.log(sizes), log[0], float(np.log(_size(key[-1]))))
    else:
        middle = log[0].mean(axis=0)
        sd = (
            log[0].std(axis=0, ddof=1) * np.sqrt(1 + 1 / len(alike)) if len(alike) > 1 else np.full_like(middle, _ALONE)
        )
    ends = np.nan_to_num(log[1:] - log[0], nan=0.0)
    below, above = ends[0].min(axis=0) - Z90 * sd, ends[1].max(axis=0) + Z90 * sd
    found: Floats = np.exp(np.stack([middle, middle + below, middle + above]))
    return found


def _alike(keys: list[Key], key: Key, length: int) -> list[int]:
    return [place for place, other in enumerate(keys) if other[:length] == key[:length]]


def _size(batch: str) -> float:
    try:
        return float(batch) if float(batch) > 0 else float("nan")
    except ValueError:
        return float("nan")


def _on_a_line(sizes: Floats, values: Floats, at: float) -> tuple[Floats, Floats]:
    """Read logarithms [n, q] over those of batch sizes [n] off a straight line; the middle and its deviation [q]."""
    slope, offset = np.polyfit(sizes, values, 1)
    left = values - (np.outer(sizes, slope) + offset)
    sd = np.sqrt((left**2).sum(axis=0) / max(len(sizes) - 2, 1) + _BATCHES**2)
    beyond = max(at - sizes.max(), sizes.min() - at, 0.0)
    return slope * at + offset, sd * (1 + beyond / float(np.ptp(sizes)))
