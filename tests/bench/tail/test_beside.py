"""A rule of pruning is judged against the strongest of the others, and against not pruning at all."""

from __future__ import annotations

import pytest

from bench.tail import beside


def cell(variant: str, accuracy: float, time_s: float, *, seed: int = 1, level: str = "moderate") -> dict[str, object]:
    about = {"network": "vgg", "seed": seed, "level": level, "variant": variant}
    return {**about, "test_accuracy": accuracy, "held_out_accuracy": accuracy, "latency_1_s": time_s}


def seeds(*cells: tuple[str, float, float], level: str = "moderate") -> list[dict[str, object]]:
    return [cell(*each, seed=seed, level=level) for seed in beside.SEEDS for each in cells]


RULES = [("blind", 0.80, 2.0), ("uniform", 0.89, 1.0), ("round to 16", 0.85, 1.0)]


def test_the_strongest_rule_counts_and_not_the_weakest() -> None:
    records = seeds(*RULES, ("planned", 0.90, 1.0))
    value, rule = beside.strongest(records, "vgg", "moderate")
    assert (value, rule) == (pytest.approx(1.0), "uniform")


def test_a_planned_network_that_takes_longer_wins_nothing() -> None:
    records = seeds(*RULES, ("planned", 0.90, 1.1))
    assert beside.won(records, "vgg", "moderate", "uniform") is None
    assert beside.won(records, "vgg", "moderate", "blind") == pytest.approx(10.0)


def test_the_planned_network_is_chosen_by_held_out_accuracy() -> None:
    lucky = [each | {"held_out_accuracy": 0.5} for each in seeds(("planned, time as measured", 0.99, 1.0))]
    assert beside.won([*seeds(*RULES, ("planned", 0.90, 1.0)), *lucky], "vgg", "moderate", "uniform") == pytest.approx(
        1.0
    )


def test_the_unpruned_network_is_one_of_those_compared() -> None:
    records = [*seeds(("whole", 0.91, 4.0), level="none"), *seeds(*RULES, ("planned", 0.90, 1.0))]
    assert beside.saved(records, "vgg", "planned", "whole") == pytest.approx(0.75)
    assert beside.saved(records, "vgg", "blind", "whole") == pytest.approx(0.5)
