"""Artefacts → figures, as the JSON that plotly.js draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from amble.core.log import Log
from amble.core.point import DOMAINS, Clocks, Domain
from amble.core.ports import CostTable, FloatArray
from amble.core.report import Report
from amble.core.schedule import Accounting, Schedule
from amble.stages.check.evidence import Pair
from amble.stages.check.plots import (
    NUM_COLORS,
    axis,
    color,
    columns,
    dash,
    draw,
    figure,
    graph_objects,
    limit,
    rows,
    symbol,
)

__all__ = [
    "cost_figure",
    "energy_figure",
    "frontier_figure",
    "latency_figure",
    "operators_figure",
    "power_figure",
    "prediction_figure",
    "ran_at_figure",
    "timeline_figure",
    "total_points",
]

_MOST_POINTS = 400


def frontier_figure(schedule: Schedule, report: Report | None = None) -> str:
    """Draw predicted time against energy: frontier, lower bound, plan and baselines; and what was measured."""
    drawn = figure(axis("time for one inference", "s"), axis("energy for one inference", "J"))
    best = {"color": "var(--accent)", "width": 2, "shape": "hv"}  # between two plans the faster one stays the best
    bound = {"color": "var(--muted)", "width": 2, "dash": "dot", "shape": "vh"}  # and the slower one's bound holds
    _dots(drawn, "best plans", _best_plans(schedule), mode="lines", line=best)
    _dots(drawn, "lower bound", _bounds(schedule), mode="lines", line=bound)
    named = [("plan", schedule.predicted), *((each.name, each.predicted) for each in schedule.baselines)]
    for index, (name, cost) in enumerate(named):
        look = {"color": color(index), "symbol": symbol(index), "size": 10 if index else 15}
        places = [(cost.latency_s, cost.energy_j)] if cost.energy_j is not None else []
        _dots(drawn, f"{name}, predicted", places, marker=look)
    cross = {"color": "var(--ink)", "symbol": "x-thin", "size": 10, "line": {"width": 2, "color": "var(--ink)"}}
    measured = list(_measured(report, schedule.accounting))
    places = [(time_s, energy_j) for _, time_s, energy_j in measured]
    _dots(drawn, "measured", places, marker=cross, text=[name for name, _, _ in measured])
    limit(drawn, schedule.budget_s, "budget")
    return draw(drawn)


def _best_plans(schedule: Schedule) -> list[tuple[float, float]]:
    """Return the frontier with the plan itself on it, without what a faster plan undercuts."""
    mine = schedule.predicted
    found = [(point.latency_s, point.energy_j) for point in schedule.frontier]
    if found and mine.energy_j is not None:
        found.append((mine.latency_s, mine.energy_j))
    found.sort()
    lowest = accumulate((energy_j for _, energy_j in found), min)
    return [place for place, least_j in zip(found, lowest, strict=True) if place[1] <= least_j]


def _bounds(schedule: Schedule) -> list[tuple[float, float]]:
    return sorted((p.latency_s, p.lower_bound_j) for p in schedule.frontier if p.lower_bound_j is not None)


def timeline_figure(schedule: Schedule, kinds: Sequence[str] = ()) -> str:
    """Draw one inference as planned: each clock domain as steps over time, and the operators as bars by kind."""
    edges_s = [0.0, *accumulate(step.predicted.latency_s for step in schedule.steps)]
    domains = [domain for domain in DOMAINS if schedule.steps[0].point.clocks.of(domain) is not None]
    drawn = rows([*[3.0] * len(domains), 1.4])
    for row, domain in enumerate(domains, start=1):
        _clock_steps(drawn, row, schedule, domain, edges_s)
    for bars in _operator_bars(schedule, edges_s, kinds):
        drawn.add_trace(bars, row=len(domains) + 1, col=1)
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False, "title": "operators"}
    drawn.update_yaxes(bare, row=len(domains) + 1, col=1)
    drawn.update_xaxes(axis(unit="s"))
    drawn.update_xaxes(title="time since the start of the inference", row=len(domains) + 1, col=1)
    drawn.update_layout(barmode="overlay", bargap=0, height=170 + 150 * len(domains))
    return draw(drawn)


def prediction_figure(pairs: Sequence[Pair]) -> str:
    """Draw predicted over measured time of each operator on logarithmic axes, and a histogram of the errors."""
    drawn = columns([0.58, 0.42])
    measured_s = np.array([pair.measured_s for pair in pairs])
    predicted_s = np.array([pair.predicted_s for pair in pairs])
    ends = [float(measured_s.min()) * 0.8, float(measured_s.max()) * 1.25]
    diagonal = {"color": "var(--muted)", "width": 1, "dash": "dot"}
    exact = graph_objects().Scatter(x=ends, y=ends, line=diagonal, mode="lines", name="exact", hoverinfo="skip")
    drawn.add_trace(exact, 1, 1)
    for index, (kind, chosen) in enumerate(_by_kind([pair.kind for pair in pairs])):
        dots = graph_objects().Scatter(
            x=measured_s[chosen],
            y=predicted_s[chosen],
            text=[pairs[i].operator for i in chosen],
            mode="markers",
            name=kind,
            marker={"color": color(index), "symbol": symbol(index + 4), "size": 7, "opacity": 0.75},
            hovertemplate="%{text}<br>measured %{x:.4s}s<br>predicted %{y:.4s}s",
        )
        drawn.add_trace(dots, 1, 1)
    bars = {"color": "var(--accent)", "line": {"color": "var(--card)", "width": 1}}
    errors = graph_objects().Histogram(x=predicted_s / measured_s - 1, nbinsx=31, marker=bars, showlegend=False)
    drawn.add_trace(errors, 1, 2)
    drawn.update_xaxes({"type": "log", "dtick": 1, **axis("measured", "s")}, row=1, col=1)
    drawn.update_yaxes({"type": "log", "dtick": 1, **axis("predicted", "s")}, row=1, col=1)
    drawn.update_xaxes({**axis("predicted over measured"), "tickformat": "+.0%"}, row=1, col=2)
    drawn.update_yaxes(axis("operators"), row=1, col=2)
    return draw(drawn)


def latency_figure(logs: Sequence[Log], *, deadline_s: float | None, percentile: float) -> str:
    """Draw the share of answers given within a time, for each policy, with the deadline and its percentile."""
    drawn = figure(axis("latency", "s"), axis("share of answers within"))
    for index, log in enumerate(logs):
        latency_s = np.sort([each.latency_s for each in log.served])
        chosen = _thinned(latency_s.size)
        style = {"color": color(index), "dash": dash(index), "shape": "hv", "width": 2}
        hover = "%{y:.2%} within %{x:.4s}s"
        share = (chosen + 1) / latency_s.size
        _steps(drawn, log.policy, latency_s[chosen].tolist(), share.tolist(), line=style, hovertemplate=hover)
    if deadline_s is not None:
        limit(drawn, deadline_s, "deadline")
    level = {"color": "var(--muted)", "width": 1, "dash": "dot"}
    name = f"p{percentile * 100:g}"
    drawn.add_hline(y=percentile, line=level, annotation_text=name, annotation_position="bottom left")
    drawn.update_yaxes(tickformat=".0%", range=[0, 1.12])
    return draw(drawn)


def power_figure(logs: Sequence[Log], requests: int = 6) -> str:
    """Draw the power of each policy over the traced part of its run, at first the part of so many requests."""
    drawn = figure(axis("time since the start of the run", "s"), axis("power", "W"))
    known = [log for log in logs if log.power]
    for index, log in enumerate(known):
        times_s = [each.time_s - log.start_s for each in log.power]
        style = {"color": color(index), "dash": dash(index), "shape": "hv", "width": 1.8}
        watts = [each.power_w for each in log.power]
        _steps(drawn, log.policy, times_s, watts, line=style, hovertemplate="%{y:.3g} W from %{x:.4s}s")
    ends_s = [log.served[min(requests, len(log.served)) - 1].finish_s - log.start_s for log in known]
    drawn.update_xaxes(range=[0, max(ends_s, default=1.0)])
    drawn.update_yaxes(rangemode="tozero")
    return draw(drawn)


def ran_at_figure(log: Log) -> str:
    """Draw the clocks that ran over the traced part of a run, one row for each domain."""
    domains = [domain for domain in DOMAINS if any(piece.ran_at.of(domain) is not None for piece in log.slices)]
    drawn = rows([1.0] * len(domains))
    for row, domain in enumerate(domains, start=1):
        times_s, mhz = zip(*_ran_at(log, domain), strict=True)
        hover = "%{y:.4g} MHz at %{x:.4s}s<extra></extra>"
        line = graph_objects().Scatter(
            x=times_s,
            y=mhz,
            line={"color": color(row - 1), "width": 2},
            mode="lines",
            showlegend=False,
            hovertemplate=hover,
        )
        drawn.add_trace(line, row=row, col=1)
        drawn.update_yaxes({"rangemode": "tozero", **axis(f"{domain} (MHz)")}, row=row, col=1)
    drawn.update_xaxes(axis(unit="s"))
    drawn.update_xaxes(title="time since the start of the run", row=len(domains), col=1)
    drawn.update_layout(height=120 + 150 * len(domains))
    return draw(drawn)


def energy_figure(report: Report) -> str:
    """Draw the energy of an inference for each policy, with its interval."""
    drawn = figure(axis(), axis("energy for one inference", "J"))
    known = [(each.policy, each.period_j) for each in report.policies if each.period_j]
    above_j = [(energy.high or energy.value) - energy.value for _, energy in known]
    below_j = [energy.value - (energy.low or energy.value) for _, energy in known]
    bars = graph_objects().Bar(
        x=[name for name, _ in known],
        y=[energy.value for _, energy in known],
        error_y={"array": above_j, "arrayminus": below_j, "color": "var(--ink)", "thickness": 1.2},
        marker={"color": ["var(--accent)" if name == report.policy else "var(--quiet)" for name, _ in known]},
        hovertemplate="%{x}: %{y:.4s}J<extra></extra>",
    )
    drawn.add_trace(bars)
    drawn.update_layout(bargap=0.55, height=340)
    return draw(drawn)


def cost_figure(points: Sequence[tuple[str, float, float]], *, what: str) -> str:
    """Draw time [s] against energy [J] of the whole network for settings named by text."""
    drawn = figure(axis("time for one inference", "s"), axis("energy for one inference", "J"))
    look = {"color": "var(--accent)", "size": 8, "opacity": 0.8}
    places = [(time_s, energy_j) for _, time_s, energy_j in points]
    _dots(drawn, what, places, marker=look, text=[name for name, _, _ in points])
    return draw(drawn)


def operators_figure(names: Sequence[str], table: CostTable) -> str:
    """Draw, for the operators that take longest, their time at every point relative to the fastest."""
    order = np.argsort(-table.latency_s.min(axis=1))[:30]
    by_speed = np.argsort(table.latency_s.sum(axis=0))
    slower = (table.latency_s[order] / table.latency_s[order].min(axis=1, keepdims=True))[:, by_speed]
    clocks = [str(table.points[i].clocks) for i in by_speed]
    doublings = list(range(int(np.log2(slower.max())) + 1))
    ticks = {"tickvals": doublings, "ticktext": [f"{2**each}" for each in doublings]}
    cells = graph_objects().Heatmap(
        z=np.log2(slower),
        y=[names[i] for i in order],
        text=[
            [f"{text}<br>{ratio:.3g} times the fastest" for text, ratio in zip(clocks, row, strict=True)]
            for row in slower
        ],
        colorscale=[[0, "var(--card)"], [1, "var(--accent)"]],
        colorbar={"title": {"text": "times<br>fastest"}, "outlinewidth": 0, **ticks},
        hovertemplate="%{y}<br>%{text}<extra></extra>",
    )
    drawn = figure(axis("points, fastest first"), axis())
    drawn.add_trace(cells)
    drawn.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    drawn.update_layout(height=160 + 18 * len(order))
    return draw(drawn)


def _clock_steps(drawn: Any, row: int, schedule: Schedule, domain: Domain, edges_s: Sequence[float]) -> None:
    """Draw one domain's clock, and as dotted lines those of the baselines that hold a single one."""
    mhz = [_mhz(step.point.clocks, domain) for step in schedule.steps]
    line = graph_objects().Scatter(
        x=edges_s,
        y=[*mhz, mhz[-1]],
        text=[*(step.operator for step in schedule.steps), "end"],
        line={"color": "var(--accent)", "width": 2.5, "shape": "hv"},
        hovertemplate="%{y:.4g} MHz from %{x:.4s}s<br>%{text}<extra></extra>",
        showlegend=False,
    )
    drawn.add_trace(line, row=row, col=1)
    single = {each.name: _mhz(each.point.clocks, domain) for each in schedule.baselines if each.point is not None}
    fastest = max(single.values(), default=0.0)
    for held in sorted(set(single.values())):
        names = ", ".join(name for name, value in single.items() if value == held)
        style = {"color": "var(--muted)", "width": 1, "dash": "dot"}
        font = {"size": 11, "color": "var(--muted)"}
        place = "top right" if held == fastest else "bottom right"
        words = {"annotation_text": names, "annotation_position": place, "annotation_font": font}
        drawn.add_hline(y=held, row=row, col=1, line=style, **words)
    top = 1.18 * max([*mhz, *single.values()])
    drawn.update_yaxes({"range": [0, top], **axis(f"{domain}<br>(MHz)")}, row=row, col=1)


