"""What the relay between two hosts does beside what it is asked to do: its own error, measured first."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.hosts.hosts import Hosts, hosts
from bench.hosts.pipe import Shape
from bench.kit import document

__all__ = ["own_error"]

Record = dict[str, Any]

FAST_BIT_S = 1e9
PAYLOAD = 1448 / 1500  # of a full segment, with time stamps
_END = "bench.hosts.ends"


def own_error(*, quick: bool) -> Iterator[Record]:
    """Measure round trips, rates and losses over links of known shapes."""
    with hosts(Shape.steady(FAST_BIT_S)) as pair:
        end = pair.start("far", [sys.executable, "-m", _END, "echo"])
        assert end.stdout is not None
        end.stdout.readline()
        count = 200 if quick else 500
        for delay_s in (0.0, 0.005, 0.02):
            pair.shape(Shape.steady(FAST_BIT_S, delay_s=delay_s))
            over_s = [each - 2 * delay_s for each in asked(pair, "ask", str(count), "0.003")["trips_s"]]
            yield {
                "what": "round trip",
                "delay_s": delay_s,
                "count": len(over_s),
                "over_p50_s": document.percentile(over_s, 50),
                "over_p95_s": document.percentile(over_s, 95),
                "over_p99_s": document.percentile(over_s, 99),
            }
        for rate in (1e6, 1e7, 1e8):
            pair.shape(Shape.steady(rate, delay_s=0.005))
            num_bytes = int(rate / 8 * (1 if quick else 3))
            took_s = asked(pair, "send", str(num_bytes))["took_s"]
            yield {"what": "rate", "rate_bit_s": rate, "off": 8 * num_bytes / took_s / (rate * PAYLOAD) - 1}
        for loss in (0.05, 0.3):
            pair.shape(Shape.steady(FAST_BIT_S, loss=loss, seed=1))
            back = len(asked(pair, "ask", str(count), "0.001")["trips_s"]) / count
            yield {"what": "loss", "loss": loss, "count": count, "measured": 1 - float(np.sqrt(back))}


def asked(pair: Hosts, *words: str) -> dict[str, Any]:
    """Ask from the near host."""
    end = pair.start("near", [sys.executable, "-m", _END, *words])
    assert end.stdout is not None
    found: dict[str, Any] = json.loads(end.stdout.readline())
    pair.end(end)
    return found
