"""What happened: every request served, every slice of work, every clock that was asked for and ran."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.files import Format
from amble.core.point import Clocks
from amble.core.profile import IdlePower, SwitchCost
from amble.core.schedule import Deadline, Schedule, Step
from amble.core.subject import Subject, Where, gathered

__all__ = ["FORMAT", "ClockChange", "Known", "Log", "PowerSample", "Served", "Slice"]


@dataclass(frozen=True, slots=True)
class Served:
    """One request. Times [s] are on the device's clock; ``deadline_s`` is absolute, None where nobody set one.

    ``energy_j`` is what the meter counted from start to finish, None without a meter; ``correct`` whether the answer
    was right, None without a label. ``refused`` is the cause where there was no answer: it counts as late.
    """

    arrival_s: float
    start_s: float
    finish_s: float
    deadline_s: float | None
    energy_j: float | None = None
    correct: bool | None = None
    refused: str = ""

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
        """Tell whether the answer came after its deadline, or not at all."""
        return bool(self.refused) or (self.deadline_s is not None and self.finish_s > self.deadline_s)


@dataclass(frozen=True, slots=True)
class Slice:
    """Operators ``start`` to ``stop - 1`` of one request, run in one go at the clocks ``ran_at``.

    ``rows`` of a batch ran together, ``request`` being its first one; ``precision`` is empty where it was the network's
    own. ``steady`` tells that the same clocks ran at its end: only then do time and energy say what they cost.
    """

    request: int
    start: int
    stop: int
    start_s: float
    finish_s: float
    ran_at: Clocks
    energy_j: float | None = None
    rows: int = 1
    precision: str = ""
    steady: bool = True


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
class Known:
    """What was known of network and device when a run began: with it, its log can be read as a profile.

    ``steps`` are the operators in order, at the point and the cost that were expected of them; their shares divide what
    was measured of several at once.
    """

    steps: tuple[Step, ...]
    idle: tuple[IdlePower, ...] = ()
    switches: tuple[SwitchCost, ...] = ()

    @classmethod
    def of(cls, schedule: Schedule) -> Known:
        """Return what a schedule knows."""
        idle_w = schedule.idle_power_w
        idle = () if idle_w is None else (IdlePower(schedule.wait, idle_w),)
        return cls(schedule.steps, idle, schedule.switches)


@dataclass(frozen=True, slots=True)
class Log:
    """One run of one policy under one load.

    ``start_s`` to ``finish_s`` is the window that ``energy_j`` (the meter's, idle included) covers: from the first
    arrival to one period after the last. Slices, changes and power cover the first requests only, ``traced`` of them.
    ``deadline`` is what the answers were held to, ``schedule`` the one that was followed, ``known`` what was known.
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
    deadline: Deadline | None = None
    schedule: Schedule | None = None
    known: Known | None = None


FORMAT = Format("log", 2, Log, {1: gathered})
