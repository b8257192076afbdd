"""The cap of a governor behind an address → what it tells, and orders to it, each within a second in all.

The contract is that of `services.govern.cap`. A server that sends a byte now and then keeps every single wait short:
once the second is over the line is cut, whatever was waited for. Only a handshake that trickles is not cut, which is
why `at_once` waits for nobody longer than it says.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import numpy as np

from amble.core.errors import Refused

__all__ = ["Door", "Report", "Sidecar", "at_once", "is_address"]

_TIMEOUT_S = 1.0  # for all of a question and its answer
_MOST_BYTES = 2**20  # of an answer
Answer = TypeVar("Answer")


class Report(NamedTuple):
    """What a governor tells; see the contract."""

    serial: int
    most_w: tuple[float, ...]
    speed: tuple[float, ...]
    capacity_hz: float
    floor: int
    holds: bool
    power_w: float | None
    arrivals_hz: float


class Sidecar(Protocol):
    """A governor that can be capped."""

    def report(self) -> Report | None:
        """Return what it tells; None where it does not answer."""
        ...

    def order(self, serial: int, cap_w: float) -> None:
        """Send a cap; it may be lost."""
        ...


@dataclass(frozen=True, slots=True)
class Door:
    """A governor behind an address such as ``http://node1:9402``."""

    url: str
    token: str | None = None

    def report(self) -> Report | None:
        """Return what it tells; None where it does not answer, or answers nonsense. Refused for a wrong token."""
        status, body = self._ask("GET", None)
        if status in (401, 404):
            why = "has no cap to set: start it with --capacity" if status == 404 else "wants the token of its cap"
            raise Refused(f"{self.url} {why}")
        return _report(body) if status == 200 else None

    def order(self, serial: int, cap_w: float) -> None:
        """Send a cap."""
        self._ask("PUT", json.dumps({"serial": serial, "cap_w": cap_w}).encode())

    def _ask(self, method: str, body: bytes | None) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        line = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        due, due_s = None, time.perf_counter() + _TIMEOUT_S
        try:
            line.connect()
            due = threading.Timer(max(0.0, due_s - time.perf_counter()), _cut, (line.sock,))
            due.daemon = True
            due.start()
            line.request(method, "/cap", body, headers)
            answer = line.getresponse()
            return answer.status, answer.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            if due is not None:
                due.cancel()
            line.close()


def _cut(line: socket.socket) -> None:
    """End a line that somebody waits for."""
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def at_once(asks: Sequence[Callable[[], Answer]], wait_s: float) -> list[Answer | Refused | None]:
    """Ask all at once → the answers, or why they were refused; None for those that take longer than that [s]."""
    found: list[Answer | Refused | None] = [None] * len(asks)

    def ask(at: int) -> None:
        try:
            found[at] = asks[at]()
        except Refused as reason:
            found[at] = reason

    threads = [threading.Thread(target=ask, args=(at,), name="amble cap", daemon=True) for at in range(len(asks))]
    for each in threads:
        each.start()
    due_s = time.perf_counter() + wait_s
    for each in threads:
        each.join(max(0.0, due_s - time.perf_counter()))
    return list(found)


def is_address(url: str) -> bool:
    """Tell whether a governor can have this address."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return known and not any(each.isspace() for each in url)


def _report(body: bytes) -> Report | None:
    try:
        given: dict[str, Any] = json.loads(body)
        power_w = given["power_w"]
        found = Report(
            int(given["serial"]),
            tuple(map(float, given["most_w"])),
            tuple(map(float, given["speed"])),
            float(given["capacity_hz"]),
            int(given["floor"]),
            bool(given["holds"]),
            None if power_w is None else float(power_w),
            float(given["arrivals_hz"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    numbers = np.array([*found.most_w, *found.speed, found.capacity_hz, found.arrivals_hz])
    fits = len(found.most_w) == len(found.speed) > found.floor >= 0 and bool(np.isfinite(numbers).all())
    return found if fits and (numbers >= 0).all() else None
