"""Tolerable rates are found, surely enough, with few trials; searches go on where they were stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count

import numpy as np
import pytest
from scipy.stats import t as student

from amble.core.errors import Refused
from amble.levers.memory.tolerance import Judged, Rule, coarse, fine, judge, on_others, verify

RULE = Rule(max_loss=0.01, resolution=0.001)
DECADES = (-9.0, -0.3, 0.25)


class Network:
    """Loses accuracy above a rate of each type; counts its trials."""

    def __init__(self, limits: Mapping[str, float], noise: float = 0.002) -> None:
        self.limits, self.noise, self.num_trials, self.seeds = limits, noise, 0, set[int]()

    def __call__(self, rates: Mapping[str, float], seed: int) -> float:
        self.num_trials += 1
        self.seeds.add(seed)
        loss = sum(0.01 * rates[name] / limit for name, limit in self.limits.items())
        return min(loss, 0.8) + np.random.default_rng(seed).normal(0, self.noise)


def test_clear_cases_take_few_trials_and_close_ones_more() -> None:
    clear = judge(Network({"w": 1e-3}), {"w": 1.0}, RULE, seeds=count())
    assert (clear.verdict, clear.num_trials) == ("fails", 3)
    assert judge(Network({"w": 1e-3}), {"w": 1e-6}, RULE, seeds=count()).num_trials == RULE.min_trials
    close = judge(Network({"w": 1e-3}, noise=0.01), {"w": 0.9e-3}, RULE, seeds=count())
    assert close.verdict == "unclear"
    assert close.num_trials == RULE.max_trials


def test_a_loss_just_above_the_limit_is_seldom_allowed() -> None:
    network = Network({"w": 1e-3}, noise=0.004)
    verdicts = [judge(network, {"w": 1.05e-3}, RULE, seeds=count(1000 * run)).verdict for run in range(300)]
    assert verdicts.count("holds") / 300 <= 0.05


@pytest.mark.parametrize(("rate", "verdict"), [(1e-2, "fails"), (1e-5, "holds"), (0.9e-3, "unclear")])
def test_a_verdict_gives_students_interval_at_the_level_of_its_look_and_counts_its_trials(
    rate: float, verdict: str
) -> None:
    network = Network({"w": 1e-3}, noise=0.006)
    judged = judge(network, {"w": rate}, RULE, seeds=count(7))
    losses = [Network({"w": 1e-3}, noise=0.006)({"w": rate}, seed) for seed in sorted(network.seeds)]
    assert (judged.verdict, judged.num_trials, network.num_trials) == (verdict, len(losses), len(losses))
    assert len(losses) == RULE.max_trials if verdict == "unclear" else len(losses) < RULE.max_trials
    level = 0.05 * (6.0 / math.pi**2) / (len(losses) - 2) ** 2  # of all looks together 0.05: the sum of 1 / n² is π²/6
    half = student.ppf(1.0 - level / 2.0, len(losses) - 1) * np.std(losses, ddof=1) / math.sqrt(len(losses))
    middle = float(np.mean(losses))
    assert (judged.loss, judged.low, judged.high) == pytest.approx((middle, middle - half, middle + half))


def test_at_the_limit_itself_all_looks_together_decide_no_more_often_than_one_may_be_wrong() -> None:
    """Whatever is decided there is an error: of one look at 5 % some 5 %, of 22 looks at 5 % each about a quarter."""
    network = Network({"w": 1e-3}, noise=0.004)
    judged = [judge(network, {"w": 1e-3}, RULE, seeds=count(1000 * run)) for run in range(600)]
    assert sum(each.verdict != "unclear" for each in judged) / len(judged) <= RULE.error
    assert sum(each.verdict == "fails" for each in judged) / len(judged) <= RULE.error / 2 + 0.005


def test_the_interval_holds_the_true_loss() -> None:
    network = Network({"w": 1e-3}, noise=0.004)
    judged = [judge(network, {"w": 5e-4}, RULE, seeds=count(1000 * run)) for run in range(300)]
    assert sum(each.low <= 0.005 <= each.high for each in judged) / 300 >= 0.95


def test_coarse_search_finds_the_rate_within_its_precision() -> None:
    network = Network({"w": 2e-4, "x": 2e-4}, noise=0.0)
    found = coarse(network, ("w", "x"), RULE, known={}, seed=0, decades=DECADES)
    assert set(found.rates) == {"w", "x"}
    assert 1e-4 / 10**0.3 < found.rates["w"] <= 1e-4
    assert found.num_trials == network.num_trials < 60


def test_fine_search_raises_the_tolerant_type_beyond_the_coarse_rate_and_keeps_the_target() -> None:
    network = Network({"w": 1e-1, "x": 1e-4}, noise=0.0)
    start = coarse(network, ("w", "x"), RULE, known={}, seed=0, decades=DECADES)
    found = fine(network, start.rates, RULE, known={}, seed=1, factor=2.0)
    assert found.rates["w"] > 8 * start.rates["w"]
    assert network(found.rates, 0) <= RULE.max_loss
    assert found.judged.verdict == "holds"


def test_a_stopped_search_goes_on_without_repeating_trials() -> None:
    whole: dict[tuple[tuple[str, float], ...], Judged] = {}
    network = Network({"w": 2e-4})
    first = coarse(network, ("w",), RULE, known=whole, seed=0, decades=DECADES)
    half = dict(list(whole.items())[: len(whole) // 2])
    resumed = Network({"w": 2e-4})
    second = coarse(resumed, ("w",), RULE, known=half, seed=0, decades=DECADES)
    assert second.rates == first.rates
    assert resumed.num_trials < network.num_trials
    assert len(network.seeds) == network.num_trials


def test_a_network_that_bears_nothing_is_refused_with_advice() -> None:
    with pytest.raises(Refused, match="allow more loss"):
        coarse(lambda rates, seed: 0.5, ("w",), RULE, known={}, seed=0, decades=DECADES)


def test_verification_takes_59_clean_trials_for_95_percent_and_stops_at_the_first_miss() -> None:
    kept = verify(lambda rates, seed: 0.0, {}, max_loss=0.01, share=0.95, confidence=0.95, seed=0)
    assert (kept.num_trials, kept.num_kept) == (59, 59)
    assert kept.share_low == pytest.approx(0.95, abs=1e-3)
    missed = verify(lambda rates, seed: 0.02 * (seed == 7), {}, max_loss=0.01, share=0.95, confidence=0.95, seed=0)
    assert (missed.num_trials, missed.num_kept) == (8, 7)
    assert missed.share_low < 0.95
    assert missed.worst_loss == 0.02


def test_rates_that_nothing_keeps_are_verified_with_a_share_of_none() -> None:
    found = verify(lambda rates, seed: 1.0, {"w": 0.5}, max_loss=0.01, share=0.95, confidence=0.95, seed=0)
    assert (found.num_trials, found.num_kept, found.share_low) == (1, 0, 0.0)


def test_what_is_verified_are_the_rates_that_were_asked_for() -> None:
    seen: list[object] = []

    def trial(rates: Mapping[str, float], seed: int) -> float:
        seen.append(rates)
        return 0.0

    verify(trial, {"w": 0.5}, max_loss=0.01, share=0.95, confidence=0.95, seed=0)
    assert seen
    assert all(each == {"w": 0.5} for each in seen)


def test_mappings_that_miss_one_time_in_ten_are_seldom_verified() -> None:
    def trial(rates: Mapping[str, float], seed: int) -> float:
        return float(np.random.default_rng(seed).random() < 0.1)

    passed = sum(
        verify(trial, {}, max_loss=0.01, share=0.95, confidence=0.95, seed=1000 * run).share_low >= 0.95
        for run in range(200)
    )
    assert passed / 200 < 0.05


def test_impossible_rules_are_wrong_arguments() -> None:
    for wrong in ({"max_loss": -1.0}, {"resolution": 0.0}, {"error": 0.0}, {"min_trials": 2}):
        with pytest.raises(ValueError, match="a rule needs"):
            Rule(**{"max_loss": 0.01, "resolution": 0.001, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="above 1"):
        fine(Network({"w": 1.0}), {"w": 0.1}, RULE, known={}, seed=0, factor=1.0)


def test_trials_that_lose_nothing_keep_the_target_on_any_examples() -> None:
    assert on_others(np.zeros((59, 100), dtype=np.int8), max_loss=0.0, seed=0) == 1.0


def test_one_example_that_is_often_lost_may_be_several_among_others() -> None:
    lost = np.zeros((60, 100), dtype=np.int8)
    lost[::2, 7] = 1  # half of the trials lose it: none is beyond one in a hundred
    assert lost.mean(axis=1).max() <= 0.01
    shown = on_others(lost, max_loss=0.01, seed=0)
    none = np.exp(np.exp(-1.0) - 1.0)  # P(Poisson(Poisson(1)) = 0); of 1 it is this over e
    assert shown == pytest.approx(1.0 - 0.5 * (1.0 - none * (1.0 + 1.0 / np.e)), abs=0.03)


@pytest.mark.parametrize(("max_loss", "twice", "once"), [(0.0, 0.5315, 0.3679), (0.01, 0.7270, 0.7358)])
def test_the_examples_at_hand_are_themselves_a_draw_so_they_are_drawn_twice(
    max_loss: float, twice: float, once: float
) -> None:
    """Shares of sets with no more than ``max_loss`` of an example that one in a hundred is: Poisson, of Poisson."""
    lost = np.zeros((2, 100), dtype=np.int8)
    lost[0, 7] = 1
    shown = on_others(lost, max_loss=max_loss, seed=0, draws=100_000)
    assert shown == pytest.approx(0.5 + 0.5 * twice, abs=0.002)
    assert abs(shown - (0.5 + 0.5 * once)) > 0.002


def test_what_is_won_makes_up_for_what_is_lost() -> None:
    lost = np.zeros((20, 200), dtype=np.int8)
    lost[:, :2], lost[:, 2:6] = 1, -1
    assert on_others(lost, max_loss=0.01, seed=0) > 0.9
