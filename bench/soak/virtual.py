"""Arrivals, an hour at a time -> what serving them took in virtual time, with nothing kept that grows with them.

The default governor on the Tesla P40's table of `pnasnet-large`, with INT8 1.5 times as fast. 64 requests a second are
more than that network does one at a time on this device, so its times are divided by four (four cards). Resident memory
is read early and at the end.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from amble.core.ladder import Rung
from amble.core.ports import Clock, FloatArray
from amble.core.schedule import Deadline
from amble.devices.recorded.tabled import Behaviour, open_table, whole
from amble.stages.control.batcher import Request
from amble.stages.control.engine import Engine, Lane
from amble.stages.control.governors import Amble
from bench.pit.traffic import SETTLE_S, STALL_S, Tally, ladder, published_rungs, with_int8

__all__ = ["CARDS", "poisson", "served"]

CARDS = 4


class Streamed:
    """Arrivals made an hour at a time, so that a day of them need not be held."""

    def __init__(self, hours: Iterator[FloatArray], clock: Clock, deadline_s: float) -> None:
        self._hours = hours
        self._clock = clock
        self._deadline_s = deadline_s
        self._waiting: list[float] = []
        self._next = 0
        self._more()

    @property
    def closed(self) -> bool:
        return not self._waiting

    def take(self, now_s: float) -> Sequence[Request]:
        taken = []
        while self._waiting and self._waiting[self._next] <= now_s:
            at_s = self._waiting[self._next]
            taken.append(Request(at_s, at_s + self._deadline_s))
            self._next += 1
            if self._next == len(self._waiting):
                self._more()
        return taken

    def wait(self, until_s: float) -> None:
        if self._waiting:
            until_s = min(until_s, self._waiting[self._next])
        passed_s = until_s - self._clock.now_s()
        if 0.0 < passed_s < float("inf"):
            self._clock.sleep(passed_s)

    def _more(self) -> None:
        self._next = 0
        self._waiting = next(self._hours, np.array([])).tolist()


def poisson(rate_hz: float, count: int, *, part: int = 50_000) -> Iterator[FloatArray]:
    """Make independent arrivals [s], a part at a time."""
    start_s = 0.0
    for place in range(0, count, part):
        gaps_s = np.random.default_rng(place).exponential(1.0 / rate_hz, min(part, count - place))
        times_s = start_s + np.cumsum(gaps_s)
        start_s = float(times_s[-1])
        yield times_s


def _cards(rung: Rung) -> Rung:
    times_s = tuple(each / CARDS for each in rung.latency_s)
    return replace(rung, latency_s=times_s, energy_j=tuple(each / CARDS for each in rung.joules))


def served(name: str, hours: Iterator[FloatArray]) -> dict[str, Any]:
    """Serve a stream of arrivals [s] and return the record of it."""
    rungs = [_cards(rung) for rung in with_int8(published_rungs("pnasnet-large"), 1.5)]
    steps = ladder(rungs, "pnasnet-large")
    deadline_s = 10.0 * steps.levels[0].rungs[0].latency_s[0]
    governor = Amble(steps, Deadline(deadline_s, 0.95))
    device = open_table("tesla-p40", rungs, behaviour=Behaviour(0.01, STALL_S, SETTLE_S), seed=0)
    tally = Watched(deadline_s)
    lane = Lane("", governor, lambda variant, batch: whole("network", variant, batch))
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    totals = Engine(device, [lane], tally).run(Streamed(_counted(hours, tally), device.clock, deadline_s))
    wall_s, cpu_s = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
    energy_j = device.meter.read().energy_j
    answered = totals.answered + sum(totals.refused.values())
    return {
        "run": name,
        "governor": governor.name,
        "requests": tally.made,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "us_per_request": wall_s / tally.made * 1e6,
        "virtual_s": device.clock.now_s(),
        "missed": 1.0 - tally.on_time / tally.made,
        "accuracy": 1.0 - tally.lost / max(1, tally.rows),
        "joules_per_request": (energy_j or 0.0) / max(1, tally.on_time),
        "lost": tally.made - answered,
        "grown_mb": tally.grown_mb(),
    }


class Watched(Tally):
    """Counts, and remembers how much memory was in use early on."""

    def __init__(self, slo_s: float) -> None:
        super().__init__(slo_s)
        self.made = 0
        self.early_kb = 0

    def grown_mb(self) -> float:
        """Growth of the peak of resident memory since the first part was served [MB]."""
        return (_peak_kb() - self.early_kb) / 1024.0


def _counted(hours: Iterator[FloatArray], tally: Watched) -> Iterator[FloatArray]:
    for hour in hours:
        if tally.made and not tally.early_kb:
            tally.early_kb = _peak_kb()
        tally.made += len(hour)
        yield hour
    tally.early_kb = tally.early_kb or _peak_kb()


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
