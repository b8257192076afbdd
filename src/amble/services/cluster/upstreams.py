"""What a door knows of each device behind it: is it there, what waits for it, how fast and how dear it is.

A request is quoted by the rungs that the device's step allows: the cheapest one that still finishes in time. Where not
all devices have meters nobody knows which is cheaper, so time is what counts then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from amble.core.ladder import Ladder
from amble.services.cluster.capping import Steps, capped
from amble.services.cluster.reports import Answered, Call, Gone, Link, Order, Report, Served, Turned
from amble.services.cluster.routing import Queues, choose

__all__ = ["Quote", "Upstream", "chosen"]

_LOG = logging.getLogger(__name__)
_LEARN = 0.1
_SOON_S = 0.1  # within which a request without a deadline is to be answered, if that can be


class _Way(NamedTuple):
    """A rung as a door reckons with it, by rising energy."""

    row_s: float
    row_j: float


class Quote(NamedTuple):
    """When [s] a device is done with what waits, then how long [s] a request takes, and its energy [J]."""

    free_s: float
    row_s: float
    row_j: float


@dataclass(eq=False, slots=True)
class Upstream:
    """One device behind a door.

    ``up``: it answers reports, and serves what the others serve. ``open``: it is given work (not while it changes its
    models). ``known``: steps of its power, None without a budget. ``way_s`` is the time [s] that travelling takes.
    ``doubted``: it left a request without a word, and has not reported or answered since; others are asked first.
    """

    name: str
    link: Link
    capped: bool = False
    up: bool = False
    open: bool = True
    served: dict[tuple[str, str], Served] = field(default_factory=dict)
    known: Steps | None = None
    order: Order | None = None
    report: Report | None = None
    why: str = "it has not reported yet"
    dead: bool = False
    doubted: bool = False
    rows: int = 0
    way_s: float = 0.004
    _ways: dict[tuple[str, str, int], tuple[tuple[_Way, ...], float]] = field(default_factory=dict)
    _calls: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def step(self) -> int:
        """Return the step up to which it may be given work: what it holds, and no more than it was last told."""
        if self.known is None:
            return -1
        if self.report is None or self.order is None:
            return 0
        return min(self.report.step, self.order.step)

    @property
    def takes(self) -> bool:
        """Tell whether it may be given work."""
        return self.up and self.open and self.step != 0

    def serves(self, served: Sequence[Served]) -> None:
        """Take what it says that it serves."""
        self.served = {(each.name, each.version): each for each in served}
        self._ways.clear()

    def of(self, name: str, version: str) -> Served | None:
        """Return a model in a version, in its highest where none is named."""
        if version:
            return self.served.get((name, version))
        return next((each for (known, _), each in self.served.items() if known == name), None)

    def quote(self, served: Served, now_s: float, due_s: float, rows: int) -> Quote:
        """Say what a request of so many rows would take here."""
        key = (served.name, served.version, self.step)
        if key not in self._ways:
            self._ways[key] = _ways(served.ladder, self._limit_w())
        ways, each_s = self._ways[key]
        free_s = now_s + self.way_s + self.rows * each_s
        for way in ways:
            if free_s + rows * way.row_s <= due_s:
                return Quote(free_s, way.row_s, way.row_j)
        return Quote(free_s, *min(ways))

    async def ask(self, call: Call, rows: int) -> Answered | Turned:
        """Have a request answered here; Gone when the device dies meanwhile, or is given up."""
        task = asyncio.ensure_future(self.link.infer(call))
        self._calls.add(task)
        self.rows += rows
        try:
            return await task
        except asyncio.CancelledError:
            mine = asyncio.current_task()
            if mine is not None and mine.cancelling():
                task.cancel()
                raise
            raise Gone(f"{self.name} was given up") from None
        finally:
            self.rows -= rows
            self._calls.discard(task)

    def travelled(self, took_s: float, service_s: float) -> None:
        """Learn from an answer how long travelling takes."""
        self.way_s += _LEARN * (max(0.0, took_s - service_s) - self.way_s)

    def fall(self, why: str, *, dead: bool) -> None:
        """Give it no more work, and take back what it has; ``dead``: its process is known to have ended."""
        if self.up:
            _LOG.warning("%s is left out: %s", self.name, why)
        self.up, self.why, self.dead = False, why, dead or (self.dead and not self.up)
        if self.dead:
            self.report = self.order = None  # what was on its way is lost with it; it starts parked
        for task in tuple(self._calls):
            task.cancel()

    def _limit_w(self) -> float | None:
        return None if self.known is None else self.known.power_w[min(self.step, self.known.top)]


def _ways(ladder: Ladder, limit_w: float | None) -> tuple[tuple[_Way, ...], float]:
    """Return the rungs of the most accurate level within a power, the cheapest first, and how quick a queue goes."""
    rungs = (ladder if limit_w is None else capped(ladder, limit_w)).levels[0].rungs
    sure = ladder.margin
    found = sorted(
        (_Way(sure * each.latency_s[0], float("nan") if each.energy_j is None else each.energy_j[0]) for each in rungs),
        key=lambda way: (way.row_j if ladder.metered else way.row_s, way.row_s),
    )
    return tuple(found), sure / max(each.capacity_hz for each in rungs)


def chosen(
    upstreams: Sequence[Upstream], name: str, version: str, *, now_s: float, due_s: float, rows: int
) -> tuple[Upstream, bool] | None:
    """Return the device that answers in time for the least energy, else the one that is quickest; whether in time.

    Devices that are in doubt are asked only where no other is left. None where no device takes work for this model now.
    """
    able = [
        (upstream, served)
        for upstream in upstreams
        if upstream.takes and (served := upstream.of(name, version)) is not None
    ]
    able = [each for each in able if not each[0].doubted] or able
    if not able:
        return None
    due_s = min(due_s, now_s + max(_SOON_S, 10 * able[0][1].ladder.rungs[0].latency_s[0])) if due_s == np.inf else due_s
    quotes = [upstream.quote(served, now_s, due_s, rows) for upstream, served in able]
    queues = Queues(*(np.array(column) for column in zip(*quotes, strict=True)))
    if np.isnan(queues.row_j).any():
        queues = queues._replace(row_j=np.zeros(len(quotes)))
    choice = choose(queues, now_s, due_s, rows)
    if choice.device is not None:
        return able[choice.device][0], True
    return able[int(np.argmin(queues.free_s + rows * queues.row_s))][0], False
