"""A CPU quota as a device: what was found comes back, also after the process was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices import host, lease, quota
from tests.devices import fake_sys

REAL = Path("/sys/fs/cgroup/cpu")


def opened(root, name="server", **options):
    clock = host.MonotonicClock()
    return quota.open(name, None, clock, host.Unmetered(clock), root=root, **options)


@pytest.mark.parametrize("version", [1, 2])
def test_a_share_is_a_quota_of_a_short_period_and_what_was_found_comes_back(tmp_path, version):
    folder = fake_sys.cgroup(tmp_path, version=version)
    before = {each.name: each.read_text() for each in folder.iterdir()}
    actuator = opened(tmp_path, cpus=2).actuator
    actuator.apply(Clocks(cpu_share=0.5))
    if version == 1:
        assert (folder / "cpu.cfs_quota_us").read_text().strip() == "2500"
        assert (folder / "cpu.cfs_period_us").read_text().strip() == "5000"
    else:
        assert (folder / "cpu.max").read_text().strip() == "2500 5000"
    assert actuator.current() == Clocks(cpu_share=0.5)
    actuator.apply(Clocks())
    assert {each.name: each.read_text() for each in folder.iterdir()} == before
    assert actuator.current() == Clocks()


def test_shares_go_from_a_fifth_to_all_cpus(tmp_path):
    fake_sys.cgroup(tmp_path, version=2)
    shares = [each.cpu_share for each in opened(tmp_path, cpus=2).actuator.available()]
    assert (shares[0], shares[-1], len(shares)) == (0.2, 2.0, 37)


def test_a_group_that_is_not_there_is_refused_with_how_to_make_one(tmp_path):
    with pytest.raises(Refused, match="mkdir"):
        opened(tmp_path, "nowhere")


def test_a_group_that_is_gone_needs_nothing_put_back(tmp_path):
    quota.put_back([(str(tmp_path / "gone" / "cpu.max"), "max 100000")])


def test_a_quota_is_put_back_after_kill_9(tmp_path):
    folder = fake_sys.cgroup(tmp_path, version=1)
    code = f"""
import time
from pathlib import Path
from amble.core.point import Clocks
from amble.devices import host, lease, quota
clock = host.MonotonicClock()
device = quota.open("server", None, clock, host.Unmetered(clock), root=Path({str(tmp_path)!r}))
device = lease.guarded(device, Path({str(tmp_path / "state")!r}))
device.actuator.apply(Clocks(cpu_share=0.3))
print("held", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "held"
    assert (folder / "cpu.cfs_quota_us").read_text().strip() == "1500"
    with pytest.raises(Refused, match="held by process"):
        lease.guarded(opened(tmp_path), tmp_path / "state").actuator.apply(Clocks(cpu_share=0.4))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    end_s = time.monotonic() + 10.0
    while found(folder) != ("-1", "100000") and time.monotonic() < end_s:
        time.sleep(0.02)
    process.stdout.close()
    assert found(folder) == ("-1", "100000")


def found(folder):
    return tuple((folder / f"cpu.cfs_{each}_us").read_text().strip() for each in ("quota", "period"))


@pytest.mark.skipif(not os.access(REAL, os.W_OK), reason="no control group may be made here")
def test_a_real_group_runs_that_share_of_the_time():
    folder = REAL / f"amble-test-{os.getpid()}"
    folder.mkdir()
    spin = "import time\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", spin])
    try:
        (folder / "cgroup.procs").write_text(str(process.pid))
        actuator = opened(Path("/"), folder.name).actuator
        actuator.apply(Clocks(cpu_share=0.25))
        time.sleep(0.2)
        before = _cpu_s(process.pid), time.monotonic()
        time.sleep(1.5)
        used = (_cpu_s(process.pid) - before[0]) / (time.monotonic() - before[1])
        assert used < 0.33
        actuator.apply(Clocks())
        assert (folder / "cpu.cfs_quota_us").read_text().strip() == "-1"
    finally:
        process.kill()
        process.wait()
        time.sleep(0.1)
        folder.rmdir()


def _cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
