"""Pages, head and hands → a Log: the loop that governs, in the time of the device.

Whatever goes wrong, the clocks are put back first and spoken of after: a page that does not come or cannot be trusted,
a setting that is refused or not kept, a log that cannot be written, an error of our own, the end. What the process
cannot do because it was killed, the lease of the device does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from amble.core import files
from amble.core.errors import Refused
from amble.core.log import FORMAT, Governed, Log, Period
from amble.core.point import Clocks
from amble.core.ports import Clock
from amble.core.subject import Subject, Where
from amble.services.govern.eyes import Eyes, Look, Memory
from amble.services.govern.fetch import Fetch, Gone
from amble.services.govern.hands import Hands
from amble.services.govern.head import AS_FOUND, Choice, Head, Seen, State

__all__ = ["Journal", "Sight", "Told", "govern", "replayed"]

_NOT_KEPT = 2  # periods in a row after which the hands let go
_LET_GO_S = 15.0  # that they do not ask again then


@dataclass(frozen=True, slots=True)
class Sight:
    """One server: how its page is got, and how it is read."""

    fetch: Fetch
    eyes: Eyes


@dataclass(frozen=True, slots=True)
class Told:
    """What ``on_period`` is told: the server's number, its period and its choice."""

    server: int
    period: Period
    choice: Choice


class Journal:
    """Periods of one server → a Log, saved every ``every_s`` [s] so that little is lost with the process."""

    def __init__(self, governed: Governed, device: str, calibration: str, path: Path | None, every_s: float) -> None:
        self.periods: list[Period] = []
        self._about = (governed, device, calibration)
        self._path = path
        self._every_s = every_s
        self._saved_s: float | None = None

    def add(self, period: Period) -> None:
        """Take a period."""
        self.periods.append(period)
        self._saved_s = period.start_s if self._saved_s is None else self._saved_s

    def log(self, num_changes: int = 0) -> Log:
        """Return what happened so far."""
        governed, device, calibration = self._about
        start_s = self.periods[0].start_s if self.periods else 0.0
        finish_s = self.periods[-1].finish_s if self.periods else 0.0
        energies = [each.energy_j for each in self.periods]
        known = [each for each in energies if each is not None]
        energy_j = sum(known) if known and len(known) == len(energies) else None
        policy = "amble govern" if governed.acts else "watch"
        subject, where = Subject(governed.server), Where(device, calibration)
        about = Log(subject, where, policy, "as it came", (), start_s, finish_s, energy_j)
        return replace(about, governed=governed, periods=tuple(self.periods), num_changes=num_changes)

    def save(self, now_s: float, num_changes: int, *, last: bool = False) -> str:
        """Save when it is time; return a note when the file cannot be written."""
        if self._path is None or self._saved_s is None or not (last or now_s - self._saved_s >= self._every_s):
            return ""
        try:
            files.save(self.log(num_changes), self._path, FORMAT)
        except Refused as reason:
            return str(reason)
        self._saved_s = now_s
        return ""


def govern(
    sights: Sequence[Sight],
    heads: Sequence[Head],
    hands: Hands,
    clock: Clock,
    *,
    until: Callable[[float], bool],
    journals: Sequence[Journal],
    on_period: Callable[[Told], None] = lambda told: None,
) -> None:
    """Govern until told to stop; several servers on the same devices are served by the fastest that any one needs."""
    watch = _Watch(sights, heads, hands, clock)
    try:
        while not until(clock.now_s()):
            choices = watch.period(journals, on_period)
            clock.sleep(min(each.look_s for each in choices))
    finally:
        hands.release()
        for journal in journals:
            journal.save(clock.now_s(), hands.changes, last=True)


def replayed(head: Head, log: Log) -> list[int]:
    """Return the settings that a head chooses on the periods of a log; the log has the same in ``decided``."""
    assert log.governed is not None, "a log of a watcher"
    state, found = head.init(log.periods[0].start_s), []
    for each in log.periods:
        ran = _ran(log.governed, each)
        power_w = each.energy_j / each.span_s if each.energy_j is not None and each.span_s > 0 else None
        state, choice = head.step(state, Seen(_look(each), power_w, ran))
        found.append(choice.setting)
    return found


