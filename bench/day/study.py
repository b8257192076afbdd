"""A day of requests at 64 a second in virtual time: how long serving them takes.

The day is the recorded one where there is one (tweets a second, the first of two days), else Poisson.
"""

from __future__ import annotations

from bench.kit import document

document.on_one_core()

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from amble.core.ports import FloatArray  # noqa: E402
from amble.stages.check.arrivals import parse_load  # noqa: E402
from bench.soak.virtual import served  # noqa: E402

DAY_S = 86_400.0


def main() -> None:
    options = document.options("day", __doc__)
    day = served("day", _recorded(options.data, 1 if options.quick else 24))
    share = 64.0 * DAY_S / day["requests"]  # of a whole day, 1 but for the noise of the arrivals; more in a quick run
    targets = [
        document.target("a day at 64 requests/s, wall time", want="< 600", value=share * day["wall_s"], unit="s"),
        document.target("a day at 64 requests/s, time of one core", want="< 600", value=share * day["cpu_s"], unit="s"),
        document.target("day: growth of resident memory", want="<= 50", value=day["grown_mb"], unit="MB"),
        document.target("day: requests without an answer or a refusal", want="== 0", value=day["lost"], unit="1"),
    ]
    document.finish(options, [day], targets)


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
