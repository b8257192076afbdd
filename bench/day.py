"""A day of requests at 64 a second, and a million without a pause, in virtual time: how long serving them takes.

The day is the recorded one where there is one (tweets a second, the first of two days), else Poisson. It is served by
the default governor on the Tesla P40's table of `pnasnet-large`, with INT8 1.5 times as fast. 64 requests a second are
more than that network does one at a time on this device, so its times are divided by four (four cards). What is kept
must not grow with what is served: resident memory is read early and at the end.
"""

from __future__ import annotations

import document

document.on_one_core()

import resource  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from traffic import SETTLE_S, STALL_S, Tally, ladder, published_menu, with_int8  # noqa: E402

from amble.check.arrivals import parse_load  # noqa: E402
from amble.control.batcher import Request  # noqa: E402
from amble.control.engine import Engine, Lane  # noqa: E402
from amble.control.governors import Amble, max_clocks  # noqa: E402
from amble.core.ladder import Rung  # noqa: E402
from amble.core.ports import Clock, FloatArray  # noqa: E402
from amble.core.schedule import Deadline  # noqa: E402
from amble.devices.tabled import Behaviour, open_table, whole  # noqa: E402

CARDS = 4
DAY_S = 86_400.0


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


def main() -> None:
    options = document.options("day", __doc__)
    hours = 1 if options.quick else 24
    records = [
        _run("day", _recorded(options.data, hours)),
        _run("soak", _poisson(100_000 if options.quick else 1_000_000)),
    ]
    day, soak = records
    share = 64.0 * DAY_S / day["requests"]  # of a whole day, 1 but for the noise of the arrivals; more in a quick run
    targets = [
        document.target("a day at 64 requests/s, wall time", want="< 600", value=share * day["wall_s"], unit="s"),
        document.target("a day at 64 requests/s, time of one core", want="< 600", value=share * day["cpu_s"], unit="s"),
        document.target("soak: growth of resident memory", want="<= 50", value=soak["grown_mb"], unit="MB"),
        document.target("day: growth of resident memory", want="<= 50", value=day["grown_mb"], unit="MB"),
        document.target("soak: requests without an answer or a refusal", want="== 0", value=soak["lost"], unit="1"),
    ]
    document.finish(options, records, targets)


def _recorded(data: Path, hours: int) -> Iterator[FloatArray]:
    """Requests in each second, spread over it at random, an hour at a time; Poisson without the file."""
    path = data / "arrivals_twitter_2021_08" / "per_second_days_1_2.txt.gz"
    if not path.exists():
        for hour in range(hours):
            yield hour * 3600.0 + parse_load("poisson:64/s:60min").times_s(hour)
        return
    counts = np.loadtxt(path, dtype=np.int64)[: int(DAY_S)]
    scale = 64.0 / counts.mean()
    random = np.random.default_rng(0)
    for hour in range(hours):
        mine = random.poisson(scale * counts[hour * 3600 : (hour + 1) * 3600])
        seconds = np.repeat(np.arange(3600, dtype=np.float64), mine)
        yield np.sort(hour * 3600.0 + seconds + random.random(seconds.size))


def _poisson(count: int, part: int = 50_000) -> Iterator[FloatArray]:
    start_s = 0.0
    for place in range(0, count, part):
        gaps_s = np.random.default_rng(place).exponential(1.0 / 120.0, min(part, count - place))
        times_s = start_s + np.cumsum(gaps_s)
        start_s = float(times_s[-1])
        yield times_s


def _cards(rung: Rung) -> Rung:
    times_s = tuple(each / CARDS for each in rung.latency_s)
    return replace(rung, latency_s=times_s, energy_j=tuple(each / CARDS for each in rung.energy_j))


def _run(name: str, hours: Iterator[FloatArray]) -> dict[str, Any]:
    menu = [_cards(rung) for rung in with_int8(published_menu("pnasnet-large"), 1.5)]
    steps = ladder(menu, "pnasnet-large")
    deadline_s = 10.0 * steps.levels[0].rungs[0].latency_s[0]
    governor = Amble(steps, Deadline(deadline_s, 0.95)) if name == "day" else max_clocks(steps)
    device = open_table("tesla-p40", menu, behaviour=Behaviour(0.01, STALL_S, SETTLE_S), seed=0)
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


if __name__ == "__main__":
    main()
