"""What back ends tell about themselves: what can be opened here, and what they found before they changed it."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.backend import Description
from amble.core.point import Clocks

__all__ = ["Description", "Found", "Readings"]

_KEPT = 256


@dataclass(frozen=True, slots=True)
class Found:
    """The settings that were in force before amble changed them, in a form that outlives the process.

    ``backend`` is ``sysfs``, ``nvml``, or the scheme that another package registered (`core.backend`).
    ``values`` are (where, what) pairs: path and text for sysfs, knob and value for NVML, in the order to put them back.
    """

    backend: str
    values: tuple[tuple[str, str], ...]


class Readings:
    """Remembers which setting was asked for when a device reported other clocks than that.

    So clocks that ``current()`` reported can be applied again: they stand for the setting in force at that time.
    """

    def __init__(self) -> None:
        self._asked: dict[Clocks, Clocks] = {}

    def note(self, reading: Clocks, asked: Clocks) -> None:
        """Remember that the device reported this reading while ``asked`` was in force."""
        self._asked.pop(reading, None)
        self._asked[reading] = asked
        if len(self._asked) > _KEPT:
            del self._asked[next(iter(self._asked))]

    def asked(self, clocks: Clocks) -> Clocks:
        """Return what was asked for when these clocks were last reported; themselves when they never were."""
        return self._asked.get(clocks, clocks)
