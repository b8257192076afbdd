"""Records of `pit` -> docs/figures/pit-*.svg, and the tables of docs/governors.md, which `write_numbers.py` puts there.

python -m bench.pit.plot [bench/pit/pit@sim.json]        draws the figures
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.kit import places
from bench.kit.places import FIGURES

_RESULT = places.result("pit@sim")
_WIDTH, _HEIGHT, _LEFT, _TOP = 300.0, 170.0, 46.0, 34.0
_COLOURS = {
    "max": "#888888",
    "dvfs": "#2a6fbb",
    "int8-max": "#8f6bb3",
    "static": "#4a9b5b",
    "pit": "#c2571a",
    "amble": "#111111",
}
_TRACES = {
    "poisson": "#111111",
    "bursts": "#c2571a",
    "ramp": "#2a6fbb",
    "on-off": "#4a9b5b",
    "twitter": "#8f6bb3",
    "azure": "#b08900",
}

_ABSURD = 0.5  # above the bound: the limit on refusals cannot be kept on the mean

Record = dict[str, Any]
Line = tuple[str, str, list[tuple[float, float]]]  # name, colour, (load, value)


def chosen(records: Iterable[Record], **fields: object) -> list[Record]:
    """Return the records that have all of these values."""
    return [each for each in records if all(each.get(name) == value for name, value in fields.items())]


def sweep_figure(records: Sequence[Record], network: str, factor: float) -> str:
    """Draw energy and misses of every governor over the load, Poisson arrivals."""
    cells = chosen(records, part="sweep", network=network, factor=factor, trace="poisson")
    base = {each["load"]: each["energy_j"] for each in cells if each["governor"] == "max"}

    def lines(value: Callable[[Record], float]) -> list[Line]:
        return [
            (name, colour, [(each["load"], value(each)) for each in cells if each["governor"] == name])
            for name, colour in _COLOURS.items()
        ]

    energy = _panel(
        "energy of a request on time, of max's", lines(lambda each: each["energy_j"] / base[each["load"]]), 0
    )
    missed = _panel("share of requests missed", lines(lambda each: each["missed"]), 1)
    return _figure(f"{network}, INT8 {factor:g} x as fast, Poisson arrivals", [*energy, *missed], _COLOURS)


def bound_figure(records: Sequence[Record], network: str) -> str:
    """Draw amble's distance from the lower bound over the load, for every trace, one panel for each INT8 factor."""
    cells = chosen(records, part="bound", network=network)
    parts = []
    for place, factor in enumerate(sorted({each["factor"] for each in cells})):
        mine = chosen(cells, factor=factor)
        lines = [
            (name, colour, [(each["load"], each["gap"]) for each in chosen(mine, trace=name)])
            for name, colour in _TRACES.items()
        ]
        lines.append(
            ("", "#999999", [(each["load"], above(each, "online_j")) for each in chosen(mine, trace="poisson")])
        )
        parts += _panel(f"energy above the bound, INT8 x {factor:g}", lines, place)
    return _figure(f"{network}: grey is the best that does not know the future (Poisson)", parts, _TRACES)


def above(record: Record, name: str) -> float:
    """Return an energy's distance from the bound, as a share of it."""
    return float(record[name] / max(record["linear_j"], record["whole_j"]) - 1.0)


def _panel(title: str, lines: Sequence[Line], place: int) -> list[str]:
    left = _LEFT + place * (_WIDTH + _LEFT)
    values = [value for _, _, points in lines for _, value in points] or [0.0]
    top, low = max(0.01, *values) * 1.05, min(0.0, *values)

    def x(load: float) -> float:
        return left + 6 + (_WIDTH - 12) * load / 1.1

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - (value - low) / (top - low))

    parts = [f'<text x="{left:.0f}" y="28">{title}</text>']
    for mark in range(5):
        value = low + mark * (top - low) / 4
        parts.append(f'<path d="M{left:.0f} {y(value):.1f}h{_WIDTH:.0f}" stroke="#e2e2e2"/>')
        parts.append(f'<text x="{left - 5:.0f}" y="{y(value) + 3:.1f}" text-anchor="end">{value:.2g}</text>')
    for load in (0.1, 0.3, 0.5, 0.7, 0.9, 1.1):
        parts.append(f'<text x="{x(load):.0f}" y="{_TOP + _HEIGHT + 14:.0f}" text-anchor="middle">{load:g}</text>')
    for name, colour, points in lines:
        drawn = " ".join(f"{x(load):.1f},{y(value):.1f}" for load, value in sorted(points))
        dash = "" if name else ' stroke-dasharray="4 3"'
        if points:
            parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
    return parts


