"""A device with a time of its own, served in this machine's time."""

from __future__ import annotations

import time

import pytest

from amble.core.point import OperatingPoint
from amble.devices.simulated.paced import paced
from tests.fakes import LEVELS, FakeDevice, graph


def test_a_run_takes_as_long_as_the_device_says() -> None:
    inner = FakeDevice()
    device = paced(inner.device())
    start_s = time.perf_counter()
    device.runner.run(graph(0.1e9), OperatingPoint(LEVELS[1]), {})
    assert time.perf_counter() - start_s >= 0.05 - 1e-3
    assert inner.time_s >= 0.05


def test_time_that_passes_here_is_idle_time_there() -> None:
    inner = FakeDevice()
    device = paced(inner.device())
    before = device.meter.read()
    device.clock.sleep(0.05)
    passed = device.meter.read() - before
    assert passed.latency_s >= 0.05
    assert passed.energy_j == pytest.approx(1.0 * passed.latency_s, rel=0.05)


def test_clocks_are_those_of_the_device() -> None:
    inner = FakeDevice(stall_s=0.02)
    device = paced(inner.device())
    start_s = time.perf_counter()
    with device.held(LEVELS[0]):
        assert device.actuator.current() == LEVELS[0]
    assert inner.applied == [LEVELS[0], LEVELS[1]]
    assert time.perf_counter() - start_s >= 0.04 - 1e-3
    assert device.actuator.available() == LEVELS
    assert device.runner.profile(graph(1e6), OperatingPoint(LEVELS[1]), 1).repeats == 1
