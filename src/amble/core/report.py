"""What a check found: for each policy its latency, energy and accuracy, and for the checked one a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amble.core.files import Format
from amble.core.schedule import Accounting, Deadline
from amble.core.subject import Subject, Where, gathered

__all__ = ["FORMAT", "Estimate", "Percentile", "PolicyReport", "Prediction", "Report", "Saving", "Share", "Verdict"]

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its confidence interval at the report's level; an end is None where the data cannot bound it."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Percentile:
    """The latency [s] that this share of the requests kept."""

    percentile: float
    latency_s: Estimate


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``out_of`` requests, and the ratio that lies behind it."""

    count: int
    out_of: int
    ratio: Estimate


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted, and what was then measured, of the same quantity; unit and definition in ``quantity``."""

    quantity: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Return the signed relative error: positive where the prediction was too high."""
        return self.predicted / self.measured - 1.0


@dataclass(frozen=True, slots=True)
class Saving:
    """Share of a baseline's energy that the checked policy did not need, in one accounting.

    ``ratio`` is None where an energy is unknown. ``paired`` tells whether both served the same arrivals; only then
    has it an interval, from ``blocks`` of consecutive requests.
    """

    baseline: str
    clocks: str
    accounting: Accounting
    ratio: Estimate | None
    paired: bool
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """One policy under one load.

    Energies are joules for each inference, None where unknown: ``period_j`` of the whole window, idle included,
    ``above_idle_j`` less the idle power of the window, ``gross_j`` from start to answer only. ``edp_js`` is
    ``period_j`` × mean latency. ``late`` counts answers after their deadline; ``certain`` tells whether its interval
    allows no other verdict. ``predictions`` are of the median time from start to answer, and of the energy.
    """

    policy: str
    clocks: str
    runs: int
    requests: int
    window_s: float
    mean_s: float
    latency: tuple[Percentile, ...]
    late: Share
    verdict: Verdict
    certain: bool
    reasons: tuple[str, ...]
    period_j: Estimate | None = None
    above_idle_j: Estimate | None = None
    gross_j: Estimate | None = None
    power_w: float | None = None
    edp_js: float | None = None
    accuracy: Share | None = None
    changes_per_inference: float = 0.0
    predictions: tuple[Prediction, ...] = ()

    @property
    def goodput_hz(self) -> float:
        """Return the answers in time per second."""
        return (self.requests - self.late.count) / self.window_s

    def energy_j(self, accounting: Accounting) -> Estimate | None:
        """Return the energy of one inference [J] in one accounting; None where unknown."""
        match accounting:
            case "period":
                return self.period_j
            case "above_idle":
                return self.above_idle_j
            case "gross":
                return self.gross_j

    def percentile(self, percentile: float) -> Percentile:
        """Return one percentile of the latency; KeyError when it was not computed."""
        for each in self.latency:
            if abs(each.percentile - percentile) < 1e-9:
                return each
        raise KeyError(percentile)

    def prediction(self, quantity: Literal["latency", "energy"]) -> Prediction | None:
        """Return what was predicted of the latency or the energy; None where nothing was."""
        found = [each for each in self.predictions if each.quantity.startswith(quantity)]
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Report:
    """What a check of ``policy`` found, beside every other policy that ran.

    ``gap`` is the plan's certified distance from the optimum, ``loop``
    whether requests waited for answers (``closed``) or not (``open``), ``confidence`` the level of every interval.
    """

    subject: Subject
    where: Where
    load: str
    loop: Literal["open", "closed"]
    deadline: Deadline
    confidence: float
    policy: str
    policies: tuple[PolicyReport, ...]
    savings: tuple[Saving, ...] = ()
    gap: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def checked(self) -> PolicyReport:
        """Return the policy that the verdict is about."""
        return self.of(self.policy)

    @property
    def verdict(self) -> Verdict:
        """Return the checked policy's verdict."""
        return self.checked.verdict

    def of(self, policy: str) -> PolicyReport:
        """Return a policy by its name; KeyError when it did not run."""
        for each in self.policies:
            if each.policy == policy:
                return each
        raise KeyError(policy)

    def saving(self, baseline: str, accounting: Accounting = "period") -> Saving:
        """Return the saving against a baseline; KeyError when it was not computed."""
        for each in self.savings:
            if each.baseline == baseline and each.accounting == accounting:
                return each
        raise KeyError(baseline)


FORMAT = Format("report", 2, Report, {1: gathered})
