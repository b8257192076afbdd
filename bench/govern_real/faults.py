"""Real faults: `amble govern` on a real quota, and what is in force after the fault, within two periods or one second.

Processes are killed, stopped and started again at moments drawn by lot; the metrics page is a process too, in the
control group that is governed, and can be killed, restarted, or say nonsense. A record says of each fault what it
was, when it came, after how long [s] the quota was as found, and whether any saving was claimed from such a run.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amble
from amble.core.errors import Refused
from bench.govern_real.servers import AMBLE, GROUPS, group
from bench.kit.places import BENCH
from bench.kit.processes import free_port

__all__ = ["KINDS", "tried"]

PERIOD_S = 0.25
ALLOWED_S = max(2.0 * PERIOD_S, 1.0)
START_S = 60.0
SAVED_S = 60.0  # after this the log is saved
WORKERS = 2
KINDS = {
    "amble killed": 40,
    "amble stopped": 10,
    "server killed": 10,
    "server restarted": 10,
    "page gone": 6,
    "page hangs": 4,
    "page frozen": 4,
    "page without numbers": 2,
    "log on a full disk": 3,
    "lease on a full disk": 3,
    "two governors": 6,
    "amble ended": 2,
}
PAGES = {"page gone": "gone", "page hangs": "hangs", "page frozen": "frozen", "page without numbers": "nan"}
Record = dict[str, Any]


def tried(count: int) -> list[Record]:
    """Do so many faults, in the shares of ``KINDS``; one record each."""
    if not os.access(GROUPS, os.W_OK):
        return []
    kinds = [kind for kind, many in KINDS.items() for _ in range(max(1, round(many * count / 100)))]
    with ThreadPoolExecutor(WORKERS) as workers, ThreadPoolExecutor(3) as slow:
        found = [
            (slow if kind == "log on a full disk" else workers).submit(_fault, kind, seed)
            for seed, kind in enumerate(kinds)
        ]
        return [each.result() for each in found]


@dataclass
class Stage:
    """What one fault happens to."""

    kind: str
    folder: Path
    home: Path
    lot: random.Random
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None
    running: subprocess.Popen[bytes] | None = None

    def serve(self) -> None:
        """Start the page's process in the governed group."""
        script = str(BENCH / "govern_real" / "peer_page.py")
        words = [sys.executable, script, str(self.port), str(self.home / "how")]
        entered = ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh", *words]
        self.server = subprocess.Popen(entered, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def govern(self, *more: str, log: Path | None = None, state: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a governor of the group."""
        words = [AMBLE, "govern", f"http://127.0.0.1:{self.port}/metrics", "--slo", "latency p99 < 100ms"]
        words += ["--device", f"quota:{self.folder.name}", "--period", f"{PERIOD_S}s", "-o", str(log or self.log)]
        environment = {**os.environ, "XDG_STATE_HOME": str(state or self.home / "state")}
        with (self.home / "said").open("ab") as said:
            return subprocess.Popen([*words, *more], stdout=said, stderr=said, env=environment)

    @property
    def log(self) -> Path:
        """Return where the log is written."""
        return self.home / "log.json"

    def said(self) -> str:
        """Return what governors said so far."""
        return (self.home / "said").read_text()

    def quota(self) -> str:
        """Return the quota in force."""
        return (self.folder / "cpu.cfs_quota_us").read_text().strip()

    def as_found(self) -> bool:
        """Tell whether quota and period are those of a new group."""
        return self.quota() == "-1" and (self.folder / "cpu.cfs_period_us").read_text().strip() == "100000"

    def held(self) -> bool:
        """Tell whether a quota is set, below all of the machine."""
        return self.quota() != "-1" and float(self.quota()) < 0.9 * 5000 * (os.cpu_count() or 1)


def _fault(kind: str, seed: int) -> Record:
    with tempfile.TemporaryDirectory() as name, group(f"fault-{seed}") as folder:
        stage = Stage(kind, folder, Path(name), random.Random(seed))  # noqa: S311
        (stage.home / "how").write_text("ok")
        try:
            stage.serve()
            _until(lambda: _answers(stage.port), START_S)
            happened = _ACTS.get(kind, _page)(stage)
            return {"fault": kind, "seed": seed, **happened, "false_saving": _claims(stage.log)}
        finally:
            for each in (stage.running, stage.server):
                if each is not None:
                    with suppress(ProcessLookupError):
                        each.send_signal(signal.SIGCONT)
                    each.kill()
                    each.wait()
            _until(stage.as_found, 30.0)


def _governed(stage: Stage, *more: str, log: Path | None = None) -> float:
    """Govern until a quota is held, and a while longer; return how much longer [s]."""
    stage.running = stage.govern(*more, log=log)
    if _until(stage.held, START_S) is None:
        raise RuntimeError(f"{stage.kind}: nothing was governed: {stage.said()}")
    waited_s = stage.lot.uniform(0.0, 2.0)
    time.sleep(waited_s)
    return waited_s


def _found(stage: Stage, at_s: float, note: str = "", **more: object) -> Record:
    """Wait until things are as found, and say how long that took."""
    took_s = _until(stage.as_found, 30.0)
    in_time = took_s is not None and took_s <= ALLOWED_S
    return {"at_s": at_s, "took_s": took_s, "as_found": in_time, "note": note, **more}


def _killed(stage: Stage) -> Record:
    """Kill amble at any moment from its start on; when it has not changed anything yet there is nothing to put back."""
    stage.running = stage.govern()
    at_s = stage.lot.uniform(0.0, 6.0)
    time.sleep(at_s)
    before = stage.quota()
    stage.running.kill()
    stage.running.wait()
    return _found(stage, at_s, f"quota {before} us of 5000 at that moment")


def _stopped(stage: Stage) -> Record:
    at_s = _governed(stage, "--control", "0")
    assert stage.running is not None
    stage.running.send_signal(signal.SIGSTOP)
    found = _found(stage, at_s)
    stage.running.send_signal(signal.SIGCONT)
    again = _until(stage.held, 20.0) is not None
    return found | {"note": "governs again when it goes on" if again else "leaves things as found when it goes on"}


def _ended(stage: Stage) -> Record:
    at_s = _governed(stage)
    assert stage.running is not None
    stage.running.terminate()
    return _found(stage, at_s)


def _server_killed(stage: Stage) -> Record:
    at_s = _governed(stage, "--control", "0")
    assert stage.server is not None
    stage.server.kill()
    stage.server.wait()
    found = _found(stage, at_s)
    if stage.kind == "server killed":
        return found
    stage.serve()
    again = _until(stage.held, 30.0) is not None
    return found | {"note": "governed again after its restart" if again else "not governed after its restart"}


def _page(stage: Stage) -> Record:
    at_s = _governed(stage, "--control", "0")
    (stage.home / "how").write_text(PAGES[stage.kind])
    more_s = 2.0 * PERIOD_S if stage.kind == "page frozen" else 0.0  # a page that stands still is one after two looks
    time.sleep(more_s)
    return _found(stage, at_s)


def _log_on_full_disk(stage: Stage) -> Record:
    with _small_disk(stage.home / "small") as small:
        _governed(stage, "--control", "0", log=small / "log.json")
        (small / "filler").write_bytes(b"")
        with suppress(OSError), (small / "filler").open("wb") as filler:
            filler.write(b"0" * 1_000_000)
        before = stage.said()
        if _until(lambda: stage.said() != before and "log.json" in stage.said(), SAVED_S + 30.0) is None:
            return {"at_s": SAVED_S, "took_s": None, "as_found": False, "note": "nothing was said of the full disk"}
        return _found(stage, SAVED_S, stage.said().strip().splitlines()[-1][:160])


def _lease_on_full_disk(stage: Stage) -> Record:
    with _small_disk(stage.home / "small") as small:
        with suppress(OSError), (small / "filler").open("wb") as filler:
            filler.write(b"0" * 1_000_000)
        stage.running = stage.govern("--for", "5s", state=small)
        ever = False
        while stage.running.poll() is None:
            ever |= not stage.as_found()
            time.sleep(0.01)
        note = f"exit code {stage.running.returncode}: {stage.said().strip().splitlines()[-1][:160]}"
        return {"at_s": 0.0, "took_s": 0.0, "as_found": stage.as_found() and not ever, "note": note}


def _two(stage: Stage) -> Record:
    at_s = _governed(stage, "--control", "0")
    second = stage.govern("--for", "3s", log=stage.home / "second.json")
    refused = second.wait(START_S) == 2
    goes_on = stage.held()
    assert stage.running is not None
    stage.running.kill()
    stage.running.wait()
    found = _found(stage, at_s)
    words = ("refused" if refused else "NOT refused", "goes on" if goes_on else "does NOT go on")
    note = f"the second was {words[0]}, the first {words[1]}; then it was killed"
    return found | {"as_found": found["as_found"] and refused and goes_on, "note": note}


_ACTS: dict[str, Callable[[Stage], Record]] = {
    "amble killed": _killed,
    "amble stopped": _stopped,
    "amble ended": _ended,
    "server killed": _server_killed,
    "server restarted": _server_killed,
    "log on a full disk": _log_on_full_disk,
    "lease on a full disk": _lease_on_full_disk,
    "two governors": _two,
}


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 64 kB in memory while the block runs."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _claims(log: Path) -> bool:
    """Tell whether a saving is claimed from a log, if there is one."""
    try:
        return log.exists() and amble.prove(log).saving is not None
    except Refused:
        return False


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def _until(true: Callable[[], bool], limit_s: float) -> float | None:
    """Return how long it took to become true [s]; None when it did not."""
    start_s = time.monotonic()
    while not true():
        if time.monotonic() - start_s > limit_s:
            return None
        time.sleep(0.005)
    return time.monotonic() - start_s
