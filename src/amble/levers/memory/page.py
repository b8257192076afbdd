"""A mapping to approximate memory → its page: limits of tensors, where they live, energy with its band, accuracy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from amble.core.quantity import format_energy
from amble.levers.memory.partitions import DramPlan, Proof
from amble.levers.memory.tables import mapping as tables_of
from amble.stages.check.cells import percent
from amble.stages.check.html import Mood, Plot, Section, Tile, document
from amble.stages.check.plots import axis, color, draw, figure, graph_objects, limit
from amble.stages.check.show import show_html

__all__ = ["accuracy_figure", "energy_figure", "limits_figure", "mapping_page", "places_figure"]

_PREDICTED = "Energy and time on this page are predicted; the errors were injected and the accuracy measured."


@show_html.register
def mapping_page(plan: DramPlan) -> str:
    """Return a page for a mapping; Refused when plotly is not installed."""
    totals, partitions, tensors = tables_of(plan)
    title = "Mapping to approximate memory"
    lead = (
        f"{sum(each.ber > 0.0 for each in plan.placed)} of {len(plan.placed)} tensors live below the ratings, "
        f"for {percent(plan.saving)} less memory energy."
    )
    sections = [
        Section("What the network bears, and where it lives", plots=tuple(_mapping_plots(plan))),
        Section("What it saves, and what it costs", plots=tuple(_result_plots(plan))),
        Section("Every number", (totals, partitions, tensors), folded=True),
    ]
    shown = [each for each in sections if each.plots or each.tables]
    return document(title, lead, tuple(_tiles(plan)), shown, banner=_PREDICTED)


def limits_figure(plan: DramPlan) -> str:
    """Draw the bit error rate that each tensor bears, and the one where it lives; none where it is 0."""
    drawn = figure({**axis("bit error rate"), "type": "log", "exponentformat": "power", "dtick": 1}, axis())
    names = _short([each.tensor for each in plan.placed])
    borne = [plan.limits.get(each.tensor) for each in plan.placed]
    bars = graph_objects().Scatter(
        x=borne,
        y=names,
        mode="markers",
        name="most that is borne",
        marker={"color": "var(--ink)", "symbol": "line-ns", "size": 12, "line": {"width": 2, "color": "var(--ink)"}},
        hovertemplate="%{y} bears %{x:.2g}<extra></extra>",
    )
    lived = graph_objects().Scatter(
        x=[each.ber if each.ber > 0.0 else None for each in plan.placed],
        y=names,
        text=[each.partition for each in plan.placed],
        mode="markers",
        name="where it lives",
        marker={"color": color(0), "symbol": "circle", "size": 9},
        hovertemplate="%{y}: %{x:.2g} in %{text}<extra></extra>",
    )
    drawn.add_traces([bars, lived])
    known = np.log10([rate for rate in (*plan.limits.values(), *(each.ber for each in plan.placed)) if rate > 0.0])
    drawn.update_xaxes(range=[np.floor(known.min()) - 0.1, np.ceil(known.max()) + 0.1] if known.size else None)
    drawn.update_yaxes(autorange="reversed", type="category")
    drawn.update_layout(height=150 + 20 * len(names))
    return draw(drawn)


def places_figure(plan: DramPlan) -> str:
    """Draw tensors against partitions: a filled cell where a tensor lives, coloured by its bit error rate."""
    names, labels = _short([each.tensor for each in plan.placed]), _settings(plan)
    columns = list(labels.values())
    cells: list[list[float | None]] = [[None] * len(columns) for _ in names]
    said = [[""] * len(columns) for _ in names]
    for row, each in enumerate(plan.placed):
        at = list(labels).index(each.partition)
        cells[row][at] = float(np.log10(max(each.ber, 1e-12)))
        rate = f"bit error rate {each.ber:.2g}" if each.ber > 0.0 else "no errors"
        said[row][at] = f"{each.tensor}<br>{each.partition}, {rate}"
    known = [value for row in cells for value in row if value is not None]
    low, high = min(known), max(max(known), min(known) + 1.0)
    shown = [value for value in range(int(np.ceil(low)), int(high) + 1) if (value - int(np.ceil(low))) % 2 == 0]
    heat = graph_objects().Heatmap(
        z=cells,
        x=columns,
        y=names,
        text=said,
        zmin=low - 0.35 * (high - low),
        zmax=high,
        xgap=3,
        ygap=2,
        colorscale=[[0, "var(--card)"], [1, "var(--accent)"]],
        colorbar={
            "title": {"text": "bit error<br>rate"},
            "outlinewidth": 0,
            "tickvals": shown,
            "ticktext": ["none" if value <= -12 else f"10<sup>{value}</sup>" for value in shown],
        },
        hovertemplate="%{text}<extra></extra>",
        hoverongaps=False,
    )
    drawn = figure(axis(), axis())
    drawn.add_trace(heat)
    drawn.update_yaxes(autorange="reversed", type="category", showgrid=False)
    drawn.update_xaxes(type="category", showgrid=False, side="top", tickangle=0)
    drawn.update_layout(height=190 + 20 * len(names), margin={"l": 64, "r": 20, "t": 80, "b": 20})
    return draw(drawn)


def energy_figure(plan: DramPlan) -> str:
    """Draw the memory's energy for one inference at ratings, as mapped, and for other error rates at low voltage."""
    named = [("at ratings", plan.nominal_j, "var(--quiet)"), ("this mapping", plan.energy_j, "var(--accent)")]
    named += [(f"errors × {each.factor:g}", each.energy_j, color(2)) for each in plan.band]
    bars = graph_objects().Bar(
        x=[name for name, _, _ in named],
        y=[energy_j for _, energy_j, _ in named],
        text=[_less(plan, energy_j) for _, energy_j, _ in named],
        textposition="outside",
        cliponaxis=False,
        marker={"color": [look for _, _, look in named]},
        hovertemplate="%{x}: %{y:.4s}J<extra></extra>",
    )
    drawn = figure(axis(), axis("memory energy for one inference", "J"))
    drawn.add_trace(bars)
    drawn.update_yaxes(range=[0.0, 1.15 * plan.nominal_j])
    ends = {"x0": -0.5, "x1": 1.5, "y0": plan.lower_bound_j, "y1": plan.lower_bound_j}
    drawn.add_shape(type="line", line={"color": "var(--ink)", "width": 1.5, "dash": "dot"}, **ends)
    drawn.update_layout(bargap=0.45, height=360)
    return draw(drawn)


