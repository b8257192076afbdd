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

__all__ = ["FILE", "rates"]

FILE = Path("net_5g_ucc") / "download_traces.csv.gz"


def rates(path: Path) -> dict[str, list[float]]:
    """Return the rates [bit/s] of every trace, second by second."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            found[row["trace"]][row["Timestamp"]].append(1e3 * float(row["DL_bitrate"]))
    return {name: [float(np.mean(each)) for each in seconds.values()] for name, seconds in found.items()}
