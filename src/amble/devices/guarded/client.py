"""A socket of ``amble guard`` → Actuator, for a process that has no right to set clocks itself.

A thread renews the lease, so that a process that is stopped, or gone, loses it within the lease.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices.guarded.protocol import SOCKET, VARIABLE, Answer, Ask, decode, encode

__all__ = ["Connection", "GuardedActuator", "found_socket"]

_TIMEOUT_S = 30.0
_FELT_S = 0.050


def found_socket() -> Path | None:
    """Return the guard's socket: ``AMBLE_GUARD``, else its usual place; None where there is none."""
    path = Path(os.environ.get(VARIABLE) or SOCKET)
    return path if path.is_socket() else None


class Connection:
    """One connection to the guard; its end gives up every lease."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_TIMEOUT_S)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise Refused(
                f"the guard at {path} does not answer ({error.strerror or error}); is it running? "
                f"systemctl status amble-guard, or start it: sudo amble guard"
            ) from error
        self._file = self._socket.makefile("rb")

    def ask(self, ask: Ask) -> Answer:
        """Ask, and return the answer; Refused with the guard's reason when it says no."""
        with self._guard:
            try:
                self._socket.sendall(encode(ask))
                line = self._file.readline()
            except OSError as error:
                raise Refused(f"the guard at {self._path} fell silent ({error}); clocks are put back by it") from error
        if not line:
            raise Refused(f"the guard at {self._path} closed the connection; see its log: journalctl -u amble-guard")
        answer = decode(line, Answer)
        if not answer.ok:
            raise Refused(f"{ask.device or 'guard'}: {answer.text}")
        return answer

    def close(self) -> None:
        """End the connection: the guard puts back what this process holds."""
        self._file.close()
        self._socket.close()


class GuardedActuator:
    """Sets a device's clocks through the guard, which keeps to its allow-list and puts back what it found."""

    def __init__(self, device: str, path: Path, *, lease_s: float = 3.0) -> None:
        self._device = device
        self._lease_s = lease_s
        self._connection = Connection(path)
        self._available = self._connection.ask(Ask("available", device)).available
        self._stop = threading.Event()
        self._renewer: threading.Thread | None = None

    def available(self) -> tuple[Clocks, ...]:
        """Return every setting that the guard allows this user, slowest first."""
        return self._available

    def current(self) -> Clocks:
        """Return the clocks that run, as the guard reads them; None for knobs that nobody holds."""
        return self._connection.ask(Ask("current", self._device)).clocks or Clocks()

    def apply(self, clocks: Clocks) -> None:
        """Ask the guard for these clocks; ``Clocks()`` gives the lease up and has them put back."""
        if clocks == Clocks():
            self._connection.ask(Ask("release", self._device))
            self._stop.set()
            self._renewer = None
            return
        self._connection.ask(Ask("hold", self._device, clocks, self._lease_s))
        if self._renewer is None:
            self._stop = threading.Event()
            self._renewer = threading.Thread(target=self._renew, args=(self._stop,), daemon=True, name="amble lease")
            self._renewer.start()

    def felt_within_s(self) -> float:
        """Return within which time [s] work feels a clock that was asked for."""
        return _FELT_S

    def running(self) -> Clocks:
        """Return the clocks that run, as far as the guard tells: nothing while nobody holds them."""
        return self.current()

    def close(self) -> None:
        """Give everything back."""
        self._stop.set()
        self._connection.close()

    def _renew(self, stop: threading.Event) -> None:
        while not stop.wait(self._lease_s / 3):
            try:
                self._connection.ask(Ask("renew", self._device))
            except (Refused, ValueError, OSError):  # the owner hears of it at its next ask
                return
