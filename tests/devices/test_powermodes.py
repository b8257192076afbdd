"""Power modes of boards: listed, held beside clocks by the board's own tool, put back, and what is refused."""

import subprocess
import sys

import pytest

from amble.core.address import Address
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices import lease, sysfs
from amble.devices.named import owned_by_name
from amble.devices.powermodes import PowerModes, current_mode
from tests.devices import nvpmodel
from tests.devices.boards import BOARDS

CAPS = {
    "jetson_tx2": "CPU_DENVER MAX_FREQ -1\nCPU_A57 MAX_FREQ 1190400\nGPU MAX_FREQ 624750000\nEMC MAX_FREQ 800000000",
    "jetson_agx_xavier": "CPU_CARMEL_0 MAX_FREQ 1190400\nGPU MAX_FREQ 522750000\nEMC MAX_FREQ 1331200000",
    "jetson_orin_nano_6": "CPU_A78_0 MAX_FREQ 729600\nGPU MAX_FREQ 612000000\nEMC MAX_FREQ 2133000000",
    "jetson_thor_7": "CPU_0 MAX_FREQ 1944000\nGPU_GPC_0 MAX_FREQ 945000000\nEMC MAX_FREQ 2133000000",
}
FREE = "GPU MAX_FREQ -1\nEMC MAX_FREQ 0\nCPU MAX_FREQ -1"


@pytest.fixture(params=CAPS)
def board(request, tmp_path):
    """A board in its highest mode, with one that caps every clock."""
    BOARDS[request.param](tmp_path)
    nvpmodel.install(tmp_path, "MAXN", MAXN=FREE, **{"15W": CAPS[request.param]}, MAXQ_REBOOT="")
    return tmp_path


def opened(root, **options):
    return owned_by_name(Address.parse("sysfs:gpu").having(root=str(root), **options))


def contents(root):
    kept = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "told")
    return {str(path): path.read_text() for path in kept}


def test_a_mode_is_held_for_as_long_as_clocks_are_and_put_back_to_the_last_byte(board):
    found, actuator = contents(board), opened(board, mode="15W", cpu="1")
    assert contents(board) == found
    actuator.apply(actuator.available()[0])
    assert current_mode(board).name == "15W"
    actuator.apply(actuator.available()[-1])
    assert actuator.current() == actuator.available()[-1]
    actuator.apply(Clocks())
    assert contents(board) == found
    assert (board / "told").read_text() == "1\n0\n"


def test_only_what_the_mode_allows_is_available(board):
    free, capped = opened(board, cpu="1"), opened(board, mode="15W", cpu="1")
    mode = PowerModes.of(board).named("15W")
    for domain in ("core", "memory", "cpu"):
        most = {"core": mode.core_hz, "memory": mode.memory_hz, "cpu": mode.cpu_hz}[domain]
        assert max(each.of(domain) for each in capped.available()) == most
    assert len(capped.available()) < len(free.available())
    with pytest.raises(Refused, match="more than power mode 15W allows"):
        capped.apply(free.available()[-1])
    assert current_mode(board).name == "MAXN"


def test_a_mode_in_force_needs_no_tool(board):
    (board / "usr/sbin/nvpmodel").unlink()
    actuator = opened(board, mode="MAXN")
    found = contents(board)
    actuator.apply(actuator.available()[0])
    actuator.apply(Clocks())
    assert contents(board) == found
    with pytest.raises(Refused, match="set by nvpmodel, which is not under"):
        opened(board, mode="15W").apply(actuator.available()[0])
    assert contents(board) == found


def test_a_mode_that_needs_a_reboot_is_refused_and_nothing_changes(board):
    found, actuator = contents(board), opened(board, mode="MAXQ_REBOOT")
    with pytest.raises(Refused, match="needs a reboot, once, by hand: sudo nvpmodel -m 2"):
        actuator.apply(actuator.available()[0])
    assert contents(board) == found


def test_a_tool_that_does_not_do_what_it_says_is_not_believed(board):
    (board / "deaf").touch()
    with pytest.raises(Refused, match="did not set the power mode"):
        opened(board, mode="15W").apply(opened(board).available()[0])


def test_clocks_that_cannot_be_held_take_the_mode_back(board):
    actuator = opened(board, mode="15W")
    kept = next(iter([*board.rglob("mrq_rate_locked"), *board.glob("sys/class/devfreq/bwmgr/min_freq")]))
    kept.unlink()
    kept.symlink_to("/proc/version")
    found = contents(board)
    with pytest.raises(Refused, match="cannot write"):
        actuator.apply(actuator.available()[0])
    assert (board / "told").read_text() == "1\n0\n"
    assert contents(board) == found


def test_a_killed_process_leaves_no_power_mode(tmp_path):
    board, state = tmp_path / "board", tmp_path / "state"
    BOARDS["jetson_orin_nano_6"](board)
    nvpmodel.install(board, "MAXN", MAXN=FREE, **{"15W": CAPS["jetson_orin_nano_6"]})
    found = contents(board)
    program = (
        "import os, signal\nfrom pathlib import Path\n"
        "from amble.core.address import Address\nfrom amble.devices import lease, named\n"
        f"uri = Address.parse('sysfs:gpu').having(root={str(board)!r}, mode='15W')\n"
        f"state, mine = Path({str(state)!r}), named.owned_by_name(uri)\n"
        "held = lease.LeasedActuator(mine, str(uri), state, watch=lambda _, me: me)\n"
        "held.apply(held.available()[0])\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    assert current_mode(board).name == "15W"
    (restored,) = lease.restore(state)
    assert restored.put_back
    assert contents(board) == found


def test_what_is_no_power_mode_is_refused(board):
    with pytest.raises(Refused, match="mode=90W is none of this board's power modes: MAXN, 15W, MAXQ_REBOOT"):
        opened(board, mode="90W")
    (board / "var/lib/nvpmodel/status").write_text("pmode:0007\n")
    with pytest.raises(Refused, match="names no power mode"):
        opened(board, mode="15W").apply(opened(board).available()[0])
    (board / "etc/nvpmodel.conf").unlink()
    with pytest.raises(Refused, match="no power modes under"):
        opened(board, mode="15W")


def test_a_mode_below_every_level_is_refused(board):
    nvpmodel.install(board, "MAXN", MAXN=FREE, LOW="GPU MAX_FREQ 1000")
    with pytest.raises(Refused, match="caps clocks below the lowest"):
        opened(board, mode="LOW")


def test_a_board_tells_its_modes(board):
    described = [each.clocks for each in sysfs.describe(board) if "power mode" in each.clocks]
    assert described
    assert all(each.endswith("power mode MAXN (of MAXN, 15W, MAXQ_REBOOT)") for each in described)
