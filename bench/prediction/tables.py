"""Records of `prediction`, `regret` and `local_inference` -> the tables of docs/models.md, between their markers.

    python bench/tabulate_models.py

A table lies between the lines `<!-- table: NAME -->` and `<!-- end -->`; what else the page says is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from amble.stages.fit.models import DEFAULT
from bench.prediction.study import DESIGNED_ON, FIGURES, best_of_baselines

_RULES = ("amble", "amble, middle", "interpolate", "p-norm", "roofline", "han", "cpu-dvfs")
_READINGS = {
    ("LOCAL-D", "energy", "measured"): "LOCAL-D: less energy, measured",
    ("LOCAL-E", "time", "measured"): "LOCAL-E: less time, measured",
    ("LOCAL-W", "energy", "measured"): "LOCAL-W: less energy, measured",
    ("LOCAL-W", "time", "measured"): "LOCAL-W: less time, measured",
    ("LOCAL-D", "energy", "told"): "LOCAL-D: less energy, as the models say",
    ("LOCAL-D", "time", "told"): "LOCAL-D: less time, as the models say",
}

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


def regret(records: list[Record]) -> Iterator[str]:
    """Extra energy and missed deadlines of every rule, over all choices."""
    yield "| model | at most 10 % slower: extra energy, missed | deadlines 1.1 to 2 times the fastest |"
    yield "|---|---|---|"
    for rule in _RULES:
        mine = [record for record in records if record["model"] == rule]
        tight = [record for record in mine if record["deadline_ratio"] == 1.1]
        yield f"| {rule} | {_regret(tight)} | {_regret(mine)} |"


def _regret(records: list[Record]) -> str:
    choices, missed = (np.array([record[name] for record in records], dtype=float) for name in ("choices", "missed"))
    extra = np.array([record["extra_energy_mean"] or 0.0 for record in records], dtype=float)
    return f"{np.average(extra, weights=choices - missed):.2%}, {missed.sum() / choices.sum():.1%}".replace("%", " %")


def local_inference(records: list[Record]) -> Iterator[str]:
    """The largest saving of Han's choices in each reading of the published numbers."""
    summed = [record for record in records if "most" in record]
    models = list(dict.fromkeys(str(record["cpu_model"]) for record in summed))
    yield f"| reading | {' | '.join(f'`{model}`' for model in models)} |"
    yield "|" + "---|" * (len(models) + 1)
    for key, words in _READINGS.items():
        found = {
            str(record["cpu_model"]): record["most"]
            for record in summed
            if (record["problem"], record["saved"], record["words"]) == key
        }
        yield f"| {words} | " + " | ".join(f"{100 * float(str(found[model])):.0f} %" for model in models) + " |"
