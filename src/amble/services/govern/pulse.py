"""A beat from the process that governs → a second process, which puts clocks back when the beat stops.

Theory of operation. The watchdog of a lease (`devices.lease`) sees that the owner of clocks has *ended*. It does not
see one that is stopped (a signal, a debugger, a frozen container) or that hangs. So whoever governs writes a byte
whenever it asks for the time, which its loop does several times a period, and a process beside it waits for these
bytes. Without one for ``limit_s`` it puts back what the leases of the silent owner name. The leases stay, since their
owner lives; when it goes on it finds other clocks than it asked for, and lets go before it asks again. When the owner
has ended it does what the watchdog does, in case that one was killed too.

Run as ``python -m amble.services.govern.pulse FOLDER PID LIMIT_S`` this module is that process.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from amble.core import files
from amble.core.errors import Refused
from amble.core.ports import Clock
from amble.devices import lease

__all__ = ["Beating", "Pulse", "limit_s"]

_LOG = logging.getLogger(__name__)
_STARTED_S = 20.0
_ENDED_S = 10.0
_NEARLY = 0.9  # of the limit: who listens counts from when a beat arrived, not from when it was sent
_STDIN = 0


def limit_s(period_s: float) -> float:
    """Return how long a governor may be silent [s], so that clocks are back within two periods or one second."""
    return 0.8 * max(2.0 * period_s, 1.0)


class Pulse:
    """Starts the process that listens, and beats. ``folder`` is where the leases of this process are."""

    def __init__(self, folder: Path, within_s: float) -> None:
        self.within_s = within_s
        words = [sys.executable, "-m", __name__, str(folder), str(os.getpid()), str(within_s)]
        self._listener = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        assert self._listener.stdin is not None, "piped"
        assert self._listener.stdout is not None, "piped"
        self._ear = self._listener.stdin
        ready, _, _ = select.select([self._listener.stdout], [], [], _STARTED_S)
        if not ready or not self._listener.stdout.read(1):
            self.stop()
            raise Refused("the process that puts clocks back when amble hangs does not start; nothing was changed")
        os.set_blocking(self._ear.fileno(), False)

    def beat(self) -> None:
        """Say that all is well."""
        with suppress(BlockingIOError, BrokenPipeError):  # it is behind, or was killed: the watchdog is still there
            self._ear.write(b".")

    def stop(self) -> None:
        """Say that the clocks were put back; nobody needs to listen any more."""
        with suppress(OSError):
            self._ear.write(b"q")
        with suppress(OSError):
            self._ear.close()
        try:
            self._listener.wait(_ENDED_S)
        except subprocess.TimeoutExpired:
            self._listener.kill()
            self._listener.wait()
        assert self._listener.stdout is not None, "piped"
        self._listener.stdout.close()


class Beaten(Protocol):
    """What is beaten, and how long it may be silent [s]."""

    within_s: float

    def beat(self) -> None:
        """Say that all is well."""
        ...


class Beating:
    """A clock that beats whenever it is asked."""

    def __init__(self, clock: Clock, pulse: Beaten, tick: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._pulse, self._tick = clock, pulse, tick
        self._beaten_s: float | None = None
        self._lapsed = False

    def now_s(self) -> float:
        """Return the time [s]."""
        self._beat()
        return self._clock.now_s()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._beat()
        self._clock.sleep(seconds)
        self._beat()

    def lapsed(self) -> bool:
        """Tell whether a beat came too late since this was asked last: clocks were put back then, by nobody else."""
        lapsed, self._lapsed = self._lapsed, False
        return lapsed

    def _beat(self) -> None:
        now_s = self._tick()
        self._lapsed |= self._beaten_s is not None and now_s - self._beaten_s > _NEARLY * self._pulse.within_s
        self._pulse.beat()
        self._beaten_s = self._tick()


def _listen(folder: Path, pid: int, within_s: float) -> None:
    """Wait for beats until the owner says that it is done, or has ended; put back whenever it is silent."""
    silent = True  # until the first beat
    while True:
        heard, _, _ = select.select([_STDIN], [], [], None if silent else within_s)
        if not heard:
            _put_back(folder, pid)
            silent = True
            continue
        said = os.read(_STDIN, 4096)
        if b"q" in said:
            return
        if not said:
            _ended(folder, pid)
            return
        silent = False


def _put_back(folder: Path, pid: int) -> None:
    for each in _leases(folder, pid):
        try:
            lease.put_back(each.found)
        except Refused as reason:
            _LOG.warning("%s: %s", each.device, reason)


def _leases(folder: Path, pid: int) -> Iterator[lease.Lease]:
    """Yield the leases of a process, whatever else the folder holds: also damaged ones of others."""
    for path in sorted(folder.glob("lease-*.json")):
        with suppress(Refused):
            found = files.load(path, lease.LEASE)
            if found.owner.pid == pid:
                yield found


def _ended(folder: Path, pid: int) -> None:
    """Put back what an owner left that has ended without a word."""
    until_s = time.monotonic() + _ENDED_S
    while time.monotonic() < until_s and any(each.owner.alive for each in _leases(folder, pid)):
        time.sleep(0.02)
    lease.restore(folder)


def main(arguments: list[str]) -> None:
    """Be the process that listens."""
    folder, pid, within_s = arguments
    os.write(sys.stdout.fileno(), b".")
    _listen(Path(folder), int(pid), float(within_s))
    os._exit(0)  # whoever waits for this waits no longer than it must


if __name__ == "__main__":
    main(sys.argv[1:])
