"""The recorded 5G traces → rates that a link can follow.

Their uplink column is the traffic of acknowledgements of a download, not what the uplink could carry: so the downlink's
rate is taken as the capacity of the link. Samples are a second apart; some seconds have several, which are averaged.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np

from bench.hosts.pipe import Trace

__all__ = ["FILE", "rates", "trace"]

FILE = Path("net_5g_ucc") / "download_traces.csv.gz"


def rates(path: Path) -> dict[str, list[float]]:
    """Return the rates [bit/s] of every trace, second by second."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            found[row["trace"]][row["Timestamp"]].append(1e3 * float(row["DL_bitrate"]))
    return {name: [float(np.mean(each)) for each in seconds.values()] for name, seconds in found.items()}


def trace(of: list[float], seconds: int, *, scale: float = 1.0) -> Trace:
    """Return the part of a trace with the widest range of rates, in its order, each rate multiplied."""
    logs = np.log10(np.maximum(of, 1e4))
    starts = range(max(1, len(of) - seconds))
    spread = [float(np.subtract(*np.percentile(logs[at : at + seconds], [90, 10]))) for at in starts]
    begin = int(np.argmax(spread))
    part = of[begin : begin + seconds]
    return Trace((1.0,) * len(part), tuple(scale * each for each in part))
