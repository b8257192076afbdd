"""Evidence → the report's page: what was found in plain words, one table of policies, plots, and every number."""

from __future__ import annotations

from collections.abc import Iterator

from amble.core.log import Log
from amble.core.quantity import format_energy, format_time
from amble.core.report import Estimate, Prediction, Report, Saving, Verdict
from amble.core.timekeeping import caution
from amble.stages.check.cells import percent, signed
from amble.stages.check.evidence import Evidence
from amble.stages.check.figures import (
    energy_figure,
    frontier_figure,
    latency_figure,
    power_figure,
    prediction_figure,
    timeline_figure,
)
from amble.stages.check.html import Mood, Plot, Section, Tile, document
from amble.stages.check.tables import tables

__all__ = ["banner", "report_page"]

_MOODS: dict[Verdict, Mood] = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "unsure"}


def report_page(evidence: Evidence) -> str:
    """Return a page for a report and all that stands behind it; Refused when plotly is not installed."""
    report, schedule = evidence.report, evidence.schedule
    verdict, beside, *others = tables(report)
    sections = [
        Section(beside.title, (beside,)),
        Section("The plan", plots=tuple(_plan_plots(evidence))),
        Section("The run", plots=tuple(_run_plots(evidence))),
        Section("Every number of the check", (verdict, *others), folded=True),
        Section("Every number of the plan", tables(schedule) if schedule else (), folded=True),
    ]
    shown = [section for section in sections if section.tables or section.plots]
    title = f"{report.subject.network} on {report.where.device} within {format_time(report.deadline.latency_s)}"
    return document(
        title, _lead(report), tuple(_tiles(report)), shown, banner=banner(report.where.calibration, report.where.device)
    )


def banner(calibration: str, device: str = "") -> str:
    """Say how real the device is, and what its predicted times are, where ``device`` predicted any."""
    if calibration == "real":
        return f"Measured on the real device. {_sentences(caution(device))}".rstrip()
    if calibration.startswith("recorded"):
        return f"A replay of real measurements. {calibration}."
    if calibration.startswith("calibrated"):
        return f"A simulated device, {calibration}."
    return f"A simulated device, {calibration}: how far it is from a real one is not known."


def _lead(report: Report) -> str:
    mine = report.checked
    energy = f", for {format_energy(mine.period_j.value)} each" if mine.period_j else ""
    found = [each for each in _headlines(report) if each.ratio]
    savings = [f"{_less(each.ratio)} {each.baseline}{_missed(report, each)}" for each in found if each.ratio]
    less = f": {', '.join(savings)}" if savings else ""
    share = f"{100 * (1 - mine.late.ratio.value):.4g}"
    limit = format_time(report.deadline.latency_s)
    return f"{report.policy} answered {share} % of {mine.requests} requests within {limit}{energy}{less}."


def _less(saved: Estimate) -> str:
    if abs(saved.value) < 0.0005:
        return "the same as"
    return f"{percent(abs(saved.value))} {'less' if saved.value > 0 else 'more'} than"


def _missed(report: Report, saving: Saving) -> str:
    return " (which missed the deadline)" if report.of(saving.baseline).verdict == "FAIL" else ""


def _headlines(report: Report) -> list[Saving]:
    return [each for each in report.savings if each.accounting == "period"]


def _tiles(report: Report) -> Iterator[Tile]:
    mine = report.checked
    yield Tile(f"Deadline {report.deadline}", report.verdict, _sentences(mine.reasons), _MOODS[report.verdict])
    yield from (_saving_tile(report, each, each.ratio) for each in _headlines(report) if each.ratio)
    if mine.period_j is None:
        yield Tile("Energy of an inference", "unknown", "This device has no meter that can be read.")
    if report.gap is not None:
        more = "No plan of these operators and clocks can save more than this on top, by the same cost model."
        yield Tile("Distance from the optimum", f"at most {percent(report.gap, 2)}", more)
    if mine.predictions:
        yield _prediction_tile(mine.predictions)
    if mine.accuracy is not None:
        low, high = mine.accuracy.ratio.low or 0.0, mine.accuracy.ratio.high or 1.0
        more = (
            f"{mine.accuracy.count} of {mine.accuracy.out_of} answers were right ({percent(low)} to {percent(high)})."
        )
        yield Tile("Accuracy, measured", percent(mine.accuracy.ratio.value), more)


