"""Whose time a device's times are."""

import pytest

from amble.core.timekeeping import caution, measure_of


@pytest.mark.parametrize("device", ["host", "host?provider=openvino", "host?cpus=2", "host?threads=1&cpus=0-3"])
def test_one_thread_s_times_are_its_own_and_whoever_plans_with_them_is_told(device: str) -> None:
    assert measure_of(device) == "CPU time of the thread"
    assert caution(device)


@pytest.mark.parametrize("device", ["host?threads=2", "host?cpus=0-3", "host?provider=openvino&threads=4"])
def test_several_threads_times_are_the_clock_s_on_the_wall(device: str) -> None:
    assert measure_of(device).startswith("the clock on the wall")
    assert not caution(device)


def test_other_devices_have_times_of_their_own() -> None:
    assert measure_of("nvml:0?provider=cuda") == measure_of("sim:v100") == "the device's own time"
