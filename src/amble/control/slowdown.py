"""Measured over predicted times → one slow-down factor for the whole table, by a Kalman filter.

After ALERT (Wan et al., USENIX ATC 2020): heat, contention and a table that is off in the mean all look alike from
here, and one scalar corrects every rung at once. The process noise follows the innovations, so that the filter is calm
while nothing changes and quick when something does. The spread that it reports is that of the next single run.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Slowdown", "fresh", "observe"]

_MEASUREMENT = 1e-3  # variance of one run around its mean, at the start
_PROCESS = 1e-5  # least variance that the factor itself gains in a run
_FORGET = 0.7  # how much of the process noise is kept from one run to the next (ALERT, section 3)
_LEARN = 0.02  # weight of one run in the measured variance


class Slowdown(NamedTuple):
    """The factor's mean and variance, the process noise, and the variance of single runs around the mean."""

    mean: float = 1.0
    variance: float = 0.01
    process: float = _PROCESS
    noise: float = _MEASUREMENT

    def high(self, deviations: float) -> float:
        """Return what the next run's factor stays below, this many standard deviations above the mean."""
        return self.mean + deviations * math.sqrt(self.variance + self.noise)


def fresh() -> Slowdown:
    """Return a factor of 1 that is not sure of itself."""
    return Slowdown()


def observe(state: Slowdown, ratio: float) -> Slowdown:
    """Return the state after a run that took ``ratio`` times what its table says; ValueError unless positive."""
    if not 0.0 < ratio < float("inf"):
        raise ValueError(f"a measured time over a predicted one is positive, not {ratio}")
    mean, variance, process, noise = state
    prior = variance + process
    gain = prior / (prior + noise)
    innovation = ratio - mean
    step = gain * innovation
    next_process = max(_PROCESS, _FORGET * process + (1.0 - _FORGET) * step * step)
    calm = min(innovation * innovation, 9.0 * (prior + noise))  # one outlier must not widen every later guard
    next_noise = max(1e-8, noise + _LEARN * (calm * noise / (prior + noise) - noise))
    return Slowdown(mean + step, (1.0 - gain) * prior, next_process, next_noise)
