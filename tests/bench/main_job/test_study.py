"""Every network, chip and deadline has its own targets, and a plan worse than the best single clock is a miss."""

import sys

import pytest

from bench.main_job import study as bench

RECORD: dict[str, object] = {
    "network": "n", "chip": "c", "factor": 1.1, "gap": 0.001, "late": 0.02, "saving_vs_single_high": -0.001,
    "latency_error": -0.06,
}  # fmt: skip


def test_a_record_has_four_targets_named_by_its_place() -> None:
    found = list(bench.job_targets(RECORD))
    assert [each.met for each in found] == [True, False, False, False]
    assert all("n on c, 1.1 x the fastest" in each.target for each in found)


def test_the_error_counts_whichever_way_it_points() -> None:
    wrong = list(bench.job_targets({**RECORD, "latency_error": 0.04}))[-1]
    assert (wrong.value, wrong.met) == (pytest.approx(0.04), True)


def test_commands_are_timed_and_must_succeed() -> None:
    assert 0 < bench.timed([sys.executable, "-c", "pass"]) < 60
    with pytest.raises(Exception, match="exit status 3"):
        bench.timed([sys.executable, "-c", "raise SystemExit(3)"])
