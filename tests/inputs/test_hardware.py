"""Real hardware by its name: the meter and the clocks that its options ask for, on trees like those of boards."""

import pytest

from amble.core.address import Address
from amble.core.errors import Refused
from amble.inputs import hardware
from amble.runtimes import onnx
from tests.devices import fake_sys
from tests.devices.boards import BOARDS


def opened(uri):
    return hardware.real(Address.parse(uri), onnx.execution({}, "cpu"))


def test_a_board_is_metered_by_the_rail_that_feeds_it(tmp_path):
    BOARDS["jetson_tx2"](tmp_path)
    device = opened(f"sysfs:gpu?root={tmp_path}")
    assert device.meter.read().energy_j is not None
    assert "energy of VDD_IN" in device.calibration


def test_a_board_is_metered_by_rails_that_are_named(tmp_path):
    BOARDS["jetson_tx2"](tmp_path)
    device = opened(f"sysfs:gpu?root={tmp_path}&rails=VDD_SYS_GPU,VDD_SYS_CPU&cpu=1")
    assert "energy of VDD_SYS_GPU + VDD_SYS_CPU" in device.calibration
    assert None not in {each.cpu_hz for each in device.actuator.available()}


def test_a_board_without_rails_has_unknown_energy(tmp_path):
    fake_sys.devfreq(tmp_path, "17000000.gpu")
    assert opened(f"sysfs:gpu?root={tmp_path}").meter.read().energy_j is None


def test_the_power_limit_of_this_machine_is_planned_over_like_clocks(tmp_path):
    fake_sys.rapl_limit(tmp_path, "intel-rapl:0", "package-0", 100)
    settings = opened(f"host?root={tmp_path}&knobs=power").actuator.available()
    assert settings[-1].power_limit_w == 100.0
    with pytest.raises(Refused, match="no RAPL limit"):
        opened(f"host?root={tmp_path / 'elsewhere'}&knobs=power")
