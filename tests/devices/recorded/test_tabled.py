"""The tabled device passes exactly the time and energy of its table, and changes clocks as it is told to."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.ladder import Rung
from amble.core.point import Clocks, OperatingPoint
from amble.devices.recorded.tabled import Behaviour, open_table, whole

SLOW, FAST = Clocks(core_hz=1e9), Clocks(core_hz=2e9)
RUNGS = (
    Rung("fp32", SLOW, (0.020, 0.030), (1.0, 1.5), 1.0, 5.0),
    Rung("fp32", FAST, (0.010, 0.015), (2.0, 3.0), 1.0, 8.0),
)
STILL = Behaviour(noise=0.0)


def test_a_batch_takes_what_the_table_says() -> None:
    device = open_table("t", RUNGS, behaviour=STILL)
    device.runner.run(whole("net", "fp32", 2), OperatingPoint(FAST), {})
    assert device.clock.now_s() == pytest.approx(0.015)
    assert device.meter.read().energy_j == pytest.approx(3.0)


def test_idling_costs_what_the_clocks_cost() -> None:
    device = open_table("t", RUNGS, behaviour=STILL)
    device.clock.sleep(2.0)
    assert device.meter.read().energy_j == pytest.approx(16.0)


def test_a_change_stalls_and_then_settles() -> None:
    device = open_table("t", RUNGS, behaviour=Behaviour(noise=0.0, stall_s=0.001, settle_s=0.005))
    device.actuator.apply(SLOW)
    assert device.clock.now_s() == pytest.approx(0.001)
    assert device.actuator.current() == FAST
    device.runner.run(whole("net", "fp32", 1), OperatingPoint(SLOW), {})
    assert device.clock.now_s() == pytest.approx(0.001 + 0.005 + 0.5 * 0.020), "half of it ran at the old clock"
    assert device.actuator.current() == SLOW


def test_idling_while_a_change_settles_costs_the_old_idle_power() -> None:
    device = open_table("t", RUNGS, behaviour=Behaviour(noise=0.0, settle_s=0.5))
    device.actuator.apply(SLOW)
    device.clock.sleep(1.0)
    assert device.meter.read().energy_j == pytest.approx(0.5 * 8.0 + 0.5 * 5.0)


def test_asking_for_what_runs_costs_nothing() -> None:
    device = open_table("t", RUNGS, behaviour=Behaviour(noise=0.0, stall_s=0.1))
    device.actuator.apply(FAST)
    assert device.clock.now_s() == 0.0


def test_a_segment_takes_its_share() -> None:
    device = open_table("t", RUNGS, behaviour=STILL)
    operator = whole("net", "fp32", 1).operators[0]
    graph = whole("net", "fp32", 1)
    long = type(graph)(graph.name, (operator,) * 4, 1, "four")
    device.runner.run(long.segment(0, 3), OperatingPoint(FAST), {})
    assert device.clock.now_s() == pytest.approx(0.0075)


def test_noise_has_the_spread_asked_for_and_a_seed() -> None:
    def times_s(seed: int) -> list[float]:
        device = open_table("t", RUNGS, behaviour=Behaviour(noise=0.05), seed=seed)
        ends = []
        for _ in range(2000):
            device.runner.run(whole("net", "fp32", 1), OperatingPoint(FAST), {})
            ends.append(device.clock.now_s())
        return np.diff(ends, prepend=0.0).tolist()

    assert np.std(np.log(times_s(0))) == pytest.approx(0.05, rel=0.1)
    assert times_s(1) == times_s(1) != times_s(2)


def test_contention_slows_everything_down() -> None:
    device = open_table("t", RUNGS, behaviour=Behaviour(noise=0.0, slow=lambda time_s: 1.5))
    device.runner.run(whole("net", "fp32", 1), OperatingPoint(FAST), {})
    assert device.clock.now_s() == pytest.approx(0.015)


def test_what_is_not_in_the_table_is_refused() -> None:
    device = open_table("t", RUNGS, behaviour=STILL)
    with pytest.raises(Refused, match="no such clocks"):
        device.actuator.apply(Clocks(core_hz=3e9))
    with pytest.raises(Refused, match="no int8"):
        device.runner.run(whole("net", "int8", 1), OperatingPoint(FAST, "int8"), {})
    with pytest.raises(Refused, match="no batch of 3"):
        device.runner.run(whole("net", "fp32", 3), OperatingPoint(FAST), {})


def test_a_profile_is_the_table() -> None:
    timings = open_table("t", RUNGS, behaviour=STILL).runner.profile(whole("net", "fp32", 2), OperatingPoint(FAST), 3)
    assert timings.whole.latency_s == 0.015
    assert timings.whole.energy_j == 3.0
    assert timings.ran_at == FAST


def test_held_puts_the_clocks_back() -> None:
    device = open_table("t", RUNGS, behaviour=STILL)
    with device.held(SLOW):
        assert device.actuator.current() == SLOW
    assert device.actuator.current() == FAST
