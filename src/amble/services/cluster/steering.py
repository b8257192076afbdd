"""Reports of all devices -> who is there, whom to believe, and orders that keep a power budget.

One task for each device asks it for a report and brings its newest order along; one more divides the budget anew every
few seconds, and at once where no device could answer a request in time or a device has died. The decisions are the
pure governor's (`governor`): lower first, then raise.

A device whose process has ended is taken to draw what it draws parked: nothing computes there any more. One that merely
says nothing keeps its whole charge.

What a device says of its clocks is compared with what it was asked for. A driver that keeps to them runs at them or
below (throttled); one that runs above has not obeyed, or does not tell the truth. It is said, and its meter decides: a
device that draws more than its step allows is charged its top step from then on, and parked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import numpy as np

from amble.core.point import DOMAINS, Clocks
from amble.services.cluster.capping import Steps, frontiers, steps_of
from amble.services.cluster.governor import SILENT, ClusterGovernor, Seen, State
from amble.services.cluster.reports import Gone, Order, Report, Served
from amble.services.cluster.upstreams import Upstream
from amble.stages.control.engine import Totals

__all__ = ["Steering", "overrun"]

_LOG = logging.getLogger(__name__)
_PATIENCE_S = 5.0
_LEAST_DEMAND_HZ = 1.0  # so that one device at least is awake
_SOONEST_S = 0.25  # between two divisions
_ABOVE = 1.02
_ALIKE = 2
_TIMES = 3  # reports in a row that must say the same before a device is said to lie


def overrun(asked: Clocks | None, ran: Clocks | None) -> str:
    """Say which clock runs above the one that was asked for; empty where none does."""
    if asked is None or ran is None:
        return ""
    for domain in DOMAINS:
        want_hz, have_hz = asked.of(domain), ran.of(domain)
        if want_hz is not None and have_hz is not None and have_hz > _ABOVE * want_hz:
            return f"{domain} was asked for at {want_hz / 1e6:.0f} MHz and runs at {have_hz / 1e6:.0f} MHz"
    return ""


@dataclass(slots=True)
class _Energy:
    """What a device's meter has counted, over all its starts."""

    boot: str = ""
    first_j: float | None = None
    last_j: float | None = None
    before_j: float = 0.0
    last_s: float = 0.0
    power_w: float = float("nan")
    heard_s: float = 0.0
    held: tuple[int, int] = (0, -1)
    alike: int = 0

    def take(self, report: Report) -> None:
        """Add a report."""
        self.heard_s = time.monotonic()
        if report.boot != self.boot:
            if self.first_j is not None and self.last_j is not None:
                self.before_j += self.last_j - self.first_j
            self.boot, self.first_j, self.last_j = report.boot, report.energy_j, report.energy_j
            self.last_s, self.power_w, self.alike = report.time_s, float("nan"), 0
            return
        held = (report.step, report.serial)
        self.held, self.alike = held, self.alike + 1 if held == self.held else 0
        passed_s = report.time_s - self.last_s
        if passed_s <= 0:
            return
        known = report.energy_j is not None and self.last_j is not None
        self.power_w = (report.energy_j - self.last_j) / passed_s if known else float("nan")  # type: ignore[operator]
        self.last_j, self.last_s = report.energy_j, report.time_s

    @property
    def steady_w(self) -> float:
        """Return the power [W] if the step was the same all the while; a meter is read a beat before its report."""
        return self.power_w if self.alike >= _ALIKE else float("nan")

    def until_j(self, now_s: float) -> float | None:
        """Return all of it [J] until now, by the last power since the last report; None where nothing is known."""
        if self.total_j is None or np.isnan(self.power_w):
            return self.total_j
        return self.total_j + self.power_w * min(_PATIENCE_S, now_s - self.heard_s)

    @property
    def total_j(self) -> float | None:
        """Return all of it [J]; None where nothing was ever measured."""
        if self.first_j is None or self.last_j is None:
            return None
        return self.before_j + self.last_j - self.first_j


