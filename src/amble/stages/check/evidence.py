"""What a page is made of: the report, the plan, the logs, predictions for single operators."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.log import Log
from amble.core.report import Report
from amble.core.schedule import Schedule

__all__ = ["Evidence", "Pair"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One operator's time [s] at one point: predicted, and measured without having been fitted."""

    operator: str
    kind: str
    predicted_s: float
    measured_s: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A report with all that its page can draw; what is empty is left out of the page.

    ``kinds`` are the operators' kinds in the order of the schedule's steps.
    """

    report: Report
    schedule: Schedule | None = None
    logs: tuple[Log, ...] = ()
    pairs: tuple[Pair, ...] = ()
    kinds: tuple[str, ...] = ()
