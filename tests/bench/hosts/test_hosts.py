"""Two hosts on one machine: what the link between them does is what was asked for. Skipped where not permitted."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bench.hosts.hosts import Hosts, hosts, missing
from bench.hosts.pipe import Shape

FAST_BIT_S = 1e9


@pytest.fixture(scope="module")
def pair() -> Iterator[Hosts]:
    if why := missing():
        pytest.skip(f"no two hosts here: {why}")
    with hosts(Shape.steady(FAST_BIT_S)) as both:
        end = both.start("far", [sys.executable, "-m", "bench.hosts.ends", "echo"])
        assert end.stdout is not None
        assert end.stdout.readline() == "ready\n"
        yield both


def asked(pair: Hosts, *words: str) -> dict[str, Any]:
    end = pair.start("near", [sys.executable, "-m", "bench.hosts.ends", *words])
    assert end.stdout is not None
    found: dict[str, Any] = json.loads(end.stdout.readline())
    pair.end(end)
    return found


def test_a_round_trip_takes_both_delays(pair: Hosts) -> None:
    pair.shape(Shape.steady(FAST_BIT_S, delay_s=0.02), Shape.steady(FAST_BIT_S, delay_s=0.03))
    trips_s = asked(pair, "ask", "50", "0.004")["trips_s"]
    assert len(trips_s) == 50
    assert min(trips_s) >= 0.05
    assert np.median(trips_s) < 0.06


def test_a_stream_is_as_slow_as_the_rate(pair: Hosts) -> None:
    pair.shape(Shape.steady(4e6, delay_s=0.002))
    took_s = asked(pair, "send", "400000")["took_s"]
    assert 0.8 < took_s < 1.6


def test_losses_both_ways_and_a_cut_and_its_end(pair: Hosts) -> None:
    pair.shape(Shape.steady(FAST_BIT_S, loss=0.3, seed=2))
    assert 60 < len(asked(pair, "ask", "200", "0.001")["trips_s"]) < 140
    pair.cut()
    assert asked(pair, "ask", "20", "0.001")["trips_s"] == []
    pair.shape(Shape.steady(FAST_BIT_S))
    assert len(asked(pair, "ask", "20", "0.001")["trips_s"]) == 20


def test_nothing_is_left_behind() -> None:
    if why := missing():
        pytest.skip(f"no two hosts here: {why}")
    names: list[str] = []
    started: list[subprocess.Popen[str]] = []
    with pytest.raises(KeyError, match="inside"):
        interrupted(names, started)
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not any(each in left for each in names)
    assert started[0].poll() is not None


def interrupted(names: list[str], started: list[subprocess.Popen[str]]) -> None:
    with hosts(Shape.steady(1e6)) as both:
        names += both.names.values()
        started.append(both.start("near", ["sleep", "60"]))
        raise KeyError("inside")
