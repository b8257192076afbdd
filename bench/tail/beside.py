"""Records of `tail` -> rules of pruning beside each other: unpruned, blind, uniform widths, round to 16, and planned.

How much a planned network wins over another rule is told in that rule's time: of the planned networks that take no
longer (2 % are allowed), the one with the best held-out accuracy is compared, seed by seed. What counts is the
strongest of the other rules: the one over which least is won.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.kit import document

__all__ = ["LEVELS", "NAMES", "NETWORKS", "RULES", "saved", "side", "strongest", "targets", "won"]

NETWORKS, LEVELS, SEEDS = ("vgg", "resnet", "mobilenet"), ("moderate", "harsh"), (1, 2, 3)
RULES = ("blind", "uniform", "round to 16")
PLANNED = ("planned", "planned, time as measured", "planned, time of round to 16")
NAMES = ("accuracy won in the time of the strongest", "latency saved by planned over the unpruned")
SLACK = 1.02

Record = dict[str, Any]


def side(records: Sequence[Record], network: str, level: str, variant: str) -> tuple[float, float]:
    """Return accuracy and time [s] at batch 1, means over the seeds."""
    mine = [each for each in records if _is(each, network, level, variant)]
    accuracy, time_s = (sum(each[name] for each in mine) / len(mine) for name in ("test_accuracy", "latency_1_s"))
    return accuracy, time_s


def won(records: Sequence[Record], network: str, level: str, rule: str) -> float | None:
    """Return the points of accuracy won over a rule in its time, mean over the seeds; None without such a network."""
    found = []
    for seed in SEEDS:
        mine = [each for each in records if each.get("network") == network and each.get("seed") == seed]
        (other,) = (each for each in mine if _is(each, network, level, rule))
        quick = [each for each in mine if each["variant"] in PLANNED and _in_time(each, other)]
        if quick:
            best = max(quick, key=lambda each: float(each["held_out_accuracy"]))
            found.append(100.0 * (best["test_accuracy"] - other["test_accuracy"]))
    return sum(found) / len(found) if found else None


def _in_time(one: Record, other: Record) -> bool:
    return bool(one["latency_1_s"] <= SLACK * other["latency_1_s"])


def strongest(records: Sequence[Record], network: str, level: str) -> tuple[float, str]:
    """Return the rule over which least is won, and how much that is [points]."""
    return min((value, rule) for rule in RULES if (value := won(records, network, level, rule)) is not None)


def saved(records: Sequence[Record], network: str, variant: str, other: str) -> float:
    """Return the share of the latency at batch 1 that a moderate variant saves over another, mean over the seeds."""
    found = []
    for seed in SEEDS:
        mine = [each for each in records if each.get("network") == network and each.get("seed") == seed]
        (one,) = (each for each in mine if _is(each, network, "moderate", variant))
        (base,) = (each for each in mine if _is(each, network, "none" if other == "whole" else "moderate", other))
        found.append(1.0 - one["latency_1_s"] / base["latency_1_s"])
    return float(sum(found) / len(found))


def targets(records: Sequence[Record]) -> Iterator[document.Target]:
    """Judge the strongest rule, and the unpruned network; nothing without all networks, as in a quick run."""
    if {each.get("network") for each in records} < set(NETWORKS):
        return
    for network in NETWORKS:
        for level in LEVELS:
            value, rule = strongest(records, network, level)
            name = f"{NAMES[0]} other rule ({rule}), {level}, {network}"
            yield document.target(name, want=">= 0", value=value, unit="points")
        value = saved(records, network, "planned", "whole")
        yield document.target(f"{NAMES[1]} network, moderate, {network}", want=">= 0.11", value=value, unit="1")


def _is(record: Record, network: str, level: str, variant: str) -> bool:
    return (record.get("network"), record.get("level"), record["variant"]) == (network, level, variant)
