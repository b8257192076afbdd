"""Faults injected into the guard and its clients: how often clocks are as found within a second, and what asking costs.

Ten thousand on virtual time in this process; two hundred with real processes on an emulated card, whose state is looked
at beside the library. No wrong energy may pass for a right one meanwhile. And what metering adds to the work it meters.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bench.kit import document

PLACE = Path(tempfile.mkdtemp(prefix="amble-guard-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
CARD = PLACE / "card"
atexit.register(shutil.rmtree, PLACE, ignore_errors=True)
os.environ |= {"AMBLE_EMULATED_CARD": str(CARD), "XDG_STATE_HOME": str(PLACE / "home")}

import amble  # noqa: E402
from amble.core.errors import Refused  # noqa: E402
from amble.core.graph import Graph  # noqa: E402
from amble.core.point import OperatingPoint  # noqa: E402
from amble.devices import emulated, lease  # noqa: E402
from amble.devices.emulated import Card  # noqa: E402
from amble.devices.guarded import GuardedActuator  # noqa: E402
from amble.devices.guarded.protocol import Ask, encode  # noqa: E402
from amble.devices.nvml import Board, NvmlMeter  # noqa: E402
from amble.stages.measure import metering  # noqa: E402
from bench.guard import metering as meters  # noqa: E402
from bench.guard.trials import Machine, trial  # noqa: E402

_MAIN = "from amble.cli import main; main()"
_REAL = (
    "kill",
    "kill",
    "stop",
    "refused",
    "half",
    "lost",
    "two",
    "guard killed",
    "reboot",
    "full disk",
    "stalled meter",
)
_LIES: dict[str, dict[str, object]] = {
    "refused": {"refused": b"nvmlDeviceSetGpuLockedClocks=4"},
    "half": {"half": 1},
    "lost": {"lost": 1},
    "stalled meter": {"stalled": 1},
}
_PATIENCE_S = 20.0
_START_S = 120.0  # for a process to start, on a busy machine
_ROUNDS = 12_000
_BLOCK = 400


def virtual(count: int) -> list[dict[str, object]]:
    """Inject faults on virtual time; each must leave the clocks as found a second later."""
    machine, rng = Machine(PLACE / "virtual"), random.Random(5)  # noqa: S311
    kinds, as_found = Counter[str](), Counter[str]()
    for _ in range(count):
        kind = trial(machine, rng)
        kinds[kind] += 1
        as_found[kind] += machine.as_found() and not lease.leases(machine.folder / "state")
    return [{"what": "virtual", "fault": kind, "tried": kinds[kind], "as_found": as_found[kind]} for kind in kinds]


class Guarded:
    """A guard that runs as a process over an emulated card."""

    def __init__(self) -> None:
        self.socket = PLACE / "sock"
        self.state = PLACE / "state"
        (PLACE / "guard.yaml").write_text(json.dumps({"allow": [{"device": "nvml:0", "users": [os.getuid()]}]}))
        emulated.make(Card("v100", 1, 1.0), CARD)
        self.process = self.start()

    def start(self, state: Path | None = None) -> subprocess.Popen[bytes]:
        words = ["guard", "--socket", str(self.socket), "--allow", str(PLACE / "guard.yaml")]
        command = [sys.executable, "-c", _MAIN, *words, "--state", str(state or self.state)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _until(lambda: _answers(self.socket), _START_S)
        return process

    def restart(self, state: Path | None = None) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)
        self.process = self.start(state)

    def client(self, rng: random.Random, lease_s: float) -> int:
        """Start a process that sets clocks again and again → its number, once the first are set."""
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                actuator = GuardedActuator("nvml:0", self.socket, lease_s=lease_s)
                settings = actuator.available()
                actuator.apply(settings[rng.randrange(len(settings))])
                os.write(told, b"x")
                while True:
                    actuator.apply(settings[rng.randrange(len(settings))])
                    time.sleep(rng.uniform(0.0, 0.02))
            os._exit(1)
        os.close(told)
        os.read(ready, 1)
        os.close(ready)
        return child


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        return True
    return False


def _until(what: Callable[[], bool], most_s: float = _PATIENCE_S) -> float:
    """Wait until something holds → how long it took [s]; infinite when it never does."""
    began_s = time.monotonic()
    while not what():
        if time.monotonic() - began_s > most_s:
            return float("inf")
        time.sleep(0.002)
    return time.monotonic() - began_s


def lies(**values: object) -> None:
    with emulated.opened(CARD) as state:
        for name, value in values.items():
            setattr(state, name, value)


def unlocked() -> bool:
    with emulated.opened(CARD) as state:
        return not (state.core_lock or state.memory_lock)


def real(count: int) -> Iterator[dict[str, object]]:
    """Inject faults into real processes → one record each, with the time until clocks were as found."""
    rng, guard = random.Random(7), Guarded()  # noqa: S311
    try:
        for number in range(count):
            fault = _REAL[number % len(_REAL)]
            back_s = _inject(guard, fault, rng)
            yield {"what": "real", "fault": fault, "back_s": back_s, "as_found": back_s <= 1.0}
            lies(lost=0, stalled=0, half=0, refused=b"")
            _until(unlocked)
    finally:
        guard.process.terminate()
        guard.process.wait()


def _inject(guard: Guarded, fault: str, rng: random.Random) -> float:
    """Let one thing go wrong while a client holds clocks → how long they stayed so beyond what is allowed [s]."""
    if fault == "full disk":
        return _on_a_full_disk(guard)
    lease_s = 0.5 if fault == "stop" else 3.0
    child = guard.client(rng, lease_s)
    time.sleep(rng.uniform(0.0, 0.1))
    if fault == "reboot":
        return _reboot(guard, child)
    if fault in _LIES:
        lies(**_LIES[fault])
    elif fault == "two":
        _another(guard)
    elif fault == "guard killed":
        guard.process.kill()
    if fault not in ("refused", "guard killed"):
        os.kill(child, signal.SIGSTOP if fault == "stop" else signal.SIGKILL)
    if fault == "lost":
        time.sleep(0.3)
        lies(lost=0)
    back_s = _until(unlocked) - (lease_s if fault == "stop" else 0.0)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if fault == "guard killed":
        guard.restart()
    return max(0.0, back_s)


def _another(guard: Guarded) -> None:
    """A second client asks for what the first one holds, and leaves."""
    other = GuardedActuator("nvml:0", guard.socket)
    with contextlib.suppress(Refused):
        other.apply(other.available()[0])
    other.close()


def _on_a_full_disk(guard: Guarded) -> float:
    """A guard whose folder cannot be written changes nothing."""
    guard.restart(Path("/dev/full/state"))
    actuator = GuardedActuator("nvml:0", guard.socket)
    refused = False
    try:
        actuator.apply(actuator.available()[0])
    except Refused:
        refused = True
    clean = unlocked()
    actuator.close()
    guard.restart()
    return 0.0 if refused and clean else float("inf")


def _reboot(guard: Guarded, child: int) -> float:
    """A boot clears the card and the run folder and is another boot: the old note must be dropped, nothing written."""
    path = next(iter(guard.state.glob("lease-*.json")), None)
    note = path.read_text() if path else ""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    guard.process.kill()
    guard.process.wait()
    _until(lambda: unlocked() and not lease.leases(guard.state))
    guard.socket.unlink(missing_ok=True)
    if path is not None:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        path.write_text(note.replace(boot, "00000000-another-boot"))
    with emulated.opened(CARD) as state:
        before = state.num_sets
    guard.process = guard.start()
    with emulated.opened(CARD) as state:
        written = state.num_sets != before
    return float("inf") if written or not unlocked() or (path is not None and path.exists()) else 0.0


def energies(count: int) -> list[dict[str, object]]:
    """Let the meter lie at random moments of a window → whether a number came out, and how far off it was."""
    rng, found = random.Random(3), []  # noqa: S311
    graph = amble.load("fashion-resnet")
    for number in range(count):
        emulated.make(Card("v100", number % 5, 0.0, rng.choice([0.001, 0.010, 0.100])), CARD)
        lie = rng.choice(["stalled", "jump", "back", "lost", "silent", "none"])
        found.append({"what": "energy", "lie": lie, **_energy(graph, lie, rng)})
    return found


def _energy(graph: Graph, lie: str, rng: random.Random) -> dict[str, object]:
    device = amble.open("nvml:0")
    meter = NvmlMeter(Board(0), device.clock)
    device = replace(device, meter=meter)
    point = OperatingPoint(device.actuator.available()[-1], graph.precision)
    at, runs = rng.randrange(1, 300), [0]
    told: dict[str, dict[str, object]] = {
        "stalled": {"stalled": 1},
        "jump": {"jump_mj": rng.choice([2e5, 1e6, 1e7])},
        "back": {"jump_mj": -1e6},
        "lost": {"lost": 1},
        "silent": {"refused": b"nvmlDeviceGetTotalEnergyConsumption=999"},
    }

    def work() -> None:
        runs[0] += 1
        if runs[0] == at:
            lies(**told.get(lie, {}))
        device.runner.run(graph, point, {})

    meter.period_s()
    with emulated.opened(CARD) as state:
        before_j = float(state.energy_j)
    window = metering.measured(device, work, 3e-4)
    with emulated.opened(CARD) as state:
        true_j = (float(state.energy_j) - before_j) / max(1, runs[0])
    error = None if window.energy_j is None else window.energy_j / true_j - 1.0
    lies(lost=0, refused=b"")
    return {"known": window.energy_j is not None, "error": error, "why": window.why}


def costs() -> dict[str, object]:
    """Compare a round trip to the guard with one to a bare echo, in turn, in one run.

    The 99th percentile of each is the median over blocks: other work on the machine stops either for milliseconds.
    """
    guard = Guarded()
    echo_path = PLACE / "echo"
    echo = subprocess.Popen([sys.executable, "-c", _ECHO, str(echo_path)])
    try:
        _until(lambda: _answers(echo_path))
        with socket.socket(socket.AF_UNIX) as plain, socket.socket(socket.AF_UNIX) as asked:
            plain.connect(str(echo_path))
            asked.connect(str(guard.socket))
            line = encode(Ask("status"))
            times_s: dict[str, list[float]] = {"echo": [], "guard": []}
            for _ in range(_ROUNDS):
                for name, each in (("echo", plain), ("guard", asked)):
                    began_s = time.perf_counter()
                    each.sendall(line)
                    each.recv(4096)
                    times_s[name].append(time.perf_counter() - began_s)
    finally:
        for process in (echo, guard.process):
            process.kill()
            process.wait()
    blocks = {
        name: [each[start : start + _BLOCK] for start in range(0, len(each), _BLOCK)] for name, each in times_s.items()
    }
    found: dict[str, object] = {"what": "round trip"}
    for name, parts in blocks.items():
        found[f"{name}_p50_s"] = document.percentile(times_s[name], 50)
        found[f"{name}_p99_s"] = document.percentile([document.percentile(block, 99) for block in parts], 50)
    return found | {"ratio_p99": float(str(found["guard_p99_s"])) / float(str(found["echo_p99_s"]))}


_ECHO = """
import socket, sys
listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); listener.listen()
while True:
    peer, _ = listener.accept()
    while (heard := peer.recv(4096)):
        peer.sendall(heard)
