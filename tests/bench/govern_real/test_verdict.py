"""What is judged of real servers: misses of the whole run, quotas over the least static one, and every fault."""

import pytest

from bench.govern_real.verdict import targets


def a_run(share=0.6, late=0.012, periods=1):
    return {
        "part": "amble-governed",
        "server": "amble",
        "policy": "amble",
        "share": share,
        "share_whole": 2 * share,
        "whole": {"late": late, "allowed": 0.015},
        "periods_to_highest": periods,
    }


def static(share, late):
    return {"part": "amble-static", "server": "amble", "policy": "static", "share": share, "late": late}


def judged(*records):
    return {each.target: each for each in targets(records)}


def test_a_quota_is_compared_with_the_least_static_one_that_kept_the_objective():
    found = judged(static(0.4, 0.2), static(0.5, 0.009), static(0.9, 0.0), a_run(share=0.6))
    assert found["amble: mean quota over least static"].value == pytest.approx(1.2)
    assert not found["amble: mean quota over least static"].met
    assert found["amble: the same, learning included"].value == pytest.approx(2.4)


def test_misses_count_over_the_whole_run_and_only_above_chance():
    assert judged(static(0.5, 0.0), a_run(late=0.014))["amble: late over the share and its interval"].met
    missed = judged(static(0.5, 0.0), a_run(late=0.017))["amble: late over the share and its interval"]
    assert missed.value == pytest.approx(0.002)
    assert missed.cause


def test_a_burst_that_never_asked_for_the_highest_is_missed():
    assert not judged(static(0.5, 0.0), a_run(periods=None))["amble: periods to the highest, burst"].met


def test_one_fault_that_was_not_put_back_in_time_misses_the_target():
    good = {"part": "faults", "as_found": True, "false_saving": False}
    assert judged(good, good)["real faults: quota as found in time"].met
    assert not judged(good, good | {"as_found": False})["real faults: quota as found in time"].met
    assert not judged(good, good | {"false_saving": True})["real faults: false savings"].met


def test_a_server_that_was_left_out_is_in_the_list_and_counts_as_missed():
    found = judged({"part": "triton-static", "server": "triton", "left_out": "no .venv-peer-tritonserver"})
    assert found["triton: mean quota over least static"].met is None


def test_what_was_late_without_any_quota_is_told_as_a_cause():
    disturbed = static(None, 0.1) | {"policy": "as found"}
    missed = judged(static(0.5, 0.0), disturbed, a_run(late=0.2))["amble: late over the share and its interval"]
    assert "10.0 % were late at the quota as found" in missed.cause
