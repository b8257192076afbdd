"""Logs → joules for each inference in each accounting, and savings against a baseline, from blocks of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.log import Log
from amble.core.ports import FloatArray
from amble.core.report import Estimate, Saving
from amble.core.schedule import Accounting
from amble.stages.check.intervals import ratio_of_sums

__all__ = ["ACCOUNTINGS", "Blocks", "energy_per_inference", "same_arrivals", "saving"]

ACCOUNTINGS: tuple[Accounting, ...] = ("period", "above_idle", "gross")
_MOST_BLOCKS = 20
_LEAST_REQUESTS = 5


@dataclass(frozen=True, slots=True)
class Blocks:
    """A run cut into consecutive requests: how many requests [block], and joules [block] in one accounting.

    ``known`` tells whether the joules of single blocks are; if not, the arrays hold the whole run as one block.
    """

    requests: FloatArray
    energy_j: FloatArray
    known: bool = True


def energy_per_inference(
    logs: Sequence[Log], accounting: Accounting, *, idle_w: float | None, confidence: float
) -> Estimate | None:
    """Return joules for each inference over all runs; None where the meter, or the idle power, is unknown."""
    blocks = _all_blocks(logs, accounting, idle_w)
    return ratio_of_sums(blocks.energy_j, blocks.requests, confidence) if blocks else None


def saving(
    logs: Sequence[Log],
    baseline: Sequence[Log],
    accounting: Accounting,
    *,
    clocks: str,
    idle_w: float | None,
    confidence: float,
) -> Saving:
    """Return which share of the baseline's energy for each inference the logs did without."""
    paired = same_arrivals(logs, baseline)
    mine, theirs = _all_blocks(logs, accounting, idle_w), _all_blocks(baseline, accounting, idle_w)
    name = baseline[0].policy
    if mine is None or theirs is None or theirs.energy_j.sum() <= 0:
        return Saving(name, clocks, accounting, None, paired)
    if not (paired and mine.known and theirs.known):
        used = mine.energy_j.sum() / mine.requests.sum() / (theirs.energy_j.sum() / theirs.requests.sum())
        return Saving(name, clocks, accounting, Estimate(float(1 - used)), paired)
    used_j = ratio_of_sums(mine.energy_j, theirs.energy_j, confidence)
    return Saving(name, clocks, accounting, _complement(used_j), paired, mine.requests.size)


def same_arrivals(logs: Sequence[Log], others: Sequence[Log]) -> bool:
    """Tell whether two lists of runs served the same arrivals (to a microsecond), run by run."""
    if len(logs) != len(others):
        return False
    pairs = [(_arrivals_s(one), _arrivals_s(other)) for one, other in zip(logs, others, strict=True)]
    return all(a.shape == b.shape and np.allclose(a, b, rtol=0, atol=1e-6) for a, b in pairs)


def _complement(used: Estimate) -> Estimate:
    low = None if used.high is None else 1 - used.high
    high = None if used.low is None else 1 - used.low
    return Estimate(1 - used.value, low, high)


def _arrivals_s(log: Log) -> FloatArray:
    return np.array([served.arrival_s - log.start_s for served in log.served])


def _all_blocks(logs: Sequence[Log], accounting: Accounting, idle_w: float | None) -> Blocks | None:
    parts = [_blocks(log, accounting, idle_w) for log in logs]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    requests, energy_j = (np.concatenate([getattr(part, name) for part in known]) for name in ("requests", "energy_j"))
    return Blocks(requests, energy_j, all(part.known for part in known))


def _blocks(log: Log, accounting: Accounting, idle_w: float | None) -> Blocks | None:
    """Cut one run; a block's window goes from its first arrival to the next block's.

    The meter covers the whole window; what it counted outside of requests goes to the blocks by their idle time.
    """
    served_j = np.array([np.nan if each.energy_j is None else each.energy_j for each in log.served])
    if accounting == "gross":
        return None if np.isnan(served_j).any() else _gross(log, served_j)
    if log.energy_j is None or (accounting == "above_idle" and idle_w is None):
        return None
    window_s = log.finish_s - log.start_s
    idle_j = idle_w * window_s if accounting == "above_idle" and idle_w is not None else 0.0
    if np.isnan(served_j).any():
        return Blocks(np.array([float(served_j.size)]), np.array([log.energy_j - idle_j]), known=False)
    starts = _starts(served_j.size)
    windows_s = _windows_s(log, starts)
    share = _idle_share(log, starts, windows_s)
    energy_j = np.add.reduceat(served_j, starts) + share * (log.energy_j - served_j.sum())
    return Blocks(_sizes(starts, served_j.size), energy_j - idle_j * windows_s / window_s)


def _gross(log: Log, served_j: FloatArray) -> Blocks:
    starts = _starts(served_j.size)
    return Blocks(_sizes(starts, served_j.size), np.add.reduceat(served_j, starts))


def _starts(requests: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    blocks = max(1, min(_MOST_BLOCKS, requests // _LEAST_REQUESTS))
    return np.arange(blocks, dtype=np.int64) * requests // blocks


def _sizes(starts: np.ndarray[tuple[int], np.dtype[np.int64]], requests: int) -> FloatArray:
    return np.diff(starts, append=requests).astype(np.float64)


def _windows_s(log: Log, starts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> FloatArray:
    edges_s = np.array([log.start_s, *(log.served[i].arrival_s for i in starts[1:]), log.finish_s])
    windows_s: FloatArray = np.diff(edges_s)
    return windows_s


def _idle_share(log: Log, starts: np.ndarray[tuple[int], np.dtype[np.int64]], windows_s: FloatArray) -> FloatArray:
    busy_s = np.add.reduceat(np.array([each.service_s for each in log.served]), starts)
    idle_s = np.maximum(windows_s - busy_s, 0.0)
    if idle_s.sum() <= 0:
        idle_s = windows_s
    share: FloatArray = idle_s / idle_s.sum()
    return share
