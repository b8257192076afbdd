import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices import host, lease
from tests.devices import fake_sys

FOUND, HELD = ("800000", "2000000"), ("1200000", "1200000")
SLOW, SLOWER = Clocks(cpu_hz=1.2e9), Clocks(cpu_hz=8e8)

OWNER = """
import os, sys, time
from pathlib import Path
from amble.core.point import Clocks
from amble.devices import lease
from amble.devices import host

device = lease.guarded(host.open(None, sysfs_root=Path(sys.argv[1])), Path(sys.argv[2]))
device.actuator.apply(Clocks(cpu_hz=1.2e9))
print("held", flush=True)
if sys.argv[3] == "sleep":
    time.sleep(60)
elif sys.argv[3] == "give back":
    device.actuator.close()  # type: ignore[attr-defined]
    print("given back", flush=True)
    time.sleep(60)
elif sys.argv[3] == "exit":
    pass
elif sys.argv[3] == "abort":
    os.abort()
"""


@pytest.fixture
def policy(tmp_path):
    (folder,) = fake_sys.cpufreq(tmp_path, 1)
    return folder


@pytest.fixture
def device(tmp_path, policy, runner):
    device = lease.guarded(host.open(runner, sysfs_root=tmp_path), tmp_path / "state")
    yield device
    device.actuator.close()  # type: ignore[attr-defined]


@contextlib.contextmanager
def an_owner(root, then="sleep"):
    """Another process that holds 1200 MHz."""
    command = [sys.executable, "-c", OWNER, str(root), str(root / "state"), then]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def becomes(expected, look, within_s=10.0):
    """Wait until ``look()`` gives what is expected, and return what it gives."""
    until_s = time.monotonic() + within_s
    while look() != expected and time.monotonic() < until_s:
        time.sleep(0.02)
    return look()


def lease_files(root):
    return [path.name for path in (root / "state").glob("lease-*.json")]


