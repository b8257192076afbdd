"""What is told of splits: from `split`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from bench.kit.told import Numbers, Record, Result, between, count, percent, plain

SOURCES = {"split": "split@sim"}

AWARE, CPU = "amble-core", ("cpu-dvfs", "cpu-dvfs-top")
IN_TIME = 0.01


def _pairs(result: Result, first: str, second: str) -> list[tuple[Record, Record]]:
    """Return what two policies came to, on the board itself, case by case."""
    found: dict[tuple[Any, ...], dict[str, Record]] = defaultdict(dict)
    for each in result.where(what="policy", specimen=0):
        found[each["network"], each["rate_bit_s"], each["deadline"]][each["policy"]] = each
    return [(each[first], each[second]) for each in found.values()]


def _saved(result: Result, first: str, second: str) -> list[float]:
    """Return the energy that the first saves over the second where both are in time."""
    both = [(one, other) for one, other in _pairs(result, first, second) if max(one["late"], other["late"]) <= IN_TIME]
    return [1 - one["energy_j"] / other["energy_j"] for one, other in both]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _other_cut(result: Result, rival: str) -> str:
    return count(one["cut"] != other["cut"] for one, other in _pairs(result, AWARE, rival))


def _late(result: Result, policy: str) -> str:
    return count(one["late"] > IN_TIME for one, _ in _pairs(result, policy, policy))


NUMBERS: Numbers = {
    "split.cases": lambda r: plain(len(r.where(what="everything tried"))),
    "split.faster": lambda r: plain(r.value("times as fast as HiGHS")),
    "split.over_local": lambda r: percent(_mean(_saved(r, "amble", "local-planned"))),
    "split.over_max": lambda r: percent(_mean(_saved(r, "amble", "local-max"))),
    "split.over_fastest": lambda r: percent(_mean(_saved(r, "amble", "fastest"))),
    "split.over_cpu": lambda r: between([_mean(_saved(r, AWARE, each)) for each in CPU], 1, scale=100, unit="%"),
    "split.over_cpu_most": lambda r: percent(max(max(_saved(r, AWARE, each)) for each in CPU)),
    "split.other_cut": lambda r: _other_cut(r, "cpu-dvfs"),
    "split.cpu_late": lambda r: _late(r, "cpu-dvfs"),
    "split.late": lambda r: _late(r, "amble"),
    "split.worst": lambda r: percent(r.value("energy over that of cpu-dvfs on the board") - 1, 1),
    "split.shared": lambda r: percent(max(r.column("off", what="sharing")), 1),
}
TABLES: Numbers = {}
