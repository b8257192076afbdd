"""The power modes of a Jetson board: what ``nvpmodel`` lists and was last told, and a mode held beside clocks.

A mode caps clocks (and switches cores off) before anything else does. Setting one rewrites the bounds of every clock,
so it comes before they are held; putting back is the mode first, then the bounds to the last byte. Only the tool sets
modes: what one consists of differs between boards and releases. Some changes need a reboot, which is never asked for.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices import knobs
from amble.devices.facts import Found
from amble.devices.knobs import FileActuator, read_text

__all__ = ["Mode", "ModeActuator", "PowerModes", "current_mode", "power_mode", "put_back"]

_CONF = "etc/nvpmodel.conf"
_STATUS = "var/lib/nvpmodel/status"
_PLACES = ("usr/sbin", "usr/bin", "sbin")
_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>([^<]*)")
_CAP = re.compile(r"^(GPU|EMC|CPU)\w*\s+MAX_FREQ\s+(\d+)\s*$", re.MULTILINE)
_UNITS_HZ = {"GPU": 1.0, "EMC": 1.0, "CPU": 1e3}
_ANSWER_S = 30.0
_BACKEND = "nvpmodel"


@dataclass(frozen=True, slots=True)
class Mode:
    """One power mode: its number and name, and the highest clocks it allows [Hz]; None where it caps none."""

    number: int
    name: str
    core_hz: float | None = None
    memory_hz: float | None = None
    cpu_hz: float | None = None

    def admits(self, clocks: Clocks) -> bool:
        """Tell whether a setting stays under the caps."""
        pairs = ((clocks.core_hz, self.core_hz), (clocks.memory_hz, self.memory_hz), (clocks.cpu_hz, self.cpu_hz))
        return all(asked is None or most is None or asked <= most for asked, most in pairs)


@dataclass(frozen=True, slots=True)
class PowerModes:
    """The modes of a board whose files lie under ``root``."""

    root: Path
    modes: tuple[Mode, ...]

    @classmethod
    def of(cls, root: Path) -> PowerModes | None:
        """Read a board's modes; None where it has none."""
        try:
            listed = _MODE.findall(read_text(root / _CONF))
        except Refused:
            return None
        found = tuple(_mode(int(number), name, body) for number, name, body in listed)
        return cls(root, found) if found else None

    def current(self) -> Mode:
        """Return the mode in force. Refused where the board does not tell, or tells one that is not listed."""
        number = read_text(self.root / _STATUS).rpartition(":")[2]
        for mode in self.modes:
            if number.isdecimal() and mode.number == int(number):
                return mode
        raise Refused(f"{self.root / _STATUS} names no power mode of {self.root / _CONF}; see nvpmodel -q")

    def named(self, name: str) -> Mode:
        """Return a mode by its name, or by its number; Refused where there is none."""
        for mode in self.modes:
            if name in (mode.name, str(mode.number)):
                return mode
        raise Refused(f"mode={name} is none of this board's power modes: {', '.join(each.name for each in self.modes)}")

    def set(self, mode: Mode) -> None:
        """Set a mode, unless it is in force. Refused when the tool is not there, refuses, or wants a reboot first."""
        if self.current() != mode:
            _tell(self.root, mode.number)


