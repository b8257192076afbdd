"""Any single artefact → a page of its own with tables and plots."""

from __future__ import annotations

from functools import singledispatch

from amble.core.log import Log
from amble.core.profile import Profile
from amble.core.quantity import format_time
from amble.core.report import Report
from amble.core.schedule import Schedule
from amble.core.variants import Variants
from amble.stages.check.evidence import Evidence
from amble.stages.check.figures import (
    cost_figure,
    frontier_figure,
    latency_figure,
    operators_figure,
    power_figure,
    ran_at_figure,
    timeline_figure,
    total_points,
)
from amble.stages.check.html import Plot, Section, Tile, document
from amble.stages.check.page import banner, report_page
from amble.stages.check.tables import Costs, tables

__all__ = ["show_html"]


@singledispatch
def show_html(artefact: object) -> str:
    """Return an artefact as a page; ValueError for what is no artefact, Refused when plotly is not installed."""
    raise ValueError(f"a {type(artefact).__name__} cannot be shown; give a Profile, Costs, Schedule, Log or Report")


@show_html.register
def _report(report: Report) -> str:
    return report_page(Evidence(report))


@show_html.register
def _evidence(evidence: Evidence) -> str:
    return report_page(evidence)


@show_html.register
def _schedule(schedule: Schedule) -> str:
    facts, segments, *baselines = tables(schedule)
    plots = [Plot("Clocks through one inference", "What each operator runs at, as planned.", timeline_figure(schedule))]
    if schedule.predicted.energy_j is not None:
        caption = "The plan and the baselines, as predicted."
        plots.append(Plot("Time against energy", caption, frontier_figure(schedule)))
    tiles = [Tile(label, value) for label, value, *_ in facts.rows]
    runs = len(schedule.segments)
    split = "all at the same clocks" if runs == 1 else f"in {runs} runs of equal clocks"
    lead = f"{len(schedule.steps)} operators, {split}, by the planner {schedule.planner}."
    sections = [Section("The plan", plots=tuple(plots)), Section("Numbers", (*baselines, segments))]
    return document(
        facts.title, lead, tiles, sections, banner=banner(schedule.where.calibration, schedule.where.device)
    )


@show_html.register
def _variants(variants: Variants) -> str:
    facts, beside = tables(variants)
    tiles = [Tile(label, value) for label, value, *_ in facts.rows[:1]]
    worth, tried = len(variants.kept) - 1, len(variants.variants) - 1
    lead = f"{worth} of {tried} variants are worth having on {variants.where.device}."
    sections = [Section("Side by side", (beside,)), Section("Numbers", (facts,))]
    return document(facts.title, lead, tiles, sections, banner=banner(variants.where.calibration))


@show_html.register
def _log(log: Log) -> str:
    (facts,) = tables(log)
    plots = []
    if log.served:
        percentile = 0.99 if log.deadline is None else log.deadline.percentile
        drawn = latency_figure([log], deadline_s=_deadline_s(log), percentile=percentile)
        plots.append(Plot("Latency", f"{log.load}.", drawn))
    if log.slices:
        plots.append(Plot("Clocks that ran", "The first requests in detail; gaps are waiting.", ran_at_figure(log)))
    if log.power:
        plots.append(Plot("Power over time", "The first requests in detail.", power_figure([log])))
    lead = f"{len(log.served)} requests in {format_time(log.finish_s - log.start_s)} under {log.policy}."
    sections = [Section("Numbers", (facts,)), Section("The run", plots=tuple(plots))]
    return document(facts.title, lead, (), sections, banner=banner(log.where.calibration))


@show_html.register
def _profile(profile: Profile) -> str:
    facts, *others = tables(profile)
    points = [(str(s.ran_at), s.latency_s, s.energy_j) for s in profile.totals if s.energy_j is not None]
    caption = "The whole network, run as one, at each of the clocks that were tried."
    plots = (Plot("Time against energy", caption, cost_figure(points, what="measured")),) if points else ()
    sections = [Section("Whole runs", plots=plots), Section("Numbers", tuple(others))]
    lead = f"{len(profile.samples)} samples of {len(profile.operators)} operators on {profile.where.device}."
    shown = [section for section in sections if section.tables or section.plots]
    tiles = [Tile(label, value) for label, value, *_ in facts.rows[2:]]
    return document(facts.title, lead, tiles, shown, banner=banner(profile.where.calibration))


@show_html.register
def _costs(costs: Costs) -> str:
    plots = []
    if points := total_points(costs.table):
        caption = "The whole network at each single clock, as the model has it."
        plots.append(Plot("Time against energy", caption, cost_figure(points, what="predicted")))
    caption = "How much longer an operator takes at each point than at its fastest; the 30 slowest operators."
    plots.append(
        Plot("What slower clocks do to each operator", caption, operators_figure(costs.operators, costs.table))
    )
    lead = f"{len(costs.operators)} operators at {len(costs.table.points)} points."
    sections = [Section("Costs", plots=tuple(plots)), Section("Numbers", tables(costs))]
    return document(costs.title, lead, (), sections)


def _deadline_s(log: Log) -> float | None:
    """Return what answers were held to [s]; None where they were held to nothing."""
    if log.deadline is not None:
        return log.deadline.latency_s
    first = log.served[0]
    return None if first.deadline_s is None else first.deadline_s - first.arrival_s
