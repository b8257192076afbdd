"""Records of `prediction` -> docs/figures/<file>.svg: predicted over measured, one figure for each recorded device.

    python -m bench.prediction.plot [bench/prediction/prediction@cpu.json]

Each dot is a setting that the default model was not given, at its measured value, against predicted / measured. Errors
past the frame are drawn on its edge, as triangles.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from amble.stages.fit.models import DEFAULT
from bench.kit import places
from bench.kit.places import FIGURES

_RESULT = places.result("prediction@cpu")
_WIDTH, _HEIGHT, _LEFT, _TOP = 300.0, 170.0, 46.0, 34.0
_REACH = math.log(1.5)
_LINES = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4)
_COLOURS = {"time": "#2a6fbb", "power": "#c2571a"}
_UNITS = {"time": "s", "power": "W"}

Dots = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One output of one file: dots (measured value, predicted / measured) and a line of text."""

    output: str
    dots: Dots
    text: str


def panels(record: dict[str, object]) -> list[Panel]:
    """Return the panels of a record of the default model; outputs that were not measured have none."""
    pairs = record["pairs"]
    assert isinstance(pairs, dict)
    found = []
    for output, text in pairs.items():
        if text:
            dots = [(float(one), float(other)) for one, other in (pair.split() for pair in text.split(";"))]
            found.append(Panel(output, dots, f"{output}: {_errors(record, output)}"))
    return found


def _errors(record: dict[str, object], output: str) -> str:
    median, high, covered = (record[f"{output}_{name}"] for name in ("median", "p95", "covered"))
    assert isinstance(median, float)
    assert isinstance(high, float)
    inside = f", {covered:.0%} in interval" if isinstance(covered, float) else ""
    return f"median {median:.2g} %, p95 {high:.2g} %{inside}"


def figure(name: str, num_points: object, drawn: list[Panel]) -> str:
    """Return the SVG of one file."""
    width = len(drawn) * (_WIDTH + _LEFT) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {_TOP + _HEIGHT + 34:.0f}" '
        f'width="{width:.0f}" font-family="sans-serif" font-size="10" fill="#333">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="8" y="13" font-size="12">{name}: predicted / measured, from {num_points} settings</text>',
    ]
    for place, panel in enumerate(drawn):
        parts += _panel(panel, _LEFT + place * (_WIDTH + _LEFT))
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, left: float) -> list[str]:
    low, high = (limit(value for value, _ in panel.dots) for limit in (min, max))
    span = math.log(high / low) or 1.0

    def x(value: float) -> float:
        return left + 6 + (_WIDTH - 12) * (math.log(value / low) / span if high > low else 0.5)

    parts = [f'<text x="{left:.0f}" y="28">{panel.text}</text>']
    for ratio in _LINES:
        y = _y(ratio)
        grey = "#888" if ratio == 1 else "#e2e2e2"
        parts.append(f'<path d="M{left:.0f} {y:.1f}h{_WIDTH:.0f}" stroke="{grey}"/>')
        parts.append(f'<text x="{left - 5:.0f}" y="{y + 3:.1f}" text-anchor="end">{ratio:g}</text>')
    inside = [(x(value), _y(ratio)) for value, ratio in panel.dots if abs(math.log(ratio)) <= _REACH]
    outside = [(x(value), math.copysign(_REACH, math.log(r))) for value, r in panel.dots if abs(math.log(r)) > _REACH]
    colour = _COLOURS[panel.output]
    dots = "".join(f"M{at:.1f} {y:.1f}h0" for at, y in inside)
    parts.append(f'<path d="{dots}" stroke="{colour}" stroke-width="3" stroke-linecap="round" opacity=".6"/>')
    edges = "".join(f"M{at:.1f} {_y(math.exp(side)):.1f}l-3 {5 * _sign(side)}h6z" for at, side in outside)
    parts.append(f'<path d="{edges}" fill="{colour}"/>')
    bottom, unit = _TOP + _HEIGHT + 14, _UNITS[panel.output]
    for at, anchor, value in ((left, "start", low), (left + _WIDTH, "end", high)):
        parts.append(f'<text x="{at:.0f}" y="{bottom:.0f}" text-anchor="{anchor}">{value:.3g} {unit}</text>')
    middle = left + _WIDTH / 2
    parts.append(f'<text x="{middle:.0f}" y="{bottom:.0f}" text-anchor="middle">measured {panel.output}</text>')
    return parts


def _sign(side: float) -> int:
    return 1 if side > 0 else -1


def _y(ratio: float) -> float:
    return _TOP + _HEIGHT / 2 * (1 - math.log(ratio) / _REACH)


def main(source: Path) -> None:
    """Draw every file of the results."""
    records = json.loads(source.read_text(encoding="utf-8"))["results"]
    FIGURES.mkdir(parents=True, exist_ok=True)
    for record in records:
        if record["kind"] == "few points" and record["model"] == DEFAULT:
            path = FIGURES / f"{record['file']}.svg"
            path.write_text(figure(record["file"], record["points"], panels(record)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else _RESULT)
