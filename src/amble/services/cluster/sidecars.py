"""Governors beside servers that are not ours, and one power budget → a cap for each, divided anew every period.

Each governor (``amble govern --capacity``) tells what its settings may draw and serve, and takes a cap in watts (the
contract is that of `services.govern.cap`). Requests are taken to go where there is room for them, as a load balancer
before the servers sends them: what all of them get together is the demand.

Rung 0 of a device is here its slowest setting, which is not parked: the server runs on whatever it is told. What it
serves there is taken off the demand. A device whose governor is gone is nobody's to set. ``gone`` says what it is
charged with then: ``top``, the most it can draw, or ``nothing`` where server and governor live and die together, as in
one pod or on one node. Either way what is left is divided anew among the others.
"""

from __future__ import annotations

import http.client
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

import numpy as np

from amble.core.errors import Refused
from amble.services.cluster.filling import Frontiers
from amble.services.cluster.governor import SILENT, ClusterGovernor, Seen, State
from amble.services.govern.cap import NONE

__all__ = ["Budget", "Door", "Report", "Sidecar", "Told", "budget"]

_TIMEOUT_S = 1.0
_PATIENCE = 3
_EPOCH = 1_000_000  # orders of one budget: those of one that is started later are newer

Gone = Literal["top", "nothing"]


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
        try:
            line.request(method, "/cap", body, headers)
            answer = line.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            line.close()


def _is_address(url: str) -> bool:
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


class Told(NamedTuple):
    """A period: the caps in force [W] (None: gone), what may be drawn and what meters say [W], the demand [1/s]."""

    cap_w: tuple[float | None, ...]
    possible_w: float
    power_w: float | None
    demand_hz: float


@dataclass(slots=True)
class Budget:
    """Divides ``budget_w`` [W] over governors. Refused where one does not answer at first, or the budget is too low."""

    sidecars: Sequence[Sidecar]
    budget_w: float
    gone: Gone = "top"
    epoch: int = field(default_factory=lambda: int(time.time()))
    _governor: ClusterGovernor = field(init=False)
    _state: State = field(init=False)
    _base_hz: np.ndarray = field(init=False)  # what each serves on its slowest setting
    _silent: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Ask what each may draw, and send all to their slowest settings."""
        found = [each.report() for each in self.sidecars]
        if missing := [str(getattr(each, "url", at)) for at, each in enumerate(self.sidecars) if found[at] is None]:
            raise Refused(f"no governor answers at {', '.join(missing)}; is amble govern --capacity running there?")
        reports = [each for each in found if each is not None]
        self._governor = ClusterGovernor(_frontiers(reports), self.budget_w)
        self._state = self._governor.init()
        self._base_hz = np.array([each.capacity_hz * min(each.speed) for each in reports])
        self._silent = [0] * len(reports)
        for at, each in enumerate(self.sidecars):
            each.order(self._serial(0), self._watts(at, 0))

    def step(self) -> Told:
        """Hear all, divide, and order: lower first, then raise."""
        reports = [each.report() for each in self.sidecars]
        self._silent = [0 if each else number + 1 for each, number in zip(reports, self._silent, strict=True)]
        lost = np.array([each > _PATIENCE for each in self._silent])
        down = lost & (self.gone == "nothing")
        pairs = [self._rung(at, each, bool(lost[at])) for at, each in enumerate(reports)]
        powers = [None if each is None else each.power_w for each in reports]
        arrivals_hz = sum(each.arrivals_hz for each in reports if each is not None)
        demand_hz = max(0.0, arrivals_hz - float(self._base_hz[~lost].sum()))
        seen = Seen(
            demand_hz,
            np.array([rung for rung, _ in pairs], dtype=np.int64),
            np.array([serial for _, serial in pairs], dtype=np.int64),
            down,
            np.array([np.nan if each is None else each for each in powers], dtype=np.float64),
        )
        self._state, orders = self._governor.step(self._state, seen)
        for at, rung, serial in zip(*(each.tolist() for each in orders), strict=True):
            self.sidecars[at].order(self._serial(serial), self._watts(at, rung))
        caps = tuple(None if lost[at] else self._watts(at, int(rung)) for at, rung in enumerate(self._state.rung))
        known = [each for each in powers if each is not None]
        drawn_w = sum(known) if len(known) == len(powers) else None
        return Told(caps, float(self._state.possible_w[~down].sum()), drawn_w, arrivals_hz)

    def _rung(self, at: int, report: Report | None, lost: bool) -> tuple[int, int]:
        """Return the rung that a device is taken to hold, and the newest order that it has seen."""
        top = self._governor.frontiers.power_w.shape[1] - 1
        if report is None:
            return (top if lost else SILENT), NONE
        serial = report.serial - self.epoch * _EPOCH
        if not report.holds or serial < 0:
            return top, NONE  # its clocks are not its governor's, or another budget's order holds
        rung, ordered = len(report.most_w) - 1 - report.floor, int(self._state.rung[at])
        return (ordered if self._watts(at, rung) == self._watts(at, ordered) else rung), serial

    def _serial(self, serial: int) -> int:
        return self.epoch * _EPOCH + serial

    def _watts(self, at: int, rung: int) -> float:
        return float(self._governor.frontiers.power_w[at, rung])


def _frontiers(reports: Sequence[Report]) -> Frontiers:
    """Return the frontier of each device, from its slowest setting up."""
    num = max(len(each.most_w) for each in reports)
    power_w, rate_hz = np.zeros((len(reports), num)), np.zeros((len(reports), num))
    for at, each in enumerate(reports):
        power = np.maximum.accumulate(each.most_w[::-1])
        rate = np.maximum.accumulate(each.speed[::-1]) * each.capacity_hz
        power_w[at] = np.pad(power, (0, num - len(power)), mode="edge")
        rate_hz[at] = np.pad(rate - rate[0], (0, num - len(rate)), mode="edge")
    return Frontiers(power_w, rate_hz, np.arange(len(reports)))


def budget(
    urls: Sequence[str],
    *,
    budget_w: float,
    gone: Gone = "top",
    period_s: float = 2.0,
    for_s: float | None = None,
    token: str | None = None,
    on_period: Callable[[Told], None] = lambda told: None,
) -> Told | None:
    """Divide a budget [W] over governors until told to stop, or for so long [s] → the last period.

    The last caps stay in force. Refused where a governor does not answer at first or takes no cap, and for a budget
    below what all draw at most on their slowest settings.
    """
    if not urls:
        raise Refused("no governor: write the addresses of their metrics pages, as in http://node1:9402")
    if not period_s > 0:
        raise Refused("the period must be above 0")
    if not 0 < budget_w < math.inf:
        raise Refused(f"a budget is a power above 0, not {budget_w:g} W")
    for each in urls:
        if not _is_address(each):
            raise Refused(f"{each!r} is no address; write http://HOST:PORT, that of its metrics page")
    if twice := [each for each in urls if urls.count(each) > 1]:
        raise Refused(f"{twice[0]} is named twice; each governor has one share")
    divided, told = Budget([Door(each, token) for each in urls], budget_w, gone), None
    end_s = None if for_s is None else time.perf_counter() + for_s
    while end_s is None or time.perf_counter() < end_s:
        told = divided.step()
        on_period(told)
        time.sleep(period_s)
    return told
