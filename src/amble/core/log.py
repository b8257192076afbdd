"""What happened: every request served, every slice of work, every clock that was asked for and ran."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.files import Format
from amble.core.point import Clocks
from amble.core.subject import Subject, Where, gathered

__all__ = ["FORMAT", "ClockChange", "Log", "PowerSample", "Served", "Slice"]


@dataclass(frozen=True, slots=True)
class Served:
    """One request. Times [s] are on the device's clock; ``deadline_s`` is absolute.

    ``energy_j`` is what the meter counted from start to finish, None without a meter; ``correct`` whether the answer
    was right, None without a label.
    """

    arrival_s: float
    start_s: float
    finish_s: float
    deadline_s: float
    energy_j: float | None = None
    correct: bool | None = None

    @property
    def latency_s(self) -> float:
        """Return the time from arrival to answer [s]."""
        return self.finish_s - self.arrival_s

    @property
    def service_s(self) -> float:
        """Return the time from start to answer [s]."""
        return self.finish_s - self.start_s

    @property
    def late(self) -> bool:
        """Tell whether the answer came after its deadline."""
        return self.finish_s > self.deadline_s


@dataclass(frozen=True, slots=True)
class Slice:
    """Operators ``start`` to ``stop - 1`` of one request, run in one go at the clocks ``ran_at``."""

    request: int
    start: int
    stop: int
    start_s: float
    finish_s: float
    ran_at: Clocks
    energy_j: float | None = None


@dataclass(frozen=True, slots=True)
class ClockChange:
    """A setting that was asked for, when, and what the device reported right after."""

    time_s: float
    asked: Clocks
    got: Clocks


@dataclass(frozen=True, slots=True)
class PowerSample:
    """Average power [W] from ``time_s`` on, until the next sample."""

    time_s: float
    power_w: float


@dataclass(frozen=True, slots=True)
class Log:
    """One run of one policy under one load.

    ``start_s`` to ``finish_s`` is the window that ``energy_j`` (the meter's, idle included) covers: from the first
    arrival to one period after the last. Slices, changes and power cover the first requests only, ``traced`` of them.
    """

    subject: Subject
    where: Where
    policy: str
    load: str
    served: tuple[Served, ...]
    start_s: float
    finish_s: float
    energy_j: float | None
    slices: tuple[Slice, ...] = ()
    changes: tuple[ClockChange, ...] = ()
    power: tuple[PowerSample, ...] = ()
    traced: int = 0
    num_changes: int = 0


FORMAT = Format("log", 2, Log, {1: gathered})
