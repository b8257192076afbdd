"""A link to a board → Device: its clocks, its input rail's energy, and the board's own time.

Clocks are held on the board by the probe, which puts them back when the connection ends: nothing here has to outlive
this process.
"""

from __future__ import annotations

import contextlib
import weakref
from itertools import product

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import Device, Runner
from amble.devices.board.link import Link
from amble.devices.facts import Readings
from amble.devices.host import MonotonicClock

__all__ = ["BoardActuator", "BoardMeter", "open"]

_WANTED = {"host": ("cpu",), "gpu": ("core", "memory")}


def open(link: Link, what: str, runner: Runner, *, name: str, precisions: tuple[str, ...] = ("fp32",)) -> Device:  # noqa: A001
    """Open a board's ``host`` (its CPU) or ``gpu`` (with its memory clock). Nothing is changed until clocks are set."""
    if what not in _WANTED:
        raise Refused(f"{name}: a board has host and sysfs:gpu, not {what!r}; write ssh:user@board/sysfs:gpu")
    actuator = BoardActuator(link, _WANTED[what])
    weakref.finalize(actuator, link.close)
    board = link.hello["board"]
    return Device(name, MonotonicClock(), BoardMeter(link), actuator, runner, f"real: {board}", precisions)


class BoardMeter:
    """Energy at the board's input, as the probe adds it up; unknown on a board without a sensor there."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def read(self) -> Reading:
        """Return the board's time and energy; energy None where it has no sensor, or the board does not answer."""
        try:
            found = self._link.ask("meter")
        except Refused:
            return Reading(MonotonicClock().now_s(), None)
        return Reading(float(found["time_s"]), found["energy_j"])


class BoardActuator:
    """Holds the clocks of some domains of a board."""

    def __init__(self, link: Link, domains: tuple[str, ...]) -> None:
        self._link = link
        knobs = {each["domain"]: each["levels_hz"] for each in link.hello["knobs"] if each["domain"] in domains}
        self._domains = tuple(knobs)
        self._available = tuple(_clocks(dict(zip(knobs, each, strict=True))) for each in product(*knobs.values()))
        self._asked = Clocks()
        self._readings = Readings()

    def available(self) -> tuple[Clocks, ...]:
        """Return every combination of levels, slowest first; a single one where nothing can be set."""
        return self._available

    def current(self) -> Clocks:
        """Return the clocks that run; None for all while nothing is held."""
        if self._asked == Clocks():
            return Clocks()
        found = self._link.ask("clocks")["clocks"]
        reading = _clocks({domain: found[domain] for domain in self._domains})
        self._readings.note(reading, self._asked)
        return reading

    def apply(self, clocks: Clocks) -> None:
        """Hold these clocks; ``Clocks()`` puts back what was found."""
        asked = clocks if clocks in self._available else self._readings.asked(clocks)
        if asked == Clocks():
            if self._asked != Clocks():
                self._link.ask("restore")
        elif asked not in self._available:
            ends = f"{self._available[0]} to {self._available[-1]}"
            raise Refused(f"{self._link.address}: {asked} is not one of the board's settings ({ends})")
        else:
            self._hold(asked)
        self._asked = asked

    def _hold(self, asked: Clocks) -> None:
        """Hold all of these clocks, or leave what was held before: a board may keep one and refuse the next."""
        try:
            self._link.ask("set", clocks=_levels(asked))
        except Refused:
            with contextlib.suppress(Refused):
                if self._asked == Clocks():
                    self._link.ask("restore")
                else:
                    self._link.ask("set", clocks=_levels(self._asked))
            raise


def _levels(clocks: Clocks) -> dict[str, float]:
    wanted = {"core": clocks.core_hz, "memory": clocks.memory_hz, "cpu": clocks.cpu_hz}
    return {domain: hz for domain, hz in wanted.items() if hz is not None}


def _clocks(levels_hz: dict[str, float]) -> Clocks:
    return Clocks(levels_hz.get("core"), levels_hz.get("memory"), levels_hz.get("cpu"))
