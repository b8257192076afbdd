"""Whoever governs and falls silent, stopped or killed with its watchdog, leaves a quota as it was found."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from amble.devices import lease
from amble.services.govern.pulse import Beating, limit_s

OWNER = """
import sys
from pathlib import Path
from amble.core.point import Clocks
from amble.devices import lease
from amble.devices.host import MonotonicClock
from amble.devices.quota import QuotaActuator
from amble.services.govern.pulse import Beating, Pulse

folder, state = Path(sys.argv[1]), Path(sys.argv[2])
pulse = Pulse(state, 2.0)
clock = Beating(MonotonicClock(), pulse)
actuator = lease.leased(QuotaActuator(folder, 2), "quota:test", state)
actuator.apply(Clocks(cpu_share=0.5))
print("held", flush=True)
while sys.stdin.readline() != "done\\n":
    actuator.apply(Clocks(cpu_share=0.5))
    for _ in range(20):
        clock.sleep(0.01)
    print("beaten", flush=True)
actuator.close()
pulse.stop()
print("given back", flush=True)
"""


@contextmanager
def an_owner(tmp_path: Path):
    """A process that holds half a CPU of a group and beats for 0.2 s whenever it is asked to."""
    (tmp_path / "cpu.max").write_text("max 100000")
    words = [sys.executable, "-c", OWNER, str(tmp_path), str(tmp_path / "state")]
    running = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert heard(running) == "held"
        yield running
    finally:
        running.kill()
        running.communicate()


def heard(running) -> str:
    return running.stdout.readline().strip()


def asked(running, what: str = "beat") -> str:
    running.stdin.write(f"{what}\n")
    running.stdin.flush()
    return heard(running)


def becomes(path: Path, text: str, limit_s: float = 20.0) -> bool:
    until_s = time.monotonic() + limit_s
    while path.read_text().strip() != text:
        if time.monotonic() > until_s:
            return False
        time.sleep(0.01)
    return True


def test_a_stopped_owner_loses_its_quota_and_can_go_on(tmp_path):
    with an_owner(tmp_path) as running:
        assert asked(running) == "beaten"
        assert (tmp_path / "cpu.max").read_text().strip() == "2500 5000"
        os.kill(running.pid, signal.SIGSTOP)
        assert becomes(tmp_path / "cpu.max", "max 100000")
        assert lease.leases(tmp_path / "state"), "it lives, and nobody else may take its clocks"
        os.kill(running.pid, signal.SIGCONT)
        assert asked(running) == "beaten"
        assert (tmp_path / "cpu.max").read_text().strip() == "2500 5000"


def test_a_damaged_lease_of_another_device_does_not_keep_a_quota(tmp_path):
    with an_owner(tmp_path) as running:
        assert asked(running) == "beaten"
        (tmp_path / "state" / "lease-another.json").write_text("{")
        os.kill(running.pid, signal.SIGSTOP)
        assert becomes(tmp_path / "cpu.max", "max 100000")


def test_an_owner_that_is_killed_with_its_watchdog_leaves_things_as_found(tmp_path):
    with an_owner(tmp_path) as running:
        asked(running)
        for pid in watchdogs(tmp_path):
            os.kill(pid, signal.SIGKILL)
        running.kill()
        assert becomes(tmp_path / "cpu.max", "max 100000")


def watchdogs(tmp_path: Path) -> list[int]:
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                words = (each / "cmdline").read_bytes()
            except OSError:
                continue
            if b"amble.devices.lease" in words and str(tmp_path).encode() in words:
                found.append(int(each.name))
    assert found, "a watchdog of this lease"
    return found


def test_who_gave_back_is_not_listened_to_any_more(tmp_path):
    with an_owner(tmp_path) as running:
        asked(running)
        assert asked(running, "done") == "given back"
        assert running.wait(20) == 0
        assert (tmp_path / "cpu.max").read_text().strip() == "max 100000"
        assert not lease.leases(tmp_path / "state")


def test_a_silence_shorter_than_two_periods_or_a_second_is_none():
    assert limit_s(0.05) == 0.8
    assert 1.5 <= limit_s(1.0) < 2.0


class Silence:
    """A pulse that only counts."""

    within_s = 0.25

    def __init__(self):
        self.beats = 0

    def beat(self):
        self.beats += 1


class Still:
    """A clock whose time passes in its sleep alone."""

    def __init__(self):
        self.time_s = 0.0

    def now_s(self):
        return self.time_s

    def sleep(self, seconds):
        self.time_s += seconds


def test_a_beat_that_came_too_late_is_remembered_until_it_was_asked_for():
    still = Still()
    clock = Beating(still, Silence(), still.now_s)
    clock.sleep(0.1)
    assert not clock.lapsed()
    clock.sleep(0.4)
    clock.now_s()
    assert clock.lapsed()
    assert not clock.lapsed()