def _figure(title: str, parts: Sequence[str], legend: dict[str, str]) -> str:
    width = 2 * (_WIDTH + _LEFT) + 14
    names = "".join(
        f'<text x="{_LEFT + 80 * place:.0f}" y="{_TOP + _HEIGHT + 30:.0f}" fill="{colour}">{name}</text>'
        for place, (name, colour) in enumerate(legend.items())
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {_TOP + _HEIGHT + 38:.0f}" '
        f'width="{width:.0f}" font-family="sans-serif" font-size="10" fill="#333">'
    )
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, ground, f'<text x="8" y="13" font-size="12">{title}</text>', *parts, names, "</svg>", ""])


def tables(document: Record) -> str:
    """Return the tables of the guide."""
    records, targets = document["results"], document["targets"]
    parts = [
        _shape(records),
        _sweep(records),
        _bound(records),
        _split(records),
        _looseness(records),
        _kinds(targets),
        _missed(targets),
    ]
    if document["quick"]:
        parts.insert(0, "From a quick run: one network, few loads and INT8 factors, 500 requests of two seeds each.")
    return "\n\n".join(parts)


def _shape(records: Sequence[Record]) -> str:
    rows = [
        [
            f"{each['load']:g}",
            *(f"{100 * each[name]:+.0f} %" for name in ("energy", "response")),
            f"{100 * each['accuracy']:.2f} %",
        ]
        for each in chosen(records, part="shape", network="pnasnet-large")
    ]
    head = ["load", "energy", "mean response", "accuracy of FP32's"]
    return "`pit` on pnasnet-large without deadlines against `max`:\n\n" + _table(head, rows)


def _sweep(records: Sequence[Record]) -> str:
    cells = chosen(records, part="sweep")
    index = {(*_cell(each), each["governor"]): each for each in cells}
    rows = []
    for trace in _TRACES:
        for load in sorted({each["load"] for each in cells}):
            mine = chosen(cells, trace=trace, load=load, governor="amble")
            if mine:
                ratios = [
                    [each["energy_j"] / index[(*_cell(each), other)]["energy_j"] for each in mine]
                    for other in ("max", "dvfs", "pit")
                ]
                missed = [
                    100 * max(index[(*_cell(each), name)]["missed"] for each in mine)
                    for name in ("max", "pit", "amble")
                ]
                rows.append([trace, f"{load:g}", *map(_range, ratios), *(f"{each:.1f}" for each in missed)])
    head = ["trace", "load", "of max's", "of dvfs's", "of pit's", "missed: max", "pit", "amble"]
    return (
        "Energy of a request on time under `amble`, as a share of the others', and the most missed in % "
        "(ranges over networks and INT8 factors):\n\n" + _table(head, rows)
    )


def _cell(record: Record) -> tuple[Any, ...]:
    return record["network"], record["factor"], record["trace"], record["load"]


def _bound(records: Sequence[Record]) -> str:
    cells = chosen(records, part="bound")
    rows = []
    for trace in _TRACES:
        row = [trace]
        for load in sorted({each["load"] for each in cells}):
            gaps = [100 * each["gap"] for each in chosen(cells, trace=trace, load=load)]
            row.append(f"{min(gaps):.1f} to {max(gaps):.1f}" if gaps else "-")
        rows.append(row)
    head = ["trace", *(f"load {load:g}" for load in sorted({each["load"] for each in cells}))]
    return "`amble`'s energy above the lower bound in %:\n\n" + _table(head, rows)