def accuracy_figure(proof: Proof) -> str:
    """Draw how many fresh modules lost how much accuracy, and what they were allowed to."""
    losses = np.array(proof.losses)
    step = 1.0 / proof.num_examples
    counted = np.round(losses / step).astype(np.int64)
    counts = range(int(counted.min()), int(max(counted.max(), round(proof.max_loss / step))) + 1)
    bars = graph_objects().Bar(
        x=[count * step * 100.0 for count in counts],
        y=[int((counted == count).sum()) for count in counts],
        width=step * 80.0,
        marker={"color": "var(--accent)"},
        hovertemplate="%{y} modules lost %{x:.3g} points<extra></extra>",
    )
    drawn = figure(axis("accuracy lost (points)"), axis("modules"))
    drawn.add_trace(bars)
    limit(drawn, (proof.max_loss + step / 2.0) * 100.0, "most that is allowed")
    drawn.update_layout(height=340)
    return draw(drawn)


def _tiles(plan: DramPlan) -> Iterator[Tile]:
    mood: Mood = "good" if plan.verified else "unsure"
    yield Tile("Memory energy, predicted", f"{percent(plan.saving)} less", _band(plan))
    more = f"{plan.verified[:1].upper()}{plan.verified[1:]}." if plan.verified else "Nobody looked."
    yield Tile("Accuracy, measured", "kept" if plan.verified else "not shown", more, mood)
    gap = 1.0 - plan.lower_bound_j / plan.energy_j if plan.energy_j > 0.0 else 0.0
    more = "No mapping within the same limits can need less than this below it."
    yield Tile("Distance from the optimum", f"at most {percent(max(gap, 0.0), 2)}", more)


def _band(plan: DramPlan) -> str:
    start = f"{format_energy(plan.energy_j)} instead of {format_energy(plan.nominal_j)} an inference."
    if not plan.band:
        return start
    ends = sorted(1.0 - each.energy_j / plan.nominal_j for each in plan.band)
    most = max(each.factor for each in plan.band)
    return f"{start} {percent(ends[0])} to {percent(ends[-1])} with errors at 1 to {most:g} times what is known."


def _mapping_plots(plan: DramPlan) -> Iterator[Plot]:
    if plan.limits:
        caption = "A tensor lives where its errors are no more than it bears; one without a dot has none."
        yield Plot("Bit error rate of each tensor", caption, limits_figure(plan))
    caption = "Each partition has one setting; the darker a cell, the more errors its tensor gets."
    yield Plot("Where each tensor lives", caption, places_figure(plan))


def _result_plots(plan: DramPlan) -> Iterator[Plot]:
    caption = "Within these limits no mapping needs less than the dotted line."
    others = " Right: mappings if errors at low voltage were so many times the lower bound that is known."
    yield Plot("Memory energy, predicted", caption + (others if plan.band else ""), energy_figure(plan))
    if plan.proof is not None:
        caption = (
            f"{len(plan.proof.losses)} modules that nobody has seen, {plan.proof.num_examples} examples that found "
            f"nothing, {percent(plan.proof.clean)} right without errors."
        )
        yield Plot("Accuracy on fresh modules, measured", caption, accuracy_figure(plan.proof))


def _settings(plan: DramPlan) -> dict[str, str]:
    """Return a label for each partition: its name, and the knobs of its setting."""
    found = {}
    for name, point in plan.settings.items():
        knobs = [f"{point.voltage_ratio:.3g} V/Vnom"]
        if min(point.trcd_s, point.trp_s) < 13e-9:
            knobs.append(f"tRCD {point.trcd_s * 1e9:.3g} ns")
        if point.refresh_s > 0.064:
            knobs.append(f"refresh {point.refresh_s * 1e3:.4g} ms")
        found[name] = "<br>".join([f"<b>{name}</b>", *knobs])
    return found


def _short(names: list[str]) -> list[str]:
    """Cut long names in the middle, but leave them different."""
    cut = [name if len(name) <= 34 else f"{name[:14]}…{name[-18:]}" for name in names]
    return cut if len(set(cut)) == len(cut) else names


def _less(plan: DramPlan, energy_j: float) -> str:
    saved = 1.0 - energy_j / plan.nominal_j
    return f"{format_energy(energy_j)}<br>{f'−{percent(saved)}' if abs(saved) > 5e-4 else ''}"