"""


def main() -> None:
    """Inject all faults."""
    options = document.options("guard", __doc__)
    logging.getLogger("amble").setLevel(logging.CRITICAL)
    tried = virtual(300 if options.quick else 10_000)
    happened = list(real(11 if options.quick else 200))
    energy = energies(20 if options.quick else 200)
    cost = costs()
    metered = meters.costs(PLACE, CARD, 40 if options.quick else 400)
    num_virtual, num_back = (sum(int(str(each[key])) for each in tried) for key in ("tried", "as_found"))
    back = [bool(each["as_found"]) for each in happened]
    wrong = [each for each in energy if each["error"] is not None and abs(float(str(each["error"]))) > 0.05]
    targets = [
        document.target("clocks as found, faults on virtual time", want=">= 1", value=num_back / num_virtual, unit="1"),
        document.target("clocks as found within 1 s, real faults", want=">= 1", value=sum(back) / len(back), unit="1"),
        document.target("wrong energies reported as right", want="<= 0", value=len(wrong), unit="1"),
        document.target("guard over echo, p99", want="<= 5", value=float(str(cost["ratio_p99"])), unit="1"),
        *(
            document.target(f"metering's share of the work: {each['meter']}", want="< 0.01", value=more, unit="1")
            for each, more in ((each, float(str(each["more"]))) for each in metered)
        ),
    ]
    document.finish(options, [*tried, *happened, *energy, cost, *metered], targets)
