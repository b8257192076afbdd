"""What was promised and what was chosen: deadlines, steps and schedules."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from amble.core.cost import Cost
from amble.core.files import Format
from amble.core.point import Clocks, OperatingPoint
from amble.core.profile import SwitchCost
from amble.core.quantity import format_energy, format_time, parse_time_s
from amble.core.subject import Subject, Where, gathered
from amble.core.timekeeping import caution

__all__ = [
    "FORMAT",
    "Accounting",
    "Baseline",
    "Choice",
    "Deadline",
    "FrontierPoint",
    "Rest",
    "Schedule",
    "Segment",
    "Step",
]

Accounting = Literal["period", "above_idle", "gross"]
"""``period``: busy, switches and idle until the next request is due. ``above_idle``: ``period`` less the idle power
of the whole period. ``gross``: latency × power of the run alone."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """Answer within ``latency_s`` [s] in this share of all requests."""

    latency_s: float
    percentile: float = 0.99

    def __post_init__(self) -> None:
        """Refuse what no deadline can be."""
        if not 0 < self.latency_s < float("inf"):
            raise ValueError(f"a deadline is a positive time, not {self.latency_s} s")
        if not 0 < self.percentile < 1:
            raise ValueError(f"a percentile lies between 0 and 1, not at {self.percentile}")

    @classmethod
    def parse(cls, text: str) -> Deadline:
        """Read ``30ms@p99``; without ``@`` the percentile is p99.

        >>> Deadline.parse("30ms@p99.9")
        Deadline(latency_s=0.03, percentile=0.999)
        """
        time, at, rank = text.strip().partition("@")
        if not at:
            return cls(parse_time_s(time))
        if not (match := re.fullmatch(r"p(\d{1,2}(?:\.\d+)?)", rank.strip())):
            raise ValueError(f"percentile {rank!r} is not like p99 or p99.9 (as in 30ms@p99)")
        if 0 < float(match[1]) < 1:
            raise ValueError(
                f"percentile {rank!r} counts in parts of 100, as in p99; below p1 there is no deadline to keep"
            )
        return cls(parse_time_s(time), round(float(match[1]) / 100, 9))

    def __str__(self) -> str:
        """Write it as it is read: ``30ms@p99``."""
        return f"{self.latency_s * 1e3:g}ms@p{self.percentile * 100:g}"


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a schedule, the point it runs at, and what it is predicted to cost there."""

    operator: str
    point: OperatingPoint
    predicted: Cost = Cost()


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of neighbouring operators at one point: operators ``start`` to ``stop - 1``."""

    start: int
    stop: int
    point: OperatingPoint


@dataclass(frozen=True, slots=True)
class Baseline:
    """What another policy costs for the same graph, deadline and accounting, predicted by the same cost model.

    ``meets`` tells whether it keeps the deadline; ``idle_power_w`` [W] is what the device draws where it waits.
    """

    name: str
    predicted: Cost
    meets: bool
    point: OperatingPoint | None = None
    idle_power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What to ask for before operator ``start`` while the setting number ``held`` is asked for, by the time left.

    ``needs_s`` [s] rises: the time that must be left for the setting of the same place in ``asks``. The first is the
    fastest way to go on, taken also when less is left.
    """

    start: int
    held: int
    needs_s: tuple[float, ...]
    asks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rest:
    """The rest of a schedule from everywhere it can get to, for a device that looks at the clock on its way."""

    settings: tuple[Clocks, ...]
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """The least energy [J] that a plan of this predicted latency [s] was found to need, and the bound below it."""

    latency_s: float
    energy_j: float
    lower_bound_j: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A point for every operator, and where the device waits for the next request.

    ``predicted`` is at the median, in ``accounting``, for a request every ``period_s``; ``budget_s`` is the deadline
    divided by ``margin``, the measured ratio of the asked percentile to the median. ``lower_bound_j`` bounds the energy
    of every schedule that keeps the budget, so ``gap`` says how far from optimal this one can be. ``switches`` is what
    the device's clock changes cost, and how long they take to settle; ``idle_power_w`` [W] what it draws where it
    waits; ``frontier`` what other budgets would cost at the same period.
    """

    subject: Subject
    where: Where
    deadline: Deadline
    period_s: float
    accounting: Accounting
    margin: float
    steps: tuple[Step, ...]
    wait: Clocks
    predicted: Cost
    lower_bound_j: float | None
    planner: str = "trellis"
    switches: tuple[SwitchCost, ...] = ()
    idle_power_w: float | None = None
    frontier: tuple[FrontierPoint, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    notes: tuple[str, ...] = ()
    rest: Rest | None = None

    @property
    def budget_s(self) -> float:
        """Return the median latency [s] that keeps the deadline at its percentile."""
        return self.deadline.latency_s / self.margin

    @property
    def gap(self) -> float | None:
        """Return the largest relative distance from the optimum; None where no energy is known."""
        if self.lower_bound_j is None or not self.predicted.energy_j:
            return None
        return max(0.0, 1.0 - self.lower_bound_j / self.predicted.energy_j)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Return the runs of neighbouring operators that share a point; where their tensors live splits none."""
        points = [replace(step.point, dram=None) for step in self.steps]
        runs = [(point, list(group)) for point, group in groupby(enumerate(points), lambda each: each[1])]
        return tuple(Segment(group[0][0], group[-1][0] + 1, point) for point, group in runs)

    def __str__(self) -> str:
        """Write in a few lines what it promises, its segments, and what it saves."""
        latency_s, energy_j = self.predicted.latency_s, self.predicted.energy_j
        gap = "" if self.gap is None else f", at most {self.gap:.2%} from the optimum"
        promise = f"{format_time(latency_s)}, {format_energy(energy_j)} ({self.accounting}){gap}"
        lines = [f"{self.subject.network} on {self.where.device}, {self.deadline}: {promise}"]
        lines += [f"  operators {each.start}-{each.stop - 1}: {each.point.clocks}" for each in self.segments]
        for each in self.baselines:
            if energy_j is not None and each.predicted.energy_j:
                lines.append(f"  {1 - energy_j / each.predicted.energy_j:.1%} less energy than {each.name}")
        return "\n".join((*lines, *(f"  {each}" for each in caution(self.where.device))))

    def baseline(self, name: str) -> Baseline:
        """Return a baseline by its name; KeyError when it was not computed."""
        for each in self.baselines:
            if each.name == name:
                return each
        raise KeyError(name)


FORMAT = Format("schedule", 2, Schedule, {1: gathered})
