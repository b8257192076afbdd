"""Any artefact → tables of plain text cells, for a terminal or a page; nothing is printed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from amble.core.log import Log
from amble.core.ports import CostTable, FloatArray
from amble.core.profile import Profile, Sample
from amble.core.quantity import format_energy, format_time
from amble.core.report import Estimate, PolicyReport, Report
from amble.core.schedule import Schedule
from amble.core.timekeeping import caution, measure_of
from amble.core.variants import Variant, Variants
from amble.stages.check.cells import UNKNOWN, Table, estimate_j, estimate_s, percent, saved, share, signed
from amble.stages.check.compare import comparison, comparison_table
from amble.stages.check.evidence import Evidence
from amble.stages.check.report import clocks_of

__all__ = ["Costs", "Table", "tables"]


@dataclass(frozen=True, slots=True)
class Costs:
    """A cost model's table with the names of its operators, so that it can be shown."""

    operators: tuple[str, ...]
    table: CostTable
    title: str = "Costs"
    notes: tuple[str, ...] = ()


@singledispatch
def tables(artefact: object) -> tuple[Table, ...]:
    """Return an artefact's tables, the most important first; ValueError for what is no artefact."""
    raise ValueError(f"a {type(artefact).__name__} cannot be shown; give a Profile, Costs, Schedule, Log or Report")


@tables.register
def _profile(profile: Profile) -> tuple[Table, ...]:
    facts = (
        ("device", profile.where.device),
        ("how real", profile.where.calibration),
        ("times are", measure_of(profile.where.device)),
        ("operators", str(len(profile.operators))),
        ("points asked", str(len({sample.point for sample in profile.samples}))),
        ("samples", str(len(profile.samples))),
        ("throttled", str(sum(sample.throttled for sample in profile.samples))),
        ("profiler's overhead", percent(profile.overhead_ratio)),
    )
    title = f"Profile of {profile.subject.network}, batch {profile.subject.batch}"
    found = [Table(title, ("what", ""), facts, profile.notes)]
    if profile.totals:
        found.append(_totals(profile.totals))
    found.append(_operators_of(profile))
    if profile.idle:
        rows = tuple((str(idle.clocks), f"{idle.power_w:.3g} W") for idle in profile.idle)
        found.append(Table("Idle power", ("clocks", "power"), rows))
    if profile.switches:
        found.append(_switches(profile))
    return tuple(found)


def _totals(totals: Sequence[Sample]) -> Table:
    ordered = sorted(totals, key=lambda sample: sample.latency_s)
    rows = tuple(
        (
            str(each.ran_at),
            each.point.precision,
            format_time(each.latency_s),
            format_time(each.spread_s),
            format_energy(each.energy_j),
            str(each.repeats),
        )
        for each in ordered
    )
    return Table("Whole runs", ("ran at", "precision", "median", "p10–p90 spread", "energy", "repeats"), rows)


def _operators_of(profile: Profile) -> Table:
    by_name: dict[str, list[Sample]] = {}
    for sample in profile.samples:
        by_name.setdefault(sample.operator, []).append(sample)
    rows = []
    for name, samples in by_name.items():
        fastest, slowest = (pick(samples, key=lambda sample: sample.latency_s) for pick in (min, max))
        energies = [sample.energy_j for sample in samples if sample.energy_j is not None]
        least_j = min(energies) if energies else None
        rows.append((name, format_time(fastest.latency_s), format_time(slowest.latency_s), format_energy(least_j)))
    return Table("Operators", ("operator", "fastest", "slowest", "least energy"), tuple(rows))


def _switches(profile: Profile) -> Table:
    rows = tuple(
        (each.domain, format_time(each.cost.latency_s), format_energy(each.cost.energy_j), format_time(each.settle_s))
        for each in profile.switches
    )
    return Table("Clock changes", ("domain", "stall", "energy", "until the new clock runs"), rows)


@tables.register
def _costs(costs: Costs) -> tuple[Table, ...]:
    table = costs.table
    total_s, total_j = table.latency_s.sum(axis=0), table.energy_j.sum(axis=0)
    points = tuple(
        (str(point.clocks), point.precision, format_time(float(s)), format_energy(_known(float(j))))
        for point, s, j in zip(table.points, total_s, total_j, strict=True)
    )
    rows = tuple(
        (name, *_range(times_s), format_energy(_least(energies_j)))
        for name, times_s, energies_j in zip(costs.operators, table.latency_s, table.energy_j, strict=True)
    )
    return (
        Table(costs.title, ("clocks", "precision", "latency", "energy"), points, costs.notes),
        Table("Operators", ("operator", "fastest", "slowest", "least energy"), rows),
    )


