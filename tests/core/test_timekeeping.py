"""Whose time a device's times are, and that only those of one thread of this machine carry a caution."""

from __future__ import annotations

import pytest

from amble.core.timekeeping import caution, measure_of


@pytest.mark.parametrize("device", ["host", "host?provider=openvino", "host?cpus=2", "host?threads=1&cpus=0-3"])
def test_whoever_plans_with_this_machines_times_is_told_what_they_are(device: str) -> None:
    assert measure_of(device) == "CPU time of the thread"
    assert "on a busier one they come later" in caution(device)[0]


@pytest.mark.parametrize("device", ["host?threads=2", "host?cpus=0-3", "host?provider=openvino&threads=4"])
def test_several_threads_times_are_the_clock_s_on_the_wall(device: str) -> None:
    assert measure_of(device).startswith("the clock on the wall")
    assert not caution(device)


@pytest.mark.parametrize("device", ["sim:jetson-tx2", "recorded:v100", "hostess", "nvml:0?provider=cuda"])
def test_other_devices_times_are_those_of_their_answers(device: str) -> None:
    assert measure_of(device) == "the device's own time"
    assert caution(device) == ()
