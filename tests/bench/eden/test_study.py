"""What the bench of approximate memory reads out of its log, and how it keeps what took long."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from bench.eden import study as eden
from bench.eden.mappings import Shelf
from bench.kit.document import Target

BASE = {
    "tolerable_ber": 4e-4,
    "within_a_point_ber": 4e-4,
    "unseen": {"0.001": 0.02},
    "unseen_measured": {"m": 0.02},
    "left_out": {},
}
LOG = {
    ("lenet", 1, "int8", "none"): BASE,
    ("lenet", 1, "int8", "faithful"): {**BASE, "unseen": {"0.001": 0.015}},
    ("lenet", 1, "int8", "better"): {
        **BASE,
        "tolerable_ber": 1e-3,
        "within_a_point_ber": 4e-3,
        "unseen": {"0.001": 0.005},
        "left_out": {"0.003": 0.0},
    },
    ("lenet", 1, "int8", "fitted"): {**BASE, "left_out": {"0.003": 0.03}},
}


def by_name(targets: Iterable[Target]) -> dict[str, Target]:
    return {each.target: each for each in targets}


def test_a_raised_rate_is_a_multiple_of_the_one_before_in_both_counts() -> None:
    found = by_name(eden.retraining_targets(LOG))
    what = "lenet, int8, seed 1: rate borne after the better recipe over before, "
    whole, strict = (found[what + said] for said in eden.COUNTS.values())
    assert (whole.value, strict.value) == pytest.approx((10.0, 2.5))
    assert whole.met
    assert not strict.met


def test_every_promised_network_has_targets_measured_or_not() -> None:
    found = by_name(eden.retraining_targets(LOG))
    assert len(found) == 5 * 2 * 3 * 2
    assert sum(each.met is None for each in found.values()) == 58


def test_losses_on_unseen_patterns_are_compared() -> None:
    found = by_name(eden.unseen_targets(LOG))
    assert found["lenet, int8, seed 1: loss on unseen patterns, faithful less better"].value == pytest.approx(0.01)
    assert not found["lenet, int8, seed 1: loss on unseen measured modules, faithful less better"].met


def test_a_fit_to_some_modules_is_judged_on_the_others() -> None:
    (only,) = eden.left_out_targets(LOG)
    assert only.value == pytest.approx(0.03)


def test_retrained_networks_of_the_first_seed_are_mapped_first() -> None:
    keys = list(eden.to_map())
    assert len(keys) == len(set(keys)) == 5 * 2 * 3 * 2
    assert all(seed == 1 and recipe == "better" for _, seed, _, recipe in keys[:10])


def test_what_took_long_is_found_once(tmp_path: Path) -> None:
    asked = []

    def find() -> float:
        asked.append(1)
        return 0.5

    file = tmp_path / "shown.json"
    assert Shelf(file).get("a", find) == 0.5
    assert Shelf(file).get("a", find) == 0.5
    assert len(asked) == 1