def _range(times_s: FloatArray) -> tuple[str, str]:
    return format_time(float(times_s.min())), format_time(float(times_s.max()))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _least(values: FloatArray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmin(values))


@tables.register
def _schedule(schedule: Schedule) -> tuple[Table, ...]:
    title = f"Plan for {schedule.subject.network} on {schedule.where.device}, {schedule.deadline}"
    rows = tuple(
        (
            f"{segment.start}–{segment.stop - 1}" if segment.stop > segment.start + 1 else str(segment.start),
            str(segment.point.clocks),
            segment.point.precision,
            format_time(sum(step.predicted.latency_s for step in schedule.steps[segment.start : segment.stop])),
        )
        for segment in schedule.segments
    )
    notes = (f"waits at {schedule.wait}", f"device: {schedule.where.calibration}", *schedule.notes)
    plan = (
        Table(title, ("what", ""), _promises(schedule), caution(schedule.where.device)),
        Table("Segments", ("operators", "clocks", "precision", "predicted"), rows, notes),
    )
    return (*plan, _baselines(schedule)) if schedule.baselines else plan


def _promises(schedule: Schedule) -> tuple[tuple[str, str], ...]:
    gap = schedule.gap
    return (
        ("predicted latency, median", format_time(schedule.predicted.latency_s)),
        (f"budget for it, deadline / {schedule.margin:.3g}", format_time(schedule.budget_s)),
        (f"predicted energy, {schedule.accounting}", format_energy(schedule.predicted.energy_j)),
        ("no schedule needs less than", format_energy(schedule.lower_bound_j)),
        ("distance from the optimum", UNKNOWN if gap is None else f"at most {percent(gap, 3)}"),
        ("one request every", format_time(schedule.period_s)),
        ("predicted times are", measure_of(schedule.where.device)),
    )


def _baselines(schedule: Schedule) -> Table:
    mine_j = schedule.predicted.energy_j
    rows = []
    for each in schedule.baselines:
        theirs_j = each.predicted.energy_j
        saved = UNKNOWN if mine_j is None or not theirs_j else percent(1 - mine_j / theirs_j)
        clocks = str(each.point.clocks) if each.point else "its own"
        meets = "yes" if each.meets else "no"
        rows.append((each.name, clocks, format_time(each.predicted.latency_s), format_energy(theirs_j), meets, saved))
    columns = ("baseline", "clocks", "latency", "energy", "meets the deadline", "the plan saves")
    return Table("Predicted baselines", columns, tuple(rows), (f"energy in the accounting {schedule.accounting!r}",))


@tables.register
def _log(log: Log) -> tuple[Table, ...]:
    latency_s = np.array([each.latency_s for each in log.served])
    late = sum(each.late for each in log.served)
    answers = [each.correct for each in log.served if each.correct is not None]
    p50, p99 = np.quantile(latency_s, [0.5, 0.99]).tolist() if latency_s.size else (0.0, 0.0)
    facts = (
        ("policy", log.policy),
        ("device", f"{log.where.device} ({log.where.calibration})"),
        ("load", log.load),
        ("requests", str(len(log.served))),
        ("latency p50, p99", f"{format_time(p50)}, {format_time(p99)}"),
        ("late", str(late)),
        ("energy of the window", format_energy(log.energy_j)),
        ("answers with a label that were right", f"{sum(answers)} of {len(answers)}" if answers else "no labels"),
        ("clocks, where traced", clocks_of([log])),
        ("clock changes", str(log.num_changes)),
    )
    return (Table(f"Run of {log.subject.network}", ("what", ""), facts),)


@tables.register
def _report(report: Report) -> tuple[Table, ...]:
    facts = (
        ("verdict", f"{report.verdict}: {'; '.join(report.checked.reasons)}"),
        ("device", f"{report.where.device} ({report.where.calibration})"),
        ("load", f"{report.load}, {report.loop} loop"),
        ("distance from the optimum", UNKNOWN if report.gap is None else f"at most {percent(report.gap, 3)}"),
    )
    title = f"{report.policy} on {report.subject.network}, {report.deadline}"
    beside = comparison_table(comparison(report), "Policies side by side")
    found = [Table(title, ("what", ""), facts, report.notes), beside, _latencies(report), _energies(report)]
    if report.savings:
        found.append(_savings(report))
    if any(each.predictions for each in report.policies):
        found.append(_predictions(report))
    return tuple(found)


