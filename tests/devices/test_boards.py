"""Ten boards as they are: which knobs are found on each, that they are held, and put back to the last byte."""

import os
from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices import sysfs
from amble.devices.host import MonotonicClock, Unmetered
from amble.devices.powermodes import power_mode
from tests.devices.boards import BOARDS

NUM_CORE = {
    "jetson_nano": 12,
    "jetson_tx2": 3,
    "jetson_xavier_nx": 3,
    "jetson_agx_xavier": 14,
    "jetson_agx_orin_5": 3,
    "jetson_orin_nano_6": 8,
    "jetson_agx_orin_7": 3,
    "jetson_thor_7": 3,
    "odroid_n2": 3,
    "rock_5b": 3,
}
NUM_MEMORY = {"jetson_nano": 2, "jetson_tx2": 11, "jetson_xavier_nx": 8, "jetson_agx_xavier": 4, "jetson_agx_orin_5": 4}
NUM_MEMORY |= {"jetson_orin_nano_6": 4, "jetson_agx_orin_7": 2, "jetson_thor_7": 3, "odroid_n2": 0, "rock_5b": 0}


@pytest.fixture(params=BOARDS)
def board(request, tmp_path):
    BOARDS[request.param](tmp_path)
    return request.param, tmp_path


def opened(root, runner, **options):
    clock = MonotonicClock()
    return sysfs.open(runner, clock, Unmetered(clock), root=root, **options)


def contents(root: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_gpu_and_the_memory_of_every_board_are_found(board, runner):
    name, root = board
    available = opened(root, runner).actuator.available()
    assert len({each.core_hz for each in available}) == NUM_CORE[name]
    assert len({each.memory_hz for each in available} - {None}) == NUM_MEMORY[name]


def test_every_board_is_held_at_both_ends_and_put_back_to_the_last_byte(board, runner):
    _, root = board
    found, device = contents(root), opened(root, runner, cpu=True)
    for clocks in (device.actuator.available()[0], device.actuator.available()[-1]):
        with device.held(clocks) as got:
            assert got.core_hz == clocks.core_hz
            assert got.cpu_hz == clocks.cpu_hz
            assert contents(root) != found
        assert contents(root) == found
    assert device.actuator.current() == Clocks()


def test_the_memory_clock_of_a_nano_is_overridden_and_let_go(tmp_path, runner):
    BOARDS["jetson_nano"](tmp_path)
    override = tmp_path / "sys/kernel/debug/clk/override.emc"
    device = opened(tmp_path, runner)
    with device.held(device.actuator.available()[0]):
        assert (override / "clk_state").read_text() == "1\n"
        assert (override / "clk_update_rate").read_text() == "204000000\n"
    assert (override / "clk_state").read_text() == "0\n"


def test_the_video_engine_of_thor_is_no_gpu_and_its_memory_a_knob(tmp_path, runner):
    BOARDS["jetson_thor_7"](tmp_path)
    device = opened(tmp_path, runner)
    with device.held(device.actuator.available()[0]):
        nodes = tmp_path / "sys/class/devfreq"
        assert (nodes / "gpu-gpc-0/max_freq").read_text() == "315000000\n"
        assert (nodes / "gpu-nvd-0/max_freq").read_text() == "1665000000\n"
        assert (nodes / "bwmgr/max_freq").read_text() == "665600000\n"


def test_the_power_mode_of_a_board_is_told(board):
    name, root = board
    modes = {"jetson_nano": "MAXN (of MAXN, 5W)", "jetson_orin_nano_6": "MAXN_SUPER (of 15W, 25W, MAXN_SUPER)"}
    assert (power_mode(root) is not None) == name.startswith("jetson")
    assert power_mode(root) == modes.get(name, power_mode(root))
    if name == "jetson_orin_nano_6":
        described = next(each for each in sysfs.describe(root) if each.name == "sysfs:17000000.gpu")
        assert described.clocks.endswith("memory 4 levels; power mode MAXN_SUPER (of 15W, 25W, MAXN_SUPER)")


def test_a_damaged_list_of_power_modes_is_none(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nvpmodel.conf").write_text("< POWER_MODEL ID=x NAME=MAXN >")
    assert power_mode(tmp_path) is None


def test_a_board_without_cpufreq_says_so(tmp_path, runner):
    BOARDS["odroid_n2"](tmp_path)
    for path in (tmp_path / "sys/devices/system/cpu/cpufreq").rglob("cpuinfo_min_freq"):
        path.unlink()
    with pytest.raises(Refused, match="CPU clock cannot be set"):
        opened(tmp_path, runner, cpu=True)


def test_the_files_that_a_user_may_not_write_are_named(open_folder, lose_rights):
    BOARDS["jetson_orin_nano_6"](open_folder)
    assert sysfs.rights("gpu", open_folder) == ()
    low = open_folder / "sys/class/devfreq/17000000.gpu/min_freq"
    low.chmod(0o444)
    lose_rights()
    if os.geteuid() != 0:
        assert any(str(low) in each and "run as root" in each for each in sysfs.rights("gpu", open_folder))
