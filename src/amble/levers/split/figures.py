"""A split → its figures: what every cut takes, and what the best one takes over the rate of the link."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from amble.levers.split.link import format_rate
from amble.levers.split.planning import Choice
from amble.levers.split.results import Listed, Split, named
from amble.stages.check.plots import axis, color, dash, draw, figure, graph_objects, rows

__all__ = ["cuts_figure", "rates_figure"]

_PALE = 0.35
_POINTS = 81  # of the line of all-remote


def cuts_figure(split: Split) -> str:
    """Draw a bar of latency and one of energy for each cut: device, link and server; the best one has a star."""
    drawn = rows([1.0, 1.0])
    listed, names = split.cuts, [named(each, split.num_operators) for each in split.cuts]
    best = next(at for at, each in enumerate(listed) if each.choice.index == split.best.choice.index)
    parts: list[tuple[str, int, str, str, Callable[[Choice], float | None]]] = [
        ("device computes", 1, "s", "var(--series-1)", lambda of: of.latency_s - of.link_s - of.server_s),
        ("waits for the link", 1, "s", "var(--series-2)", lambda of: of.link_s),
        ("waits for the server", 1, "s", "var(--series-3)", lambda of: of.server_s),
        ("device, waiting too", 2, "J", "var(--series-4)", lambda of: _less(of.energy_j, of.radio_j)),
        ("radio", 2, "J", "var(--series-5)", lambda of: None if of.energy_j is None else of.radio_j),
    ]
    for name, row, unit, look, part in parts:
        bars = graph_objects().Bar(
            x=list(range(len(listed))),
            y=[part(each.choice) for each in listed],
            text=names,
            textposition="none",
            name=name,
            marker={"color": look, "opacity": [1.0 if each.choice.fits else _PALE for each in listed]},
            hovertemplate=f"%{{text}}<br>{name}: %{{y:.4s}}{unit}<extra></extra>",
        )
        drawn.add_trace(bars, row=row, col=1)
    _mark_best(drawn, split.best, best)
    style = {"color": "var(--fail)", "width": 1.4, "dash": "dash"}
    limit_s, words = split.deadline.latency_s, f"deadline {split.deadline}"
    drawn.add_hline(limit_s, row=1, col=1, line=style, annotation_text=words, annotation_font_color="var(--fail)")
    drawn.update_yaxes(axis("latency", "s"), row=1, col=1)
    drawn.update_yaxes(axis("energy of the device", "J"), row=2, col=1)
    drawn.update_xaxes({**axis(), **_ticks(listed, split.num_operators, best)})
    drawn.update_layout(barmode="stack", bargap=0.15, height=620)
    return draw(drawn)


def _less(energy_j: float | None, radio_j: float) -> float | None:
    return None if energy_j is None else energy_j - radio_j


def _mark_best(drawn: Any, best: Listed, at: int) -> None:
    """Put a star on both bars of the best cut."""
    for row, top in ((1, best.choice.latency_s), (2, best.choice.energy_j)):
        star = graph_objects().Scatter(
            x=[at],
            y=[top],
            mode="markers",
            name="best",
            showlegend=row == 1,
            marker={
                "symbol": "star",
                "size": 15,
                "color": "var(--accent)",
                "line": {"width": 1, "color": "var(--ink)"},
            },
            hoverinfo="skip",
        )
        drawn.add_trace(star, row=row, col=1)


def _ticks(listed: Sequence[Listed], num_operators: int, best: int) -> dict[str, Any]:
    """Name the best cut and both ends below the axis; the others are named where one points."""
    ends = {0: "all remote", num_operators: "all local"}
    told = {at: ends[each.num_local] for at, each in enumerate(listed) if each.num_local in ends}
    told[best] = f"{told[best]}, best" if best in told else f"best: {listed[best].after}"
    return {"tickvals": list(told), "ticktext": list(told.values()), "showgrid": False}


def rates_figure(split: Split) -> str:
    """Draw the energy of the best cut over the rate, a line for each cut; and of all-remote and all-local."""
    drawn = figure(
        {**axis("rate of the link", "bit/s"), "type": "log", "dtick": 1},
        axis("energy of the device", "J"),
    )
    by_index = {each.choice.index: each for each in split.cuts}
    seen: dict[int, int] = {}
    for each in split.regimes:
        if each.index is None or not each.tried:
            continue
        number = seen.setdefault(each.index, len(seen))
        name = named(by_index[each.index], split.num_operators)
        line = graph_objects().Scatter(
            x=[rate for rate, _ in each.tried],
            y=[energy_j for _, energy_j in each.tried],
            mode="lines+markers",
            name=f"{name}, {format_rate(each.slowest_bit_s)} to {format_rate(each.fastest_bit_s)}",
            line={"color": color(number), "width": 3},
            hovertemplate=f"{name}<br>%{{x:.3s}}bit/s: %{{y:.4s}}J<extra></extra>",
        )
        drawn.add_trace(line)
    for number, (name, points) in enumerate(_wholes(split), start=1):
        beside = graph_objects().Scatter(
            x=[rate for rate, _ in points],
            y=[energy_j for _, energy_j in points],
            mode="lines",
            name=name,
            line={"color": "var(--muted)", "width": 1.6, "dash": dash(number)},
            hovertemplate=f"{name}<br>%{{x:.3s}}bit/s: %{{y:.4s}}J<extra></extra>",
        )
        drawn.add_trace(beside)
    style = {"color": "var(--fail)", "width": 1.4, "dash": "dash"}
    drawn.add_vline(split.link.rate_bit_s, line=style)
    at = float(np.log10(split.link.rate_bit_s))  # where texts stand on a logarithmic axis
    drawn.add_annotation(
        x=at, y=1, yref="paper", text="this link", showarrow=False, xanchor="left", font={"color": "var(--fail)"}
    )
    drawn.update_layout(height=440)
    return draw(drawn)


def _wholes(split: Split) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Yield what all-remote and all-local take at every rate at which they are in time [J]."""
    ends = (split.regimes[0].slowest_bit_s, split.regimes[-1].fastest_bit_s)
    for each in split.cuts:
        if each.num_local == split.num_operators and each.choice.energy_j is not None and each.choice.fits:
            yield "all local, always", [(rate, each.choice.energy_j) for rate in ends]
        elif each.num_local == 0:
            rates = np.geomspace(*ends, _POINTS).tolist()
            priced = [(rate, _remote(split, each.choice, rate)) for rate in rates]
            found = [(rate, of.energy_j) for rate, of in priced if of.fits and of.energy_j is not None]
            if found:
                yield "all remote, where in time", found


def _remote(split: Split, of: Choice, rate_bit_s: float) -> Choice:
    """Return what all-remote takes at another rate: what is sent takes longer, and the radio is on as long."""
    assert of.energy_j is not None
    longer_s = (of.link_s - split.link.round_trip_s) * (split.link.rate_bit_s / rate_bit_s - 1.0)
    latency_s, more_j = of.latency_s + longer_s, longer_s * split.link.radio.base_w
    fits = latency_s <= split.deadline.latency_s
    return replace(of, latency_s=latency_s, energy_j=of.energy_j + more_j, radio_j=of.radio_j + more_j, fits=fits)
