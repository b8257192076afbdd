"""What every device must do, whatever is behind it. A new back end is one more entry of ``BACK_ENDS``."""

import contextlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.point import DOMAINS, Clocks
from amble.core.ports import Device
from amble.devices import host, lease, nvml, quota, recorded, simulated, sysfs
from tests.devices import fake_sys
from tests.devices.over_fake_nvml.fake_gpu import HOPPER, FakeGpu


def a_host(root: Path, runner) -> Device:
    fake_sys.cpufreq(root)
    fake_sys.rapl(root, "intel-rapl:0", "package-0", 1_000_000)
    return host.open(runner, sysfs_root=root)


def a_bare_host(root: Path, runner) -> Device:
    return host.open(runner, sysfs_root=root)


def a_board(root: Path, runner) -> Device:
    fake_sys.devfreq(root, "17000000.gpu")
    fake_sys.emc(root)
    clock = host.MonotonicClock()
    return sysfs.open(runner, clock, host.Unmetered(clock), root=root)


def a_guarded_host(root: Path, runner) -> Device:
    return lease.guarded(a_host(root, runner), root / "state")


def a_table(root: Path, runner) -> Device:
    return recorded.open("gtx-titan-x-ulisboa-micro")


def a_table_with_observed_clocks(root: Path, runner) -> Device:
    return recorded.open("rtx-a4000-kerneltuner-fma")


def a_table_without_power(root: Path, runner) -> Device:
    return recorded.open("v100-ttu-kernels")


def a_gpu(root: Path, runner) -> Device:
    FakeGpu(Path(os.environ["FAKE_NVML_STATE"])).reset(**HOPPER)
    return nvml.open(0, runner)


def a_simulated_chip(root: Path, runner) -> Device:
    return simulated.open("jetson-tx2", seed=1)


def a_quota(root: Path, runner) -> Device:
    fake_sys.cgroup(root, version=1)
    clock = host.MonotonicClock()
    return quota.open("server", runner, clock, host.Unmetered(clock), root=root, cpus=2)


def a_guarded_quota(root: Path, runner) -> Device:
    fake_sys.cgroup(root, version=2)
    clock = host.MonotonicClock()
    return lease.guarded(quota.open("server", runner, clock, host.Unmetered(clock), root=root), root / "state")


BACK_ENDS: dict[str, Callable[..., Device]] = {
    "host": a_host,
    "bare host": a_bare_host,
    "guarded host": a_guarded_host,
    "sysfs": a_board,
    "quota": a_quota,
    "guarded quota": a_guarded_quota,
    "recorded": a_table,
    "recorded, observed": a_table_with_observed_clocks,
    "recorded, no power": a_table_without_power,
    "simulated": a_simulated_chip,
}
if "FAKE_NVML_STATE" in os.environ:  # set by test_nvml.py, which compiles the fake library and runs this suite over it
    BACK_ENDS["nvml"] = a_gpu


@pytest.fixture(params=BACK_ENDS)
def device(request, tmp_path, runner):
    device = BACK_ENDS[request.param](tmp_path, runner)
    yield device
    with contextlib.suppress(AttributeError):
        device.actuator.close()


def settle(device: Device) -> None:
    device.clock.sleep(0.05)


def test_available_is_sorted_slowest_first_without_repeats(device):
    """No setting comes after one that is at least as fast in every knob."""
    settings = device.actuator.available()
    levels = np.array([[0.0 if value is None else value for value in knobs(clocks)] for clocks in settings])
    assert len(settings) >= 1
    assert len(set(settings)) == len(settings)
    for at in range(1, len(settings)):
        assert not (levels[:at] >= levels[at]).all(axis=1).any(), settings[at]


def knobs(clocks: Clocks) -> tuple[float | None, ...]:
    return (*(clocks.of(domain) for domain in DOMAINS), clocks.power_limit_w, clocks.cpu_share)


def test_every_available_setting_names_the_same_knobs(device):
    named = {tuple(value is None for value in knobs(clocks)) for clocks in device.actuator.available()}
    assert len(named) == 1


def test_every_setting_that_is_available_can_be_applied(device):
    available = device.actuator.available()
    for clocks in available[:: max(1, len(available) // 12)]:
        device.actuator.apply(clocks)
    device.actuator.apply(available[-1])


def test_current_names_the_knobs_of_what_was_applied(device):
    for clocks in {device.actuator.available()[0], device.actuator.available()[-1]}:
        device.actuator.apply(clocks)
        settle(device)
        current = device.actuator.current()
        assert [value is None for value in knobs(current)] == [value is None for value in knobs(clocks)]
        for asked, got in zip(knobs(clocks), knobs(current), strict=True):
            assert asked is None or asked * 0.5 <= got <= asked * 1.05


def test_unknown_clocks_are_refused_and_change_nothing(device):
    device.actuator.apply(device.actuator.available()[0])
    settle(device)
    before = device.actuator.current()
    with pytest.raises(Refused):
        device.actuator.apply(Clocks(core_hz=123.0, memory_hz=4.0, cpu_hz=5.0))
    assert device.actuator.current() == before


def test_held_puts_back_what_was_found_after_an_exception(device):
    found = device.actuator.current()
    with contextlib.suppress(ZeroDivisionError), device.held(device.actuator.available()[0]):
        settle(device)
        raise ZeroDivisionError
    settle(device)
    assert device.actuator.current() == found


def test_held_inside_held_puts_back_the_outer_setting(device):
    first, last = device.actuator.available()[0], device.actuator.available()[-1]
    with device.held(last):
        settle(device)
        outer = device.actuator.current()
        with device.held(first):
            settle(device)
        settle(device)
        assert device.actuator.current() == outer


def test_time_and_energy_never_go_back(device):
    readings = [device.meter.read()]
    for clocks in (device.actuator.available()[0], device.actuator.available()[-1]):
        device.actuator.apply(clocks)
        device.clock.sleep(0.003)
        readings.append(device.meter.read())
    times_s = [reading.time_s for reading in readings]
    assert times_s == sorted(times_s)
    for before, after in itertools.pairwise(readings):
        passed_j = (after - before).energy_j
        assert passed_j is None or passed_j >= 0


def test_the_meter_tells_the_time_of_the_devices_clock(device):
    before_s = device.clock.now_s()
    read_s = device.meter.read().time_s
    assert before_s <= read_s <= device.clock.now_s()


def test_sleeping_takes_at_least_the_time_asked_for(device):
    before_s = device.clock.now_s()
    device.clock.sleep(0.002)
    assert device.clock.now_s() - before_s >= 0.002 * (1 - 1e-9)


def test_energy_is_known_or_none_and_never_a_placeholder(device):
    before = device.meter.read()
    device.clock.sleep(0.01)
    passed = device.meter.read() - before
    assert passed.latency_s > 0
    if device.name == "host" and before.energy_j is not None:
        assert passed.energy_j == 0.0  # a counter file that nobody writes really stands still
    else:
        assert passed.energy_j is None or passed.energy_j > 0


def test_a_device_says_who_it_is_and_how_real_it_is(device):
    assert device.name
    assert device.calibration == "real" or device.calibration.startswith(("recorded: ", "calibrated", "uncalibrated"))
    assert device.precisions
