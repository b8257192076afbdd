"""The physics below the device: queues, waves, kernels, voltage and heat."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from amble.core.graph import Gemm, Graph, Operator
from amble.core.point import Clocks
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.kernels import classify, work_of
from amble.devices.simulated.physics import Physics, Wave, cooled_c, wave_s

TX2 = catalogue.load("jetson-tx2")


def product(m: int, n: int, k: int, *, kind: str = "MatMul", groups: int = 1, reuse: float = 1.0) -> Operator:
    """A product whose activations are read ``reuse`` times each."""
    activations = 4.0 * m * k * groups / reuse
    weights = 4.0 * n * k * groups
    flops = 2.0 * m * n * k * groups
    return Operator("op", kind, flops, activations + weights, 4.0 * m * n * groups, weights, gemm=Gemm(m, n, k, groups))


def graph(*operators: Operator) -> Graph:
    return Graph("g", operators, 1, "g")


def wave(issue_s: float, l2_s: float, dram_s: float, *, latency_s: float = 0.0, customers: float = 1.0) -> Wave:
    one = np.ones((1, 1))
    return Wave(issue_s * one, l2_s * one, dram_s * one, latency_s * one, 1000 * one, customers * one)


def kernel_s(operator: Operator, clocks: Clocks = Clocks(), precision: str = "fp32") -> float:
    physics = Physics(TX2)
    return float(physics.table(physics.launches(graph(operator), precision), clocks).time_s[0])


def test_one_warp_alone_adds_compute_memory_and_latency() -> None:
    assert wave_s(wave(3.0, 1.0, 2.0, latency_s=0.001))[0, 0] == pytest.approx(3 + 1 + 2 + 1)


def test_many_warps_leave_only_the_bottleneck() -> None:
    assert wave_s(wave(3.0, 1.0, 2.0, latency_s=0.001, customers=60))[0, 0] == pytest.approx(3.0, rel=0.01)


def test_a_balanced_queue_loses_what_theory_says() -> None:
    # J equal stations without delay: X(N) = N / (N + J - 1) of the bottleneck's rate
    assert wave_s(wave(1.0, 1.0, 1.0, customers=8))[0, 0] == pytest.approx((8 + 2) / 8)


def test_more_warps_never_take_longer() -> None:
    times = [float(wave_s(wave(2.0, 1.0, 1.9, latency_s=0.002, customers=n))[0, 0]) for n in range(1, 30)]
    assert all(later <= earlier for earlier, later in pairwise(times))


def test_width_against_time_is_a_staircase() -> None:
    times = np.array([kernel_s(product(1024, width, 512)) for width in range(256, 513, 8)])
    rises = np.diff(times) / times[:-1]
    assert np.sum(rises > 0.03) <= 8
    assert np.sum(np.abs(rises) < 0.01) >= 20


def test_a_large_product_comes_close_to_the_peak_and_not_above() -> None:
    operator = product(4096, 4096, 1024)
    share = operator.flops / kernel_s(operator) / (2 * 256 * 1300.5e6)
    assert 0.75 < share < 0.9


def test_winograd_beats_the_plain_convolution() -> None:
    plain = product(56 * 56, 128, 128 * 9, kind="Conv", reuse=5.0)
    window = product(56 * 56, 128, 128 * 9, kind="Conv", reuse=9.0)
    assert classify(plain) == "conv"
    assert classify(window) == "winograd"
    assert 1.2 < kernel_s(plain) / kernel_s(window) < 2.25


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        (product(3136, 64, 256, kind="Conv"), "gemm"),
        (product(3136, 1, 9, kind="Conv", groups=64, reuse=9), "depthwise"),
        (product(1, 4096, 4096, kind="Gemm"), "gemv"),
        (product(3136, 8, 27, kind="Conv", reuse=9), "conv"),
        (product(3136, 64, 64 * 9, kind="FusedConv", reuse=4.5), "winograd"),
        (product(64, 256, 384 * 3, kind="FusedConv", reuse=3), "conv"),
        (Operator("r", "Relu", 1e6, 4e6, 4e6), "stream"),
        (Operator("r", "Reshape", 0, 4e6, 4e6), "free"),
    ],
)
def test_operators_get_the_kernels_of_their_kind(operator: Operator, name: str) -> None:
    assert classify(operator) == name


def test_a_vector_product_follows_the_memory_clock_and_a_large_one_the_core() -> None:
    vector, matrix = product(1, 4096, 4096, kind="Gemm"), product(2048, 2048, 1024)
    slow_memory, slow_core = Clocks(1300.5e6, 800e6), Clocks(624.75e6, 1866e6)
    assert kernel_s(vector, slow_memory) / kernel_s(vector) > 1.8
    assert kernel_s(matrix, slow_memory) / kernel_s(matrix) < 1.25
    assert kernel_s(matrix, slow_core) / kernel_s(matrix) > 1.9


def test_small_operators_wait_for_the_hosts_launches() -> None:
    small = graph(*(replace(Operator("add", "Add", 256, 2048, 1024), name=f"add{i}") for i in range(50)))
    physics = Physics(TX2)
    launched = physics.launches(small, "fp32")
    fast, slow = (physics.table(launched, Clocks(cpu_hz=hz)).time_s.sum() for hz in (1420.8e6, 345.6e6))
    launch_s = TX2.host.launch_s + TX2.host.launch_cycles / 1420.8e6
    assert fast == pytest.approx(50 * launch_s, rel=0.2)
    assert slow > 3 * fast


def test_a_long_operator_hides_the_launches_behind_it() -> None:
    long, short = product(2048, 2048, 512), Operator("add", "Add", 256, 2048, 1024)
    physics = Physics(TX2)
    alone = physics.table(physics.launches(graph(short), "fp32"), Clocks()).time_s[0]
    behind = physics.table(physics.launches(graph(long, short), "fp32"), Clocks()).time_s[1]
    assert behind < 0.5 * alone


def test_precision_halves_the_bytes_and_not_the_work() -> None:
    wide, narrow = (work_of(graph(product(512, 512, 512)), precision) for precision in ("fp32", "fp16"))
    assert narrow.activation_bytes == pytest.approx(wide.activation_bytes / 2)
    assert narrow.k == pytest.approx(wide.k)


def test_weights_larger_than_l2_are_read_again_by_later_waves() -> None:
    physics = Physics(TX2)
    operator = product(12544, 512, 1152)
    assert physics.launches(graph(operator), "fp32").dram_bytes[0] > 1.05 * (
        operator.bytes_read + operator.bytes_written
    )


def test_energy_of_work_rises_with_the_voltage_above_the_knee_only() -> None:
    physics = Physics(TX2)
    launched = physics.launches(graph(product(2048, 2048, 1024)), "fp32")
    low, knee, top = physics.dynamic_j(launched, np.array([114.75e6, 726.75e6, 1300.5e6]))[0]
    assert low == pytest.approx(knee)
    assert 1.4 < top / knee < 2.0


def test_power_falls_with_every_clock() -> None:
    physics = Physics(TX2)
    top = TX2.fastest()
    for domain in ("core_hz", "memory_hz", "cpu_hz"):
        slower = replace(top, **{domain: getattr(top, domain) / 2})
        assert physics.busy_w(slower, 45) < physics.busy_w(top, 45)
        assert physics.idle_w(top, 45) < physics.busy_w(top, 45)


def test_temperature_follows_its_exponential() -> None:
    halfway = cooled_c(30.0, 50.0, time_constant_s=60.0, duration_s=60.0 * np.log(2))
    assert halfway == pytest.approx(40.0)
    assert cooled_c(halfway, 50.0, time_constant_s=60.0, duration_s=1e5) == pytest.approx(50.0)


@pytest.mark.parametrize("name", catalogue.chips())
def test_every_number_of_a_chip_fits_its_ladders(name: str) -> None:
    chip = catalogue.load(name)
    for ladder in (chip.core_mhz, chip.memory_mhz, chip.cpu_mhz):
        assert ladder == sorted(set(ladder))
    memories, hosts = len(chip.memory_mhz), max(1, len(chip.cpu_mhz))
    assert len(chip.power.dram_w) == len(chip.power.soc_w) == len(chip.memory.dram_efficiency) == memories
    assert len(chip.power.cpu_busy_w) == len(chip.power.cpu_idle_w) == hosts
    assert set(chip.knobs) <= set(chip.switching)
    assert set(chip.precisions) <= set(chip.compute.fma_per_clock) & set(chip.power.fma_pj)
    volts = [ratio for _, ratio in chip.power.voltage]
    assert volts == sorted(volts)
    assert volts[0] == 1.0
