"""What a watcher has learnt of a server: late answers and latencies at each load and setting, power over work.

*Latency.* Loads are classes, half an octave of requests a second each. In each class and at each setting latencies are
counted as the server's histogram shows them. A setting that was never used is judged by the counts of the nearest
faster one: every latency there, longer by the ratio of the two settings' slowness, to a power that is learnt (one law
for each objective: the time to a first token follows the arithmetic, that between tokens the memory).

*Power.* Of each load and setting; settings are compared at the same load. One that was never used is believed to draw a
little less than its faster neighbour, so that it is tried once.

Everything is data: a step returns a new belief.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from amble.core.ports import FloatArray

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CLASSES", "Belief", "load_class"]

CLASSES = 40
_LEAST_HZ = 0.02
_BORDER = 0.8  # of a class, on both sides of its middle
_CHEAPER = 0.98  # what the next slower setting is believed to draw, until it was tried
_CURIOUS = 0.015  # what a setting may draw less than it seems to, while little was seen of it
_PRIOR_S = 4.0  # seconds of a setting's own data that weigh as much as its neighbour's
_HELP_S = 30.0  # a setting that ran for less is not yet one that needs help
_MEANT = 30.0  # answers that a mean is taken of
_ELASTIC = 0.5  # within a class, power goes about as the root of the rate
_KEEP = 0.9998  # of what was learnt, a second


def load_class(rate_hz: float, before: int = 0) -> int:
    """Return the class of a load [1/s]; 0 is no load at all. The class of ``before`` is kept at its borders."""
    if rate_hz < _LEAST_HZ:
        return 0
    place = 1.0 + 2.0 * math.log2(rate_hz / _LEAST_HZ)
    return before if before and abs(place - before) < _BORDER else min(CLASSES - 1, round(place))


def _near(load: int) -> slice:
    """Return the classes that say something of a load: itself, one below and two above; no load is like none."""
    return slice(max(1, load - 1), load + 3) if load else slice(0, 1)


@dataclass(frozen=True)
class Belief:
    """Rows are settings, fastest first, and one more, the last, for clocks as found.

    counts: [objective][load, row, bucket]; power: [load, row, 2] seconds and joules; idle: [row, 2] the same, without
    any work; helped: [load, row, 2] seconds, and those at the fastest setting because of a queue that this one led to.
    """

    counts: tuple[FloatArray, ...]
    power: FloatArray
    idle: FloatArray
    helped: FloatArray

    @classmethod
    def blank(cls, num_settings: int, num_buckets: Sequence[int]) -> Belief:
        """Return the belief of someone who has seen nothing."""
        rows = num_settings + 1
        counts = tuple(np.zeros((CLASSES, rows, buckets)) for buckets in num_buckets)
        return cls(counts, np.zeros((CLASSES, rows, 2)), np.zeros((rows, 2)), np.zeros((CLASSES, rows, 2)))

    def with_latencies(self, objective: int, load: int, row: int, counts: Sequence[float]) -> Belief:
        """Learn the latencies of one period."""
        if not any(counts):
            return self
        changed = self.counts[objective].copy()
        changed[load, row] += counts
        return replace(self, counts=(*self.counts[:objective], changed, *self.counts[objective + 1 :]))

    def with_power(self, rate_hz: float, row: int, power_w: float | None, span_s: float) -> Belief:
        """Learn the power [W] of one period of ``span_s`` [s] at its own rate [1/s] and a setting."""
        if power_w is None:
            return self
        load = max(1, load_class(rate_hz))
        off = max(rate_hz, _LEAST_HZ) / (_LEAST_HZ * 2.0 ** (0.5 * (load - 1)))
        power = self.power * _KEEP**span_s
        power[load, row] += (span_s, span_s * power_w / min(1.2, max(0.8, off)) ** _ELASTIC)
        return replace(self, power=power)

    def with_help(self, load: int, row: int, span_s: float, *, helped: bool) -> Belief:
        """Learn whether a setting needed help for ``span_s`` [s]."""
        changed = self.helped.copy()
        changed[load, row] += (span_s, span_s if helped else 0.0)
        return replace(self, helped=changed)

    def help_share(self, load: int, row: int) -> float:
        """Return the share of the time that a setting needed help around a load; less after little of it."""
        seconds, helped_s = self.helped[_near(load), row].sum(axis=0)
        return float(helped_s / (seconds + _HELP_S))

    def with_idleness(self, row: int, power_w: float | None, span_s: float) -> Belief:
        """Learn the power [W] of a period without any work."""
        if power_w is None:
            return self
        idle = self.idle.copy()
        idle[row] += (span_s, span_s * power_w)
        return replace(self, idle=idle)

    def idle_w(self, *, cheaper: float = _CHEAPER) -> FloatArray | None:
        """Return the idle power expected at each setting [W]: [setting]; None before any was seen.

        A setting that was not tried is believed to draw ``cheaper`` times what its faster neighbour does.
        """
        seen = self.idle[:-1].copy()
        seen[0] += self.idle[-1]
        if not seen[:, 0].any():
            return None
        known = np.full(len(seen), np.nan)
        np.divide(seen[:, 1], seen[:, 0], out=known, where=seen[:, 0] >= 0.5)
        if np.isnan(known).all():
            return None
        first = int(np.flatnonzero(~np.isnan(known))[0])
        known[:first] = known[first] / cheaper ** np.arange(first, 0, -1)
        for row in range(1, len(known)):
            known[row] = cheaper * known[row - 1] if np.isnan(known[row]) else known[row]
        return known

    def faded(self, load: int, row: int) -> Belief:
        """Halve the latencies at a setting and all slower ones, at this load and above: they may be seen anew."""
        changed = tuple(each.copy() for each in self.counts)
        for each in changed:
            each[load:, row:-1] *= 0.5
        return replace(self, counts=changed)

    def power_w(self, load: int) -> FloatArray | None:
        """Return the power expected at each setting at a load, over that at the fastest: [setting]; None if unknown.

        At every load a base, at every setting a factor, by turns; loads nearby count more. So settings are compared
        at the same load, whatever power is over load, and a factor begins as its faster neighbour's, a little less.
        """
        near = np.exp(-np.abs(np.arange(CLASSES) - load) / 4.0)[:, None]
        seconds, joules = (near * self.power[:, :, part] for part in (0, 1))
        if not joules.any():
            return None
        seconds[:, 0] += seconds[:, -1]
        joules[:, 0] += joules[:, -1]
        seconds, joules = seconds[:, :-1], joules[:, :-1]
        factors = np.ones(seconds.shape[1])
        for _ in range(4):
            expected = seconds @ factors
            base = np.divide(joules.sum(axis=1), expected, out=np.zeros(CLASSES), where=expected > 0.0)
            prior = _PRIOR_S * float(base @ seconds.sum(axis=1)) / float(seconds.sum())
            mine, due = joules.sum(axis=0), base @ seconds
            before = 1.0
            for row in range(len(factors)):
                before *= 1.0 if row == 0 else _CHEAPER
                before = (float(mine[row]) + prior * before) / (float(due[row]) + prior)
                factors[row] = before
            factors = factors / factors[0]
        tried = seconds.sum(axis=0) / _PRIOR_S
        curious = _CURIOUS / np.sqrt(1.0 + tried)
        curious[0] = 0.0
        believed: FloatArray = factors * (1.0 - curious)
        return believed

    def seen(self, objective: int, load: int, row: int, *, near: bool = True) -> FloatArray:
        """Return the latencies counted at a setting: [bucket]; at this load and its neighbours, or at every load."""
        loads = _near(load) if near else slice(None)
        together: FloatArray = self.counts[objective][loads, row].sum(axis=0)
        if row == 0:
            together = together + self.counts[objective][loads, -1].sum(axis=0)
        return together

    def mean_s(self, objective: int, load: int, row: int, middles_s: FloatArray) -> float | None:
        """Return the mean latency at a setting [s]; None before a few dozen answers."""
        counts = self.seen(objective, load, row)
        total = float(counts.sum())
        return float(counts @ middles_s) / total if total >= _MEANT else None

    def law(self, objective: int, slowness: FloatArray, middles_s: FloatArray) -> float:
        """Return the power to which slowness ratios stretch latencies, learnt from their means; 1 to begin with.

        ``slowness``: [setting]; ``middles_s``: [bucket] a latency for each bucket [s].
        """
        counts = self.counts[objective]
        totals = counts.sum(axis=2)
        totals[:, 0] += totals[:, -1]
        sums = counts @ middles_s
        sums[:, 0] += sums[:, -1]
        totals, sums = totals[:, :-1], sums[:, :-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(sums / totals) - np.log(sums[:, :1] / totals[:, :1])
            weight = np.minimum(np.minimum(totals, totals[:, :1]), 1000.0)
        stretch = np.broadcast_to(np.log(slowness / slowness[0]), ratio.shape)
        usable = np.isfinite(ratio) & (weight >= 20.0) & (stretch > 0.0)
        above = 5.0 + float((weight * stretch * ratio)[usable].sum())
        below = 5.0 + float((weight * stretch**2)[usable].sum())
        return float(np.clip(above / below, 0.0, 3.0))
