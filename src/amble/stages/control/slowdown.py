"""Measured over predicted times → one slow-down factor for the whole table, by a robust Kalman filter that forgets.

After ALERT (Wan et al., USENIX ATC 2020): heat, contention and a table that is off in the mean all look alike from
here, and one scalar corrects every rung at once. The process noise follows the innovations, so that the filter is calm
while nothing changes and quick when something does. The spread that it reports is that of the next single run.

What is ours. A run that was pre-empted says nothing of the next one, so the filter sees the *median of the last three*
ratios, and no run moves the mean by more than half of itself: one outlier moves nothing, two slow runs in a row do.
And what was learnt gets old: with the time that passes the mean goes back to 1 and the variance to what it was at the
start, since a factor that refuses everybody would never be corrected otherwise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Slowdown", "aged", "observe"]

_MEASUREMENT = 1e-3  # variance of one run around its mean, at the start
_VARIANCE = 0.01  # of the mean, at the start and after a long silence
_PROCESS = 1e-5  # least variance that the factor itself gains in a run
_FORGET = 0.7  # how much of the process noise is kept from one run to the next (ALERT, section 3)
_LEARN = 0.02  # weight of one run in the measured variance
_REACH = 0.5  # most that one run may move the mean, as a share of it
_MEMORY_S = 20.0  # time in which all but 1/e of what was learnt is forgotten


class Slowdown(NamedTuple):
    """The factor's mean and variance, the process noise, and the variance of single runs around the mean.

    ``recent``: the last three ratios, ``at_s`` when the last one was measured, ``aged_s`` when it was last aged [s].
    """

    mean: float = 1.0
    variance: float = _VARIANCE
    process: float = _PROCESS
    noise: float = _MEASUREMENT
    recent: tuple[float, float, float] = (1.0, 1.0, 1.0)
    at_s: float = -math.inf
    aged_s: float = -math.inf

    def high(self, deviations: float) -> float:
        """Return what the next run's factor stays below, this many standard deviations above the mean."""
        return self.mean + deviations * math.sqrt(self.variance + self.noise)

    def sure(self, now_s: float, within_s: float) -> float:
        """Return the factor that is beyond doubt: what all of the last three runs exceeded, within this time; else 1.

        That is little to go by, and meant so: whoever would be refused for more than this alone is served instead, and
        measured.
        """
        return 1.0 if now_s >= self.at_s + within_s else max(1.0, min(self.recent))


def aged(state: Slowdown, now_s: float) -> Slowdown:
    """Return the state when nothing was measured until now."""
    passed_s = now_s - state.aged_s
    if not 0.0 < passed_s < math.inf:
        return state
    keep = math.exp(-passed_s / _MEMORY_S)
    mean, variance = 1.0 + keep * (state.mean - 1.0), _VARIANCE + keep * (state.variance - _VARIANCE)
    return state._replace(mean=mean, variance=variance, aged_s=now_s)


def observe(state: Slowdown, ratio: float, now_s: float) -> Slowdown:
    """Return the state after a run that took ``ratio`` times what its table says and ended now.

    ValueError unless the ratio is positive.
    """
    if not 0.0 < ratio < math.inf:
        raise ValueError(f"a measured time over a predicted one is positive, not {ratio}")
    mean, variance, process, noise, recent, _, _ = aged(state, now_s)
    recent = (recent[1], recent[2], ratio)
    prior = variance + process
    gain = prior / (prior + noise)
    innovation = max(-_REACH * mean, min(_REACH * mean, sorted(recent)[1] - mean))
    step = gain * innovation
    next_process = max(_PROCESS, _FORGET * process + (1.0 - _FORGET) * step * step)
    calm = min((ratio - mean) ** 2, 9.0 * (prior + noise))  # one outlier must not widen every later guard
    next_noise = max(1e-8, noise + _LEARN * (calm * noise / (prior + noise) - noise))
    return Slowdown(mean + step, (1.0 - gain) * prior, next_process, next_noise, recent, now_s, now_s)
