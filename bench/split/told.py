"""What is told of splits: from `split`, and of the links of those that ran (`links`) from `split_run`.

These are here since the study of `split_run` takes a formula from its own `told.py`, which thereby is part of it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from bench.kit.told import Numbers, Record, Result, between, count, percent, plain

SOURCES = {"split": "split@sim", "links": "split_run@host"}

AWARE, CPU = "amble-core", ("cpu-dvfs", "cpu-dvfs-top")
IN_TIME, EQUAL = 0.01, 1e-9


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


def _here(result: Result) -> str:
    """Count the cases in which the best is to run all of it on the device."""
    return count(one["cut"] == one["operators"] for one, _ in _pairs(result, "amble", "amble"))


def _other_specimens(result: Result) -> str:
    """Count the cases in which more are late than promised on a specimen that was not measured itself."""
    mine = [each for each in result.where(what="policy", policy="amble") if each["specimen"] > 0]
    return count(each["late"] > IN_TIME for each in mine)


def _tried(result: Result) -> str:
    return count(each["off"] <= EQUAL for each in result.where(what="everything tried"))


def _slowest(result: Result) -> str:
    """Tell how many times as fast as HiGHS the planner is at least, on the smaller network."""
    return plain(min(each["times_faster"] for each in result.where(what="beside HiGHS", network="alexnet")))


def _bad(result: Result) -> list[Record]:
    """Return the runs over links that were made bad by hand, not by a recorded trace."""
    return [each for each in result.where(what="run") if "5G trace" not in each["trial"]]


def _most(result: Result) -> str:
    """Tell the energy of the moving cut over the best fixed one's, in the worst part."""
    parts = result.where(what="virtual")
    return percent(
        max((of["wait_j"] + of["moving: above_j"]) / (of["wait_j"] + of["best fixed: above_j"]) for of in parts)
    )


NUMBERS: Numbers = {
    "split.cases": _tried,
    "split.here": _here,
    "split.other_specimens": _other_specimens,
    "split.faster": lambda r: plain(r.value("times as fast as HiGHS")),
    "split.faster_small": _slowest,
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
    "links.late": lambda r: plain(sum(r.column("late", what="run"))),
    "links.compared": lambda r: plain(sum(r.column("compared", what="run"))),
    "links.bad": lambda r: plain(sum(each["asked"] for each in _bad(r))),
    "links.bad_late": lambda r: plain(sum(each["late"] for each in _bad(r))),
    "links.loss_late": lambda r: "{late} of {asked}".format(**r.where(trial="30 % loss")[0]),
    "links.virtual_most": _most,
}
TABLES: Numbers = {}
