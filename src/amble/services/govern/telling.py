"""A proof → tables and a page; a log of a watcher is shown as what it proves, and drawn."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.log import Log
from amble.core.quantity import format_energy, format_time
from amble.core.report import Estimate, Share
from amble.services.govern.proof import Kept, Proof, Side
from amble.stages.check.cells import UNKNOWN, Table, percent
from amble.stages.check.html import Plot, Section, Tile, document
from amble.stages.check.plots import axis, color, draw, figure, graph_objects
from amble.stages.check.show import show_html
from amble.stages.check.tables import tables

__all__ = ["Watched"]


@dataclass(frozen=True, slots=True)
class Watched:
    """A log of a watcher beside what it proves."""

    log: Log
    proof: Proof


@tables.register
def _proof(proof: Proof) -> tuple[Table, ...]:
    facts = (
        ("server", proof.server),
        ("device", f"{proof.device} ({proof.calibration})"),
        ("latencies from", proof.sight),
        ("verdict on the objectives", proof.verdict),
        ("energy saved at the same load", between(proof.saving)),
        ("clock changes", str(proof.num_changes)),
        ("time in which the page could not be trusted", _span(proof.unusable_s)),
    )
    kept = Table(
        "Objectives",
        ("objective", "late, governed", "late, as found", "judged at", "verdict"),
        tuple(_kept(each) for each in proof.objectives),
        ("late means above the last bucket edge that is not above the limit",),
    )
    sides = (("governed", proof.governed), ("as found, by lot", proof.as_found))
    energy = Table(
        "Energy",
        ("", "time", "requests", "mean power", "a request", "an output token"),
        tuple((name, *_side(side)) for name, side in sides),
        ("loads of the two rows differ by chance; the saving above is at the same load",),
    )
    return (Table(f"Governed: {proof.server}", ("what", ""), facts, proof.notes), kept, energy)


@tables.register
def _watched(watched: Watched) -> tuple[Table, ...]:
    return tables(watched.proof)


@show_html.register
def _page(proof: Proof) -> str:
    facts, kept, energy = tables(proof)
    tiles = [Tile("Objectives", proof.verdict), Tile("Energy saved at the same load", between(proof.saving))]
    lead = f"{proof.server} on {proof.device}, {_span(proof.governed.time_s)} governed."
    return document(facts.title, lead, tiles, [Section("Numbers", (kept, energy, facts))])


@show_html.register
def _watched_page(watched: Watched) -> str:
    facts, kept, energy = tables(watched.proof)
    proof = watched.proof
    tiles = [Tile("Objectives", proof.verdict), Tile("Energy saved at the same load", between(proof.saving))]
    lead = f"{proof.server} on {proof.device}, {_span(watched.log.finish_s - watched.log.start_s)} watched."
    plots = (
        Plot("Settings", "What was asked for; -1 is as found, 0 the fastest.", _settings_figure(watched.log)),
        Plot("Power", "Mean of each period.", _power_figure(watched.log)),
        Plot("Requests", "A second, as they were answered.", _requests_figure(watched.log)),
    )
    sections = [Section("Numbers", (kept, energy, facts)), Section("The run", plots=plots)]
    return document(facts.title, lead, tiles, sections)


def between(estimate: Estimate | None) -> str:
    """Write a ratio with its interval."""
    if estimate is None:
        return UNKNOWN
    if estimate.low is None or estimate.high is None:
        return percent(estimate.value)
    return f"{percent(estimate.value)} ({percent(estimate.low)} to {percent(estimate.high)})"


def _span(seconds: float) -> str:
    """Write how long something was watched: of minutes and hours nobody wants powers of ten."""
    if seconds <= 0.0:
        return "none"
    if seconds < 180.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 10800.0 else f"{seconds / 3600.0:.1f} h"


def _kept(each: Kept) -> tuple[str, ...]:
    found = "no answers" if each.as_found is None else _share(each.as_found)
    return each.objective, _share(each.governed), found, format_time(each.judged_s), each.verdict


def _share(share: Share) -> str:
    return f"{share.count} of {share.out_of} ({percent(share.ratio.value, 2)})" if share.out_of else "no answers"


def _side(side: Side) -> tuple[str, ...]:
    power = UNKNOWN if side.energy_j is None or not side.time_s else f"{side.energy_j / side.time_s:.4g} W"
    return (
        _span(side.time_s),
        f"{side.requests:.0f}",
        power,
        format_energy(side.request_j),
        format_energy(side.token_j),
    )


def _settings_figure(log: Log) -> str:
    assert log.governed is not None, "a log of a watcher"
    index = {clocks: at for at, clocks in enumerate(log.governed.settings)}
    return _line(log, [index.get(each.asked, -1) for each in log.periods], "setting", step=True)


def _power_figure(log: Log) -> str:
    values = [
        each.energy_j / each.span_s if each.energy_j is not None and each.span_s else None for each in log.periods
    ]
    return _line(log, values, "power [W]")


def _requests_figure(log: Log) -> str:
    return _line(log, [each.finished / each.span_s if each.span_s else None for each in log.periods], "requests/s")


def _line(log: Log, values: list[float | None] | list[int], title: str, *, step: bool = False) -> str:
    drawn = figure(axis("time", "s"), axis(title))
    times_s = [each.start_s - log.start_s for each in log.periods]
    shape = {"color": color(0), "shape": "hv" if step else "linear", "width": 1.4}
    drawn.add_trace(graph_objects().Scatter(x=times_s, y=values, mode="lines", line=shape, showlegend=False))
    return draw(drawn)
