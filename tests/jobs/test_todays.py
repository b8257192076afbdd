"""What a board's power mode allows is a baseline of plans for it, and runs in their check."""

from dataclasses import dataclass

import numpy as np
import pytest

from amble.core.address import Address
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import CostTable
from amble.core.schedule import Deadline
from amble.core.subject import Where
from amble.jobs.checking import _policies, plan
from tests import fakes
from tests.devices import nvpmodel
from tests.devices.boards import BOARDS

GRAPH = fakes.graph(1e9, 2e9)
POINTS = tuple(OperatingPoint(Clocks(core_hz, 2133e6)) for core_hz in (306e6, 612e6, 1020e6))


@dataclass(frozen=True)
class Known:
    """Work that takes cycles and power that grows with the clock's square, on a device."""

    where: Where
    switches: tuple = ()

    def table(self, graph):
        flops = np.array([each.flops for each in graph.operators])
        core_hz = np.array([each.clocks.core_hz for each in POINTS])
        latency_s = flops[:, None] / (1000 * core_hz)
        return CostTable(POINTS, latency_s, latency_s * (1.0 + 20.0 * (core_hz / 1e9) ** 2))

    def idle_w(self, clocks):
        return 1.0

    def margin(self, percentile):
        return 1.0


@pytest.fixture
def board(tmp_path):
    BOARDS["jetson_orin_nano_6"](tmp_path)
    modes = {"MAXN": "GPU MAX_FREQ -1", "25W": "GPU MAX_FREQ 918000000", "15W": "GPU MAX_FREQ 612000000"}
    nvpmodel.install(tmp_path, "15W", **modes)
    return tmp_path


def planned(uri):
    return plan(GRAPH, Known(Where(uri, "real", None)), deadline=Deadline(0.020, 0.99))


def test_the_highest_clocks_of_the_power_mode_are_a_baseline_and_are_run_in_a_check(board):
    uri = str(Address.parse("sysfs:gpu").having(root=str(board)))
    schedule = planned(uri)
    found = {each.name: each for each in schedule.baselines}
    assert list(found) == ["maximum clocks", "best single clocks", "power mode 15W"]
    mode = found["power mode 15W"]
    assert mode.point.clocks == Clocks(612e6, 2133e6)
    assert mode.meets
    assert mode.predicted.latency_s == pytest.approx(3e9 / (1000 * 612e6))
    assert found["maximum clocks"].point.clocks.core_hz == 1020e6
    assert "power mode 15W" in [name for name, _ in _policies(schedule)]


def test_a_mode_that_is_too_slow_is_told_as_such(board):
    uri = str(Address.parse("sysfs:gpu").having(root=str(board)))
    schedule = plan(GRAPH, Known(Where(uri, "real", None)), deadline=Deadline(0.004, 0.99))
    assert not next(each for each in schedule.baselines if each.name == "power mode 15W").meets


@pytest.mark.parametrize("mode", ["MAXN", "25W"])
def test_each_mode_is_told_by_its_own_clocks(board, mode):
    number = {"MAXN": 0, "25W": 1}[mode]
    (board / "var/lib/nvpmodel/status").write_text(f"pmode:{number:04d}\n")
    schedule = planned(str(Address.parse("sysfs:gpu").having(root=str(board))))
    found = [each.point.clocks.core_hz for each in schedule.baselines if each.name == f"power mode {mode}"]
    assert found == ([] if mode == "MAXN" else [612e6])


def test_other_devices_and_boards_without_modes_have_no_such_baseline(board):
    (board / "etc/nvpmodel.conf").unlink()
    for uri in (str(Address.parse("sysfs:gpu").having(root=str(board))), "nvml:0"):
        assert not [each for each in planned(uri).baselines if "power mode" in each.name]
