"""Tests of the NVML back end over the real nvidia-ml-py and a fake library; ``test_nvml.py`` runs them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices import lease, nvml
from amble.devices.host import MonotonicClock, Unmetered
from amble.devices.nvml import NvmlMeter, PowerMeter
from amble.devices.nvml.board import Board, Unsupported
from tests.devices.over_fake_nvml.fake_gpu import HOPPER, PASCAL, FakeGpu

LOW = Clocks(510e6, 1593e6)
HIGH = Clocks(1980e6, 2619e6)
NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND = 3, 4, 13


@pytest.fixture
def gpu():
    gpu = FakeGpu(Path(os.environ["AMBLE_EMULATED_CARD"]))
    gpu.reset(**HOPPER)
    return gpu


@pytest.fixture
def device(gpu, runner):
    return nvml.open(0, runner)


def test_settings_are_every_pair_of_levels_slowest_first(device):
    available = device.actuator.available()
    assert len(available) == 16
    assert (available[0], available[-1]) == (LOW, HIGH)


def test_clocks_are_locked_read_back_and_released(gpu, device):
    assert device.actuator.current() == Clocks()
    with device.held(LOW) as got:
        assert got == LOW
        assert (gpu.get("core_lock"), gpu.get("memory_lock")) == (510, 1593)
    assert (gpu.get("core_lock"), gpu.get("memory_lock")) == (0, 0)
    assert device.actuator.current() == Clocks()


def test_a_board_that_does_not_keep_the_clock_is_reported_as_it_runs(gpu, device):
    gpu.set(keeps=1215, reasons=0x4)
    with device.held(HIGH) as got:
        assert got == Clocks(1215e6, 2619e6)
        with device.held(LOW):
            pass
        assert (gpu.get("core_lock"), gpu.get("memory_lock")) == (1980, 2619)


def test_an_unknown_clock_is_refused_and_nothing_is_set(gpu, device):
    with pytest.raises(Refused, match="is not one of the board's settings"):
        device.actuator.apply(Clocks(1981e6, 2619e6))
    assert gpu.get("num_sets") == 0


def test_missing_permission_is_refused_with_the_remedy(gpu, device):
    gpu.refuse(nvmlDeviceSetGpuLockedClocks=NO_PERMISSION)
    with pytest.raises(Refused, match=r"needs root, in containers too; run as root.*nvidia-smi -i 0 -lgc"):
        device.actuator.apply(LOW)
    assert device.actuator.current() == Clocks()


def test_a_memory_clock_that_fails_takes_the_core_clock_back(gpu, device):
    gpu.refuse(nvmlDeviceSetMemoryLockedClocks=NO_PERMISSION)
    with pytest.raises(Refused, match="needs root"):
        device.actuator.apply(LOW)
    assert gpu.get("core_lock") == 0


def test_a_memory_clock_that_fails_later_goes_back_to_the_setting_before(gpu, device):
    device.actuator.apply(HIGH)
    gpu.refuse(nvmlDeviceSetMemoryLockedClocks=NO_PERMISSION)
    with pytest.raises(Refused, match="needs root"):
        device.actuator.apply(LOW)
    assert gpu.get("core_lock") == 1980
    gpu.refuse()
    device.actuator.apply(Clocks())


def test_one_memory_clock_is_named_and_never_locked(gpu, runner):
    gpu.set(memory_levels=1)
    device = nvml.open(0, runner)
    assert {clocks.memory_hz for clocks in device.actuator.available()} == {2619e6}
    with device.held(Clocks(1980e6, 2619e6)):
        assert (gpu.get("core_lock"), gpu.get("memory_lock")) == (1980, 0)


def test_boards_before_ampere_have_the_core_clock_alone(gpu, runner):
    gpu.set(architecture=6)
    device = nvml.open(0, runner)
    assert device.actuator.available()[0] == Clocks(510e6)
    assert len(device.actuator.available()) == 8
    with device.held(Clocks(510e6)) as got:
        assert got == Clocks(510e6)
        assert gpu.get("core_lock") == 510


def test_boards_before_volta_have_application_clocks_put_back_as_they_were_found(gpu, runner):
    gpu.reset(**PASCAL)
    device = nvml.open(0, runner)
    found = device.actuator.found()  # type: ignore[attr-defined]
    assert dict(found.values)["application"] == "2619000000,1560000000"
    with device.held(LOW) as got:
        assert got == LOW
        assert (gpu.get("app_core"), gpu.get("app_memory")) == (510, 1593)
    assert (gpu.get("app_core"), gpu.get("app_memory")) == (1560, 2619)


def test_a_divided_board_refuses_clocks_and_owns_no_energy(gpu, runner):
    gpu.set(mig=1)
    device = nvml.open(0, runner)
    with pytest.raises(Refused, match="MIG"):
        device.actuator.apply(LOW)
    device.actuator.apply(Clocks())
    assert gpu.get("num_sets") == 0
    assert device.meter.read().energy_j is None
    assert "MIG" in nvml.describe()[0].missing[0]


def test_a_board_without_a_list_of_clocks_cannot_be_set(gpu, runner):
    gpu.refuse(nvmlDeviceGetSupportedMemoryClocks=NOT_SUPPORTED)
    assert nvml.open(0, runner).actuator.available() == (Clocks(),)


def test_energy_is_the_boards_counter(device):
    assert isinstance(device.meter, NvmlMeter)
    with device.held(HIGH):
        before = device.meter.read()
        device.clock.sleep(0.2)
        passed = device.meter.read() - before
    assert passed.energy_j == pytest.approx(passed.latency_s * (80 + 0.25 * 1980), rel=0.05)


def test_a_counter_that_stops_answering_is_unknown_not_zero(gpu, device):
    gpu.refuse(nvmlDeviceGetTotalEnergyConsumption=999)
    assert device.meter.read().energy_j is None


def test_without_a_counter_energy_is_unknown_unless_power_is_asked_for(gpu, runner):
    gpu.refuse(nvmlDeviceGetTotalEnergyConsumption=NOT_SUPPORTED)
    assert isinstance(nvml.open(0, runner).meter, Unmetered)
    assert nvml.describe()[0].meter == "unknown"
    assert "power_period_s" in nvml.describe()[0].missing[-1]
    meter = nvml.open(0, runner, power_period_s=0.01).meter
    assert isinstance(meter, PowerMeter)
    before = meter.read()
    time.sleep(0.2)
    passed = meter.read() - before
    meter.close()
    assert passed.energy_j == pytest.approx(passed.latency_s * (80 + 0.25 * 345), rel=0.05)


def test_power_that_cannot_be_read_makes_the_sum_unknown(gpu):
    meter = PowerMeter(Board(0), MonotonicClock(), 10.0)
    assert meter.read().energy_j == 0.0
    gpu.refuse(nvmlDeviceGetPowerUsage=999)
    assert meter.read().energy_j is None
    gpu.refuse()
    assert meter.read().energy_j is None
    meter.close()


def test_event_reasons_say_what_throttles_with_the_old_name_as_well(gpu):
    board = Board(0)
    assert board.throttled() == ()
    gpu.set(reasons=0x1 | 0x2 | 0x4 | 0x40)
    assert board.throttled() == ("power cap", "heat (hardware)")
    gpu.refuse(nvmlDeviceGetCurrentClocksEventReasons=FUNCTION_NOT_FOUND)
    assert board.throttled() == ("power cap", "heat (hardware)")


def test_temperature_and_limit_fall_back_to_their_old_functions(gpu):
    board = Board(0)
    assert (board.temperature_c(), board.power_limit_w()) == (41.0, 700.0)
    gpu.refuse(nvmlDeviceGetTemperatureV=FUNCTION_NOT_FOUND, nvmlDeviceGetEnforcedPowerLimit=NOT_SUPPORTED)
    assert (board.temperature_c(), board.power_limit_w()) == (41.0, 701.0)


def test_an_old_driver_without_an_architecture_has_application_clocks(gpu):
    gpu.refuse(nvmlDeviceGetArchitecture=FUNCTION_NOT_FOUND, nvmlDeviceGetMigMode=FUNCTION_NOT_FOUND)
    board = Board(0)
    assert not board.locks_core
    assert not board.mig


def test_a_function_that_the_library_lacks_is_unsupported(gpu):
    gpu.refuse(nvmlDeviceGetTotalEnergyConsumption=FUNCTION_NOT_FOUND)
    with pytest.raises(Unsupported, match="nvidia-smi -q -i 0"):
        Board(0).energy_j()


def test_a_board_that_is_not_there_is_refused(gpu):
    with pytest.raises(Refused, match=r"no GPU 7 here.*nvidia-smi -L"):
        Board(7)


def test_a_board_is_found_by_its_uuid(gpu):
    assert Board("GPU-fake-0").name == "Fake H200"


def test_the_description_names_board_levels_and_limit(gpu):
    (described,) = nvml.describe()
    assert described.name == "nvml:0"
    assert described.clocks == "Fake H200: core 8 levels, memory 2, limit 700 W"
    assert described.meter == "NVML energy counter"


OWNER = """
import sys, time
from pathlib import Path
from amble.core.point import Clocks
from amble.devices import lease
from amble.devices import nvml
lease.guarded(nvml.open(0, None), Path(sys.argv[1])).actuator.apply(Clocks(510e6, 1593e6))
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("board", "locked", "app"), [(HOPPER, (510, 1593), 1980), (PASCAL, (0, 0), 510)])
def test_clocks_are_released_when_their_owner_is_killed(gpu, tmp_path, board, locked, app):
    gpu.reset(**board)
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert (gpu.get("core_lock"), gpu.get("memory_lock")) == locked
        assert gpu.get("app_core") == app
        process.send_signal(signal.SIGKILL)
    until_s = time.monotonic() + 10
    while lease.leases(tmp_path) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert (gpu.get("core_lock"), gpu.get("memory_lock")) == (0, 0)
    assert gpu.get("app_core") == board["app_core"]