@tables.register
def _evidence(evidence: Evidence) -> tuple[Table, ...]:
    return _report(evidence.report)


@tables.register
def _variants(variants: Variants) -> tuple[Table, ...]:
    facts = [
        ("chosen", variants.chosen),
        ("device", f"{variants.where.device} ({variants.where.calibration})"),
        ("accuracy that may be lost", f"{variants.allowed} ({variants.allowed_points:.3g} points)"),
        ("examples", f"{variants.num_calibration} to calibrate, {variants.num_judged} others to judge by"),
        ("times are", variants.clock),
        ("processor", UNKNOWN if variants.where.machine is None else str(variants.where.machine)),
    ]
    if variants.final is not None and variants.final_reference is not None:
        facts.append((f"{variants.metric} of the chosen one on other data", share(variants.final)))
        facts.append((f"{variants.metric} of the reference there", share(variants.final_reference)))
    columns = ("variant", "verdict", "median time", "times as fast", variants.metric, "lost, points", "why")
    title = f"Variants of {variants.subject.network}, batch {variants.subject.batch}"
    return (
        Table(title, ("what", ""), tuple(facts), variants.notes),
        Table("Side by side", columns, tuple(map(_variant, variants.variants))),
    )


def _variant(each: Variant) -> tuple[str, ...]:
    return (
        each.name,
        each.verdict,
        UNKNOWN if each.latency_s is None else format_time(each.latency_s),
        _between(each.speedup, UNKNOWN),
        UNKNOWN if each.quality is None else share(each.quality),
        _between(each.loss, UNKNOWN),
        each.reason,
    )


def _between(estimate: Estimate | None, unknown: str) -> str:
    """Write an estimate with its interval."""
    if estimate is None:
        return unknown
    low, high = ("?" if end is None else f"{end:.2f}" for end in (estimate.low, estimate.high))
    return f"{estimate.value:.2f} ({low} to {high})".replace("-", "−")


def _latencies(report: Report) -> Table:
    ranks = [each.percentile for each in report.checked.latency]
    rows = tuple(
        (
            each.policy,
            each.clocks,
            str(each.requests),
            *(estimate_s(rank.latency_s) for rank in each.latency),
            share(each.late),
            each.verdict,
        )
        for each in report.policies
    )
    names = tuple(f"p{rank * 100:g}" for rank in ranks)
    notes = (f"in brackets: {percent(report.confidence, 0)} confidence intervals, exact for independent requests",)
    return Table("Latency", ("policy", "clocks", "requests", *names, "late", "verdict"), rows, notes)


def _energies(report: Report) -> Table:
    rows = tuple(_energy_row(each) for each in report.policies)
    columns = ("policy", "period", "above idle", "gross", "average power", "energy × delay", "changes", "accuracy")
    notes = (
        "joules for each inference. period: all of the time, idle included; above idle: less the idle power of all of "
        "the time; gross: from start to answer only. changes: clock changes for each inference",
    )
    return Table("Energy and accuracy", columns, rows, notes)


def _energy_row(each: PolicyReport) -> tuple[str, ...]:
    return (
        each.policy,
        estimate_j(each.period_j),
        estimate_j(each.above_idle_j),
        estimate_j(each.gross_j),
        UNKNOWN if each.power_w is None else f"{each.power_w:.3g} W",
        UNKNOWN if each.edp_js is None else f"{each.edp_js * 1e3:.3g} mJ·s",
        f"{each.changes_per_inference:.3g}",
        "no labels" if each.accuracy is None else share(each.accuracy),
    )


def _savings(report: Report) -> Table:
    rows = tuple((s.baseline, s.clocks, s.accounting, saved(s), "yes" if s.paired else "no") for s in report.savings)
    columns = ("baseline", "clocks", "accounting", "energy saved", "same arrivals")
    return Table(f"What {report.policy} saves", columns, rows)


def _predictions(report: Report) -> Table:
    rows = tuple(
        (each.policy, p.quantity, f"{p.predicted:.4g}", f"{p.measured:.4g}", signed(p.error), percent(abs(p.error)))
        for each in report.policies
        for p in each.predictions
    )
    return Table("Prediction", ("policy", "quantity", "predicted", "measured", "error", "absolute"), rows)
