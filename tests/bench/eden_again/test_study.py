"""A part of the study that was done again agrees with the whole one, or its targets say that it does not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bench.eden.study import COUNTS
from bench.eden_again import study
from bench.eden_again.told import NUMBERS
from bench.kit.document import Target
from bench.kit.told import Record, Result

ROW = {
    "recipe": "none",
    "held_out_accuracy": 0.890,
    "test_accuracy": 0.885,
    "lost_clean": 0.0,
    "tolerable_ber": 4e-4,
    "within_a_point_ber": 8e-4,
    "unseen": {"0.003": 0.02},
}
PLAN = {
    **dict(zip(("network", "precision", "seed", "system", "vendor"), ("lenet", "int8", 1, "cpu", "B"), strict=True)),
    "recipe": "none",
    "factor": 10.0,
    "saving": 0.26,
    "kept_of_40": 0.975,
}


def by_name(targets: Iterable[Target]) -> dict[str, Target]:
    return {each.target: each for each in targets}


@pytest.mark.parametrize(("factor", "met"), [(1.4, True), (1 / 1.4, True), (1.6, False), (1 / 1.6, False)])
def test_a_rate_agrees_whichever_is_the_greater(factor: float, met: bool) -> None:
    row = {**ROW, "tolerable_ber": factor * 4e-4}
    found = by_name(study.retraining_targets({"none": row}, {"none": ROW}))
    strict, within = (found[f"none: rate borne against the one before, {said}"] for said in reversed(COUNTS.values()))
    assert (strict.met, within.met) == (met, True)


def test_an_accuracy_that_is_off_is_missed_and_a_case_that_was_not_reached_is_not_measured() -> None:
    row = {**ROW, "held_out_accuracy": 0.870}
    found = by_name(study.retraining_targets({"none": row}, {"none": ROW, "better": ROW}))
    assert found["none: held-out accuracy off the one before"].value == pytest.approx(0.02)
    assert found["none: held-out accuracy off the one before"].met is False
    assert found["better: held-out accuracy off the one before"].met is None


def test_a_rate_of_nothing_does_not_agree() -> None:
    found = by_name(study.retraining_targets({"none": {**ROW, "tolerable_ber": 0.0}}, {"none": ROW}))
    (said,) = (each for each in found if each.startswith("none: rate borne") and each.endswith(COUNTS["tolerable_ber"]))
    assert found[said].met is None


def test_a_mapping_is_laid_beside_the_one_of_the_same_place() -> None:
    whole = [{**PLAN, "saving": 0.27}, {**PLAN, "saving": 0.9, "vendor": "A"}, {**PLAN, "saving": 0.9, "factor": 1.0}]
    found = by_name(study.mapping_targets([PLAN, {**PLAN, "factor": 1.0}], whole))
    assert len(found) == 2
    assert found["none, cpu, vendor B: saving off the one before"].value == pytest.approx(0.01)
    assert found["none, cpu, vendor B: trials kept on other modules"].met


def test_a_mapping_that_was_not_proven_counts_as_missed() -> None:
    found = by_name(study.mapping_targets([{**PLAN, "kept_of_40": None}], [PLAN]))
    assert found["none, cpu, vendor B: trials kept on other modules"].met is None


def test_what_is_told_lays_today_beside_before() -> None:
    better: Record = {**ROW, "recipe": "better", "within_a_point_ber": 4e-3}
    log = {"none": ROW, "better": {**better, "within_a_point_ber": 6.4e-3}}
    rows = {"none": ROW, "better": better}
    records = [study.beside(row, log[each]) for each, row in rows.items()]
    result = Result([*records, dict(PLAN)], [])
    told = [NUMBERS[f"eden_again.{each}"](result) for each in ("better", "better_before", "base", "mappings", "kept")]
    assert told == ["5.0", "8.0", "8.0e-4", "1", "39"]