def watchdogs(root):
    """Return the watchdogs of leases under this folder."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            words = Path(f"/proc/{int(entry)}/cmdline").read_bytes().split(b"\0")
            if b"amble.devices.lease" in words and any(str(root).encode() in word for word in words):
                found.append(int(entry))
    return found


def test_a_lease_names_the_owner_and_what_was_found_while_clocks_are_held(tmp_path, policy, device):
    assert lease.leases(tmp_path / "state") == ()
    with device.held(SLOW):
        (held,) = lease.leases(tmp_path / "state")
        assert held.device == "host"
        assert held.owner.pid == os.getpid()
        assert held.owner.alive
        assert held.since.endswith("+00:00")
        assert dict(held.found.values) == {
            str(policy / "scaling_max_freq"): "2000000",
            str(policy / "scaling_min_freq"): "800000",
        }
        assert fake_sys.bounds(policy) == HELD
    assert fake_sys.bounds(policy) == FOUND
    assert lease_files(tmp_path) == []


def test_changes_while_holding_keep_the_first_finding(tmp_path, policy, device):
    device.actuator.apply(SLOW)
    before = lease.leases(tmp_path / "state")
    device.actuator.apply(SLOWER)
    assert lease.leases(tmp_path / "state") == before
    device.actuator.close()  # type: ignore[attr-defined]
    assert fake_sys.bounds(policy) == FOUND


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_clocks_are_put_back_whatever_signal_ends_the_owner(tmp_path, policy, end):
    with an_owner(tmp_path) as owner:
        assert fake_sys.bounds(policy) == HELD
        owner.send_signal(end)
        owner.wait()
        assert becomes(FOUND, lambda: fake_sys.bounds(policy)) == FOUND
        assert becomes([], lambda: lease_files(tmp_path)) == []


@pytest.mark.parametrize("then", ["exit", "abort"])
def test_clocks_are_put_back_when_the_owner_ends_without_giving_them_back(tmp_path, policy, then):
    with an_owner(tmp_path, then) as owner:
        owner.wait()
        assert becomes(FOUND, lambda: fake_sys.bounds(policy)) == FOUND


def test_a_second_owner_is_refused_while_the_first_lives_and_welcome_after(tmp_path, policy, device):
    with an_owner(tmp_path) as owner:
        with pytest.raises(Refused, match=f"held by process {owner.pid} since .*kill {owner.pid}"):
            device.actuator.apply(SLOWER)
        assert fake_sys.bounds(policy) == HELD
        owner.kill()
        owner.wait()
        becomes([], lambda: lease_files(tmp_path))
        with device.held(SLOWER):
            assert fake_sys.bounds(policy) == ("800000", "800000")
    assert fake_sys.bounds(policy) == FOUND


def test_two_devices_of_one_process_do_not_share_a_lease(tmp_path, device, runner):
    other = lease.guarded(host.open(runner, sysfs_root=tmp_path), tmp_path / "state")
    with device.held(SLOW), pytest.raises(Refused, match="held by process"):
        other.actuator.apply(SLOWER)


def kill_with_watchdog(root, owner):
    """Kill the watchdog first, then the owner: nobody is left to put the clocks back."""
    for pid in watchdogs(root):
        os.kill(pid, signal.SIGKILL)
    assert becomes([], lambda: watchdogs(root)) == []
    owner.kill()
    owner.wait()


def test_restore_puts_back_what_is_left_when_the_watchdog_was_killed_too(tmp_path, policy):
    with an_owner(tmp_path) as owner:
        kill_with_watchdog(tmp_path, owner)
    time.sleep(0.2)
    assert fake_sys.bounds(policy) == HELD
    (would,) = lease.restorable(tmp_path / "state")
    assert (would.device, would.put_back) == ("host", False)
    assert would.note.startswith(f"would put back what process {owner.pid} found at")
    assert fake_sys.bounds(policy) == HELD
    (done,) = lease.restore(tmp_path / "state")
    assert (done.device, done.put_back) == ("host", True)
    assert fake_sys.bounds(policy) == FOUND
    assert lease.restore(tmp_path / "state") == ()


def test_the_next_owner_puts_back_first_what_a_killed_one_left(tmp_path, policy, device, caplog):
    with an_owner(tmp_path) as owner:
        kill_with_watchdog(tmp_path, owner)
    with device.held(SLOWER):
        (held,) = lease.leases(tmp_path / "state")
        assert set(dict(held.found.values).values()) == set(FOUND)  # not the 1200 MHz that were left behind
    assert fake_sys.bounds(policy) == FOUND
    assert "putting back the clocks" in caplog.text


def test_restore_leaves_the_clocks_of_living_owners_alone(tmp_path, policy):
    with an_owner(tmp_path) as owner:
        (done,) = lease.restore(tmp_path / "state")
        assert (done,) == lease.restorable(tmp_path / "state")
        assert not done.put_back
        assert str(owner.pid) in done.note
        assert fake_sys.bounds(policy) == HELD


def test_the_watchdog_of_a_former_owner_leaves_the_lease_of_the_next_one_alone(tmp_path, policy, device):
    with an_owner(tmp_path, "give back") as former:
        assert former.stdout.readline() == "given back\n"
        (watchdog,) = watchdogs(tmp_path)
        with device.held(SLOWER):
            former.kill()
            former.wait()
            assert becomes(False, lambda: watchdog in watchdogs(tmp_path)) is False
            (held,) = lease.leases(tmp_path / "state")
            assert held.owner.pid == os.getpid()
            assert fake_sys.bounds(policy) == ("800000", "800000")
    assert fake_sys.bounds(policy) == FOUND


def test_every_hold_has_a_watchdog_the_same_as_long_as_it_lives_and_another_when_it_was_killed(
    tmp_path, policy, device
):
    with device.held(SLOW):
        first = watchdogs(tmp_path)
    with device.held(SLOWER):
        assert watchdogs(tmp_path) == first
        assert lease_files(tmp_path) == ["lease-host.json"]
        (tmp_path / "state/lease-host.json").unlink()  # by hand: giving it up is no error then
    assert len(first) == 1
    os.kill(first[0], signal.SIGKILL)
    assert becomes([], lambda: watchdogs(tmp_path)) == []
    with device.held(SLOW):
        assert len(watchdogs(tmp_path)) == 1
    assert fake_sys.bounds(policy) == FOUND


def test_restore_without_any_lease_does_nothing(tmp_path):
    assert lease.restore(tmp_path / "never") == lease.restorable(tmp_path / "never") == ()
    assert not (tmp_path / "never").exists()


def edit_lease(root, pattern, text):
    path = next((root / "state").glob("lease-*.json"))
    path.write_text(re.sub(pattern, text, path.read_text()))
    return path


def test_a_lease_of_an_earlier_boot_is_dropped_since_the_reboot_put_the_clocks_back(tmp_path, policy):
    with an_owner(tmp_path) as owner:
        kill_with_watchdog(tmp_path, owner)
    edit_lease(tmp_path, r'"boot": "[^"]*"', '"boot": "another"')
    (done,) = lease.restore(tmp_path / "state")
    assert done.put_back
    assert fake_sys.bounds(policy) == HELD  # in this test no reboot happened
    assert lease_files(tmp_path) == []


def test_a_process_that_got_the_owners_number_later_is_not_the_owner(tmp_path, policy, device):
    with device.held(SLOW):
        edit_lease(tmp_path, r'"start": "\d+"', '"start": "1"')
        assert not lease.leases(tmp_path / "state")[0].owner.alive
    assert fake_sys.bounds(policy) == FOUND


def test_a_damaged_lease_is_refused_by_name_and_not_overwritten(tmp_path, policy, device):
    path = fake_sys.write(tmp_path / "state/lease-host.json", "{")
    with pytest.raises(Refused, match=r"lease-host\.json is not JSON.*delete it"):
        device.actuator.apply(SLOW)
    assert path.read_text() == "{\n"
    assert fake_sys.bounds(policy) == FOUND
    (done,) = lease.restore(tmp_path / "state")
    assert not done.put_back
    path.unlink()


def test_a_clock_that_is_refused_leaves_no_lease(tmp_path, device):
    with pytest.raises(Refused, match="is not one of"):
        device.actuator.apply(Clocks(cpu_hz=1.0))
    assert lease_files(tmp_path) == []


def test_a_folder_that_cannot_hold_leases_is_refused_before_anything_changes(tmp_path, policy, runner):
    blocked = fake_sys.write(tmp_path / "file", "")
    device = lease.guarded(host.open(runner, sysfs_root=tmp_path), blocked / "state")
    with pytest.raises(Refused, match="XDG_STATE_HOME"):
        device.actuator.apply(SLOW)
    assert fake_sys.bounds(policy) == FOUND


def test_what_cannot_be_put_back_keeps_its_lease_and_says_why(tmp_path, policy):
    with an_owner(tmp_path) as owner:
        kill_with_watchdog(tmp_path, owner)
    (policy / "scaling_max_freq").unlink()
    (done,) = lease.restore(tmp_path / "state")
    assert not done.put_back
    assert "scaling_max_freq" in done.note
    assert lease_files(tmp_path) == ["lease-host.json"]


def test_a_device_without_clocks_to_set_needs_no_lease(tmp_path, runner):
    device = host.open(runner, sysfs_root=tmp_path / "empty")
    assert lease.guarded(device) is device


def test_leases_are_kept_where_the_desktop_standard_says(tmp_path):
    code = "from amble.devices import lease; print(lease.state_dir())"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "amble")


def test_a_lease_is_readable_json_with_its_kind_and_format(tmp_path, device):
    with device.held(SLOW):
        document = msgspec.json.decode((tmp_path / "state/lease-host.json").read_bytes())
    assert (document["kind"], document["format"]) == ("lease", 1)
    assert document["lease"]["device"] == "host"
