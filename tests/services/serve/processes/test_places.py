"""Devices as they are named: CPUs of this machine apart from each other, or the reason why not."""

from __future__ import annotations

import os

import pytest

from amble.core.errors import Refused
from amble.services.serve.processes.places import Place, places
from amble.services.serve.serving import fronts_for

CPU = min(os.sched_getaffinity(0))


def test_both_ways_to_name_cpus_mean_the_same() -> None:
    (short,), (long,) = places([f"host:{CPU}"]), places([f"host?cpus={CPU}"])
    assert (short.uri, short.cpus) == (long.uri, long.cpus) == ("host", (CPU,))
    assert places(["host"]) == (Place("host", "host"),)
    assert places(["sim:jetson-tx2"])[0].uri == "sim:jetson-tx2"


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        (["host:99999"], "CPU 99999 is not there"),
        (["host:x"], "x is not a list of CPUs; write cpus=0-3"),
        (["host", f"host:{CPU}"], "share CPUs"),
        ([f"host:{CPU}", f"host?cpus={CPU}"], "share CPUs"),
        (["sim:jetson-tx2", "sim:jetson-tx2"], "named twice"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(devices: list[str], text: str) -> None:
    with pytest.raises(Refused, match=text):
        places(devices)


def test_one_device_is_served_from_one_process_unless_asked_and_several_never_are() -> None:
    one, group = places(["host"]), places([f"host:{CPU}"])
    several = (Place("a", "host"), *(Place(str(each), "host") for each in range(4)))
    assert fronts_for(one, None) == 0
    assert fronts_for(one, 2) == 2
    assert fronts_for(group, None) == 1
    assert fronts_for(several, None) == 2
    with pytest.raises(Refused, match="ask for 1 or more"):
        fronts_for(several, 0)
