"""The probe on old Pythons, over a pipe instead of ssh, on a made-up board; and what happens when it is cut off."""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import amble
from amble.core.errors import Refused
from amble.core.point import Clocks, OperatingPoint
from amble.devices import board
from amble.devices.board import Link, probe
from amble.devices.board.link import _START
from amble.runtimes import onnx
from tests.devices import fake_sys
from tests.runtimes import models

PYTHONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.12", "3.13")


def python(version: str) -> str:
    """A Python of this version; the test is skipped where there is none."""
    places = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), shutil.which(f"python{version}")]
    for place in filter(None, places):
        if subprocess.run([str(place), "--version"], capture_output=True).returncode == 0:
            return str(place)
    pytest.skip(f"there is no Python {version} here")


def rail(root: Path, milliwatts: int) -> Path:
    folder = root / "sys/class/hwmon/hwmon3"
    fake_sys.write(folder / "in1_label", "VDD_IN")
    fake_sys.write(folder / "in1_input", 5000)
    return fake_sys.write(folder / "curr1_input", milliwatts // 5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "board"
    fake_sys.cpufreq(place)
    fake_sys.devfreq(place, "17000000.gpu")
    fake_sys.emc(place)
    rail(place, 5000)
    fake_sys.write(place / "proc/device-tree/model", "NVIDIA Jetson Orin Nano\0")
    return place


def link(root: Path, executable: str = sys.executable, lease_s: float = 120.0) -> Link:
    return Link("me@board", [executable, "-u", "-c", _START, str(root), str(lease_s)])


def gpu(root: Path) -> tuple[Path, Path]:
    folder = root / "sys/class/devfreq/17000000.gpu"
    return folder / "min_freq", folder / "max_freq"


def texts(root: Path) -> list[str]:
    files = [*gpu(root), *(root / "sys/kernel/debug/bpmp/debug/clk/emc").glob("*")]
    files += sorted((root / "sys/devices/system/cpu/cpufreq").glob("*/scaling_m??_freq"))
    return [each.read_text().strip() for each in files]


@pytest.mark.parametrize("version", PYTHONS)
def test_the_probe_sets_meters_and_puts_back_on_every_python(version: str, root: Path) -> None:
    before = texts(root)
    probe = link(root, python(version))
    try:
        assert probe.hello["python"].startswith(f"{version}.")
        assert probe.hello["board"] == "NVIDIA Jetson Orin Nano"
        device = board.open(probe, "gpu", _NoRunner(), name="ssh:me@board/sysfs:gpu")
        slowest, fastest = device.actuator.available()[0], device.actuator.available()[-1]
        assert fastest == Clocks(core_hz=1_300_500_000.0, memory_hz=2_133_000_000.0)
        first = device.meter.read()
        with device.held(slowest) as got:
            assert got.memory_hz == 204e6
            assert [each.read_text() for each in gpu(root)] == ["114750000", "114750000"]
            time.sleep(0.2)
        passed = device.meter.read() - first
        assert passed.energy_j == pytest.approx(5.0 * passed.latency_s, rel=0.05)
        assert texts(root) == before
    finally:
        probe.close()


def test_the_probe_is_one_file_in_the_language_of_python_3_6() -> None:
    source = Path(probe.__file__).read_text(encoding="ascii")
    imported = {
        name
        for node in ast.walk(ast.parse(source, feature_version=(3, 6)))
        for name in (
            [each.name for each in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
        )
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) == {"onnxruntime", "numpy"}


class _NoRunner:
    def run(self, graph, point, inputs):
        raise NotImplementedError

    def profile(self, graph, point, repeats):
        raise NotImplementedError


def test_a_broken_connection_puts_every_clock_back(root: Path) -> None:
    before = texts(root)
    probe = link(root)
    probe.ask("set", clocks={"core": 114_750_000.0, "memory": 204e6, "cpu": 8e8})
    assert texts(root) != before
    probe.close()
    assert texts(root) == before


def test_a_silent_connection_puts_every_clock_back_after_its_lease(root: Path) -> None:
    before = texts(root)
    probe = link(root, lease_s=0.5)
    probe.ask("set", clocks={"core": 114_750_000.0})
    assert texts(root) != before
    until_s = time.monotonic() + 10.0
    while texts(root) != before and time.monotonic() < until_s:
        time.sleep(0.05)
    assert texts(root) == before
    assert probe.ask("restore")["restored"] == 0
    probe.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_ended_probe_puts_every_clock_back(root: Path, number: int) -> None:
    before = texts(root)
    probe = link(root)
    probe.ask("set", clocks={"core": 114_750_000.0})
    probe._process.send_signal(number)
    probe._process.wait(timeout=10)
    assert texts(root) == before
    with pytest.raises(Refused, match="cannot reach me@board"):
        probe.ask("clocks")
    probe.close()


def test_after_a_killed_probe_the_next_one_puts_every_clock_back(root: Path) -> None:
    before = texts(root)
    first = link(root)
    first.ask("set", clocks={"core": 114_750_000.0, "cpu": 8e8})
    first._process.kill()
    first._process.wait(timeout=10)
    first.close()
    assert texts(root) != before

    second = link(root)
    assert second.hello["mended"] > 0
    assert texts(root) == before
    second.close()


def test_two_probes_do_not_change_the_same_clocks(root: Path) -> None:
    first = link(root)
    first.ask("set", clocks={"core": 114_750_000.0})
    with pytest.raises(Refused, match=r"another probe .* holds the clocks"):
        link(root)
    first.close()


def test_a_sensor_that_vanishes_makes_the_energy_unknown(root: Path) -> None:
    probe = link(root)
    meter = board.BoardMeter(probe)
    assert meter.read().energy_j is not None
    (root / "sys/class/hwmon/hwmon3/in1_input").unlink()
    time.sleep(0.1)
    assert meter.read().energy_j is None
    probe.close()
    assert meter.read().energy_j is None


def test_a_clock_that_is_refused_leaves_all_as_found(root: Path) -> None:
    before = texts(root)
    probe = link(root)
    actuator = board.BoardActuator(probe, ("core", "memory"))
    rate = root / "sys/kernel/debug/bpmp/debug/clk/emc/rate"
    rate.unlink()
    rate.mkdir()
    with pytest.raises(Refused, match="cannot"):
        actuator.apply(actuator.available()[0])
    rate.rmdir()
    fake_sys.write(rate, 2_133_000_000)
    probe.close()
    assert texts(root) == before


def test_a_network_runs_and_is_timed_there_whole_and_in_parts(root: Path, tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.cnn())
    graph = onnx.load(path, execution=onnx.far_form("fp32"))
    inputs = onnx.example_inputs(graph, seed=1)
    expected = onnx.compute(onnx.load(path), OperatingPoint(), inputs)
    probe = link(root)
    execution = onnx.far_execution(None, probe.hello["providers"], gpu=False, threads=1, precision="fp32")
    runner = onnx.RemoteRunner(probe, execution)
    try:
        found = runner.run(graph, OperatingPoint(), inputs)
        timings = runner.profile(graph, OperatingPoint(), 10)
    finally:
        probe.close()
    for name, value in found.items():
        assert abs(value - expected[name]).max() < 1e-4
    assert sum(each.latency_s for each in timings.operators) == pytest.approx(timings.whole.latency_s)
    assert timings.whole.energy_j is not None
    assert "on the board" in timings.notes[0]


def test_trtexec_times_layers_that_are_shared_out_to_operators(root: Path, tmp_path: Path, monkeypatch) -> None:
    path = models.saved(tmp_path, models.cnn())
    graph = onnx.load(path, execution=onnx.far_form("fp16"))
    names = [each.name for each in graph.operators]
    programs = tmp_path / "bin"
    script = f"""#!{sys.executable}
import json, sys
given = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
assert "--fp16" in sys.argv and open(given["--onnx"], "rb").read()
layers = [{{"count": 7}}, {{"name": {names[0]!r} + " + " + {names[1]!r}, "averageMs": 0.5}}]
layers += [{{"name": each, "averageMs": 0.1}} for each in {names[2:]!r}]
json.dump(layers, open(given["--exportProfile"], "w"))
json.dump([{{"latencyMs": 0.6 + 0.1 * {len(names) - 2}}}] * 7, open(given["--exportTimes"], "w"))
"""
    fake_sys.write(programs / "trtexec", script).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    probe = link(root)
    execution = onnx.far_execution("trtexec", [], gpu=True, threads=1, precision="fp16")
    try:
        timings = onnx.RemoteRunner(probe, execution).profile(graph, OperatingPoint(precision="fp16"), 7)
    finally:
        probe.close()
    assert timings.whole.latency_s == pytest.approx(0.6e-3 + 0.1e-3 * (len(names) - 2))
    first = timings.operators[0].latency_s + timings.operators[1].latency_s
    assert first == pytest.approx(timings.whole.latency_s * 0.5 / (0.5 + 0.1 * (len(names) - 2)))
    assert "by trtexec" in timings.notes[0]


def test_a_board_is_measured_over_ssh_by_its_address(root: Path, tmp_path: Path, monkeypatch) -> None:
    """`ssh` here is a program that runs the command on this machine, as the other machine's shell would."""
    programs = tmp_path / "bin"
    fake_sys.write(programs / "ssh", f'#!/bin/sh\nfor last; do :; done\nexec sh -c "$last {root}"').chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    path, before = models.saved(tmp_path, models.mlp()), texts(root)
    uri = f"ssh:me@board/host?python={sys.executable}"
    device = amble.open(uri)
    profile = amble.measure(amble.load(path, device=uri), device, points=2, repeats=5)

    assert {total.ran_at.cpu_hz for total in profile.totals} == {8e8, 2e9}
    assert all(total.energy_j is not None for total in profile.totals)
    assert profile.where.calibration == "real: NVIDIA Jetson Orin Nano"
    assert texts(root) == before


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("ssh:-oProxyCommand=ls@x/host", "is not like user@board"),
        ("ssh:me@board/host?threads=none", "takes provider, precision"),
        ("ssh:me@board/host?colour=red", "it knows provider, precision, threads, python"),
    ],
)
def test_addresses_that_are_none_are_refused(uri: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        amble.open(uri)


def test_an_unreachable_board_is_refused_with_what_ssh_says(tmp_path: Path, monkeypatch) -> None:
    programs = tmp_path / "bin"
    fake_sys.write(programs / "ssh", "#!/bin/sh\necho 'connect to host board port 22: No route to host' >&2\nexit 255")
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(Refused, match=r"cannot reach me@board: .*No route to host"):
        amble.open("ssh:me@board/host")


@pytest.fixture
def ssh_port(tmp_path: Path):
    """A real sshd for the test's user alone, on the loopback; skipped where there is none."""
    sshd = os.environ.get("AMBLE_SSHD") or shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("ssh-keygen") is None:
        pytest.skip("there is no sshd here: apt install openssh-server")
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name in ("host", "mine"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
    (keys / "authorized").write_text((keys / "mine.pub").read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": keys / "host",
        "AuthorizedKeysFile": keys / "authorized",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": keys / "pid",
    }
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    running = subprocess.Popen([sshd, "-D", "-e", "-f", "/dev/null", *given], stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        if not any("listening" in line for line in iter(running.stderr.readline, "")):
            pytest.skip("sshd does not start here")
        yield port, keys
    finally:
        running.terminate()
        running.communicate(timeout=10)


def test_a_board_over_a_real_ssh_connection_is_put_back_when_the_connection_is_killed(
    root: Path, ssh_port: tuple[int, Path]
) -> None:
    port, keys = ssh_port
    old = next(iter([*Path.home().glob(".pyenv/versions/3.6.*/bin/python")]), Path(sys.executable))
    before = texts(root)
    remote = f"{shlex.quote(str(old))} -u -c {shlex.quote(_START)} {root}"
    options = ["-i", str(keys / "mine"), "-o", f"UserKnownHostsFile={keys / 'known'}", "-o", "StrictHostKeyChecking=no"]
    command = ["ssh", "-T", "-F", "none", "-p", str(port), "-o", "BatchMode=yes", *options, "127.0.0.1", remote]
    probe = Link("me@board", command)
    assert probe.hello["knobs"]
    probe.ask("set", clocks={"core": 114_750_000.0, "cpu": 8e8})
    assert texts(root) != before
    probe._process.kill()
    probe._process.wait(timeout=10)
    until_s = time.monotonic() + 10.0
    while texts(root) != before and time.monotonic() < until_s:
        time.sleep(0.05)
    assert texts(root) == before
    probe.close()
