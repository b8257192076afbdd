"""A command that starts a Python elsewhere → questions and answers with the probe that is sent to it."""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import re
import shlex
import subprocess
import threading
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from amble.core.errors import Refused
from amble.core.ports import Tensors

__all__ = ["Link", "over_ssh"]

_START = (
    "import sys;n=int(sys.stdin.readline());s=sys.stdin.read(n);"
    "exec(compile(s,'probe','exec'),{'__name__':'amble_probe'})"
)
_ADDRESS = re.compile(r"[\w.-]+(@[\w.:-]+)?")
_ANSWER_S = 600.0
_HELLO_S = 30.0


def over_ssh(address: str, *, python: str = "python3") -> Link:
    """Start a probe at ``user@board``; the connection asks for no password."""
    if not _ADDRESS.fullmatch(address):
        raise Refused(f"{address!r} is not like user@board; write ssh:user@board/sysfs:gpu")
    remote = f"{shlex.quote(python)} -u -c {shlex.quote(_START)}"
    command = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", address, remote]
    return Link(address, command)


class Link:
    """One probe. Every question is answered, or Refused says why; closing it puts the board's clocks back."""

    def __init__(self, address: str, command: Sequence[str]) -> None:
        self.address = address
        self._lock = threading.Lock()
        try:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise Refused(f"cannot start {command[0]}: {error.strerror}; install an ssh client") from error
        self._answers: queue.Queue[str] = queue.Queue()
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()
        probe = (files("amble.devices.board") / "probe.py").read_text(encoding="ascii")
        try:
            self._send(f"{len(probe)}\n{probe}")
            self.hello = self.ask("hello", _timeout_s=_HELLO_S)
        except BaseException:
            self.close()
            raise

    def ask(self, what: str, _timeout_s: float = _ANSWER_S, **given: Any) -> dict[str, Any]:
        """Ask for one thing; Refused with the board's words, or where it does not answer."""
        with self._lock:
            self._send(json.dumps({"do": what, **given}) + "\n")
            try:
                line = self._answers.get(timeout=_timeout_s)
            except queue.Empty as error:
                raise Refused(f"{self.address} has not answered for {_timeout_s:g} s: is it up?") from error
        if not line:
            raise Refused(f"cannot reach {self.address}: {self._why()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Refused(f"{self.address}: {answer['error']}")
        return answer

    def open(self, key: str, content: bytes, providers: Sequence[str], threads: int) -> None:
        """Send a network under a name of its own."""
        self.ask("open", key=key, content=_text(content), providers=list(providers), threads=threads)

    def run(self, key: str, feed: Tensors, *, runs: int, own_time: bool, answers: bool) -> dict[str, Any]:
        """Run a network that was sent → ``times_s``, ``wall_s``, ``energy_j`` of all runs, and ``outputs``."""
        told = {name: _told(np.asarray(value)) for name, value in feed.items()}
        found = self.ask("run", key=key, feed=told, runs=runs, own=own_time, answers=answers)
        found["outputs"] = {name: _array(value) for name, value in found["outputs"].items()}
        return found

    def close(self) -> None:
        """End the probe, which puts back what it changed."""
        for _ in range(2):  # the first attempt flushes, which fails where the other side is gone
            with contextlib.suppress(OSError, ValueError):
                if self._process.stdin:
                    self._process.stdin.close()
        try:
            self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._follower.join(timeout=10.0)
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()

    def _send(self, text: str) -> None:
        assert self._process.stdin is not None, "it was opened with a pipe"
        try:
            self._process.stdin.write(text)
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise Refused(f"cannot reach {self.address}: {self._why()}") from error

    def _follow(self) -> None:
        assert self._process.stdout is not None, "it was opened with a pipe"
        with contextlib.suppress(ValueError):
            for line in iter(self._process.stdout.readline, ""):
                self._answers.put(line)
        self._answers.put("")

    def _why(self) -> str:
        """Return what the other side said at its end, in one line."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
        said = ""
        if self._process.poll() is not None and self._process.stderr and not self._process.stderr.closed:
            said = " ".join(self._process.stderr.read().split())
        return said[-300:] or "the connection ended; try ssh there by hand, with a key"


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _told(value: np.ndarray[Any, Any]) -> dict[str, Any]:
    given = np.ascontiguousarray(value)
    return {"dtype": str(given.dtype), "shape": list(given.shape), "data": _text(given.tobytes())}


def _array(told: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(told["data"]), told["dtype"]).reshape(told["shape"])
