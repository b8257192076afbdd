"""RAPL limits as a knob: levels, packages shown twice, what firmware keeps, and put back to the last byte."""

from pathlib import Path, PosixPath

import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices.knobs import FileActuator
from amble.devices.powercap import Limit, PowerKnob, power_knob
from tests.devices import fake_sys


def contents(root: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def two_packages(tmp_path: Path) -> Path:
    fake_sys.rapl_limit(tmp_path, "intel-rapl:0", "package-0", 100)
    fake_sys.rapl_limit(tmp_path, "intel-rapl-mmio:0", "package-0", 90, number=1)
    fake_sys.rapl_limit(tmp_path, "intel-rapl:1", "package-1", 100)
    fake_sys.rapl_limit(tmp_path, "intel-rapl:2", "psys", 300)
    return tmp_path


def watts(file: Path) -> float:
    return int(file.read_text()) * 1e-6


def test_limits_are_ten_steps_up_to_what_all_packages_may_take(two_packages):
    knob = power_knob(two_packages)
    assert knob is not None
    assert len(knob.levels) == 10
    assert knob.levels[0] == 57.0  # 0.3 of 190 W: a package shown twice is told once
    assert knob.levels[-1] == 190.0
    assert knob.read() == pytest.approx(190.0)


def test_a_limit_is_shared_out_over_packages_held_wherever_one_is_shown_and_put_back(two_packages):
    found, actuator = contents(two_packages), FileActuator([power_knob(two_packages)])
    lowest = actuator.available()[0]
    assert lowest == Clocks(power_limit_w=57.0)
    actuator.apply(lowest)
    zones = two_packages / "sys/class/powercap"
    assert watts(zones / "intel-rapl:0/constraint_0_power_limit_uw") == 28.5
    assert watts(zones / "intel-rapl-mmio:0/constraint_1_power_limit_uw") == 28.5
    assert watts(zones / "intel-rapl:1/constraint_0_power_limit_uw") == 28.5
    assert watts(zones / "intel-rapl:2/constraint_0_power_limit_uw") == 300
    assert actuator.current() == Clocks(power_limit_w=57.0)
    actuator.apply(Clocks())
    assert contents(two_packages) == found


def test_a_limit_that_is_not_enforced_is_while_it_is_held(tmp_path):
    limit = fake_sys.rapl_limit(tmp_path, "intel-rapl:0", "package-0", 60)
    fake_sys.write(limit.with_name("enabled"), 0)
    actuator = FileActuator([power_knob(tmp_path)])
    actuator.apply(actuator.available()[3])
    assert limit.with_name("enabled").read_text() == "1\n"
    actuator.apply(Clocks())
    assert limit.with_name("enabled").read_text() == "0\n"
    assert watts(limit) == 60


def test_a_machine_that_tells_no_highest_limit_is_bounded_by_what_is_in_force(tmp_path):
    fake_sys.rapl_limit(tmp_path, "intel-rapl:0", "package-0", 45, most=0)
    knob = power_knob(tmp_path)
    assert knob is not None
    assert knob.levels[-1] == 45.0


class Locked(PosixPath):
    """A file whose text stays whatever is written, as of a limit that firmware locked."""

    def read_text(self, *args: object, **kwargs: object) -> str:
        return "60000000\n"


def test_firmware_that_keeps_another_limit_is_refused(tmp_path):
    limit = fake_sys.rapl_limit(tmp_path, "intel-rapl:0", "package-0", 60)
    knob = PowerKnob((20.0, 60.0), (Limit("package-0", Locked(limit), None, 60.0),))
    knob.hold(60.0)
    with pytest.raises(Refused, match="asked for 20 W, firmware keeps 60 W"):
        knob.hold(20.0)


def test_a_file_that_holds_no_power_is_refused(tmp_path):
    fake_sys.rapl_limit(tmp_path, "intel-rapl:0", "package-0", 60, most=60).write_text("sixty")
    with pytest.raises(Refused, match="holds 'sixty', which is no power"):
        FileActuator([power_knob(tmp_path)]).running()


def test_without_rapl_there_is_no_knob(tmp_path):
    assert power_knob(tmp_path) is None
