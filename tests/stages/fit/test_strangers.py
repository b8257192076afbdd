"""What nobody measured lies among its likes, in an interval as wide as they differ."""

from __future__ import annotations

import numpy as np
import pytest

from amble.stages.fit.models import Prediction
from amble.stages.fit.strangers import completed, elsewhere


def prediction(*rows: tuple[float, ...]) -> Prediction:
    centre = np.array(rows)
    return Prediction(centre, 0.9 * centre, 1.1 * centre, centre, 0.9 * centre, 1.1 * centre)


def test_a_stranger_is_read_off_other_batches_of_its_network_and_not_off_other_networks() -> None:
    keys = (("d", "net", "1"), ("d", "net", "2"), ("d", "net", "4"), ("d", "other", "1"))
    found = completed(prediction((1.0,), (2.0,), (4.0,), (100.0,)), keys, (("d", "net", "8"),))
    assert found.latency_s.shape == (5, 1)
    assert found.latency_s[-1, 0] == pytest.approx(8.0)
    assert found.latency_lo_s[-1, 0] < 8.0 < found.latency_hi_s[-1, 0]


def test_a_single_other_workload_tells_little() -> None:
    found = completed(prediction((1.0,)), (("d", "net", ""),), (("d", "new", ""),))
    assert found.latency_s[-1, 0] == pytest.approx(1.0)
    assert found.latency_hi_s[-1, 0] > 4.0


def test_a_value_that_others_have_is_filled_in_and_those_that_are_known_stay() -> None:
    rows = prediction((1.0,), (4.0,), (np.nan,))
    found = completed(rows, (("d", "a", ""), ("d", "b", ""), ("d", "c", "")), ())
    np.testing.assert_array_equal(found.latency_s[:2], rows.latency_s[:2])
    assert found.latency_s[2, 0] == pytest.approx(2.0), "their geometric mean"


def test_an_interval_holds_both_that_a_time_follows_a_clock_and_that_it_does_not() -> None:
    found = elsewhere(prediction((1.0,)), np.array([2.0]))
    assert found.latency_lo_s[0, 0] <= 0.5
    assert found.latency_hi_s[0, 0] >= 1.0
    same = elsewhere(prediction((1.0,)), np.array([1.0]))
    assert (same.latency_lo_s[0, 0], same.latency_hi_s[0, 0]) == pytest.approx((0.9, 1.1))
