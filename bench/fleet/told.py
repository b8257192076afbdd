"""What is told of fleets in virtual time: from `fleet`."""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Result, between, count, percent

SOURCES = {"fleet": "fleet@sim"}


def _range(result: Result, target: str, digits: int = 0) -> str:
    return between(result.values(target), digits, scale=100, unit="%")


def _missed(result: Result) -> str:
    turns = result.column("missed", part="energy", policy="round-robin, own defaults")
    return between(turns, scale=100, unit="%")


NUMBERS: Numbers = {
    "fleet.met": lambda r: count(each["met"] is True for each in r.targets),
    "fleet.turns": partial(_range, target="saved against round-robin at own defaults"),
    "fleet.turns_missed": _missed,
    "fleet.level": partial(_range, target="saved against least loaded at own defaults"),
    "fleet.rungs": partial(_range, target="saved against least loaded at the best held rungs"),
    "fleet.over_bound": lambda r: percent(max(r.values("over the bound")), 1),
    "fleet.share": partial(_range, target="goodput above an equal share of each's top"),
    "fleet.cap": partial(_range, target="goodput above the highest equal cap that fits", digits=1),
}
TABLES: Numbers = {}
