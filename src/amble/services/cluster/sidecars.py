"""Governors beside servers that are not ours, and one power budget → a cap for each, divided anew every period.

Each governor (``amble govern --capacity``) tells what its settings may draw and serve, and takes a cap in watts (the
contract is that of `services.govern.cap`). Requests are taken to go where there is room for them, as a load balancer
before the servers sends them: what all of them get together is the demand.

Rung 0 of a device is here its slowest setting, which is not parked: the server runs on whatever it is told. What it
serves there is taken off the demand. A device whose governor is gone is nobody's to set. ``gone`` says what it is
charged with then: ``top``, the most it can draw, or ``nothing`` where server and governor live and die together, as in
one pod or on one node. Either way what is left is divided anew among the others.

All are asked at once, and none is waited for longer than a second or two: one that dawdles says nothing this time. What
is wrong at the start (no cap, another token) is refused; later it may be a governor that is being started again, which
is gone until it answers rightly. One that comes back with other settings than before is reckoned with anew, as all were
at the start, as long as the budget covers the slowest settings of all; else it stays gone.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from amble.core.errors import Refused
from amble.services.cluster.doors import Door, Report, Sidecar, at_once, is_address
from amble.services.cluster.filling import Frontiers
from amble.services.cluster.governor import SILENT, ClusterGovernor, Seen, State
from amble.services.govern.cap import NONE

__all__ = ["Budget", "Told", "budget"]

_LOG = logging.getLogger(__name__)
_WAIT_S = 2.0
_PATIENCE = 3
_LONG = 12
_EPOCH = 1_000_000  # orders of one budget: those of one that is started later are newer

Gone = Literal["top", "nothing"]


class Told(NamedTuple):
    """A period: the caps in force [W] (None: gone), what may be drawn and what meters say [W], the demand [1/s]."""

    cap_w: tuple[float | None, ...]
    possible_w: float
    power_w: float | None
    demand_hz: float


@dataclass(slots=True)
class _Steady:
    """A governor's meter, once what it says belongs to the setting that it tells of.

    It tells the power of its last period, whose length nobody here knows, and which may have begun before the last
    order: two new powers later it has not. A meter that always says the same is believed after the longest of periods.
    """

    held: tuple[object, ...] = ()
    power_w: float | None = None
    alike: int = 0
    new: int = 0

    def of(self, report: Report | None) -> float:
        """Return the power [W] to hold against a device; NaN while there is none."""
        if report is None:
            return math.nan
        held = (report.serial, report.floor, report.holds)
        self.new = 0 if held != self.held else self.new + (report.power_w != self.power_w)
        self.alike = 0 if held != self.held else self.alike + 1
        self.held, self.power_w = held, report.power_w
        sure = self.new >= 2 or self.alike >= _LONG
        return math.nan if report.power_w is None or not sure else report.power_w


@dataclass(slots=True)
class Budget:
    """Divides ``budget_w`` [W] over governors. Refused where one does not answer at first, or the budget is too low."""

    sidecars: Sequence[Sidecar]
    budget_w: float
    gone: Gone = "top"
    epoch: int = field(default_factory=lambda: int(time.time()))
    _governor: ClusterGovernor = field(init=False)
    _state: State = field(init=False)
    _known: list[Report] = field(init=False)  # what each told of its settings
    _silent: list[int] = field(init=False)
    _steady: list[_Steady] = field(init=False)
    _wrong: dict[int, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Ask what each may draw, and send all to their slowest settings."""
        found = at_once([each.report for each in self.sidecars], _WAIT_S)
        if refused := [each for each in found if isinstance(each, Refused)]:
            raise refused[0]
        reports = [each for each in found if isinstance(each, Report)]
        if missing := [self._name(at) for at, each in enumerate(found) if each is None]:
            raise Refused(f"no governor answers at {', '.join(missing)}; is amble govern --capacity running there?")
        self._silent = [0] * len(reports)
        self._begin(reports, ClusterGovernor(_frontiers(reports), self.budget_w))

    def step(self) -> Told:
        """Hear all, divide, and order: lower first, then raise."""
        reports = self._believed(self._heard())
        self._wrong = {at: why for at, why in self._wrong.items() if reports[at] is None}
        self._silent = [0 if each else number + 1 for each, number in zip(reports, self._silent, strict=True)]
        lost = np.array([each > _PATIENCE for each in self._silent])
        down = lost & (self.gone == "nothing")
        pairs = [self._rung(at, each, bool(lost[at])) for at, each in enumerate(reports)]
        powers = [None if each is None else each.power_w for each in reports]
        arrivals_hz = sum(each.arrivals_hz for each in reports if each is not None)
        base_hz = sum(_base_hz(each) for each, gone in zip(self._known, lost, strict=True) if not gone)
        seen = Seen(
            max(0.0, arrivals_hz - base_hz),
            np.array([rung for rung, _ in pairs], dtype=np.int64),
            np.array([serial for _, serial in pairs], dtype=np.int64),
            down,
            np.array([each.of(report) for each, report in zip(self._steady, reports, strict=True)], dtype=np.float64),
        )
        before, (self._state, orders) = self._state, self._governor.step(self._state, seen)
        for at in np.flatnonzero(self._state.caught & ~before.caught).tolist():
            _LOG.warning("%s draws more than the setting that it tells of: it is charged its top", self._name(at))
        self._send(zip(*(each.tolist() for each in orders), strict=True))
        caps = tuple(None if lost[at] else self._watts(at, int(rung)) for at, rung in enumerate(self._state.rung))
        known = [each for each in powers if each is not None]
        drawn_w = sum(known) if len(known) == len(powers) else None
        return Told(caps, float(self._state.possible_w[~down].sum()), drawn_w, arrivals_hz)

    def _begin(self, reports: Sequence[Report], governor: ClusterGovernor) -> None:
        self._known, self._governor, self._state = list(reports), governor, governor.init()
        self._steady = [_Steady() for _ in reports]
        self._send((at, 0, 0) for at in range(len(reports)))

    def _heard(self) -> list[Report | None]:
        """Ask all; who answers wrongly says nothing, and why is logged once."""
        found = at_once([each.report for each in self.sidecars], _WAIT_S)
        for at, each in enumerate(found):
            if isinstance(each, Refused):
                self._doubt(at, str(each))
        return [each if isinstance(each, Report) else None for each in found]

    def _believed(self, reports: list[Report | None]) -> list[Report | None]:
        """Begin anew where a governor has come back with other settings; while the budget is too low it stays gone."""
        other = {at for at, each in enumerate(reports) if each is not None and _told(each) != _told(self._known[at])}
        if not other:
            return reports
        known = [each or before for each, before in zip(reports, self._known, strict=True)]
        try:
            governor = ClusterGovernor(_frontiers(known), self.budget_w)
        except Refused as reason:
            for at in other:
                self._doubt(at, f"{self._name(at)} has come back with other settings, and {reason}")
            return [None if at in other else each for at, each in enumerate(reports)]
        self.epoch = max(self.epoch + 1, int(time.time()))
        self._silent = [0 if each else _PATIENCE for each in reports]  # nobody knows what the silent ones hold
        self._begin(known, governor)
        return reports

    def _doubt(self, at: int, why: str) -> None:
        if self._wrong.get(at) != why:
            _LOG.warning("%s: it counts as gone until that is mended", why)
        self._wrong[at] = why

    def _send(self, orders: Iterable[tuple[int, int, int]]) -> None:
        """Send orders (device, rung, serial)."""
        doors, serial, watts = self.sidecars, self._serial, self._watts
        at_once([partial(doors[at].order, serial(number), watts(at, rung)) for at, rung, number in orders], _WAIT_S)

    def _name(self, at: int) -> str:
        return str(getattr(self.sidecars[at], "url", at))

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


def _told(report: Report) -> tuple[object, ...]:
    """Return what a governor tells of its settings."""
    return report.most_w, report.speed, report.capacity_hz


def _base_hz(report: Report) -> float:
    """Return what a device serves on its slowest setting [1/s]."""
    return report.capacity_hz * min(report.speed)


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
        if not is_address(each):
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
