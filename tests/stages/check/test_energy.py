from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from amble.core.log import Log
from amble.core.report import Estimate, Saving
from amble.core.schedule import Accounting
from amble.stages.check.energy import ACCOUNTINGS, energy_per_inference, same_arrivals, saving
from tests.stages.check.builders import IDLE_W, MAX, PERIOD_S, PLAN, log, without_meter


def energy(whole: Log, accounting: Accounting, idle_w: float | None = IDLE_W) -> Estimate | None:
    return energy_per_inference([whole], accounting, idle_w=idle_w, confidence=0.95)


def saved(mine: list[Log], theirs: list[Log], accounting: Accounting = "period") -> Saving:
    return saving(mine, theirs, accounting, clocks="some", idle_w=IDLE_W, confidence=0.95)


def test_period_is_the_whole_window_for_each_request() -> None:
    whole = log()
    found = energy(whole, "period")
    assert found is not None
    assert whole.energy_j is not None
    assert found.value == pytest.approx(whole.energy_j / 600)


def test_above_idle_is_period_less_the_idle_power_of_all_of_the_time() -> None:
    period, above = energy(log(), "period"), energy(log(), "above_idle")
    assert period is not None
    assert above is not None
    assert above.value == pytest.approx(period.value - IDLE_W * PERIOD_S)


def test_gross_is_from_start_to_answer_only() -> None:
    whole = log()
    found = energy(whole, "gross")
    assert found is not None
    assert found.value == pytest.approx(PLAN.power_w * sum(each.service_s for each in whole.served) / 600)


@pytest.mark.parametrize("accounting", ACCOUNTINGS)
def test_energy_without_a_meter_is_unknown_and_not_nothing(accounting: Accounting) -> None:
    assert energy(without_meter(log()), accounting) is None
    assert saved([without_meter(log())], [log(MAX)], accounting).ratio is None


def test_energy_above_an_unknown_idle_power_is_unknown() -> None:
    assert energy(log(), "above_idle", idle_w=None) is None
    assert energy(log(), "period", idle_w=None) is not None


def test_one_unmetered_run_makes_the_sum_unknown() -> None:
    runs = [log(), without_meter(log(seed=1))]
    assert energy_per_inference(runs, "period", idle_w=None, confidence=0.95) is None


def test_a_meter_that_only_counts_the_window_gives_a_value_without_an_interval() -> None:
    coarse = replace(log(), served=tuple(replace(each, energy_j=None) for each in log().served))
    found, full = energy(coarse, "period"), energy(log(), "period")
    assert found is not None
    assert full is not None
    assert found.value == pytest.approx(full.value)
    assert found.low is None
    assert energy(coarse, "gross") is None
    assert saved([coarse], [log(MAX)]).blocks == 0


def test_a_saving_is_one_less_the_ratio_of_the_energies() -> None:
    mine, theirs = log(), log(MAX)
    found = saved([mine], [theirs])
    assert mine.energy_j is not None
    assert theirs.energy_j is not None
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(1 - mine.energy_j / theirs.energy_j)
    assert found.paired
    assert found.blocks == 20


def test_the_interval_of_a_saving_covers_the_truth_as_often_as_it_says() -> None:
    truth = 1 - PLAN.power_w * PLAN.latency_s / (MAX.power_w * MAX.latency_s)
    held = 0
    for seed in range(200):
        ratio = saved([log(seed=seed, traced=0)], [log(MAX, seed=seed, traced=0)], "gross").ratio
        assert ratio is not None
        assert ratio.low is not None
        assert ratio.high is not None
        held += ratio.low <= truth <= ratio.high
    assert 0.9 <= held / 200 <= 0.99


def test_a_policy_saves_nothing_against_itself() -> None:
    found = saved([log()], [log()]).ratio
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-9)


def test_other_arrivals_are_not_paired_and_have_no_interval() -> None:
    later = replace(log(MAX), served=tuple(replace(s, arrival_s=s.arrival_s - 0.001) for s in log(MAX).served))
    found = saved([log()], [later])
    assert not found.paired
    assert found.ratio is not None
    assert found.ratio.low is None
    assert not same_arrivals([log()], [log(), log()])
    assert not same_arrivals([log()], [log(requests=10)])


def test_blocks_of_a_run_add_up_to_its_energy() -> None:
    """Savings of two runs pooled lie between the savings of each."""
    first, second = saved([log(seed=1)], [log(MAX, seed=1)]), saved([log(seed=2)], [log(MAX, seed=2)])
    both = saved([log(seed=1), log(seed=2)], [log(MAX, seed=1), log(MAX, seed=2)])
    values = [each.ratio.value for each in (first, both, second) if each.ratio]
    assert np.median(values) == values[1]
    assert both.blocks == 40


def uneven(idle_w: float, pause_s: float, *, requests: int = 600) -> Log:
    """Equal requests, first one on another's heels, then with pauses; waiting takes this power."""
    whole = log(requests=requests, traced=0)
    gaps_s = np.where(np.arange(requests) < requests // 2, PLAN.latency_s, PLAN.latency_s + pause_s)
    starts_s = 5.0 + np.concatenate([[0.0], np.cumsum(gaps_s[:-1])])
    busy_j, finish_s = PLAN.power_w * PLAN.latency_s, float(starts_s[-1] + gaps_s[-1])
    served = tuple(
        replace(each, arrival_s=at, start_s=at, finish_s=at + PLAN.latency_s, energy_j=busy_j)
        for each, at in zip(whole.served, starts_s.tolist(), strict=True)
    )
    idle_s = finish_s - 5.0 - PLAN.latency_s * requests
    return replace(whole, served=served, finish_s=finish_s, energy_j=busy_j * requests + idle_w * idle_s)


@pytest.mark.parametrize("pause_s", [0.1, 0.001])
def test_what_was_used_while_waiting_goes_to_those_who_waited(pause_s: float) -> None:
    """Equal requests take equally much above idle, however long each waited: the interval has no width."""
    found = energy(uneven(IDLE_W, pause_s), "above_idle")
    assert found is not None
    expected_j = (PLAN.power_w - IDLE_W) * PLAN.latency_s
    assert (found.value, found.low, found.high) == pytest.approx((expected_j, expected_j, expected_j))


def test_a_run_that_never_waits_shares_its_rest_by_time() -> None:
    busy = replace(log(), finish_s=log().start_s + PERIOD_S * 600)
    overlapping = replace(busy, served=tuple(replace(s, start_s=s.arrival_s - 0.02) for s in busy.served))
    assert energy(overlapping, "period") is not None