class ModeActuator:
    """Holds a power mode for as long as clocks are held; only what the mode allows is available."""

    def __init__(self, clocks: FileActuator, modes: PowerModes, mode: Mode) -> None:
        self._clocks = clocks
        self._modes = modes
        self._mode = mode
        self._available = tuple(each for each in clocks.available() if mode.admits(each))
        self._found: Found | None = None
        if not self._available:
            raise Refused(f"mode={mode.name} caps clocks below the lowest that this board lists; name another mode")

    def available(self) -> tuple[Clocks, ...]:
        """Return every combination of levels that the mode allows, slowest first."""
        return self._available

    def current(self) -> Clocks:
        """Return the clocks that run; None for all while nothing is held."""
        return self._clocks.current()

    def running(self) -> Clocks:
        """Return the clocks that run, whoever set them."""
        return self._clocks.running()

    def felt_within_s(self) -> float:
        """Return within which time [s] work feels a clock."""
        return self._clocks.felt_within_s()

    def apply(self, clocks: Clocks) -> None:
        """Hold the mode and these clocks; ``Clocks()`` puts back the mode and the clocks that were found."""
        if clocks == Clocks():
            self._release()
        elif clocks in self._clocks.available() and clocks not in self._available:
            raise Refused(f"{clocks} is more than power mode {self._mode.name} allows (up to {self._available[-1]})")
        else:
            self._hold(clocks)

    def found(self) -> Found:
        """Return the mode and the bounds in force now, or those that were found if clocks are held."""
        return self._found or self._in_force()

    def _in_force(self) -> Found:
        mode = (str(self._modes.root), str(self._modes.current().number))
        return Found(_BACKEND, (mode, *self._clocks.found().values))

    def _hold(self, clocks: Clocks) -> None:
        before = self._found or self._in_force()
        try:
            self._modes.set(self._mode)
            self._clocks.apply(clocks)
        except Refused:
            if self._found is None:
                with contextlib.suppress(Refused):
                    put_back(before.values)
            raise
        self._found = before

    def _release(self) -> None:
        if self._found is not None:
            self._clocks.apply(Clocks())
            put_back(self._found.values)
        self._found = None


def put_back(values: Iterable[tuple[str, str]]) -> None:
    """Put back what ``ModeActuator.found`` returned, also from another process: the mode, then the clock files."""
    (root, number), *files = values
    modes = PowerModes.of(Path(root))
    if modes is None:
        raise Refused(
            f"{Path(root) / _CONF} is gone: power mode {number} cannot be put back; sudo nvpmodel -m {number}"
        )
    modes.set(modes.named(number))
    knobs.put_back(files)


def power_mode(root: Path = Path("/")) -> str | None:
    """Return the board's power mode and the others, as in ``25W (of 15W, 25W, MAXN)``; None where it has none."""
    found = PowerModes.of(root)
    mode = current_mode(root)
    return None if found is None or mode is None else f"{mode.name} (of {', '.join(each.name for each in found.modes)})"


def current_mode(root: Path = Path("/")) -> Mode | None:
    """Return the power mode in force; None where the board has none, or does not tell."""
    found = PowerModes.of(root)
    with contextlib.suppress(Refused):
        return found.current() if found else None
    return None


def _mode(number: int, name: str, body: str) -> Mode:
    """Read the caps of a mode; 0 and -1 stand for none. Of unlike CPU clusters the highest counts."""
    caps: dict[str, float] = {}
    for domain, text in _CAP.findall(body):
        if int(text) > 0:
            caps[domain] = max(caps.get(domain, 0.0), float(text) * _UNITS_HZ[domain])
    return Mode(number, name, caps.get("GPU"), caps.get("EMC"), caps.get("CPU"))


def _tell(root: Path, number: int) -> None:
    tool = shutil.which("nvpmodel", path=":".join(str(root / each) for each in _PLACES))
    if tool is None:
        raise Refused(f"power modes are set by nvpmodel, which is not under {root}; leave out mode=")
    try:
        done = subprocess.run(
            [tool, "-m", str(number)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ANSWER_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"nvpmodel -m {number} does not end: {error}") from error
    kept = current_mode(root)
    if done.returncode == 0 and kept is not None and kept.number == number:
        return
    said = " ".join(f"{done.stdout} {done.stderr}".split())[-200:] or f"exit code {done.returncode}"
    wanted = "it needs a reboot, once, by hand" if "reboot" in said.lower() else "it needs root"
    raise Refused(f"nvpmodel -m {number} did not set the power mode ({said}); {wanted}: sudo nvpmodel -m {number}")
