"""A shape → two hosts joined by it, as network namespaces of this machine, for as long as a ``with`` lasts.

    with hosts(Shape.steady(20e6, delay_s=0.005)) as pair:
        server = pair.start("far", [sys.executable, "-m", "http.server"])
        pair.shape(Shape.steady(1e6))

``near`` is 10.77.0.1 and ``far`` 10.77.0.2. Needs the right to make namespaces and TAP devices; `missing` says what is
not permitted here. What was started is ended, and both namespaces are removed, whatever happens inside;
what a killed process left is removed by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.hosts.pipe import Shape
from bench.kit.places import ROOT

__all__ = ["ADDRESSES", "Hosts", "hosts", "missing"]

ADDRESSES = {"near": "10.77.0.1", "far": "10.77.0.2"}
_TUN = Path("/dev/net/tun")
_SET_NAME, _TAP, _NO_HEADER = 0x400454CA, 0x0002, 0x1000
_END_S = 5.0
_NUMBERS = itertools.count()


def missing() -> str:
    """Say what keeps this machine from having two hosts; empty where nothing does."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "needs Linux and ip (iproute2)"
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"needs {_TUN}"
    name = f"ambleprobe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"may not make network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    try:
        os.close(_tap(f"ap{os.getpid()}"))
    except OSError as error:
        return f"may not make TAP devices: {error}"
    return ""


@dataclass(slots=True)
class Hosts:
    """Both hosts, and what runs on them. ``names``: of their namespaces."""

    names: Mapping[str, str]
    relay: subprocess.Popen[str]
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def shape(self, there: Shape | None, back: Shape | None = None) -> None:
        """Make the link another one from now on, the same both ways unless ``back`` is given."""
        shapes = [there, there if back is None else back]
        assert self.relay.stdin is not None
        assert self.relay.stdout is not None
        print(
            json.dumps([None if each is None else each.written() for each in shapes]), file=self.relay.stdin, flush=True
        )
        if self.relay.stdout.readline().strip() != "ready":
            raise RuntimeError("the relay ended")

    def cut(self) -> None:
        """Lose everything, both ways, until `shape` is called."""
        self.shape(None)

    def start(self, host: str, words: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a program on one host; its stdout can be read."""
        whole = ["ip", "netns", "exec", self.names[host], *words]
        began = subprocess.Popen(whole, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
        self.running.append(began)
        return began

    def end_all(self) -> None:
        """End what is still running, the last first."""
        for program in reversed(self.running):
            _ended(program)

    def end(self, program: subprocess.Popen[str]) -> None:
        """End a program that was started here."""
        if program in self.running:
            self.running.remove(program)
        _ended(program)


@contextmanager
def hosts(there: Shape, back: Shape | None = None) -> Iterator[Hosts]:
    """Join two hosts by a link, the same both ways unless ``back`` is given."""
    _sweep()
    mark = f"{os.getpid()}n{next(_NUMBERS)}"
    names = {host: f"amble-{host}-{mark}" for host in ADDRESSES}
    with ExitStack() as stack:
        taps = []
        for place, (host, address) in enumerate(ADDRESSES.items()):
            _ip("netns", "add", names[host])
            stack.callback(_ip, "netns", "del", names[host])
            tap = f"a{place}p{mark}"
            taps.append(_tap(tap))
            stack.callback(os.close, taps[-1])
            _ip("link", "set", tap, "netns", names[host])
            _ip("-n", names[host], "addr", "add", f"{address}/24", "dev", tap)
            _ip("-n", names[host], "link", "set", tap, "address", f"02:00:00:00:00:0{place + 1}", "up")
            _ip("-n", names[host], "link", "set", "lo", "up")
            other = next(each for each in ADDRESSES.values() if each != address)
            _ip("-n", names[host], "neigh", "add", other, "lladdr", f"02:00:00:00:00:0{2 - place}", "dev", tap)
        pair = Hosts(names, _relay(taps))
        stack.callback(_ended, pair.relay)
        stack.callback(pair.end_all)
        pair.shape(there, back)
        yield pair


def _sweep() -> None:
    """Remove what an earlier process of this kind left that was killed: its programs and its namespaces."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for name, mark in re.findall(r"^(amble-(?:near|far)-(\d+)n\d+)", listed, re.MULTILINE):
        if not Path(f"/proc/{mark}").exists():
            held = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
            for each in held.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(each), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], check=False)


def _relay(taps: Sequence[int]) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "bench.hosts.relay", *map(str, taps)]
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=taps, cwd=ROOT, bufsize=1
    )


def _tap(name: str) -> int:
    """Make a TAP device that lasts as long as its file is open."""
    device = os.open(_TUN, os.O_RDWR)
    try:
        fcntl.ioctl(device, _SET_NAME, struct.pack("16sH22x", name.encode(), _TAP | _NO_HEADER))
    except OSError:
        os.close(device)
        raise
    return device


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _ended(program: subprocess.Popen[str]) -> None:
    if program.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            program.stdin.close()
    if program.poll() is None:
        program.terminate()
    try:
        program.wait(_END_S)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()
    if program.stdout is not None:
        program.stdout.close()