def _operator_bars(schedule: Schedule, edges_s: Sequence[float], kinds: Sequence[str]) -> Iterator[Any]:
    steps = schedule.steps
    known = list(kinds) if len(kinds) == len(steps) else ["operator"] * len(steps)
    gap = {"width": min(0.6, 30 / len(steps)), "color": "var(--card)"}
    for index, (kind, chosen) in enumerate(_by_kind(known)):
        text = [f"<b>{steps[i].operator}</b><br>{steps[i].point.clocks}, {steps[i].point.precision}" for i in chosen]
        yield graph_objects().Bar(
            x=[edges_s[i + 1] - edges_s[i] for i in chosen],
            base=[edges_s[i] for i in chosen],
            y=[0] * len(chosen),
            width=1,
            orientation="h",
            name=kind,
            showlegend=len(kinds) > 0,
            text=text,
            textposition="none",
            marker={"color": color(index), "line": gap},
            hovertemplate="%{text}<br>%{x:.4s}s<extra>" + kind + "</extra>",
        )


def _by_kind(kinds: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Group indices by kind, the most frequent first; kinds beyond the palette are ``other``."""
    groups: dict[str, list[int]] = {}
    for index, kind in enumerate(kinds):
        groups.setdefault(kind, []).append(index)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    kept, rest = ordered[: NUM_COLORS - 1], ordered[NUM_COLORS - 1 :]
    others = sorted(index for _, indices in rest for index in indices)
    return [*kept, ("other", others)] if others else kept


def _measured(report: Report | None, accounting: Accounting) -> Iterator[tuple[str, float, float]]:
    for each in report.policies if report else ():
        latency, energy = each.prediction("latency"), each.energy_j(accounting)
        if energy is not None:
            time_s = latency.measured if latency else each.percentile(0.5).latency_s.value
            yield each.policy, time_s, energy.value


def _ran_at(log: Log, domain: Domain) -> Iterator[tuple[float, float | None]]:
    """Return steps; a gap (None) where nothing ran."""
    for piece in log.slices:
        hz = piece.ran_at.of(domain)
        mhz = None if hz is None else hz / 1e6
        yield piece.start_s - log.start_s, mhz
        yield piece.finish_s - log.start_s, mhz
        yield piece.finish_s - log.start_s, None


def _thinned(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return indices of sorted samples that draw the same curve; the tail is kept whole."""
    tail = np.arange(max(0, count - _MOST_POINTS // 2), count)
    body = np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(np.int64)
    return np.unique(np.concatenate((body, tail)))


def _mhz(clocks: Clocks, domain: Domain) -> float:
    return (clocks.of(domain) or 0.0) / 1e6


def _dots(drawn: Any, name: str, places: Sequence[tuple[float, float]], mode: str = "markers", **look: Any) -> None:
    """Draw times [s] against energies [J]; nothing where there are none."""
    if places:
        hover = ("%{text}: " if look.get("text") else "") + "%{x:.4s}s, %{y:.4s}J"
        x, y = zip(*places, strict=True)
        drawn.add_trace(graph_objects().Scatter(x=x, y=y, name=name, mode=mode, hovertemplate=hover, **look))


def _steps(drawn: Any, name: str, x: Sequence[float], y: Sequence[float], **look: Any) -> None:
    drawn.add_trace(graph_objects().Scatter(x=x, y=y, name=name, mode="lines", **look))


def total_points(table: CostTable) -> list[tuple[str, float, float]]:
    """Return time [s] and energy [J] of a whole network at each point where the energy is known."""
    times_s: FloatArray = table.latency_s.sum(axis=0)
    energies_j: FloatArray = table.energy_j.sum(axis=0)
    return [
        (str(point.clocks), float(time_s), float(energy_j))
        for point, time_s, energy_j in zip(table.points, times_s, energies_j, strict=True)
        if not np.isnan(energy_j)
    ]
