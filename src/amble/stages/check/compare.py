"""Report → one row for each policy, and the one table that sums a run up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amble.core.quantity import format_energy, format_time
from amble.core.report import Estimate, PolicyReport, Prediction, Report, Verdict
from amble.stages.check.cells import Table, percent, signed

__all__ = ["Row", "comparison", "comparison_table"]


@dataclass(frozen=True, slots=True)
class Row:
    """One policy beside the others; energies [J] are for each inference in ``period``, None where unknown.

    ``saving`` is what the checked policy saves against this one. Errors are relative, positive where the prediction
    was too high. ``gap`` is the checked policy's distance from the optimum; None for the others.
    """

    graph: str
    device: str
    calibration: str
    deadline_s: float
    percentile: float
    policy: str
    clocks: str
    checked: bool
    requests: int
    energy_j: float | None
    saving: Estimate | None
    p50_s: float
    p99_s: float
    late: float
    accuracy: float | None
    latency_error: float | None
    energy_error: float | None
    gap: float | None
    verdict: Verdict


def comparison(report: Report) -> tuple[Row, ...]:
    """Return a row for each policy, in the order in which they ran, the checked one last."""
    ordered = sorted(report.policies, key=lambda each: each.policy == report.policy)
    return tuple(_row(report, each) for each in ordered)


def comparison_table(rows: Sequence[Row], title: str = "") -> Table:
    """Write the rows as a table; a column that no row can fill is left out."""
    cells = [_cells(row) for row in rows]
    columns = [name for name in cells[0] if any(each[name] for each in cells)] if cells else []
    calibrations = sorted({f"{row.device}: {row.calibration}" for row in rows})
    notes = (
        *calibrations,
        "energy: for each inference over all of the time, idle included (accounting: period); errors: predicted over "
        "measured; gap: how far from the optimum the plan can be at most",
    )
    named = title or " · ".join(sorted({f"{row.graph} on {row.device}" for row in rows}))
    marked = tuple(index for index, row in enumerate(rows) if row.checked)
    filled = tuple(tuple(each[name] for name in columns) for each in cells)
    return Table(named, tuple(columns), filled, notes, marked)


def _row(report: Report, each: PolicyReport) -> Row:
    checked = each.policy == report.policy
    latency, energy = each.prediction("latency"), each.prediction("energy")
    return Row(
        graph=report.subject.network,
        device=report.where.device,
        calibration=report.where.calibration,
        deadline_s=report.deadline.latency_s,
        percentile=report.deadline.percentile,
        policy=each.policy,
        clocks=each.clocks,
        checked=checked,
        requests=each.requests,
        energy_j=each.period_j.value if each.period_j else None,
        saving=None if checked else report.saving(each.policy).ratio,
        p50_s=each.percentile(0.5).latency_s.value,
        p99_s=each.percentile(0.99).latency_s.value,
        late=each.late.ratio.value,
        accuracy=each.accuracy.ratio.value if each.accuracy else None,
        latency_error=_error(latency),
        energy_error=_error(energy),
        gap=report.gap if checked else None,
        verdict=each.verdict,
    )


def _error(prediction: Prediction | None) -> float | None:
    return prediction.error if prediction else None


def _cells(row: Row) -> dict[str, str]:
    return {
        "policy": row.policy,
        "clocks": row.clocks,
        "energy": format_energy(row.energy_j),
        "plan saves": percent(row.saving.value) if row.saving else "",
        "p50": format_time(row.p50_s),
        "p99": format_time(row.p99_s),
        "late": percent(row.late, 2),
        "accuracy": "" if row.accuracy is None else percent(row.accuracy, 2),
        "time error": "" if row.latency_error is None else signed(row.latency_error),
        "energy error": "" if row.energy_error is None else signed(row.energy_error),
        "gap": "" if row.gap is None else f"≤ {percent(row.gap, 2)}",
        "verdict": row.verdict,
    }