def _split(records: Sequence[Record]) -> str:
    cells = [each for each in chosen(records, part="bound") if each["trace"] != "on-off"]
    loads = sorted({each["load"] for each in cells})
    rows = []
    for network, factor, trace in dict.fromkeys((each["network"], each["factor"], each["trace"]) for each in cells):
        mine = chosen(cells, network=network, factor=factor, trace=trace)
        rows.append([network, f"{factor:g}", trace, *(_parts(chosen(mine, load=load)) for load in loads)])
    known = [each for each in cells if above(each, "online_j") < _ABSURD]
    beyond = sum(above(each, "online_j") > 0.05 for each in known)
    text = (
        "Where that comes from, in points: *arrivals nobody knows, clocks that take time to settle, the governor*. The "
        "first is how far the best that knows only the rates is above the bound if clocks settled at once, the second "
        "what settling adds, the third the rest. Means of steady loads are compared with one trace each: a number is "
        "good to a few points and may be negative; a dash: so few were refused in this trace as no policy promises. "
        "On-off traces are left out: parts of equal length of what was served do not meet their phases. The best that "
        f"knows only the rates is itself more than 5 % above the bound in {beyond} of {len(known)} cases:"
    )
    head = ["network", "INT8 x", "trace", *(f"load {load:g}" for load in loads)]
    return f"{text}\n\n" + _table(head, rows)


def _parts(cells: Sequence[Record]) -> str:
    if not cells or above(cells[0], "online_j") > _ABSURD:
        return "-"
    unknown, known = (above(cells[0], name) for name in ("online_settled_j", "online_j"))
    return ", ".join(f"{100 * each:.1f}" for each in (unknown, known - unknown, cells[0]["gap"] - known))


def _looseness(records: Sequence[Record]) -> str:
    rows = [
        [each["network"], f"{each['factor']:g}", f"{each['load']:g}"]
        + [f"{100 * (1 - each[name] / each['exact_j']):.2f} %" for name in ("linear_j", "whole_j")]
        for each in chosen(records, part="looseness")
    ]
    head = ["network", "INT8 x", "load", "linear programme", "whole requests"]
    return "How far the two bounds are below the exact optimum of 20 requests:\n\n" + _table(head, rows)


def _kinds(targets: Sequence[Record]) -> str:
    words = {
        "energy over pit's": "no more energy than pit and dvfs",
        "misses more than max's": "at most 0.1 point more missed than max",
        "misses where any keeps p95": "p95 within the objective where any governor keeps it",
        "amble's accuracy of FP32's": "99.5 % of FP32's accuracy",
        "above the lower bound": "within 5 % of the lower bound",
        "replay": "the replay: figures of other code",
        "paper, ": "the paper's three numbers, on four networks",
        "stated loss": "99.5 % with a loss that is stated as half, truly, and as twice",
    }
    rows = []
    for part, text in words.items():
        mine = [each for each in targets if part in each["target"]]
        if not mine:
            continue
        rows.append([text, str(sum(each["met"] is True for each in mine)), str(len(mine))])
    return "Targets met:\n\n" + _table(["target", "met", "of"], rows)


def _missed(targets: Sequence[Record]) -> str:
    missed = [each for each in targets if each["met"] is False and "above the lower bound" not in each["target"]]
    rows = [[each["target"], each["want"], f"{each['value']:.3g} {each['unit'].strip('1')}"] for each in missed]
    return "Missed, those above the bound aside:\n\n" + _table(["target", "want", "value"], rows)


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f} to {high:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def main(source: Path) -> None:
    """Draw the figures."""
    document = json.loads(source.read_text(encoding="utf-8"))
    records = document["results"]
    FIGURES.mkdir(parents=True, exist_ok=True)
    for network in dict.fromkeys(each["network"] for each in chosen(records, part="bound")):
        (FIGURES / f"pit-bound-{network}.svg").write_text(bound_figure(records, network), encoding="utf-8")
    for factor in (1.1, 2.0):
        text = sweep_figure(records, "pnasnet-large", factor)
        (FIGURES / f"pit-pnasnet-large-{factor:g}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else _RESULT)
