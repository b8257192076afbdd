"""Records of `prediction` -> the tables of docs/models.md."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from amble.stages.fit.models import DEFAULT
from bench.prediction.study import DESIGNED_ON, FIGURES, best_of_baselines

Record = dict[str, object]


def few_points(records: list[Record]) -> Iterator[str]:
    """One line a file: errors of the default model beside the best baseline of each figure."""
    yield "| file | points | time median / p95 (best baseline) % | power median / p95 (best baseline) % | " + (
        "in the 90 % interval: time, power |"
    )
    yield "|---|---|---|---|---|"
    few = [record for record in records if record["kind"] == "few points"]
    for name in sorted({str(record["file"]) for record in few}):
        own = [record for record in few if record["file"] == name]
        mine = next(record for record in own if record["model"] == DEFAULT)
        best = {figure: best_of_baselines(own, figure) for figure in FIGURES}
        errors = [_pair(mine, best, output) for output in ("time", "power")]
        covered = ", ".join(_share(mine[f"{output}_covered"]) for output in ("time", "power"))
        star = " *" if name in DESIGNED_ON else ""
        yield f"| {name}{star} | {mine['points']} | {errors[0]} | {errors[1]} | {covered} |"


def _pair(mine: Record, best: dict[str, float | None], output: str) -> str:
    names = (f"{output}_median", f"{output}_p95")
    if mine[names[0]] is None:
        return "–"
    own, others = (" / ".join(_short(values[name]) for name in names) for values in (mine, best))
    return f"{own} ({others})"


def _short(value: object) -> str:
    assert isinstance(value, float)
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _share(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "–"


def known_device(records: list[Record]) -> Iterator[str]:
    """Medians over the files where the device is known and a workload is new."""
    yield "| kind | model | time % | power % |"
    yield "|---|---|---|---|"
    for kind in ("new workload", "left out"):
        for model in (DEFAULT, "p-norm", "interpolate"):
            mine = [record for record in records if (record["kind"], record["model"]) == (kind, model)]
            cells = [
                " / ".join(_short(_middle(mine, f"{output}_{figure}")) for figure in ("median", "p95"))
                for output in ("time", "power")
            ]
            yield f"| {kind} | `{model}` | {cells[0]} | {cells[1]} |"


def _middle(records: list[Record], figure: str) -> float:
    return float(np.median([value for record in records if isinstance(value := record[figure], float)]))
