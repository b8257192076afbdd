"""Counts of arrivals → an estimate of their rate, at two speeds."""

from __future__ import annotations

from math import exp
from typing import NamedTuple

__all__ = ["Rate", "arrive", "fresh"]


class Rate(NamedTuple):
    """Exponentially forgotten counts over a fast and a slow time constant [s], and when they were made [s]."""

    at_s: float
    since_s: float
    fast: float
    slow: float
    fast_s: float
    slow_s: float

    def hz(self, now_s: float) -> tuple[float, float]:
        """Return both estimates [1/s]; early on, divided by the time that was really seen."""
        passed_s, seen_s = now_s - self.at_s, max(self.fast_s / 4, now_s - self.since_s)
        fast_seen = self.fast_s * (1.0 - exp(-seen_s / self.fast_s))
        slow_seen = self.slow_s * (1.0 - exp(-seen_s / self.slow_s))
        return self.fast * exp(-passed_s / self.fast_s) / fast_seen, self.slow * exp(
            -passed_s / self.slow_s
        ) / slow_seen


def fresh(now_s: float, *, fast_s: float, slow_s: float) -> Rate:
    """Return an estimator that has seen nothing."""
    if not 0 < fast_s <= slow_s:
        raise ValueError(f"time constants must be positive and rising, not {fast_s} s and {slow_s} s")
    return Rate(now_s, now_s, 0.0, 0.0, fast_s, slow_s)


def arrive(rate: Rate, now_s: float, count: int) -> Rate:
    """Return the estimator after ``count`` arrivals since it was last told."""
    passed_s = now_s - rate.at_s
    fast = rate.fast * exp(-passed_s / rate.fast_s) + count
    slow = rate.slow * exp(-passed_s / rate.slow_s) + count
    return Rate(now_s, rate.since_s, fast, slow, rate.fast_s, rate.slow_s)