class _Watch:
    """The state of the loop: a memory and a state of mind for each server, and the last reading of the meter."""

    def __init__(self, sights: Sequence[Sight], heads: Sequence[Head], hands: Hands, clock: Clock) -> None:
        self._sights, self._heads, self._hands, self._clock = sights, heads, hands, clock
        self._memories = [Memory() for _ in sights]
        self._reading = hands.read()
        self._states: list[State] = [head.init(self._reading.time_s) for head in heads]
        self._ran = AS_FOUND
        self._control = False
        self._lost = 0
        self._rest_until_s = -math.inf
        self._unsaved = ""

    def period(self, journals: Sequence[Journal], on_period: Callable[[Told], None]) -> list[Choice]:
        """Look at every server, learn, ask for the next setting, and write it down."""
        looks = [self._look(index) for index in range(len(self._sights))]
        before, self._reading = self._reading, self._hands.read()
        span_s = self._reading.time_s - before.time_s
        energy_j = None
        if before.energy_j is not None and self._reading.energy_j is not None:
            energy_j = self._reading.energy_j - before.energy_j
        asked, ran, control = self._hands.asked, self._ran, self._control
        got, gone = self._got()
        power_w = energy_j / span_s if energy_j is not None and span_s > 0 else None
        note = gone or self._kept(got)
        looks = [look._replace(time_s=self._reading.time_s, span_s=span_s) for look in looks]
        choices = [self._step(index, Seen(look, power_w, ran)) for index, look in enumerate(looks)]
        note = "; ".join(filter(None, (note, self._ask(choices, note), self._unsaved)))
        for index, (look, choice) in enumerate(zip(looks, choices, strict=True)):
            period = Period(
                before.time_s, self._reading.time_s, asked, got, control, look.usable, look.arrivals, look.finished,
                look.waiting, look.running, look.prompt_tokens, look.output_tokens, look.counts, energy_j,
                "; ".join(filter(None, (look.note, note))), choice.setting,
            )  # fmt: skip
            journals[index].add(period)
            on_period(Told(index, period, choice))
        self._save(journals)
        return choices

    def _look(self, index: int) -> Look:
        sight, now_s = self._sights[index], self._clock.now_s()
        try:
            text = sight.fetch()
        except Gone as reason:
            self._hands.rest()
            self._memories[index] = Memory()
            nothing = tuple((0.0,) * (len(edges) + 1) for edges in sight.eyes.edges_s)
            return Look(now_s, 0.0, 0.0, 0.0, None, None, 0.0, 0.0, nothing, False, str(reason))
        self._memories[index], look = sight.eyes.look(self._memories[index], text, self._clock.now_s())
        return look

    def _step(self, index: int, seen: Seen) -> Choice:
        self._states[index], choice = self._heads[index].step(self._states[index], seen)
        return choice

    def _got(self) -> tuple[Clocks, str]:
        """Return the clocks that run; of a card that cannot be asked nothing is known, and why."""
        try:
            return self._hands.got(), ""
        except Refused as reason:
            return Clocks(), str(reason)

    def _kept(self, got: Clocks) -> str:
        """Count the periods in which other clocks ran than were asked for; let go after a few."""
        lapsed = self._hands.lapsed()
        if self._hands.kept(got):
            self._lost = 0
            return ""
        if lapsed:
            self._lost = 0
            return "amble was late itself, or stopped: clocks were put back meanwhile"
        self._lost += 1
        if self._lost < _NOT_KEPT:
            return ""
        self._lost = 0
        self._rest_until_s = self._reading.time_s + _LET_GO_S
        self._hands.refusals += 1
        return f"asked for {self._hands.asked}, but {got} runs: heat, a power limit or another program; let go"

    def _ask(self, choices: Sequence[Choice], lost: str) -> str:
        """Ask for the fastest setting that any server needs; as found when one server needs that, or the log cannot be
        written."""
        setting = min(each.setting for each in choices)
        if lost or self._unsaved or self._reading.time_s < self._rest_until_s:
            setting = AS_FOUND
        note = self._hands.ask(setting)
        asked, settings = self._hands.asked, self._hands.settings
        self._ran = settings.index(asked) if asked in settings else AS_FOUND
        self._control = setting == self._ran == AS_FOUND and all(each.control for each in choices) and not lost
        return note

    def _save(self, journals: Sequence[Journal]) -> None:
        notes = [each.save(self._reading.time_s, self._hands.changes) for each in journals]
        unsaved = "; ".join(filter(None, notes))
        if unsaved and not self._unsaved:
            self._hands.rest()
            self._ran = AS_FOUND
        self._unsaved = unsaved


def _ran(governed: Governed, period: Period) -> int:
    return governed.settings.index(period.asked) if period.asked in governed.settings else AS_FOUND


def _look(period: Period) -> Look:
    return Look(
        period.finish_s, period.span_s, period.arrivals, period.finished, period.waiting, period.running,
        period.prompt_tokens, period.output_tokens, period.counts, period.usable, period.note,
    )  # fmt: skip
