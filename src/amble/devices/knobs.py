"""Clock files of Linux → Actuator: bounds that hold a clock at a level, rates with a lock, limits of power.

A knob is held by setting its lower and upper bound to the same level. What was found is kept as (path, text) pairs, so
that another process can put it back. Until a knob is held its clock wanders with the governor: ``current()`` then
says None for it, and applying ``Clocks()`` gives every knob back as it was found.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, Protocol

from amble.core.errors import Refused
from amble.core.point import Clocks, Domain
from amble.devices.facts import Found, Readings

__all__ = [
    "BoundedKnob",
    "Bounds",
    "FileActuator",
    "Knob",
    "LockedKnob",
    "missing_writes",
    "put_back",
    "read_text",
    "write_text",
]

Kind = Literal["core", "memory", "cpu", "limit"]
"""What a knob sets: one of the clocks, or a power limit."""

_FELT_S = 0.012  # Jetson Orin: at most 11 ms, of the memory clock


class Knob(Protocol):
    """One clock domain, or a power limit, that can be held at a level."""

    @property
    def kind(self) -> Kind:
        """Return which clock this is, or that it is a limit."""
        ...

    @property
    def levels(self) -> tuple[float, ...]:
        """Return the legal clocks [Hz] or limits [W], lowest first."""
        ...

    def read(self) -> float:
        """Return the clock that runs [Hz], the limit in force [W]."""
        ...

    def hold(self, level: float) -> None:
        """Hold this level; Refused when the right is missing or the kernel keeps another one."""
        ...

    def found(self) -> tuple[tuple[str, str], ...]:
        """Return what is in the files that ``hold`` writes, in the order to put it back."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """The files of one frequency range: lower bound, upper bound, and the clock that runs."""

    low: Path
    high: Path
    now: Path


@dataclass(frozen=True, slots=True)
class BoundedKnob:
    """A clock held between two bounds, written alike to every node of the domain; ``unit_hz`` is 1 or 1000."""

    kind: Domain
    levels: tuple[float, ...]
    nodes: tuple[Bounds, ...]
    unit_hz: float

    def read(self) -> float:
        """Return the clock of the slowest node; its upper bound where the kernel does not tell the clock."""
        return min(self._now_hz(node) for node in self.nodes)

    def hold(self, level: float) -> None:
        """Set both bounds of every node: going up the upper one first, going down the lower one first."""
        text = str(round(level / self.unit_hz))
        for node in self.nodes:
            rising = int(text) >= _number(node.high)
            for path in (node.high, node.low) if rising else (node.low, node.high):
                write_text(path, text)
            kept = (read_text(node.low), read_text(node.high))
            if kept != (text, text):
                raise Refused(
                    f"{node.high.parent}: asked for {level / 1e6:g} MHz, the kernel keeps {' to '.join(kept)}; "
                    f"something else limits this clock (heat, firmware, a power profile)"
                )

    def found(self) -> tuple[tuple[str, str], ...]:
        """Return the bounds of every node."""
        paths = [path for node in self.nodes for path in (node.high, node.low)]
        return tuple((str(path), read_text(path)) for path in paths)

    def _now_hz(self, node: Bounds) -> float:
        with contextlib.suppress(Refused):
            return _number(node.now) * self.unit_hz
        return _number(node.high) * self.unit_hz


@dataclass(frozen=True, slots=True)
class LockedKnob:
    """A clock with a rate and a lock, as the memory clock of Jetson boards (EMC, in debugfs)."""

    kind: Domain
    levels: tuple[float, ...]
    rate: Path
    lock: Path

    def read(self) -> float:
        """Return the rate in force."""
        return _number(self.rate)

    def hold(self, level: float) -> None:
        """Lock the rate, then set it: firmware drops rates it does not like without an error, so it is read back."""
        text = str(round(level))
        write_text(self.lock, "1")
        write_text(self.rate, text)
        if read_text(self.rate) != text:
            raise Refused(
                f"{self.rate}: asked for {level / 1e6:g} MHz, the firmware keeps {read_text(self.rate)}; "
                f"the power profile may cap it (nvpmodel -q)"
            )

    def found(self) -> tuple[tuple[str, str], ...]:
        """Return rate and lock; the lock comes last, since only a locked rate can be written."""
        return (str(self.rate), read_text(self.rate)), (str(self.lock), read_text(self.lock))


class FileActuator:
    """Holds knobs at levels. With no knob there is a single setting, ``Clocks()``, and ``refusal`` says why.

    ``beside`` are texts that stand in other files for as long as a level is held, as of a turbo that is to be off.
    """

    def __init__(
        self,
        knobs: Sequence[Knob],
        *,
        refusal: str = "this device has no clock that can be set",
        beside: Sequence[tuple[Path, str]] = (),
    ) -> None:
        self._knobs = tuple(knobs)
        self._refusal = refusal
        self._beside = tuple(beside)
        kinds = [knob.kind for knob in self._knobs]
        self._available = tuple(_clocks(kinds, each) for each in product(*(knob.levels for knob in self._knobs)))
        self._found: Found | None = None
        self._asked = Clocks()
        self._readings = Readings()

    def available(self) -> tuple[Clocks, ...]:
        """Return every combination of levels, slowest first."""
        return self._available

    def current(self) -> Clocks:
        """Return the clocks that run; None for knobs that are as they were found."""
        if self._found is None:
            return Clocks()
        reading = self.running()
        self._readings.note(reading, self._asked)
        return reading

    def apply(self, clocks: Clocks) -> None:
        """Hold these clocks; ``Clocks()`` puts back what was found; a reading of ``current()`` what was asked then."""
        asked = clocks if clocks in self._available else self._readings.asked(clocks)
        if asked == Clocks():
            self._release()
        elif asked not in self._available:
            raise Refused(_unknown(asked, self._available) if self._knobs else f"{self._refusal} (asked: {asked})")
        else:
            self._hold(asked)

    def running(self) -> Clocks:
        """Return the clocks that run, whoever set them."""
        return _clocks([knob.kind for knob in self._knobs], [knob.read() for knob in self._knobs])

    def felt_within_s(self) -> float:
        """Return within which time [s] work feels a clock: these files are the driver's books."""
        return _FELT_S

    def found(self) -> Found:
        """Return what is in force now, or what was found if clocks are held."""
        return self._found or self._in_force()

    def _in_force(self) -> Found:
        beside = tuple((str(path), read_text(path)) for path, _ in self._beside)
        return Found("sysfs", (*beside, *(pair for knob in self._knobs for pair in knob.found())))

    def _hold(self, clocks: Clocks) -> None:
        before = self._in_force()
        try:
            for path, text in self._beside:
                _keep_text(path, text)
            for knob in self._knobs:
                level = clocks.power_limit_w if knob.kind == "limit" else clocks.of(knob.kind)
                assert level is not None, "a setting of ours names every knob"
                knob.hold(level)
        except Refused:
            with contextlib.suppress(Refused):
                put_back(before.values)
            raise
        self._found = self._found or before
        self._asked = clocks

    def _release(self) -> None:
        if self._found is not None:
            put_back(self._found.values)
        self._found, self._asked = None, Clocks()