def _saving_tile(report: Report, saving: Saving, ratio: Estimate) -> Tile:
    found = _less(ratio).removesuffix(" than").removesuffix(" as")
    paired = ", on the same arrivals" if saving.paired else ""
    late = report.of(saving.baseline).late.ratio.value
    missed = f" It missed the deadline: {percent(late)} of its answers were late." if _missed(report, saving) else ""
    more = f"{_ends(ratio)}idle included{paired}. It ran at {saving.clocks}.{missed}"
    return Tile(f"Energy against {saving.baseline}", found, more[:1].upper() + more[1:])


def _ends(saved: Estimate) -> str:
    if saved.low is None or saved.high is None:
        return ""
    if saved.low >= 0:
        return f"{percent(saved.low)} to {percent(saved.high)} less, "
    if saved.high <= 0:
        return f"{percent(-saved.high)} to {percent(-saved.low)} more, "
    return f"{percent(-saved.low)} more to {percent(saved.high)} less, "


def _prediction_tile(predictions: tuple[Prediction, ...]) -> Tile:
    worst = max(abs(each.error) for each in predictions)
    each = "; ".join(f"{p.quantity.partition(',')[0].partition(' of')[0]} {signed(p.error)}" for p in predictions)
    more = f"Predicted over measured: {each}. All of it was predicted before the run."
    return Tile("Prediction error", f"{percent(worst)} or less", more)


def _sentences(reasons: tuple[str, ...]) -> str:
    return " ".join(f"{reason[:1].upper()}{reason[1:]}." for reason in reasons[:3])


def _plan_plots(evidence: Evidence) -> Iterator[Plot]:
    schedule = evidence.schedule
    if schedule is None:
        return
    if schedule.predicted.energy_j is not None:
        line = "Each step of the line is the best plan for another deadline; no plan can lie below the dotted bound. "
        crosses = f"The crosses were measured under {evidence.report.load}"
        planned = f"the plan is for a request every {format_time(schedule.period_s)}, idling included"
        caption = f"{line if schedule.frontier else ''}{crosses}; {planned}."
        yield Plot("Time against energy", caption, frontier_figure(schedule, evidence.report))
    yield Plot(
        "Clocks through one inference",
        "What each operator runs at, as planned; dotted: single clocks for everything. Point at a bar for its name.",
        timeline_figure(schedule, evidence.kinds),
    )
    if evidence.pairs:
        yield Plot(
            "Prediction of single operators",
            "Left: on the dotted line the prediction is exact. Right: how far off, positive where predicted too slow.",
            prediction_figure(evidence.pairs),
        )


def _run_plots(evidence: Evidence) -> Iterator[Plot]:
    report, logs = evidence.report, evidence.logs
    if logs:
        yield latency_plot(logs, report)
    if any(each.period_j for each in report.policies):
        caption = (
            f"Over all of the time, idle included; the ends are {percent(report.confidence, 0)} confidence intervals."
        )
        yield Plot("Energy of an inference", caption, energy_figure(report))
    if any(log.power for log in logs):
        caption = "The first requests in detail: power while working and while waiting."
        yield Plot("Power over time", caption, power_figure(logs))


def latency_plot(logs: tuple[Log, ...], report: Report) -> Plot:
    """Return the latency plot of a report's logs."""
    deadline = report.deadline
    caption = (
        f"{report.load}, {report.loop} loop. A policy keeps {deadline} when its line passes left of the deadline "
        f"at p{deadline.percentile * 100:g}."
    )
    drawn = latency_figure(logs, deadline_s=deadline.latency_s, percentile=deadline.percentile)
    return Plot("Latency", caption, drawn)
