"""What others do about the same server, rebuilt from what is published of them: heads that know more than ours.

Reconstructions, none of them its authors' code. *Utilisation*: the slowest clock at which the true share of busy time
stays below 90 % (in the manner of GEEPAFS, which keeps a floor of throughput). *Bandit*: an upper-confidence bandit on
energy × delay, with the load as context (in the manner of AGFT). *Ladder*: a fixed ladder over the number of requests
in the system (in the manner of throttLL'eM, whose projections of each request we do not have).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from amble.core.ports import FloatArray
from amble.services.govern.belief import load_class
from amble.services.govern.head import Choice, Seen
from amble.services.govern.rehearsal import Batcher, Engine

__all__ = ["Bandit", "Ladder", "Utilisation"]


@dataclass
class Utilisation:
    """See the module's docstring. ``speeds``: [setting] of work, 1 at the fastest."""

    server: Engine | Batcher
    speeds: FloatArray
    period_s: float = 1.0
    _busy_s: float = 0.0
    _work: float = 1.0

    def init(self, now_s: float) -> None:
        """Begin."""

    def step(self, state: None, seen: Seen) -> tuple[None, Choice]:
        """Choose by the share of busy time."""
        busy = (self.server.busy_s - self._busy_s) / max(seen.look.span_s, 1e-3)
        self._busy_s = self.server.busy_s
        self._work = 0.5 * self._work + 0.5 * min(busy, 1.0) * float(self.speeds[max(seen.ran, 0)])
        fits = [at for at, speed in enumerate(self.speeds) if self._work / speed <= 0.9]
        setting = 0 if busy > 0.97 else max(fits, default=0)
        return None, Choice(setting, False, self.period_s, "utilisation")


@dataclass
class Bandit:
    """See the module's docstring."""

    num_settings: int
    period_s: float = 1.0
    seed: int = 0
    _mean: dict[tuple[int, int], float] = field(default_factory=dict)
    _count: dict[tuple[int, int], int] = field(default_factory=dict)
    _rate_hz: float = 0.0
    _last: tuple[int, int] = (0, 0)

    def init(self, now_s: float) -> None:
        """Begin."""

    def step(self, state: None, seen: Seen) -> tuple[None, Choice]:
        """Learn from the last period's energy × delay, and choose the arm of least lower bound."""
        look = seen.look
        if look.usable and seen.power_w is not None and look.finished > 0:
            waits = sum(float(np.dot(counts, np.arange(len(counts)) + 1.0)) for counts in look.counts)
            delay = math.exp(waits / max(1.0, sum(map(sum, look.counts))) * 0.3)  # a bucket is about a third more
            cost = math.log(seen.power_w * look.span_s / look.finished * delay)
            count = self._count.get(self._last, 0) + 1
            self._count[self._last] = count
            before = self._mean.get(self._last, 0.0)
            self._mean[self._last] = before + (cost - before) / min(count, 200)
        self._rate_hz = 0.8 * self._rate_hz + 0.2 * look.arrivals / max(look.span_s, 1e-3)
        load = load_class(self._rate_hz)
        total = 1 + sum(self._count.get((load, at), 0) for at in range(self.num_settings))
        bounds = [
            self._mean.get((load, at), -9.0) - 0.3 * math.sqrt(math.log(total) / max(1, self._count.get((load, at), 0)))
            for at in range(self.num_settings)
        ]
        self._last = (load, int(np.argmin(bounds)))
        return None, Choice(self._last[1], False, self.period_s, "bandit")


@dataclass
class Ladder:
    """See the module's docstring. ``full`` requests in the system ask for the fastest clock."""

    server: Engine | Batcher
    num_settings: int
    full: float
    period_s: float = 1.0

    def init(self, now_s: float) -> None:
        """Begin."""

    def step(self, state: None, seen: Seen) -> tuple[None, Choice]:
        """Choose by the number of requests in the system."""
        inside = (seen.look.waiting or 0.0) + (seen.look.running or 0.0)
        share = min(1.0, inside / self.full)
        return None, Choice(round((1.0 - share) * (self.num_settings - 1)), False, self.period_s, "ladder")
