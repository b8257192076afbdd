"""Comparisons that are left out are counted."""

import pytest

from bench.kit.told import Record, Result
from bench.tail import beside
from bench.tail.told import NUMBERS, TABLES


def _records(network: str, quick_seeds: int) -> list[Record]:
    """Return what a network's rules came to: planned networks are as quick as round to 16 on the first seeds alone."""
    found = []
    for seed in beside.SEEDS:
        common: Record = {"network": network, "seed": seed, "held_out_accuracy": 0.9, "widths": [1]}
        found.append({**common, "level": "none", "variant": "whole", "test_accuracy": 0.92, "latency_1_s": 3e-4})
        for level in beside.LEVELS:
            for rule in beside.RULES:
                time_s = 2e-4 if rule != "round to 16" or seed <= quick_seeds else 1e-5
                found.append({**common, "level": level, "variant": rule, "test_accuracy": 0.8, "latency_1_s": time_s})
            planned = {"variant": "planned", "test_accuracy": 0.9, "latency_1_s": 1e-4}
            found.append({**common, "level": level, **planned})
    return found


@pytest.fixture
def result() -> Result:
    return Result([each for name in beside.NETWORKS for each in _records(name, 1)], [])


def test_a_mean_over_fewer_seeds_says_of_how_many(result: Result) -> None:
    assert "+10.0 (1 of 3 seeds)" in TABLES["tail.beside"](result)


def test_comparisons_are_counted_with_those_that_cannot_be_made(result: Result) -> None:
    assert NUMBERS["tail.compared_harsh"](result) == "7, 7, 7 of 9"


def test_what_planned_networks_lose_is_told(result: Result) -> None:
    assert NUMBERS["tail.lost_whole"](result) == "2.0, 2.0, 2.0"
