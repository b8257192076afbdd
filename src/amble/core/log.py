"""What happened: every request served, every slice of work, every clock that was asked for and ran."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.files import Format
from amble.core.point import Clocks

__all__ = ["FORMAT", "ClockChange", "Governed", "Log", "Period", "PowerSample", "Served", "Slice"]


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
class Period:
    """What a watcher of another server's metrics saw from one look to the next, and what it asked for meanwhile.

    ``asked`` is empty while the clocks were as found; ``control`` tells that they were so by lot, for comparison.
    ``counts``: [objective][bucket], latencies that came in. ``waiting`` and ``running`` are as at the end; None where
    the server does not tell. ``usable`` is false when the page could not be trusted; ``note`` says why, or what else
    happened. ``decided`` is the index in ``Governed.settings`` that was chosen for the *next* period, -1 for as found.
    """

    start_s: float
    finish_s: float
    asked: Clocks
    got: Clocks
    control: bool
    usable: bool
    arrivals: float
    finished: float
    waiting: float | None
    running: float | None
    prompt_tokens: float
    output_tokens: float
    counts: tuple[tuple[float, ...], ...]
    energy_j: float | None
    note: str = ""
    decided: int = -1

    @property
    def span_s(self) -> float:
        """Return how long it took [s]."""
        return self.finish_s - self.start_s


@dataclass(frozen=True, slots=True)
class Governed:
    """What a watcher was to keep, and with what: enough to replay its decisions.

    ``objectives`` as people write them; ``edges_s``: [objective][edge] of their histograms; ``judged_s``: [objective]
    the edge at which each is judged. ``settings`` are fastest first, ``slowness``: [setting, objective] how many times
    as long work takes there, as believed at the start.
    """

    server: str
    objectives: tuple[str, ...]
    edges_s: tuple[tuple[float, ...], ...]
    judged_s: tuple[float, ...]
    settings: tuple[Clocks, ...]
    slowness: tuple[tuple[float, ...], ...]
    period_s: float
    control: float
    seed: int
    found: Clocks = Clocks()
    sight: str = "histograms of the server"
    acts: bool = True


@dataclass(frozen=True, slots=True)
class Log:
    """One run of one policy under one load.

    ``start_s`` to ``finish_s`` is the window that ``energy_j`` (the meter's, idle included) covers: from the first
    arrival to one period after the last. Slices, changes and power cover the first requests only, ``traced`` of them.
    Whoever watched another server has ``governed`` and ``periods`` and sees no single request.
    """

    policy: str
    device: str
    calibration: str
    graph: str
    digest: str
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
    governed: Governed | None = None
    periods: tuple[Period, ...] = ()


FORMAT = Format("log", 1, Log)
