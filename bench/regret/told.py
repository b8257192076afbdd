"""What is told of clocks chosen with predictions: from `regret`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kit.told import Numbers, Record, Result, count, percent

_RULES = ("amble", "amble, middle", "interpolate", "p-norm", "roofline", "han", "cpu-dvfs")
SOURCES = {"regret": "regret@cpu"}
_TIGHT, _WIDE = "all files, at most 10 % slower", "all files, deadlines 1.1-2 x fastest"


def _table(records: list[Record]) -> Iterator[str]:
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


def _files(result: Result) -> list[Record]:
    return [each for each in result.targets if not each["target"].startswith("all files")]


def _worst(result: Result, figure: str) -> str:
    """Tell the worst of a figure over the files, over all deadlines."""
    wide = [
        each["value"] for each in _files(result) if "1.1-2 x fastest" in each["target"] and figure in each["target"]
    ]
    return percent(max(each for each in wide if each is not None), 1)


NUMBERS: Numbers = {
    "regret.by_file": lambda r: count(each["met"] is True for each in _files(r)),
    "regret.worst_energy": lambda r: _worst(r, "mean"),
    "regret.worst_missed": lambda r: _worst(r, "missed"),
    "regret.energy": lambda r: percent(r.value(_WIDE, "mean"), 2),
    "regret.p95": lambda r: percent(r.value(_WIDE, "p95"), 1),
    "regret.missed": lambda r: percent(r.value(_WIDE, "missed"), 1),
    "regret.tight_energy": lambda r: percent(r.value(_TIGHT, "mean"), 1),
    "regret.tight_p95": lambda r: percent(r.value(_TIGHT, "p95"), 1),
    "regret.tight_missed": lambda r: percent(r.value(_TIGHT, "missed"), 1),
}
TABLES: Numbers = {"regret.rules": lambda r: "\n".join(_table(r.records))}
