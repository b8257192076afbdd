"""Staircases, and what pruning made of them → tables in plain words, a plot of every staircase, and pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from amble.core.layers import Shape
from amble.core.quantity import format_energy, format_time
from amble.core.variants import Quality
from amble.levers.widths.results import DesignSpace, Narrowed, Pruning
from amble.levers.widths.staircase import Axis, Staircase, StaircaseTable, Stairs
from amble.stages.check.cells import Table, percent, share, signed
from amble.stages.check.html import Plot, Section, Tile, document
from amble.stages.check.page import banner
from amble.stages.check.plots import axis, draw, figure, graph_objects
from amble.stages.check.show import show_html
from amble.stages.check.tables import tables

__all__ = ["staircase_figure", "staircases_table"]

_MOST_EDGES = 8


@tables.register
def staircases_table(table: StaircaseTable) -> tuple[Table, ...]:
    """Return one row for each layer shape: how long it takes, and where its stairs end."""
    columns = ("layer", "time", "stairs of outputs", "stairs of inputs", "noise", "points")
    rows = tuple(
        (
            str(each.shape),
            format_time(each.latency_s(each.shape.inputs, each.shape.outputs)),
            _stairs(each.outputs, varies=each.shape.vary_outputs),
            _stairs(each.inputs, varies=each.shape.vary_inputs and each.shape.kind != "depthwise"),
            percent(each.noise),
            str(len(each.points)),
        )
        for each in table.staircases
    )
    notes = (
        f"{table.library}, {table.dtype}, batch {table.batch}; measured in {format_time(table.took_s)}",
        *table.notes,
    )
    return (Table(f"Staircases on {table.where.device}", columns, rows, notes),)


def _stairs(stairs: Stairs, *, varies: bool) -> str:
    """Write where stairs end: ``every 16`` where that was found, else the edges found."""
    if not varies:
        return "stay"
    if stairs.block > 1:
        return f"every {stairs.block}"
    inner = stairs.edges[:-1]
    if not inner:
        return "none found"
    more = ", …" if len(inner) > _MOST_EDGES else ""
    return ", ".join(map(str, inner[:_MOST_EDGES])) + more


@tables.register
def _space(space: DesignSpace) -> tuple[Table, ...]:
    rows = tuple((each.group, ", ".join(map(str, each.widths)), ", ".join(each.layers)) for each in space.groups)
    title = f"Widths of {space.subject.network} worth searching on {space.where.device}, batch {space.subject.batch}"
    return (Table(title, ("group", "widths", "layers"), rows, (space.library,)),)


@tables.register
def _pruning(made: Pruning) -> tuple[Table, ...]:
    say = format_time if made.resource == "latency" else format_energy
    facts = (
        ("verdict", f"{made.verdict}: {made.reason}"),
        ("device", f"{made.where.device} ({made.where.calibration}), in {made.table.dtype}"),
        ("budget", f"{say(made.budget)} of {made.resource}"),
        ("measured", f"{format_time(made.before_s)} before, {format_time(made.after_s)} after ({made.clock})"),
        ("predicted before it was cut", f"{format_time(made.predicted_s)} ({signed(made.error)})"),
        (f"{made.metric} of the ONNX file", f"{share(made.before)} before, {share(made.after.share)} after"),
        ("right after cutting, not tuned", share(made.cut.share)),
        ("lost, points", _loss(made.after)),
        ("importance lost", f"{percent(made.lost)}; {_least(made)}"),
    )
    columns = ("layer", "inputs", "outputs", "stairs end at", "time", "share that is tail", "")
    title = f"{made.subject.network} pruned for {made.where.device}, batch {made.subject.batch}"
    return (
        Table(title, ("what", ""), facts, made.notes),
        Table("Layers", columns, tuple(map(_layer, made.layers)), marked=_changed(made)),
        _rivals(made),
    )


def _least(made: Pruning) -> str:
    """Say how little could be lost, where that is known."""
    if not made.bound:
        return "how little could be lost was not bounded"
    return f"nothing within the budget loses less than {percent(made.bound)}"


def _changed(made: Pruning) -> tuple[int, ...]:
    return tuple(at for at, each in enumerate(made.layers) if each.outputs[0] != each.outputs[1])


def _layer(each: Narrowed) -> tuple[str, ...]:
    edges = [edge for edge in each.stairs if edge <= each.outputs[0]]
    shown = [*(("…",) if len(edges) > _MOST_EDGES else ()), *map(str, edges[-_MOST_EDGES:])]
    return (
        f"{each.layer} ({each.shape})",
        _change(*each.inputs),
        _change(*each.outputs),
        ", ".join(shown) or "stay",
        f"{format_time(each.latency_s[0])} → {format_time(each.latency_s[1])}",
        f"{percent(each.tail[0], 0)} → {percent(each.tail[1], 0)}",
        each.remark,
    )


def _change(before: int, after: int) -> str:
    return str(before) if before == after else f"{before} → {after}"


def _rivals(made: Pruning) -> Table:
    own = ("on the edges of stairs", format_time(made.predicted_s), percent(made.lost))
    others = tuple((each.name, format_time(each.predicted_s), percent(each.lost)) for each in made.rivals)
    note = "Other choices as wide as the staircases predict to fit into the same time; nothing of them was trained."
    return Table(
        "In the same time", ("widths chosen", "predicted time", "importance lost"), (own, *others), (note,), (0,)
    )


def _loss(quality: Quality) -> str:
    low, high = ("?" if end is None else f"{end:.2f}" for end in (quality.loss.low, quality.loss.high))
    return f"{quality.loss.value:.2f} ({low} to {high})".replace("-", "−")


@show_html.register
def _table_page(table: StaircaseTable) -> str:
    (facts,) = tables(table)
    sections = [Section("Staircases", plots=tuple(_plots(table, {}))), Section("Numbers", (facts,))]
    lead = f"{len(table.staircases)} layer shapes, {table.library}, batch {table.batch}."
    return document(facts.title, lead, (), sections, banner=banner(table.where.calibration))


@show_html.register
def _pruning_page(made: Pruning) -> str:
    facts, layers, rivals = tables(made)
    chosen: dict[str, list[Narrowed]] = {}
    for each in made.layers:
        chosen.setdefault(each.shape, []).append(each)
    sections = [
        Section("Every staircase, and the width chosen", plots=tuple(_plots(made.table, chosen))),
        Section("Layers", (layers,)),
        Section("In the same time", (rivals,)),
        Section("Numbers", (facts, *tables(made.table))),
    ]
    lead = f"{made.verdict[:1].upper()}{made.verdict[1:]}: {made.reason}."
    return document(facts.title, lead, tuple(_tiles(made)), sections, banner=banner(made.where.calibration))


def _tiles(made: Pruning) -> Iterator[Tile]:
    yield Tile(
        "Times as fast, measured",
        f"{made.speedup:.2f}",
        f"{format_time(made.before_s)} before, {format_time(made.after_s)} after.",
        "good" if made.verdict == "kept" else "bad",
    )
    yield Tile(
        f"{made.metric.capitalize()}, measured",
        percent(made.after.share.ratio.value),
        f"{percent(made.before.ratio.value)} before, {percent(made.cut.share.ratio.value)} after cutting alone.",
    )
    yield Tile("Prediction", signed(made.error), "Predicted over measured time; predicted before anything was cut.")
    yield Tile(
        "Importance lost",
        percent(made.lost),
        f"{_least(made).capitalize()}, by the same staircases.",
    )


def _plots(table: StaircaseTable, chosen: Mapping[str, list[Narrowed]]) -> Iterator[Plot]:
    for each in sorted(table.staircases, key=_longest):
        layers = chosen.get(str(each.shape), [])
        names = f" ({', '.join(layer.layer for layer in layers)})" if layers else ""
        star = " The star is what was chosen, below the curves where the other width changed too." if layers else ""
        caption = f"{_said(each)} Dots are measured, bars two deviations; lines are how times go on between.{star}"
        yield Plot(f"{each.shape}{names}", caption, staircase_figure(each, layers))


def _longest(staircase: Staircase) -> float:
    return -staircase.latency_s(staircase.shape.inputs, staircase.shape.outputs)


def _said(each: Staircase) -> str:
    """Say in plain words what the stairs are."""
    outputs, inputs = each.outputs, each.inputs
    if outputs.block > 1:
        return f"Outputs inside a stair of {outputs.block} cost no time."
    if len(outputs.edges) > 1:
        return f"Stairs of outputs end at {_stairs(outputs, varies=True)}."
    if len(inputs.edges) > 1:
        return f"Stairs of inputs: {_stairs(inputs, varies=True)}."
    return "No stairs were found here."


def staircase_figure(each: Staircase, layers: list[Narrowed] | None = None) -> str:
    """Draw time over width along both axes, stairs and edges, and the widths chosen for its layers."""
    drawn = figure(axis("channels"), axis("time of the layer", "s"))
    axes: tuple[Axis, ...] = ("outputs", "inputs")
    for number, along in enumerate(along for along in axes if len(each.line(along)) > 1):
        _curve(drawn, each, along, number)
    for layer in layers or []:
        _chosen(drawn, layer, each)
    drawn.update_yaxes(rangemode="tozero")
    drawn.update_layout(height=320)
    return draw(drawn)


def _curve(drawn: Any, each: Staircase, along: Axis, number: int) -> None:
    points = each.line(along)
    widths = list(range(1, points[-1][0] + 1, max(1, points[-1][0] // 400)))
    name = "channels" if each.shape.kind == "depthwise" else along
    look = {"color": f"var(--series-{number + 1})", "width": 1.6, "dash": "solid" if number == 0 else "dot"}
    line = graph_objects().Scatter(
        x=widths,
        y=[each.latency_s(*_at(each.shape, along, width)) for width in widths],
        mode="lines",
        line=look,
        name=f"{name} changed",
        hoverinfo="skip",
    )
    dots = graph_objects().Scatter(
        x=[width for width, _ in points],
        y=[point.latency_s for _, point in points],
        error_y={"array": [2 * point.mad_s for _, point in points], "thickness": 1, "width": 2},
        mode="markers",
        marker={"color": look["color"], "size": 6, "symbol": "circle" if number == 0 else "diamond"},
        showlegend=False,
        hovertemplate=f"%{{x}} {name}: %{{y:.4s}}s<extra></extra>",
    )
    drawn.add_trace(line)
    drawn.add_trace(dots)


def _at(shape: Shape, along: Axis, width: int) -> tuple[int, int]:
    """Return inputs and outputs where one of them is changed, or both of a depth-wise layer."""
    if shape.kind == "depthwise":
        return width, width
    return (shape.inputs, width) if along == "outputs" else (width, shape.outputs)


def _chosen(drawn: Any, layer: Narrowed, each: Staircase) -> None:
    """Mark the time that a layer takes in the end, at its outputs (at its inputs where those alone can change)."""
    widths = layer.outputs if each.shape.vary_outputs else layer.inputs
    mark = graph_objects().Scatter(
        x=[widths[1]],
        y=[layer.latency_s[1]],
        mode="markers",
        marker={"symbol": "star", "size": 15, "color": "var(--fail)", "line": {"width": 1, "color": "var(--ink)"}},
        name=f"{layer.layer}: {layer.inputs[1]} → {layer.outputs[1]}",
        hovertemplate=f"{layer.layer}: {layer.inputs[1]} → {layer.outputs[1]}, %{{y:.4s}}s<extra></extra>",
    )
    drawn.add_trace(mark)
