from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from amble.stages.check.intervals import clopper_pearson, quantile, ratio_of_sums, requests_needed, wilson


def test_the_percentile_is_the_nearest_rank() -> None:
    values = np.arange(1.0, 101.0)
    assert quantile(values, 0.99).value == 99
    assert quantile(values, 0.5).value == 50
    assert quantile(np.array([3.0]), 0.99).value == 3


@given(late=st.integers(0, 40), out_of=st.integers(1, 1000), percentile=st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
def test_the_percentile_keeps_a_deadline_exactly_when_few_enough_are_late(
    late: int, out_of: int, percentile: float
) -> None:
    late = min(late, out_of)
    latency_s = np.array([2.0] * late + [0.5] * (out_of - late))
    assert (quantile(latency_s, percentile).value <= 1.0) == (late <= (1 - percentile) * out_of + 1e-9)


def test_the_order_statistics_are_the_tightest_that_hold_the_confidence() -> None:
    count, percentile = 200, 0.9
    found = quantile(np.arange(1.0, count + 1), percentile)
    assert found.low is not None
    assert found.high is not None
    low, high = int(found.low), int(found.high)  # ranks, since the values are the ranks
    assert binom.cdf(low - 1, count, percentile) <= 0.025 < binom.cdf(low, count, percentile)
    assert binom.sf(high - 1, count, percentile) <= 0.025 < binom.sf(high - 2, count, percentile)


def test_the_interval_of_a_percentile_covers_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    truth = math.log(10)  # p90 of an exponential
    found = [quantile(random.exponential(size=150), 0.9) for _ in range(1000)]
    held = sum((each.low or 0) <= truth <= (each.high or math.inf) for each in found)
    assert 0.94 <= held / 1000 <= 0.985


def test_too_few_samples_leave_an_end_open() -> None:
    assert quantile(np.arange(100.0), 0.999).high is None
    assert quantile(np.arange(3.0), 0.5).low is None
    with pytest.raises(ValueError, match="nothing"):
        quantile(np.array([]), 0.5)


@given(out_of=st.integers(1, 500), share=st.floats(0, 1))
def test_clopper_pearson_is_the_exact_interval(out_of: int, share: float) -> None:
    count = round(share * out_of)
    wanted = binomtest(count, out_of).proportion_ci(method="exact")
    found = clopper_pearson(count, out_of).ratio
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@given(out_of=st.integers(1, 500), share=st.floats(0, 1))
def test_wilson_is_the_score_interval(out_of: int, share: float) -> None:
    count = round(share * out_of)
    wanted = binomtest(count, out_of).proportion_ci(method="wilson")
    found = wilson(count, out_of).ratio
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_a_ratio_of_sums_has_no_interval_from_too_few_blocks() -> None:
    found = ratio_of_sums(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    assert found.value == 0.5
    assert found.low is None


def test_a_ratio_of_sums_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    held = 0
    for _ in range(600):
        below = random.uniform(0.5, 1.5, 20)
        found = ratio_of_sums(below * 0.7 + 0.05 * random.standard_normal(20), below)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.7 <= found.high
    assert 0.92 <= held / 600 <= 0.975


def test_a_constant_ratio_is_certain() -> None:
    below = np.array([1.0, 2.0, 4.0, 3.0])
    found = ratio_of_sums(0.25 * below, below)
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize(
    ("percentile", "confidence", "needed"), [(0.99, 0.95, 299), (0.99, 0.99, 459), (0.9, 0.95, 29)]
)
def test_a_percentile_needs_that_many_requests(percentile: float, confidence: float, needed: int) -> None:
    assert requests_needed(percentile, confidence) == needed
    high = clopper_pearson(0, needed, 2 * confidence - 1).ratio.high  # one-sided
    assert high is not None
    assert high <= 1 - percentile
