"""The simulated device as its ports show it: time, energy, clocks, heat, noise and refusals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Gemm, Graph, Operator
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Tensors
from amble.devices import simulated
from amble.devices.simulated import Background, Scenario

QUIET = Scenario(noise=0.0)
FP32 = OperatingPoint()


def convolution(name: str, channels: int, pixels: int, window: int) -> Operator:
    product = Gemm(pixels, channels, channels * window)
    activations, weights = 4.0 * pixels * channels, 4.0 * channels * channels * window
    return Operator(
        name, "Conv", 2.0 * pixels * channels * product.k, activations + weights, activations, weights, gemm=product
    )


def chain(count: int = 12) -> Graph:
    operators = tuple(convolution(f"conv{index}", 128, 28 * 28, 9 if index % 2 else 1) for index in range(count))
    return Graph("chain", operators, 1, f"chain{count}")


def latency_s(device: Device, graph: Graph, point: OperatingPoint = FP32) -> float:
    start_s = device.clock.now_s()
    device.runner.run(graph, point, {})
    return device.clock.now_s() - start_s


def settled(device: Device, clocks: Clocks) -> Device:
    device.actuator.apply(clocks)
    device.clock.sleep(0.05)
    assert device.actuator.current() == clocks
    return device


@pytest.mark.parametrize("name", simulated.chips())
def test_every_chip_runs_every_precision_it_names(name: str) -> None:
    device = simulated.open(name)
    for precision in device.precisions:
        before = device.meter.read()
        device.runner.run(chain(), OperatingPoint(precision=precision), {})
        cost = device.meter.read() - before
        assert 1e-6 < cost.latency_s < 1.0
        assert cost.energy_j is not None
        assert 0.1 < cost.energy_j / cost.latency_s < 800


@pytest.mark.parametrize("name", simulated.chips())
def test_a_chip_says_how_far_it_is_from_a_real_one(name: str) -> None:
    assert simulated.open(name).calibration.startswith(("calibrated: ", "uncalibrated"))
    assert simulated.describe(name).calibration == simulated.open(name).calibration


@pytest.mark.parametrize("name", simulated.chips())
def test_time_never_rises_with_any_clock(name: str) -> None:
    device = simulated.open(name, scenario=Scenario(noise=0.0, cap_w=1e6))
    graph, times = chain(), {}
    for clocks in device.actuator.available()[:: 1 + len(device.actuator.available()) // 24]:
        times[clocks] = latency_s(settled(device, clocks), graph)
    for slow, slow_s in times.items():
        for fast, fast_s in times.items():
            if all((slow.of(each) or 0.0) <= (fast.of(each) or 0.0) for each in ("core", "memory", "cpu")):
                assert fast_s <= slow_s * (1 + 1e-9), f"{fast} is slower than {slow}"


def test_reduced_precision_is_faster_and_takes_less_energy() -> None:
    device = simulated.open("jetson-tx2", scenario=QUIET)
    costs = []
    for precision in ("fp32", "fp16"):
        before = device.meter.read()
        device.runner.run(chain(), OperatingPoint(precision=precision), {})
        costs.append(device.meter.read() - before)
    assert 0.4 < costs[1].latency_s / costs[0].latency_s < 0.75
    assert (costs[1].energy_j or 0.0) < (costs[0].energy_j or 0.0)


def test_settings_are_the_full_grid_and_slowest_first() -> None:
    settings = simulated.open("jetson-tx2").actuator.available()
    assert len(settings) == len(set(settings)) == 13 * 11
    assert settings[0] == Clocks(114.75e6, 40.8e6)
    assert settings[-1] == Clocks(1300.5e6, 1866e6)


def test_the_hosts_clock_can_be_made_a_knob() -> None:
    device = simulated.open("jetson-tx2", knobs=("core", "memory", "cpu"))
    settings = device.actuator.available()
    assert len(settings) == 13 * 11 * 8
    settled(device, Clocks(1300.5e6, 1866e6, 345.6e6))
    assert len(simulated.open("jetson-tx2", knobs=("core",)).actuator.available()) == 13
    with pytest.raises(Refused, match="v100 has no memory clock to set; it has core"):
        simulated.open("v100", knobs=("core", "memory"))


def test_equal_seeds_repeat_and_others_differ() -> None:
    def times(seed: int) -> list[float]:
        device = simulated.open("jetson-tx2", seed=seed)
        return [latency_s(device, chain()) for _ in range(5)]

    assert times(3) == times(3)
    assert times(3) != times(4)


def test_noise_keeps_the_mean_and_has_a_heavy_tail() -> None:
    quiet = simulated.open("jetson-tx2", scenario=QUIET).runner.profile(chain(), FP32, 1).operators[0].latency_s
    device = simulated.open("jetson-tx2", seed=5)
    one = chain(1)
    ratios = np.array([latency_s(device, one) for _ in range(6000)]) / quiet
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.01)
    core = (np.percentile(ratios, 84) - np.percentile(ratios, 16)) / 2
    assert np.max(ratios) - 1 > 12 * core  # a normal distribution would not reach 5
    assert np.percentile(ratios, 99) < 1.15


def test_the_meter_never_goes_back_and_is_the_integral_of_power() -> None:
    device = simulated.open("jetson-tx2", seed=1)
    readings = [device.meter.read()]
    for step in range(40):
        if step % 3 == 0:
            device.actuator.apply(device.actuator.available()[-1 - step])
        device.runner.run(chain(), FP32, {})
        device.clock.sleep(0.003 * (step % 4))
        readings.append(device.meter.read())
    powers = []
    for earlier, later in pairwise(readings):
        cost = later - earlier
        assert cost.energy_j is not None
        assert cost.latency_s > 0
        powers.append(cost.energy_j / cost.latency_s)
    assert min(powers) > 1.5
    assert max(powers) < 15


def test_operators_energies_add_up_to_the_meters() -> None:
    device = simulated.open("jetson-tx2", seed=2)
    before = device.meter.read()
    timings = device.runner.profile(chain(), FP32, 7)
    cost = device.meter.read() - before
    assert 7 * sum(each.energy_j or 0.0 for each in timings.operators) == pytest.approx(cost.energy_j)
    assert timings.whole.energy_j == pytest.approx((cost.energy_j or 0.0) / 7)
    assert sum(each.latency_s for each in timings.operators) == pytest.approx(timings.whole.latency_s, rel=0.02)


def test_a_slow_meter_moves_in_steps_and_agrees_with_the_true_one() -> None:
    true, slow = simulated.open("v100"), simulated.open("v100", scenario=Scenario(meter_period_s=0.1))
    seen = set()
    for _ in range(1000):
        true.clock.sleep(0.001)
        slow.clock.sleep(0.001)
        seen.add(slow.meter.read().energy_j)
    assert 9 <= len(seen) <= 11
    assert max(each or 0.0 for each in seen) == pytest.approx(true.meter.read().energy_j, rel=0.11)


def test_a_new_clock_runs_only_after_its_delay() -> None:
    device = simulated.open("jetson-tx2", scenario=QUIET)
    slow = Clocks(114.75e6, 1866e6)
    fast_s = latency_s(device, chain())
    device.actuator.apply(slow)
    assert device.actuator.current().core_hz == 1300.5e6
    assert latency_s(device, chain(1)) < 2 * fast_s / 12 + 1e-3
    device.clock.sleep(0.006)
    assert device.actuator.current() == slow
    assert latency_s(device, chain()) > 4 * fast_s


def test_a_clock_that_comes_in_mid_run_splits_the_operator() -> None:
    one = chain(1)
    device = simulated.open("jetson-tx2", scenario=QUIET)
    slow = Clocks(318.75e6, 1866e6)
    fast_s = latency_s(device, one)
    slow_s = latency_s(settled(device, slow), one)
    device.actuator.apply(Clocks(1300.5e6, 1866e6))
    device.clock.sleep(0.005 - 50e-6 - slow_s / 2)  # half of the operator is left when the clock comes in
    assert latency_s(device, one) == pytest.approx(slow_s / 2 + fast_s / 2, rel=1e-6)


def test_changing_a_clock_costs_time_and_energy_and_keeping_it_costs_nothing() -> None:
    device = simulated.open("jetson-tx2")
    top = device.actuator.current()
    before = device.meter.read()
    device.actuator.apply(top)
    assert (device.meter.read() - before).latency_s == 0
    device.actuator.apply(Clocks(1236.75e6, 1600e6))
    cost = device.meter.read() - before
    assert cost.latency_s == pytest.approx(50e-6 + 80e-6)
    assert cost.energy_j is not None
    assert cost.energy_j > 60e-6


def test_a_change_taken_back_before_its_delay_never_happens() -> None:
    device = simulated.open("jetson-tx2")
    top = device.actuator.current()
    device.actuator.apply(Clocks(114.75e6, 1866e6))
    device.actuator.apply(top)
    device.clock.sleep(0.05)
    assert device.actuator.current() == top


def test_held_puts_clocks_back_after_an_error() -> None:
    device = simulated.open("jetson-tx2")
    found = device.actuator.current()

    def fail() -> None:
        with device.held(Clocks(522.75e6, 800e6)):
            device.clock.sleep(0.05)
            assert device.actuator.current() == Clocks(522.75e6, 800e6)
            raise RuntimeError("the work failed")

    with pytest.raises(RuntimeError):
        fail()
    device.clock.sleep(0.05)
    assert device.actuator.current() == found


def test_unknown_clocks_are_refused_with_the_nearest() -> None:
    device = simulated.open("jetson-tx2")
    with pytest.raises(Refused, match=r"cannot run at core 1000 MHz, memory 1866 MHz; nearest: core 1032\.75 MHz"):
        device.actuator.apply(Clocks(1000e6, 1866e6))
    assert device.actuator.current() == Clocks(1300.5e6, 1866e6)


def test_an_unknown_chip_is_refused_with_the_nearest_and_the_known() -> None:
    with pytest.raises(Refused, match=r"did you mean jetson-tx2\? Known: a100, h200"):
        simulated.open("jetson-tx22")


def test_the_phone_without_a_unit_is_its_gpu() -> None:
    assert simulated.open("snapdragon-phone").name == "sim:snapdragon-phone-gpu"


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(Refused, match="jetson-tx2 does not run int8; it runs fp32, fp16"):
        simulated.open("jetson-tx2").runner.run(chain(), OperatingPoint(precision="int8"), {})


def test_heat_lowers_the_clock_and_cooling_gives_it_back() -> None:
    device = simulated.open("jetson-tx2", scenario=Scenario(noise=0.0, ambient_c=80.0))
    graph = chain(400)
    cool_s, slowest_s, lowest_hz = latency_s(device, graph), 0.0, 1e12
    for _ in range(3000):
        slowest_s = max(slowest_s, latency_s(device, graph))
        lowest_hz = min(lowest_hz, device.actuator.current().core_hz or 0.0)
    assert slowest_s > 1.04 * cool_s
    assert 900e6 < lowest_hz < 1300.5e6  # as far as needed, not to the bottom
    timings = device.runner.profile(graph, FP32, 1)
    assert timings.temperature_c == pytest.approx(94, abs=2.0)
    assert timings.throttled == (timings.ran_at.core_hz != 1300.5e6)
    device.clock.sleep(600)
    assert device.actuator.current().core_hz == 1300.5e6


def test_leakage_makes_a_hot_chip_take_more_power_at_rest() -> None:
    def rest_j(ambient_c: float) -> float:
        device = simulated.open("jetson-tx2", scenario=Scenario(ambient_c=ambient_c))
        device.clock.sleep(10)
        return device.meter.read().energy_j or 0.0

    assert 1.01 * rest_j(20) < rest_j(80)


def test_a_power_cap_lowers_the_clock_and_the_power() -> None:
    def run(cap_w: float) -> tuple[float, float, float]:
        device = simulated.open("v100", scenario=Scenario(noise=0.0, cap_w=cap_w))
        graph = Graph("wide", tuple(convolution(f"c{i}", 512, 56 * 56, 9) for i in range(8)), 1, "wide")
        timings = device.runner.profile(graph, FP32, 3)
        energy_j = timings.whole.energy_j or 0.0
        return timings.ran_at.core_hz or 0.0, timings.whole.latency_s, energy_j / timings.whole.latency_s

    free, capped = run(1e4), run(100.0)
    assert free[0] == 1380e6
    assert capped[0] < 1300e6
    assert capped[1] > free[1]
    assert capped[2] < 105 < free[2]


def test_idle_takes_less_than_work_and_low_clocks_take_less_than_high_ones() -> None:
    device = simulated.open("jetson-tx2", scenario=QUIET)

    def idle_w(clocks: Clocks) -> float:
        settled(device, clocks)
        before = device.meter.read()
        device.clock.sleep(1.0)
        return (device.meter.read() - before).energy_j or 0.0

    high, low = idle_w(Clocks(1300.5e6, 1866e6)), idle_w(Clocks(114.75e6, 204e6))
    settled(device, Clocks(1300.5e6, 1866e6))
    before = device.meter.read()
    busy_s = latency_s(device, chain(200))
    busy_w = ((device.meter.read() - before).energy_j or 0.0) / busy_s
    assert low < 0.6 * high
    assert high < 0.7 * busy_w


def test_background_load_slows_runs_in_bursts() -> None:
    loaded = Scenario(noise=0.0, background=Background(share=0.5, on_s=0.02, off_s=0.06))
    device, alone = simulated.open("jetson-tx2", seed=7, scenario=loaded), simulated.open("jetson-tx2", scenario=QUIET)
    times = np.array([latency_s(device, chain()) for _ in range(4000)]) / latency_s(alone, chain())
    assert np.min(times) == pytest.approx(1.0)
    assert np.max(times) == pytest.approx(2.0)
    # a quarter of the time at half the speed
    assert np.mean(times) == pytest.approx(1 / (0.75 + 0.25 * 0.5), abs=0.07)


def test_segments_run_like_the_whole_and_outputs_come_with_the_last() -> None:
    seen: list[Graph] = []

    def compute(graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        seen.append(graph)
        return {"sum": np.asarray(inputs["x"].sum())}

    device = simulated.open("jetson-tx2", compute=compute, scenario=QUIET)
    graph, inputs = chain(), {"x": np.ones(3)}
    passed = device.runner.run(graph.segment(0, 5), FP32, inputs)
    assert passed is inputs
    assert not seen
    outputs = device.runner.run(graph.segment(5, 12), FP32, passed)
    assert float(outputs["sum"]) == 3
    assert seen == [graph]


def test_a_cut_shows_only_in_the_launch() -> None:
    device = simulated.open("jetson-tx2", scenario=QUIET)
    graph = chain()
    whole_s = latency_s(device, graph)
    parts_s = latency_s(device, graph.segment(0, 6)) + latency_s(device, graph.segment(6, 12))
    assert 0 < parts_s - whole_s < 20e-6


def test_inputs_without_a_runtime_are_refused_before_time_passes() -> None:
    device = simulated.open("jetson-tx2")
    with pytest.raises(Refused, match="without a runtime"):
        device.runner.run(chain(), FP32, {"x": np.ones(1)})
    assert device.clock.now_s() == 0


def test_an_ending_segment_whose_beginning_never_ran_is_a_mistake() -> None:
    device = simulated.open("jetson-tx2", compute=lambda graph, point, inputs: inputs)
    with pytest.raises(ValueError, match="operator 0 never ran"):
        device.runner.run(chain().segment(5, 12), FP32, {"x": np.ones(1)})


def test_time_does_not_go_back() -> None:
    device = simulated.open("jetson-tx2")
    with pytest.raises(ValueError, match="cannot sleep"):
        device.clock.sleep(-1.0)
    with pytest.raises(ValueError, match="at least one repeat"):
        device.runner.profile(chain(), FP32, 0)
