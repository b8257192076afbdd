"""Artefacts → figures, as the JSON that plotly.js draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from amble.check.evidence import FrontierPoint, Pair
from amble.check.plots import NUM_COLORS, axis, color, columns, dash, draw, figure, graph_objects, limit, rows, symbol
from amble.core.log import Log
from amble.core.point import DOMAINS, Clocks, Domain
from amble.core.ports import CostTable, FloatArray
from amble.core.report import Report
from amble.core.schedule import Schedule

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


def frontier_figure(schedule: Schedule, frontier: Sequence[FrontierPoint] = (), report: Report | None = None) -> str:
    """Draw predicted time against energy: frontier, lower bound, plan and baselines; and what was measured."""
    drawn = figure("time for one inference (ms)", "energy for one inference (mJ)")
    if frontier:
        points = sorted(frontier, key=lambda point: point.latency_s)
        _line(drawn, "best plans", [(p.latency_s, p.energy_j) for p in points], color="var(--accent)", mode="lines")
        bounds = [(p.latency_s, p.lower_bound_j) for p in points if p.lower_bound_j is not None]
        _line(drawn, "lower bound", bounds, color="var(--muted)", dash="dot", mode="lines")
    named = [("plan", schedule.predicted), *((each.name, each.predicted) for each in schedule.baselines)]
    for index, (name, cost) in enumerate(named):
        if cost.energy_j is not None:
            look: dict[str, Any] = {"color": color(index), "symbol": symbol(index), "size": 15 if index == 0 else 10}
            _dot(drawn, f"{name}, predicted", cost.latency_s, cost.energy_j, look)
    for name, time_s, energy_j in _measured(report):
        look = {"color": "var(--ink)", "symbol": "x-thin", "size": 10, "line": {"width": 2, "color": "var(--ink)"}}
        _dot(drawn, "measured", time_s, energy_j, look, text=name)
    _once_in_legend(drawn)
    limit(drawn, schedule.budget_s * 1e3, "budget")
    return draw(drawn)


def timeline_figure(schedule: Schedule, kinds: Sequence[str] = ()) -> str:
    """Draw one inference as planned: each clock domain as steps over time, and the operators as bars by kind."""
    times_s = [step.predicted.latency_s for step in schedule.steps]
    edges_ms = [0.0, *(1e3 * end_s for end_s in accumulate(times_s))]
    domains = [domain for domain in DOMAINS if schedule.steps[0].point.clocks.of(domain) is not None]
    drawn = rows([*[3.0] * len(domains), 1.4])
    single = [each.point.clocks for each in schedule.baselines if each.point is not None]
    for row, domain in enumerate(domains, start=1):
        mhz = [_mhz(step.point.clocks, domain) for step in schedule.steps]
        style = {"color": color(row - 1), "width": 2.5, "shape": "hv"}
        text = [f"{step.operator}" for step in schedule.steps]
        hover = "%{y:.4g} MHz from %{x:.3f} ms<br>%{text}<extra></extra>"
        trace = graph_objects().Scatter(
            x=edges_ms, y=[*mhz, mhz[-1]], text=[*text, ""], line=style, hovertemplate=hover, showlegend=False
        )
        drawn.add_trace(trace, row=row, col=1)
        highest = max([*mhz, *(_mhz(clocks, domain) for clocks in single)])
        drawn.update_yaxes({"title": f"{domain}<br>(MHz)", "range": [0, 1.12 * highest], **axis()}, row=row, col=1)
    for bars in _operator_bars(schedule, edges_ms, kinds):
        drawn.add_trace(bars, row=len(domains) + 1, col=1)
    drawn.update_yaxes(showticklabels=False, showgrid=False, title="operators", row=len(domains) + 1, col=1)
    drawn.update_xaxes(axis())
    drawn.update_xaxes(title="time since the start of the inference (ms)", row=len(domains) + 1, col=1)
    drawn.update_layout(barmode="overlay", bargap=0, height=150 + 150 * len(domains))
    return draw(drawn)


def prediction_figure(pairs: Sequence[Pair]) -> str:
    """Draw predicted over measured time of each operator on logarithmic axes, and a histogram of the errors."""
    drawn = columns([0.58, 0.42])
    times_us = np.array([(1e6 * pair.measured_s, 1e6 * pair.predicted_s) for pair in pairs])
    ends = [float(times_us.min()) * 0.8, float(times_us.max()) * 1.25]
    diagonal = {"color": "var(--muted)", "width": 1, "dash": "dot"}
    drawn.add_trace(
        graph_objects().Scatter(x=ends, y=ends, line=diagonal, mode="lines", name="exact", hoverinfo="skip"), 1, 1
    )
    for index, (kind, chosen) in enumerate(_by_kind([pair.kind for pair in pairs])):
        hover = "%{text}<br>measured %{x:.4g} µs<br>predicted %{y:.4g} µs"
        dots = graph_objects().Scatter(
            x=times_us[chosen, 0],
            y=times_us[chosen, 1],
            text=[pairs[i].operator for i in chosen],
            mode="markers",
            name=kind,
            marker={"color": color(index), "symbol": symbol(index + 4), "size": 7, "opacity": 0.75},
            hovertemplate=hover,
        )
        drawn.add_trace(dots, 1, 1)
    errors = 100 * (times_us[:, 1] / times_us[:, 0] - 1)
    bars = {"color": "var(--accent)", "line": {"color": "var(--card)", "width": 1}}
    drawn.add_trace(graph_objects().Histogram(x=errors, nbinsx=31, marker=bars, name="errors", showlegend=False), 1, 2)
    log = {"type": "log", **axis()}
    drawn.update_xaxes({"title": "measured (µs)", **log}, row=1, col=1)
    drawn.update_yaxes({"title": "predicted (µs)", **log}, row=1, col=1)
    drawn.update_xaxes({"title": "predicted over measured (%)", **axis()}, row=1, col=2)
    drawn.update_yaxes({"title": "operators", **axis()}, row=1, col=2)
    return draw(drawn)


def latency_figure(logs: Sequence[Log], *, deadline_s: float, percentile: float) -> str:
    """Draw the share of answers given within a time, for each policy, with the deadline and its percentile."""
    drawn = figure("latency (ms)", "share of answers within")
    for index, log in enumerate(logs):
        latency_ms = 1e3 * np.sort([each.latency_s for each in log.served])
        chosen = _thinned(latency_ms.size)
        style = {"color": color(index), "dash": dash(index), "shape": "hv", "width": 2}
        hover = "%{y:.2%} within %{x:.3f} ms"
        share = (chosen + 1) / latency_ms.size
        trace = graph_objects().Scatter(x=latency_ms[chosen], y=share, line=style, name=log.policy, hovertemplate=hover)
        drawn.add_trace(trace)
    limit(drawn, deadline_s * 1e3, "deadline")
    level = {"color": "var(--muted)", "width": 1, "dash": "dot"}
    drawn.add_hline(y=percentile, line=level, annotation_text=f"p{percentile * 100:g}", annotation_position="top left")
    drawn.update_yaxes(tickformat=".0%", range=[0, 1.04])
    return draw(drawn)


def power_figure(logs: Sequence[Log]) -> str:
    """Draw the power of each policy over the traced part of its run."""
    drawn = figure("time since the start of the run (ms)", "power (W)")
    for index, log in enumerate(logs):
        if log.power:
            times_ms = [1e3 * (each.time_s - log.start_s) for each in log.power]
            style = {"color": color(index), "dash": dash(index), "shape": "hv", "width": 1.6}
            watts = [each.power_w for each in log.power]
            hover = "%{y:.3g} W from %{x:.2f} ms"
            trace = graph_objects().Scatter(
                x=times_ms, y=watts, line=style, name=log.policy, hovertemplate=hover, mode="lines"
            )
            drawn.add_trace(trace)
    drawn.update_yaxes(rangemode="tozero")
    return draw(drawn)


def ran_at_figure(log: Log) -> str:
    """Draw the clocks that ran over the traced part of a run, one row for each domain."""
    domains = [domain for domain in DOMAINS if any(piece.ran_at.of(domain) is not None for piece in log.slices)]
    drawn = rows([1.0] * len(domains))
    for row, domain in enumerate(domains, start=1):
        times_ms, mhz = zip(*_ran_at(log, domain), strict=True)
        style = {"color": color(row - 1), "width": 2}
        hover = "%{y:.4g} MHz at %{x:.2f} ms<extra></extra>"
        trace = graph_objects().Scatter(
            x=times_ms, y=mhz, line=style, mode="lines", connectgaps=False, showlegend=False, hovertemplate=hover
        )
        drawn.add_trace(trace, row=row, col=1)
        drawn.update_yaxes({"title": f"{domain} (MHz)", "rangemode": "tozero", **axis()}, row=row, col=1)
    drawn.update_xaxes(axis())
    drawn.update_xaxes(title="time since the start of the run (ms)", row=len(domains), col=1)
    drawn.update_layout(height=120 + 150 * len(domains))
    return draw(drawn)


def energy_figure(report: Report) -> str:
    """Draw the energy of an inference for each policy, with its interval."""
    drawn = figure("", "energy for one inference (mJ)")
    known = [(each.policy, each.period_j) for each in report.policies if each.period_j]
    values = [1e3 * energy.value for _, energy in known]
    above = [1e3 * ((energy.high or energy.value) - energy.value) for _, energy in known]
    below = [1e3 * (energy.value - (energy.low or energy.value)) for _, energy in known]
    colors = ["var(--accent)" if name == report.policy else "var(--quiet)" for name, _ in known]
    ends = {"type": "data", "array": above, "arrayminus": below, "color": "var(--ink)", "thickness": 1.2}
    hover = "%{x}: %{y:.4g} mJ<extra></extra>"
    bars = graph_objects().Bar(
        x=[name for name, _ in known], y=values, error_y=ends, marker={"color": colors}, hovertemplate=hover
    )
    drawn.add_trace(bars)
    drawn.update_layout(bargap=0.5)
    return draw(drawn)


def cost_figure(points: Sequence[tuple[str, float, float]], *, what: str) -> str:
    """Draw time [s] against energy [J] of the whole network for settings named by text."""
    drawn = figure("time for one inference (ms)", "energy for one inference (mJ)")
    names, times_s, energies_j = zip(*points, strict=True)
    dots = graph_objects().Scatter(
        x=[1e3 * time_s for time_s in times_s],
        y=[1e3 * energy_j for energy_j in energies_j],
        text=names,
        mode="markers",
        name=what,
        marker={"color": "var(--accent)", "size": 8, "opacity": 0.8},
        hovertemplate="%{text}<br>%{x:.4g} ms, %{y:.4g} mJ<extra></extra>",
    )
    drawn.add_trace(dots)
    return draw(drawn)


def operators_figure(names: Sequence[str], table: CostTable) -> str:
    """Draw, for the operators that take longest, their time at every point relative to the fastest."""
    order = np.argsort(-table.latency_s.min(axis=1))[:30]
    slow = table.latency_s[order] / table.latency_s[order].min(axis=1, keepdims=True)
    by_speed = np.argsort(table.latency_s.sum(axis=0))
    drawn = figure("points, fastest first", "")
    scale = [[0, "var(--card)"], [1, "var(--accent)"]]
    cells = graph_objects().Heatmap(
        z=slow[:, by_speed],
        y=[names[i] for i in order],
        text=[[str(table.points[i].clocks) for i in by_speed]] * len(order),
        colorscale=scale,
        colorbar={"title": {"text": "times<br>fastest"}, "outlinewidth": 0},
        hovertemplate="%{y}<br>%{text}<br>%{z:.3g} times the fastest<extra></extra>",
    )
    drawn.add_trace(cells)
    drawn.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    drawn.update_layout(height=160 + 18 * len(order))
    return draw(drawn)


def _operator_bars(schedule: Schedule, edges_ms: Sequence[float], kinds: Sequence[str]) -> Iterator[Any]:
    steps = schedule.steps
    known = list(kinds) if len(kinds) == len(steps) else ["operator"] * len(steps)
    for index, (kind, chosen) in enumerate(_by_kind(known)):
        text = [f"<b>{steps[i].operator}</b><br>{steps[i].point.clocks}, {steps[i].point.precision}" for i in chosen]
        yield graph_objects().Bar(
            x=[edges_ms[i + 1] - edges_ms[i] for i in chosen],
            base=[edges_ms[i] for i in chosen],
            y=[0] * len(chosen),
            width=1,
            orientation="h",
            name=kind,
            text=text,
            textposition="none",
            marker={"color": color(index), "line": {"width": 0.6, "color": "var(--card)"}},
            hovertemplate="%{text}<br>%{x:.4f} ms<extra>" + kind + "</extra>",
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


def _measured(report: Report | None) -> Iterator[tuple[str, float, float]]:
    for each in report.policies if report else ():
        if each.period_j is not None:
            yield each.policy, each.percentile(0.5).latency_s.value, each.period_j.value


def _ran_at(log: Log, domain: Domain) -> Iterator[tuple[float, float | None]]:
    """Return steps; a gap (None) where nothing ran."""
    for piece in log.slices:
        hz = piece.ran_at.of(domain)
        mhz = None if hz is None else hz / 1e6
        yield 1e3 * (piece.start_s - log.start_s), mhz
        yield 1e3 * (piece.finish_s - log.start_s), mhz
        yield 1e3 * (piece.finish_s - log.start_s), None


def _thinned(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return indices of sorted samples that draw the same curve; the tail is kept whole."""
    tail = np.arange(max(0, count - _MOST_POINTS // 2), count)
    body = np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(np.int64)
    return np.unique(np.concatenate((body, tail)))


def _mhz(clocks: Clocks, domain: Domain) -> float:
    return (clocks.of(domain) or 0.0) / 1e6


def _line(
    drawn: Any, name: str, points: Sequence[tuple[float, float]], *, color: str, mode: str, dash: str = "solid"
) -> None:
    style = {"color": color, "dash": dash, "width": 2}
    x, y = [1e3 * time_s for time_s, _ in points], [1e3 * energy_j for _, energy_j in points]
    hover = "%{x:.4g} ms, %{y:.4g} mJ"
    drawn.add_trace(graph_objects().Scatter(x=x, y=y, name=name, mode=mode, line=style, hovertemplate=hover))


def _dot(drawn: Any, name: str, time_s: float, energy_j: float, look: dict[str, Any], text: str = "") -> None:
    hover = (f"{text}: " if text else "") + "%{x:.4g} ms, %{y:.4g} mJ"
    trace = graph_objects().Scatter(
        x=[1e3 * time_s], y=[1e3 * energy_j], name=name, mode="markers", marker=look, hovertemplate=hover
    )
    drawn.add_trace(trace)


def _once_in_legend(drawn: Any) -> None:
    seen: set[str] = set()
    for trace in drawn.data:
        trace.showlegend = trace.name not in seen
        seen.add(trace.name)


def total_points(table: CostTable) -> list[tuple[str, float, float]]:
    """Return time [s] and energy [J] of a whole network at each point where the energy is known."""
    times_s: FloatArray = table.latency_s.sum(axis=0)
    energies_j: FloatArray = table.energy_j.sum(axis=0)
    return [
        (str(point.clocks), float(time_s), float(energy_j))
        for point, time_s, energy_j in zip(table.points, times_s, energies_j, strict=True)
        if not np.isnan(energy_j)
    ]
