"""What takes clocks away is found by name, with a remedy, and said of every setting that was measured meanwhile."""

import threading
from pathlib import Path

import pytest

import amble
from amble.core.address import Address
from amble.core.errors import Refused
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Timing, Timings
from amble.devices import named
from amble.devices.throttling import Reason, WatchedRunner, cooling
from tests.devices import fake_sys
from tests.devices.boards import BOARDS

HOT = Reason("heat of zone gpu-thermal (gpu-throttle)", "")


def zone(root: Path, number: int, kind: str, **devices: int) -> None:
    """A thermal zone and what cools it, each linked from the zone as Linux does."""
    folder = root / f"sys/class/thermal/thermal_zone{number}"
    fake_sys.write(folder / "type", kind)
    for place, (name, state) in enumerate(devices.items()):
        device = root / f"sys/class/thermal/cooling_device{10 * number + place}"
        fake_sys.write(device / "type", name.replace("_", "-"))
        fake_sys.write(device / "cur_state", state)
        (folder / f"cdev{place}").symlink_to(device)
        fake_sys.write(folder / f"cdev{place}_trip_point", 1)


@pytest.fixture
def board(tmp_path):
    BOARDS["jetson_orin_nano_6"](tmp_path)
    zone(tmp_path, 0, "cpu-thermal", pwm_fan=3, thermal_cpufreq_0=0, cpu_throttle_alert=1)
    zone(tmp_path, 1, "gpu-thermal", gpu_throttle=0)
    return tmp_path


def test_what_is_slowed_down_is_told_and_fans_and_alerts_are_not(board):
    now = cooling(board)
    assert now() == ()
    fake_sys.write(board / "sys/class/thermal/cooling_device10/cur_state", 2)
    (found,) = now()
    assert found.says == "heat of zone gpu-thermal (gpu-throttle)"
    assert "jetson_clocks --fan" in found.remedy
    fake_sys.write(board / "sys/class/thermal/cooling_device1/cur_state", 1)
    assert [each.says for each in now()] == ["heat of zone cpu-thermal (thermal-cpufreq-0)", found.says]


def test_a_machine_that_cools_by_fans_alone_has_nothing_to_tell(tmp_path):
    zone(tmp_path, 0, "cpu-thermal", pwm_fan=3)
    assert cooling(tmp_path) is None
    assert named.reasons(Address.parse("host").having(root=str(tmp_path))) is None


def test_a_state_that_cannot_be_read_is_no_reason(board):
    now = cooling(board)
    fake_sys.write(board / "sys/class/thermal/cooling_device10/cur_state", "unknown")
    (board / "sys/class/thermal/cooling_device1/cur_state").unlink()
    assert now() == ()


class Works:
    """A runner that waits until it was looked at while it works; then what takes clocks is over, or begins."""

    def __init__(self, looked: threading.Event) -> None:
        self.looked = looked

    def run(self, graph, point, inputs):
        return {}

    def profile(self, graph, point, repeats):
        assert self.looked.wait(20.0)
        return Timings((), Timing(1.0, 0.0, None), Clocks(), repeats, notes=("as it was",))


def watched(answers, repeats: int = 1):
    """Profile while the reasons are ``answers``, one after another, the last one for good."""
    looked, left = threading.Event(), list(answers)

    def now():
        found = left.pop(0) if len(left) > 1 else left[0]
        if len(left) == 1:
            looked.set()
        if isinstance(found, Exception):
            raise found
        return found

    runner = WatchedRunner(Works(looked), now, period_s=0.001)
    return runner, runner.profile(None, OperatingPoint(Clocks(6e8)), repeats)


def test_a_reason_that_comes_and_goes_while_work_runs_is_recorded_with_the_setting():
    runner, timings = watched([(), (HOT,), ()])
    assert timings.throttled
    assert timings.notes == ("as it was", f"{Clocks(6e8)}: {HOT.says} took clocks from this work")
    assert runner.seen == (HOT,)
    runner.profile(None, OperatingPoint(Clocks(6e8)), 1)
    assert runner.seen == (HOT,)


def test_work_that_nothing_slows_is_left_alone():
    runner, timings = watched([(), ()])
    assert (timings.throttled, timings.notes, runner.seen) == (False, ("as it was",), ())


def test_a_device_that_does_not_answer_has_no_reason_and_looking_goes_on():
    _, timings = watched([Refused("gone"), (HOT,), ()])
    assert timings.throttled


def test_samples_of_this_machine_say_that_it_was_too_hot(tmp_path):
    zone(tmp_path, 0, "x86_pkg_temp", Processor=3)
    device, graph = amble.open(f"host?root={tmp_path}"), amble.load("fashion-resnet")
    profile = amble.measure(graph, device, repeats=2)
    assert all(each.throttled for each in (*profile.samples, *profile.totals))
    assert any("heat of zone x86-pkg-temp (Processor) took clocks" in note.replace("_", "-") for note in profile.notes)
    line = next(each for each in amble.examine(f"host?root={tmp_path}") if each.what == "throttling")
    assert (line.verdict, "cool it" in line.remedy) == ("poor", True)