def put_back(values: Iterable[tuple[str, str]]) -> None:
    """Write (path, text) pairs back; Refused when one cannot be written.

    Bounds may not cross on the way, so what is refused in one pass is tried once more after the others.
    """
    pairs = tuple(values)
    for path, text in pairs:
        with contextlib.suppress(Refused):
            write_text(Path(path), text)
    for path, text in pairs:
        if read_text(Path(path)) != text:
            write_text(Path(path), text)


def read_text(path: Path) -> str:
    """Return the text of a node without its newline; Refused when it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _number(path: Path) -> float:
    text = read_text(path)
    try:
        return float(text)
    except ValueError as error:
        raise Refused(f"{path} holds {text!r}, which is no clock; is it another kind of file?") from error


def missing_writes(paths: Iterable[Path]) -> tuple[str, ...]:
    """Return one line for each node that this user may not write."""
    return tuple(
        f"{path} is not writable: clocks stay as they are; run as root or let this user write it"
        for path in paths
        if not os.access(path, os.W_OK, effective_ids=True)
    )


def write_text(path: Path, text: str) -> None:
    """Write a node; Refused, with the remedy, when it cannot be written."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(handle, f"{text}\n".encode("ascii"))
        finally:
            os.close(handle)
    except OSError as error:
        raise Refused(
            f"cannot write {path}: {error.strerror or error}; run as root, or let this user write it "
            f"(sudo chown USER {path}, until the next boot)"
        ) from error


def _keep_text(path: Path, text: str) -> None:
    """Write a text unless it stands there; Refused when the kernel keeps another one."""
    if read_text(path) != text:
        write_text(path, text)
    if (kept := read_text(path)) != text:
        raise Refused(f"{path}: asked for {text!r}, the kernel keeps {kept!r}")


def _clocks(kinds: Sequence[Kind], levels: Sequence[float]) -> Clocks:
    level = dict(zip(kinds, levels, strict=True))
    return Clocks(level.get("core"), level.get("memory"), level.get("cpu"), level.get("limit"))


def _unknown(asked: Clocks, available: tuple[Clocks, ...]) -> str:
    ends = f"{available[0]} to {available[-1]}"
    return f"{asked} is not one of this device's {len(available)} settings ({ends}); list them with: amble devices"
