"""An NVIDIA GPU → Device: clocks locked through NVML, energy from its counter.

Until clocks are locked they wander with the driver: ``current()`` then says None for them, and applying ``Clocks()``
puts back what was found. NVML cannot tell whether another program had locked the clocks; releasing our lock releases
that one too. Application clocks (boards older than Volta) can be read, and are put back as they were.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import Clock, Device, Meter, Runner
from amble.devices.facts import Description, Found, Readings
from amble.devices.host import MonotonicClock, Unmetered
from amble.devices.nvml.board import Board, Unsupported, num_boards

__all__ = ["NvmlActuator", "NvmlMeter", "PowerMeter", "describe", "open", "put_back"]

_MIG = "the board is divided (MIG): its clocks and its energy belong to all its instances; turn MIG off to set them"


def open(  # noqa: A001
    which: int | str,
    runner: Runner,
    *,
    clock: Clock | None = None,
    power_period_s: float | None = None,
    precisions: tuple[str, ...] = ("fp32",),
    calibration: str = "real",
) -> Device:
    """Open a GPU by its index or UUID. Nothing is changed until clocks are applied.

    Energy is the board's counter. Without a counter it is unknown, unless ``power_period_s`` [s] asks for the sum of
    power readings that far apart instead.
    """
    board, clock = Board(which), clock or MonotonicClock()
    meter = _meter(board, clock, power_period_s)
    return Device(f"nvml:{which}", clock, meter, NvmlActuator(board), runner, calibration, precisions)


def describe() -> tuple[Description, ...]:
    """Describe every GPU; one entry that says what is missing when NVML does not work here."""
    try:
        count = num_boards()
    except Refused as reason:
        return (Description("nvml", "real", "unknown", "unknown", (str(reason),)),)
    return tuple(_description(Board(index)) for index in range(count))


def put_back(values: Iterable[tuple[str, str]]) -> None:
    """Put back what ``NvmlActuator.found`` returned, also from another process than the one that changed it."""
    found = dict(values)
    board = Board(found["gpu"])
    board.unlock()
    if "application" in found:
        memory_hz, core_hz = (float(word) for word in found["application"].split(","))
        if board.application_clocks_hz() != (memory_hz, core_hz):
            board.set_application_clocks(memory_hz, core_hz)


class NvmlActuator:
    """Locks core and memory clock. A memory clock with one level, or one that cannot be locked, is left alone."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._shared = board.mig
        self._settings = (Clocks(),) if self._shared else _settings(board)
        self._sets_memory = len({each.memory_hz for each in self._settings}) > 1
        self._found: Found | None = None
        self._asked = Clocks()
        self._readings = Readings()

    def available(self) -> tuple[Clocks, ...]:
        """Return every pair of clocks that the board supports, slowest first."""
        return self._settings

    def current(self) -> Clocks:
        """Return the clocks that run; None for all while nothing is locked."""
        if self._found is None:
            return Clocks()
        memory_hz = None if self._asked.memory_hz is None else self._board.memory_hz()
        reading = Clocks(self._board.core_hz(), memory_hz)
        self._readings.note(reading, self._asked)
        return reading

    def apply(self, clocks: Clocks) -> None:
        """Lock these clocks; ``Clocks()`` puts back what was found; a reading of ``current()`` what was asked then."""
        asked = clocks if clocks in self._settings else self._readings.asked(clocks)
        if asked == Clocks():
            self._release()
        elif self._shared:
            raise Refused(f"nvml:{self._board.which}: {_MIG}")
        elif asked not in self._settings:
            ends = f"{self._settings[0]} to {self._settings[-1]}"
            raise Refused(f"nvml:{self._board.which}: {asked} is not one of the board's settings ({ends})")
        else:
            self._hold(asked)

    def found(self) -> Found:
        """Return what was found, or what there is now while nothing is locked."""
        return self._found or self._in_force()

    def _in_force(self) -> Found:
        values = [("gpu", self._board.uuid)]
        application = None if self._board.locks_core else self._board.application_clocks_hz()
        if application is not None:
            values.append(("application", f"{application[0]:.0f},{application[1]:.0f}"))
        return Found("nvml", tuple(values))

    def _hold(self, asked: Clocks) -> None:
        before = self._in_force()
        assert asked.core_hz is not None, "a setting of ours names the core clock"
        if not self._board.locks_core:
            assert asked.memory_hz is not None, "application clocks come in pairs"
            self._board.set_application_clocks(asked.memory_hz, asked.core_hz)
        else:
            self._lock(asked.core_hz, asked.memory_hz if self._sets_memory else None)
        self._found = self._found or before
        self._asked = asked

    def _lock(self, core_hz: float, memory_hz: float | None) -> None:
        self._board.lock_core(core_hz)
        if memory_hz is None:
            return
        try:
            self._board.lock_memory(memory_hz)
        except Refused:
            self._undo()
            raise

    def _undo(self) -> None:
        """Go back to the setting before the one whose memory clock failed: only the core clock has changed."""
        if self._asked.core_hz is None:
            self._board.unlock()
        else:
            self._board.lock_core(self._asked.core_hz)

    def _release(self) -> None:
        if self._found is not None:
            put_back(self._found.values)
        self._found, self._asked = None, Clocks()