@dataclass(slots=True)
class Steering:
    """Keeps watch over ``upstreams``, and divides ``budget_w`` [W] among them, if given.

    ``arrived`` counts the rows that came so far, refused ones included; ``fits`` says in what a device's models differ
    from the others' (empty: in nothing); ``heard`` is called after every report.
    """

    upstreams: Sequence[Upstream]
    budget_w: float | None = None
    arrived: Callable[[], int] = lambda: 0
    fits: Callable[[Sequence[Served]], str] = lambda served: ""
    heard: Callable[[], None] = lambda: None
    period_s: float = 2.0
    beat_s: float = 0.5
    governor: ClusterGovernor | None = field(init=False, default=None)
    state: State | None = field(init=False, default=None)
    disbelieved: dict[str, str] = field(init=False, default_factory=dict)
    _energy: dict[Upstream, _Energy] = field(init=False, default_factory=dict)
    _boots: dict[Upstream, tuple[str, int]] = field(init=False, default_factory=dict)
    _doubts: dict[Upstream, int] = field(init=False, default_factory=dict)
    _fresh: set[Upstream] = field(init=False, default_factory=set)
    _told_j: float = field(init=False, default=0.0)
    _hurry: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def begin(self) -> None:
        """Work out what can be given to whom, once all devices have described themselves.

        Refused where a device has no meter, or the budget is below what all draw parked.
        """
        self._energy = {upstream: _Energy() for upstream in self.upstreams}
        if self.budget_w is None:
            return
        steps: list[Steps] = []
        for upstream in self.upstreams:
            upstream.known = steps_of([each.ladder for each in upstream.served.values()], upstream.name)
            steps.append(upstream.known)
        self.governor = ClusterGovernor(frontiers(steps), self.budget_w)
        self.state = self.governor.init()

    def energy_j(self) -> float | None:
        """Return what all meters have counted [J], since their reports too; None where one of them tells nothing."""
        now_s = time.monotonic()
        found = [each.until_j(now_s) for each in self._energy.values()]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        self._told_j = max(self._told_j, sum(known))
        return self._told_j

    def totals(self, served: Totals) -> Totals:
        """Return what was served at the door, with what devices say of their clocks and energies since their starts."""
        reports = [upstream.report.totals for upstream in self.upstreams if upstream.report is not None]
        active = [each.active_j for each in reports]
        idle = [each.idle_j for each in reports]
        return replace(
            served,
            changes=sum(each.changes for each in reports),
            unchanged=sum(each.unchanged for each in reports),
            active_j=_sum(active),
            idle_j=_sum(idle),
        )

    def text(self) -> str:
        """Return what is known of each device as metrics."""
        up = [(upstream, float(upstream.up)) for upstream in self.upstreams]
        steps = [
            (upstream, float(upstream.report.step))
            for upstream in self.upstreams
            if upstream.report is not None and upstream.known
        ]
        watts = [(upstream, power_w) for upstream in self.upstreams if (power_w := self.power_w(upstream)) is not None]
        doubt = [(upstream, float(upstream.name in self.disbelieved)) for upstream in self.upstreams]
        page = (
            _metric("amble_device_up", "Whether a device takes requests", up)
            + _metric("amble_device_step", "The step of its power that a device holds, 0 parked", steps)
            + _metric("amble_device_power_watts", "What its meter said last", watts)
            + _metric("amble_device_disbelieved", "Whether clocks or meter contradict what a device says", doubt)
        )
        if self.budget_w is not None:
            page += "# HELP amble_power_budget_watts Power for all devices together\n"
            page += f"# TYPE amble_power_budget_watts gauge\namble_power_budget_watts {self.budget_w:g}\n"
        return page

    def power_w(self, upstream: Upstream) -> float | None:
        """Return a device's mean power between its last two reports [W]; None where it is unknown."""
        power_w = self._energy[upstream].power_w
        return None if np.isnan(power_w) else power_w

    def hurry(self) -> None:
        """Divide anew soon: a request could not be answered in time."""
        self._hurry.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep watch while the block runs."""
        await asyncio.gather(*(self._heard(upstream, 0.0) for upstream in self.upstreams))
        if self.governor is not None:  # all are parked: wake as many as there is always work for
            self.step(1.0, 0)
            await asyncio.gather(*(self._heard(upstream, 0.0) for upstream in self.upstreams))
        tasks = [asyncio.create_task(self._watch(upstream)) for upstream in self.upstreams]
        if self.governor is not None:
            tasks.append(asyncio.create_task(self._divide()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, upstream: Upstream) -> None:
        """Ask a device how it is, for as long as the door is open."""
        while True:
            if not await self._heard(upstream, self.beat_s):
                await asyncio.sleep(self.beat_s)

    async def _heard(self, upstream: Upstream, wait_s: float) -> bool:
        """Hear a device, or do without it."""
        try:
            async with asyncio.timeout(wait_s + _PATIENCE_S):
                await self.hear(upstream, wait_s)
        except Gone as gone:
            self._lose(upstream, str(gone), dead=gone.dead)
        except TimeoutError:
            self._lose(upstream, f"it has said nothing for {_PATIENCE_S:g} s", dead=False)
        except Exception as error:  # a watch that ends would leave the device out for ever
            _LOG.exception("%s", upstream.name)
            self._lose(upstream, f"{type(error).__name__}: {error}", dead=False)
        return upstream.up

    async def hear(self, upstream: Upstream, wait_s: float = 0.0) -> None:
        """Send a device its order and take its report; what it serves too where that may have changed."""
        report = await upstream.link.report(upstream.order, wait_s)
        self._energy.setdefault(upstream, _Energy()).take(report)
        boot = (report.boot, report.changed)
        if self._boots.get(upstream) != boot:
            upstream.serves(await upstream.link.describe())
            differs = self.fits(tuple(upstream.served.values()))
            if differs:
                self._lose(upstream, differs, dead=False)
                return
            self._boots[upstream] = boot
        self._doubt(upstream, report)
        self._fresh.add(upstream)
        upstream.report, upstream.dead, upstream.doubted = report, False, False
        self.heard()
        if not report.working:
            upstream.fall("its engine has stopped", dead=False)
        elif not upstream.up:
            upstream.up, upstream.why = True, ""
            _LOG.info("%s takes requests", upstream.name)

    def step(self, passed_s: float, rows: int) -> None:
        """Divide the budget once: ``rows`` came in so much time [s]."""
        assert self.governor is not None
        assert self.state is not None
        reports = [upstream.report if upstream in self._fresh else None for upstream in self.upstreams]
        self._fresh.clear()
        demand_hz = max(_LEAST_DEMAND_HZ, rows / passed_s)
        seen = Seen(
            demand_hz,
            np.array([SILENT if each is None else each.step for each in reports]),
            np.array([SILENT if each is None else each.serial for each in reports]),
            np.array([upstream.dead for upstream in self.upstreams]),
            np.array([self._energy[upstream].steady_w for upstream in self.upstreams]),
        )
        self.state, orders = self.governor.step(self.state, seen)
        for device, step, serial in zip(*(each.tolist() for each in orders), strict=True):
            self.upstreams[device].order = Order(step, serial)
        for upstream, caught in zip(self.upstreams, self.state.caught.tolist(), strict=True):
            if caught and upstream.name not in self.disbelieved:
                self._say(upstream, "its meter says more than the step that it reports may draw: it is parked")

    async def _divide(self) -> None:
        """Divide the budget every period, and sooner when something asks for it."""
        loop = asyncio.get_running_loop()
        last_s, last_rows = loop.time(), self.arrived()
        while True:
            await asyncio.sleep(_SOONEST_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self.period_s - _SOONEST_S)):
                    await self._hurry.wait()
            self._hurry.clear()
            now_s, rows = loop.time(), self.arrived()
            self.step(now_s - last_s, rows - last_rows)
            last_s, last_rows = now_s, rows

    def _lose(self, upstream: Upstream, why: str, *, dead: bool) -> None:
        """Do without a device until it reports again; what it leaves is divided at once."""
        upstream.fall(why, dead=dead)
        self._hurry.set()

    def _doubt(self, upstream: Upstream, report: Report) -> None:
        """Say so where a device's clocks have run above those asked for in several reports."""
        told = overrun(report.asked, report.ran)
        self._doubts[upstream] = self._doubts.get(upstream, 0) + 1 if told else 0
        if self._doubts[upstream] == _TIMES:
            self._say(upstream, told)

    def _say(self, upstream: Upstream, why: str) -> None:
        self.disbelieved[upstream.name] = why
        _LOG.warning("%s is not believed: %s", upstream.name, why)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) if known and len(known) == len(values) else None


def _metric(name: str, help_text: str, rows: Sequence[tuple[Upstream, float]]) -> str:
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
    lines += [f'{name}{{device="{upstream.name}"}} {value:g}' for upstream, value in rows]
    return "\n".join(lines) + "\n" if rows else ""
