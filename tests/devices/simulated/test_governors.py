"""Baseline governors: what they do with loads, alone and on a device."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Gemm, Graph, Operator
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device
from amble.devices import simulated
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.governors import GOVERNORS, Governor, governor

TX2 = catalogue.load("jetson-tx2")
TOP = Clocks(1300.5e6, 1866e6)
FP32 = OperatingPoint()


def built(name: str) -> Governor:
    found = governor(name, TX2)
    assert found is not None
    return found


def work(count: int = 20) -> Graph:
    product = Gemm(28 * 28, 128, 1152)
    size, weights = 4.0 * 28 * 28 * 128, 4.0 * 128 * 1152
    operators = (
        Operator(f"c{i}", "Conv", 2.0 * 784 * 128 * 1152, size + weights, size, weights, gemm=product)
        for i in range(count)
    )
    return Graph("work", tuple(operators), 1, f"work{count}")


def used_j(device: Device, runs: int, pause_s: float) -> float:
    for _ in range(runs):
        device.runner.run(work(), FP32, {})
        device.clock.sleep(pause_s)
    return device.meter.read().energy_j or 0.0


def test_ondemand_follows_the_kernels_three_cases() -> None:
    rules = built("simple_ondemand")
    start = Clocks(624.75e6, 800e6)
    assert rules.sample(0.05, start, busy_s=0.046, dram_s=0.0)["core"] == 1300.5e6  # above 90 %: the maximum
    rules = built("simple_ondemand")
    assert "core" not in rules.sample(0.05, start, busy_s=0.0435, dram_s=0.0)  # 85 to 90 %: kept
    rules = built("simple_ondemand")
    # 50 % of 624.75 MHz over 87.5 %: 357 MHz, and the next legal clock above it
    assert rules.sample(0.05, start, busy_s=0.025, dram_s=0.0)["core"] == 420.75e6


def test_ondemand_takes_the_bus_thresholds_for_memory() -> None:
    start = Clocks(624.75e6, 800e6)
    assert built("simple_ondemand").sample(0.05, start, busy_s=0.0, dram_s=0.021)["memory"] == 1866e6
    assert "memory" not in built("simple_ondemand").sample(0.05, start, busy_s=0.0, dram_s=0.019)


def test_schedutil_asks_for_a_quarter_more_than_is_used() -> None:
    rules = built("schedutil")
    clocks, now_s, busy_s = TOP, 0.0, 0.0
    for _ in range(200):
        now_s, busy_s = now_s + 0.01, busy_s + 0.004 * 1300.5e6 / (clocks.core_hz or 1.0)
        changes = rules.sample(now_s, clocks, busy_s=busy_s, dram_s=0.0)
        clocks = Clocks(changes.get("core", clocks.core_hz), 1866e6)
    # 40 % of the top clock is used: 1.25 x 0.4 x 1300.5 = 650 MHz, and the next legal clock above it
    assert clocks.core_hz == 726.75e6


def test_schedutil_rises_with_the_half_life_of_its_average() -> None:
    rules = built("schedutil")
    clocks = rules.start(TOP)
    assert clocks.core_hz == 114.75e6
    seen = []
    for tick in range(1, 100):
        changes = rules.sample(0.01 * tick, clocks, busy_s=0.01 * tick, dram_s=0.0)
        clocks = Clocks(changes.get("core", clocks.core_hz), 1866e6)
        seen.append(clocks.core_hz)
    assert seen[0] == 114.75e6
    assert seen == sorted(seen)
    assert seen[-1] == 1300.5e6


def test_sysscale_takes_one_of_two_memory_points_by_bandwidth() -> None:
    rules = built("sysscale")
    assert rules.sample(0.03, TOP, busy_s=0.0, dram_s=0.001)["memory"] == 1062.4e6
    low = Clocks(1300.5e6, 1062.4e6)
    assert rules.sample(0.06, low, busy_s=0.0, dram_s=0.001 + 0.020)["memory"] == 1866e6
    assert rules.sample(0.09, low, busy_s=0.0, dram_s=0.021 + 0.016).get("memory") is None


def test_samples_come_at_their_own_periods() -> None:
    rules = built("schedutil")
    assert rules.next_s == pytest.approx(0.010)
    rules.sample(0.010, TOP, busy_s=0.0, dram_s=0.0)
    assert rules.next_s == pytest.approx(0.020)
    assert built("simple_ondemand").next_s == pytest.approx(0.050)


def test_performance_is_the_maximum_and_the_default() -> None:
    assert governor("performance", TX2) is None
    assert simulated.open("jetson-tx2").actuator.current() == TOP


def test_an_unknown_governor_is_refused_with_the_known() -> None:
    with pytest.raises(Refused, match="performance, schedutil, simple_ondemand, sysscale"):
        simulated.open("jetson-tx2", governor="ondemand")


@pytest.mark.parametrize("name", ["schedutil", "simple_ondemand", "sysscale"])
@pytest.mark.parametrize("chip", ["jetson-tx2", "snapdragon-phone-cpu", "snapdragon-phone-gpu", "jetson-orin-nano"])
def test_clocks_rise_under_load_and_fall_at_rest(chip: str, name: str) -> None:
    device = simulated.open(chip, governor=name)
    lowest = device.actuator.current().core_hz
    while device.clock.now_s() < 2.0:
        device.runner.run(work(), FP32, {})
    top = max(each.core_hz or 0.0 for each in device.actuator.available())
    assert device.actuator.current().core_hz == top
    device.clock.sleep(2.0)
    assert (
        device.actuator.current().core_hz == lowest == min(each.core_hz or 0.0 for each in device.actuator.available())
    )


@pytest.mark.parametrize("name", ["schedutil", "simple_ondemand", "sysscale"])
def test_a_light_load_takes_less_energy_than_at_the_maximum(name: str) -> None:
    def joules(chosen: str) -> float:
        device = simulated.open("jetson-tx2", governor=chosen)
        energy_j = used_j(device, 60, 0.15)
        return energy_j / device.clock.now_s()

    assert joules(name) < joules("performance")


def test_a_governor_leaves_alone_what_cannot_be_set() -> None:
    device = simulated.open("jetson-tx2", governor="schedutil", knobs=("core",))
    used_j(device, 5, 0.02)
    assert device.actuator.current().memory_hz is None


def test_rest_is_skipped_quickly_and_charged_fully() -> None:
    device = simulated.open("jetson-tx2", governor="schedutil")
    device.runner.run(work(), FP32, {})
    device.clock.sleep(10.0)
    before = device.meter.read()
    device.clock.sleep(3600.0)
    cost = device.meter.read() - before
    assert cost.latency_s == pytest.approx(3600.0)
    assert 1.0 < (cost.energy_j or 0.0) / 3600.0 < 3.0


def test_the_first_setting_takes_the_device_from_its_governor() -> None:
    device = simulated.open("jetson-tx2", governor="schedutil")
    device.actuator.apply(Clocks(522.75e6, 800e6))
    for _ in range(100):
        device.runner.run(work(), FP32, {})
    assert device.actuator.current() == Clocks(522.75e6, 800e6)


def test_governed_runs_repeat_with_their_seed() -> None:
    first, second = (
        np.array([used_j(simulated.open("jetson-tx2", governor=name, seed=9), 10, 0.02) for name in GOVERNORS])
        for _ in range(2)
    )
    assert np.array_equal(first, second)
    assert len(set(first.tolist())) == len(GOVERNORS)
