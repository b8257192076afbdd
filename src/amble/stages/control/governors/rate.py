"""Counts of arrivals → an estimate of their rate, at two speeds, and of how many come at a time."""

from __future__ import annotations

from math import exp
from typing import NamedTuple

__all__ = ["Rate", "arrive", "fresh"]

_LEARN = 0.01  # weight of one window in the mean and the mean square of the counts
_TRUST = 0.15  # weight from which on they tell something: 16 windows


class Rate(NamedTuple):
    """Exponentially forgotten counts over a fast and a slow time constant [s], and counts in windows of equal length.

    ``at_s`` is when they were made, ``since_s`` the beginning. ``mean`` and ``square`` are of the counts in windows of
    ``window_s`` times ``weight``, which grows to 1; the last one ends at ``until_s`` and has ``held`` so many so far.
    """

    at_s: float
    since_s: float
    fast: float
    slow: float
    fast_s: float
    slow_s: float
    window_s: float
    until_s: float
    held: int = 0
    mean: float = 0.0
    square: float = 0.0
    weight: float = 0.0

    def hz(self, now_s: float) -> tuple[float, float]:
        """Return both estimates [1/s]; early on, divided by the time that was really seen."""
        passed_s, seen_s = now_s - self.at_s, max(self.fast_s / 4, now_s - self.since_s)
        fast_seen = self.fast_s * (1.0 - exp(-seen_s / self.fast_s))
        slow_seen = self.slow_s * (1.0 - exp(-seen_s / self.slow_s))
        return self.fast * exp(-passed_s / self.fast_s) / fast_seen, self.slow * exp(
            -passed_s / self.slow_s
        ) / slow_seen

    @property
    def clump(self) -> float:
        """Return how many come at a time: variance over mean of the counts, 1 for independent arrivals."""
        if self.mean <= 1e-6 or self.weight < _TRUST:
            return 1.0
        return max(1.0, self.square / self.mean - self.mean / self.weight)


def fresh(now_s: float, *, fast_s: float, slow_s: float, window_s: float) -> Rate:
    """Return an estimator that has seen nothing."""
    if not 0 < fast_s <= slow_s or window_s <= 0:
        raise ValueError(f"time constants must be positive and rising, not {fast_s}, {slow_s} and {window_s} s")
    return Rate(now_s, now_s, 0.0, 0.0, fast_s, slow_s, window_s, now_s + window_s)


def arrive(rate: Rate, now_s: float, count: int) -> Rate:
    """Return the estimator after ``count`` arrivals since it was last told."""
    at_s, since_s, fast, slow, fast_s, slow_s, window_s, until_s, held, mean, square, weight = rate
    passed_s = now_s - at_s
    fast = fast * exp(-passed_s / fast_s) + count
    slow = slow * exp(-passed_s / slow_s) + count
    if now_s >= until_s:
        mean += _LEARN * (held - mean)
        square += _LEARN * (held * held - square)
        weight += _LEARN * (1.0 - weight)
        empty = int((now_s - until_s) / window_s)
        if empty:
            keep = (1.0 - _LEARN) ** min(empty, 5000)
            mean, square, weight = mean * keep, square * keep, 1.0 - (1.0 - weight) * keep
        until_s += (empty + 1) * window_s
        held = 0
    return Rate(now_s, since_s, fast, slow, fast_s, slow_s, window_s, until_s, held + count, mean, square, weight)