class NvmlMeter:
    """The board's energy counter. It moves every 10 to 100 ms: measure windows of many such periods."""

    def __init__(self, board: Board, clock: Clock) -> None:
        self._board = board
        self._clock = clock

    def read(self) -> Reading:
        """Return time and energy since the driver was loaded; energy None when the board does not answer."""
        try:
            return Reading(self._clock.now_s(), self._board.energy_j())
        except Refused:
            return Reading(self._clock.now_s(), None)


class PowerMeter:
    """Adds up power readings a period [s] apart, in a thread of its own, for boards without a counter.

    Polling costs time on some boards: keep it out of latency runs. Energy is unknown from the first reading that fails.
    """

    def __init__(self, board: Board, clock: Clock, period_s: float) -> None:
        self._board = board
        self._clock = clock
        self._period_s = period_s
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._last: tuple[float, float] | None = None
        self._total_j: float | None = 0.0
        threading.Thread(target=self._poll, name="amble power meter", daemon=True).start()

    def read(self) -> Reading:
        """Take a power reading now, and return time and energy since the first one."""
        self._sample()
        with self._guard:
            return Reading(self._clock.now_s(), self._total_j)

    def close(self) -> None:
        """Stop polling."""
        self._stop.set()

    def _poll(self) -> None:
        while not self._stop.wait(self._period_s):
            self._sample()

    def _sample(self) -> None:
        with self._guard:
            try:
                now = (self._clock.now_s(), self._board.power_w())
            except Refused:
                self._total_j = None
                return
            if self._last is not None and self._total_j is not None:
                before_s, before_w = self._last
                self._total_j += (now[0] - before_s) * (before_w + now[1]) / 2
            self._last = now


def _settings(board: Board) -> tuple[Clocks, ...]:
    try:
        memory_hz = board.memory_levels_hz()
    except Unsupported:
        return (Clocks(),)
    if len(memory_hz) > 1 and board.locks_core and not board.locks_memory:
        return tuple(Clocks(core_hz) for core_hz in board.core_levels_hz(memory_hz[-1]))
    pairs = [Clocks(core_hz, each_hz) for each_hz in memory_hz for core_hz in board.core_levels_hz(each_hz)]
    return tuple(sorted(pairs)) or (Clocks(),)


def _meter(board: Board, clock: Clock, power_period_s: float | None) -> Meter:
    if board.mig:
        return Unmetered(clock)
    try:
        board.energy_j()
    except Unsupported:
        return Unmetered(clock) if power_period_s is None else PowerMeter(board, clock, power_period_s)
    return NvmlMeter(board, clock)


def _description(board: Board) -> Description:
    if board.mig:
        return Description(f"nvml:{board.which}", "real", f"{board.name}: fixed clocks", "unknown", (_MIG,))
    settings = _settings(board)
    cores, memories = ({each.core_hz for each in settings}, {each.memory_hz for each in settings} - {None})
    clocks = f"{board.name}: core {len(cores)} levels, memory {len(memories)}, limit {board.power_limit_w():g} W"
    missing = [] if os.geteuid() == 0 else ["locking clocks needs root, in containers too"]
    meter = "NVML energy counter"
    try:
        board.energy_j()
    except Unsupported:
        meter = "unknown"
        missing.append("this board has no energy counter; open it with power_period_s to add up power readings")
    return Description(f"nvml:{board.which}", "real", clocks, meter, tuple(missing))
