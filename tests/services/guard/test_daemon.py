"""The guard as a process, and its clients as others, over clock files."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices.guarded import Connection, GuardedActuator
from amble.devices.guarded.protocol import Ask
from amble.services.guard.rules import read_rules
from tests.devices import fake_sys

MAIN = "from amble.cli import main; main()"
NOBODY = 65534
FOUND = ("114750000", "1300500000")
LOW = Clocks(core_hz=114_750_000.0)

CLIENT = """
import os, sys, time
from pathlib import Path
from amble.core.point import Clocks
from amble.devices.guarded import GuardedActuator
if os.geteuid() == 0:
    os.setuid(65534)
GuardedActuator(sys.argv[1], Path(sys.argv[2]), lease_s=float(sys.argv[3])).apply(Clocks(core_hz=114750000.0))
print("held", flush=True)
time.sleep(60)
"""


class Running:
    """A guard that runs over a tree of clock files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gpu = fake_sys.devfreq(folder / "tree", "17000000.gpu")
        self.device = f"sysfs:gpu?root={folder / 'tree'}"
        self.socket = folder / "guard.sock"
        allow = {"allow": [{"device": self.device, "users": sorted({0, NOBODY, os.geteuid()})}]}
        (folder / "guard.yaml").write_text(json.dumps(allow))
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        words = ["guard", "--socket", str(self.socket), "--allow", str(self.folder / "guard.yaml")]
        command = [sys.executable, "-c", MAIN, *words, "--state", str(self.folder / "state")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = iter(process.stderr.readline, "")
        assert any("lending clocks" in line for line in said)
        return process

    def client(self, lease_s: float = 3.0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CLIENT, self.device, str(self.socket), str(lease_s)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "held\n"
        assert self.bounds() == ("114750000", "114750000")
        return process

    def bounds(self) -> tuple[str, str]:
        return fake_sys.bounds(self.gpu)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        until_s = time.monotonic() + 10.0
        while any((self.folder / "state").glob("lease-*")) and time.monotonic() < until_s:
            time.sleep(0.01)  # the watchdog is still at work there


@pytest.fixture
def guard(open_folder):
    guard = Running(open_folder)
    yield guard
    guard.end()


def as_found_within_s(guard, most_s):
    until_s = time.monotonic() + most_s
    while guard.bounds() != FOUND:
        assert time.monotonic() < until_s, guard.bounds()
        time.sleep(0.01)


def killed(process, number=signal.SIGKILL):
    process.send_signal(number)
    process.wait()
    process.stdout.close()


def test_a_user_without_rights_holds_clocks_and_loses_them_when_killed(guard):
    killed(guard.client())
    as_found_within_s(guard, 5.0)


def test_a_client_that_is_stopped_loses_its_clocks_within_its_lease(guard):
    client = guard.client(lease_s=0.6)
    time.sleep(1.0)
    assert guard.bounds() == ("114750000", "114750000")
    client.send_signal(signal.SIGSTOP)
    as_found_within_s(guard, 5.0)
    killed(client)


def test_clocks_are_put_back_when_the_guard_itself_is_killed(guard):
    client = guard.client()
    guard.process.kill()
    guard.process.wait()
    as_found_within_s(guard, 10.0)
    killed(client)


def test_the_guard_puts_back_and_tidies_up_when_told_to_stop(guard):
    client = guard.client()
    guard.process.terminate()
    assert guard.process.wait(10) == 0
    assert guard.bounds() == FOUND
    assert not guard.socket.exists()
    killed(client)


def test_a_guard_that_starts_puts_back_what_an_earlier_one_left(guard):
    guard.end()
    lease = guard.folder / "state"
    lease.mkdir(exist_ok=True)
    for name in ("min_freq", "max_freq"):
        (guard.gpu / name).write_text("114750000\n")
    values = [[str(guard.gpu / "max_freq"), FOUND[1]], [str(guard.gpu / "min_freq"), FOUND[0]]]
    found = {"backend": "sysfs", "values": values}
    owner = {"pid": 2**22 + 1, "start": "1", "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}
    content = {"device": "d", "owner": owner, "since": "then", "found": found}
    (lease / "lease-d.json").write_text(json.dumps({"kind": "lease", "format": 1, "provenance": {}, "lease": content}))
    guard.process = guard.start()
    assert guard.bounds() == FOUND


def test_the_actuator_behaves_like_any_other(guard):
    actuator = GuardedActuator(guard.device, guard.socket)
    assert actuator.available()[0] == LOW
    assert actuator.current() == Clocks()
    actuator.apply(LOW)
    assert actuator.current() == LOW
    with pytest.raises(Refused, match="is not one of this device's 3 settings"):
        actuator.apply(Clocks(core_hz=1.0))
    actuator.apply(LOW)
    actuator.apply(Clocks())
    assert guard.bounds() == FOUND
    actuator.close()


def test_noise_and_floods_close_a_connection_and_hurt_nobody_else(guard):
    client = guard.client()
    for noise in (b"\x00" * 100_000, b"{" * 5000 + b"\n", b"\n" * 4000, b'{"do": "hold"}\n' * 300):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(guard.socket))
            rude.settimeout(5)
            with contextlib.suppress(OSError):
                rude.sendall(noise)
                rude.recv(100)
    connection = Connection(guard.socket)
    assert connection.ask(Ask("status")).held[0].device == guard.device
    connection.close()
    killed(client)


def test_a_second_guard_at_the_same_place_is_refused(guard):
    command = [sys.executable, "-c", MAIN, "guard", "--socket", str(guard.socket)]
    done = subprocess.run([*command, "--allow", str(guard.folder / "guard.yaml")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "another guard listens" in done.stderr


def test_no_guard_and_no_list_are_refused_in_words(tmp_path):
    with pytest.raises(Refused, match="is it running"):
        Connection(tmp_path / "none.sock")
    command = [sys.executable, "-c", MAIN, "guard", "--allow", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "amble guard --example" in done.stderr


def test_the_example_is_an_allow_list(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "guard", "--example"], capture_output=True, text=True, check=True
    )
    (tmp_path / "guard.yaml").write_text(done.stdout)
    assert read_rules(tmp_path / "guard.yaml").devices == {"nvml:0"}


def test_everybody_may_ask_whatever_the_umask_of_who_started_it(tmp_path):
    (tmp_path / "guard.yaml").write_text("allow: []\n")
    path, before = tmp_path / "run/amble/guard.sock", os.umask(0o077)
    words = [
        "guard",
        "--socket",
        str(path),
        "--allow",
        str(tmp_path / "guard.yaml"),
        "--state",
        str(tmp_path / "state"),
    ]
    try:
        process = subprocess.Popen([sys.executable, "-c", MAIN, *words], stderr=subprocess.PIPE, text=True)
    finally:
        os.umask(before)
    try:
        assert any("lending clocks" in line for line in iter(process.stderr.readline, ""))
        modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, path.parent.parent)]
    finally:
        process.terminate()
        process.communicate()
    assert modes == [0o666, 0o755, 0o755]
    assert not path.exists()


def test_the_guard_loads_no_runtime():
    """It runs as root: it must not parse networks, nor carry what does."""
    code = "import amble.services.guard.running, sys; sys.exit('onnxruntime' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
