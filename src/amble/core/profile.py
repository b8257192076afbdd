"""What was measured: one sample per operator and operating point, and the platform's own costs."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.cost import Cost
from amble.core.files import Format
from amble.core.point import Clocks, Domain, OperatingPoint
from amble.core.subject import Subject, Where, gathered

__all__ = ["FORMAT", "IdlePower", "Profile", "Sample", "SwitchCost"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One operator measured at one point.

    ``point`` is what was asked, ``ran_at`` the clocks that ran. ``latency_s`` is the median of ``repeats`` runs,
    ``spread_s`` the distance between its 10th and 90th percentile. ``energy_j`` is the mean of one run, gross; None
    where there is no meter.
    """

    operator: str
    point: OperatingPoint
    ran_at: Clocks
    latency_s: float
    energy_j: float | None
    repeats: int
    spread_s: float = 0.0
    temperature_c: float | None = None
    throttled: bool = False


@dataclass(frozen=True, slots=True)
class IdlePower:
    """Power [W] of the device doing nothing at these clocks."""

    clocks: Clocks
    power_w: float


@dataclass(frozen=True, slots=True)
class SwitchCost:
    """What changing one clock domain costs.

    ``cost`` is charged once a change (the stall, and the energy spent in it); ``settle_s`` is the time until the new
    clock runs, during which work goes on at the old one.
    """

    domain: Domain
    cost: Cost
    settle_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """All that was measured of one graph on one device.

    ``totals`` are samples of the whole graph run as one (operator name empty); the operators' sum agrees with them
    after the profiler's own overhead (at most ``overhead_ratio``) was taken out. ``ratios`` are latencies of single
    runs over their median, ``points`` every point that the device allows. ``notes`` say how it was measured.
    """

    subject: Subject
    where: Where
    operators: tuple[str, ...]
    samples: tuple[Sample, ...]
    totals: tuple[Sample, ...] = ()
    idle: tuple[IdlePower, ...] = ()
    switches: tuple[SwitchCost, ...] = ()
    points: tuple[OperatingPoint, ...] = ()
    ratios: tuple[float, ...] = ()
    overhead_ratio: float = 0.0
    notes: tuple[str, ...] = ()


FORMAT = Format("profile", 2, Profile, {1: gathered})
