"""Counters that lie, rails, and sums of meters."""

import threading

import pytest

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.devices.host import MonotonicClock
from amble.devices.rails import RailMeter, drawn_on, metered, rails, whole
from amble.devices.summed import SummedMeter
from amble.devices.watching import Watch, counter_period_s
from tests.devices.boards import BOARDS
from tests.devices.fake_sys import write


class ManualClock:
    def __init__(self):
        self.time_s = 0.0

    def now_s(self):
        return self.time_s

    def sleep(self, duration_s):
        self.time_s += duration_s


class Fixed:
    def __init__(self, clock, energy_j):
        self.clock, self.energy_j = clock, energy_j

    def read(self):
        return Reading(self.clock.now_s(), self.energy_j)


def judged(watch, *readings):
    return [watch.judge(time_s, counter_j) for time_s, counter_j in readings]


def test_a_counter_that_counts_is_believed():
    assert judged(Watch(100.0), (0.0, 5.0), (0.5, 5.0), (1.0, 55.0)) == [0.0, 0.0, 50.0]


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        (((0.0, 5.0), (0.6, 5.0), (1.2, 5.0)), "stands still for 1.2 s"),
        (((0.0, 5.0), (0.1, 4.0)), "went back by 1 J"),
        (((0.0, 5.0), (0.1, 500.0)), "jumped by 495 J in 0.1 s"),
        (((0.0, 5.0), (0.1, None)), "does not answer"),
    ],
)
def test_a_counter_that_lies_is_unknown_from_then_on(readings, why):
    watch = Watch(100.0)
    assert judged(watch, *readings)[-1] is None
    assert why in watch.why
    assert watch.judge(9.0, 600.0) is None


def test_a_counter_with_a_range_wraps_and_still_may_not_jump():
    assert judged(Watch(100.0, range_j=10.0), (0.0, 9.0), (0.1, 1.0)) == [0.0, 2.0]
    assert judged(Watch(1.0, range_j=1000.0), (0.0, 9.0), (0.1, 1.0))[-1] is None


@pytest.mark.parametrize("period_s", [0.001, 0.010, 0.100])
def test_the_period_of_a_counter_is_found(period_s):
    clock = ManualClock()
    found_s = counter_period_s(clock, lambda: float(int(clock.time_s / period_s)))
    assert found_s == pytest.approx(period_s, rel=0.25)


def test_a_counter_that_always_moves_has_no_period_and_one_that_stands_none():
    clock = ManualClock()
    assert counter_period_s(clock, lambda: clock.time_s) == 0.0
    assert counter_period_s(clock, lambda: 1.0) is None


def test_the_rails_of_boards_are_read_in_both_layouts(tmp_path):
    BOARDS["jetson_tx2"](tmp_path / "old")
    BOARDS["jetson_orin_nano_6"](tmp_path / "new")
    old, new = rails(tmp_path / "old"), rails(tmp_path / "new")
    assert [(rail.name, rail.power_w()) for rail in old] == [
        ("VDD_IN", 1.0),
        ("VDD_SYS_GPU", 2.0),
        ("VDD_SYS_CPU", 3.0),
    ]
    assert new[0].power_w() == pytest.approx(1.0)
    assert [rail.name for rail in whole(new)] == ["VDD_IN"]
    assert whole(new[1:]) == new[1:]


def test_rails_that_the_work_draws_on_are_found(tmp_path):
    BOARDS["jetson_tx2"](tmp_path)
    found, clock = rails(tmp_path), ManualClock()
    gpu = next(rail for rail in found if rail.name == "VDD_SYS_GPU").files[0]

    def work():
        write(gpu, 9000)

    assert drawn_on(found, work, clock) == ("VDD_SYS_GPU",)


def test_power_of_rails_adds_up_and_is_unknown_after_a_gap_or_a_failure(tmp_path):
    BOARDS["jetson_tx2"](tmp_path)
    clock, found = ManualClock(), rails(tmp_path)
    meter = RailMeter(clock, whole(found), period_s=1e6)
    before = meter.read()
    for _ in range(10):
        clock.sleep(0.1)
        after = meter.read()
    assert (after - before).energy_j == pytest.approx(1.0)
    assert meter.name == "VDD_IN"
    clock.sleep(5.0)
    assert meter.read().energy_j is None
    assert "did not run" in meter.why
    meter.close()
    failing = RailMeter(clock, whole(found), period_s=1e6)
    write(found[0].files[0], "nothing")
    assert failing.read().energy_j is None
    assert "VDD_IN" in failing.why
    failing.close()


def test_a_meter_that_nobody_has_any_more_stops_reading(tmp_path):
    BOARDS["jetson_tx2"](tmp_path)
    meter = metered(MonotonicClock(), tmp_path)
    assert meter is not None
    meter.read()
    (thread,) = [each for each in threading.enumerate() if each.name == "amble rails"]
    del meter
    thread.join(5.0)
    assert not thread.is_alive()


def test_the_rails_of_a_board_are_chosen_by_name(tmp_path):
    BOARDS["jetson_tx2"](tmp_path)
    clock = ManualClock()
    assert metered(clock, tmp_path).name == "VDD_IN"
    assert metered(clock, tmp_path, "VDD_SYS_CPU,VDD_SYS_GPU,VDD_SYS_CPU").name == "VDD_SYS_CPU + VDD_SYS_GPU"
    with pytest.raises(Refused, match=r"rails=VDD_NO: this board has no rail VDD_NO \(it has: .*VDD_IN"):
        metered(clock, tmp_path, "VDD_NO")
    assert metered(clock, tmp_path / "elsewhere") is None


def test_a_board_without_rails_is_refused():
    with pytest.raises(Refused, match="no INA rail"):
        RailMeter(ManualClock(), ())


def test_a_sum_of_meters_names_them_and_is_unknown_when_one_is():
    clock = ManualClock()
    gpu, cpu = Fixed(clock, 3.0), Fixed(clock, 2.0)
    meter = SummedMeter(clock, {"nvml:0": gpu, "package-0": cpu})
    assert meter.name == "nvml:0 + package-0"
    assert meter.read().energy_j == 5.0
    cpu.energy_j = None
    assert meter.read().energy_j is None
