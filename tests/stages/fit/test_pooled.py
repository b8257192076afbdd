"""The default model at the level of arrays: exact where measured, robust, deterministic."""

from __future__ import annotations

import numpy as np
import pytest

from amble.stages.fit import siblings
from amble.stages.fit.pooled import fit_pooled
from tests.stages.fit import synthetic

POINTS = np.array([[c, m] for c in synthetic.CORES_HZ for m in synthetic.MEMORIES_HZ])
TWO = ("core_hz", "memory_hz")


def truth(shares):
    time = np.array([[synthetic.time_s(c, m, share) for c, m in POINTS] for share in shares])
    power = np.array([[synthetic.power_w(c, m, share) for c, m in POINTS] for share in shares])
    return time, power


def test_measured_points_are_nearly_returned():
    time, power = truth([0.2, 0.5, 0.8])
    at, _ = fit_pooled(TWO, POINTS, time, power).predict(POINTS)
    assert np.abs(np.expm1(at.mean - np.log(time))).max() < 0.02


def test_a_device_that_follows_no_law_is_interpolated():
    clocks = np.linspace(5e8, 1.5e9, 9)[:, None]
    steps = np.where(clocks[:, 0] < 1.0e9, 2.0, 1.0)[None, :] * np.array([[1.0], [3.0]])
    at, _ = fit_pooled(("core_hz",), clocks, steps, np.full_like(steps, np.nan)).predict(clocks)
    assert np.abs(np.expm1(at.mean - np.log(steps))).max() < 0.15


def test_one_doubled_measurement_among_many_moves_its_neighbours_little():
    time, power = truth([0.3, 0.6])
    bad = time.copy()
    bad[0, 8] *= 2
    good, _ = fit_pooled(TWO, POINTS, time, power).predict(POINTS)
    moved, _ = fit_pooled(TWO, POINTS, bad, power).predict(POINTS)
    others = np.arange(len(POINTS)) != 8
    assert np.median(np.abs(moved.mean - good.mean)[0, others]) < 0.03


def test_the_same_points_give_the_same_answer_in_any_order():
    time, power = truth([0.3, 0.6])
    chosen = np.array([0, 2, 7, 15, 17])
    first, _ = fit_pooled(TWO, POINTS[chosen], time[:, chosen], power[:, chosen]).predict(POINTS)
    again, _ = fit_pooled(TWO, POINTS[chosen], time[:, chosen], power[:, chosen]).predict(POINTS)
    other, _ = fit_pooled(TWO, POINTS[chosen[::-1]], time[:, chosen[::-1]], power[:, chosen[::-1]]).predict(POINTS)
    assert again.mean.tolist() == first.mean.tolist()
    assert other.mean == pytest.approx(first.mean, abs=0.02)


def test_units_of_time_and_power_do_not_matter():
    time, power = truth([0.3, 0.6])
    chosen = np.array([0, 2, 7, 15, 17])
    first = fit_pooled(TWO, POINTS[chosen], time[:, chosen], power[:, chosen]).predict(POINTS)
    scaled = fit_pooled(TWO, POINTS[chosen], 1e3 * time[:, chosen], 1e-2 * power[:, chosen]).predict(POINTS)
    assert scaled[0].mean - np.log(1e3) == pytest.approx(first[0].mean, abs=1e-6)
    assert scaled[1].mean - np.log(1e-2) == pytest.approx(first[1].mean, abs=1e-6)


def test_a_workload_without_powers_has_none_while_others_have():
    time, power = truth([0.3, 0.6])
    power[1] = np.nan
    at_time, at_power = fit_pooled(TWO, POINTS, time, power).predict(POINTS)
    assert np.isfinite(at_time.mean).all()
    assert np.isnan(at_power.mean[1]).all()
    assert np.isfinite(at_power.mean[0]).all()


def test_only_asked_rows_are_predicted():
    time, power = truth([0.3, 0.6])
    at, _ = fit_pooled(TWO, POINTS, time, power).predict(POINTS, np.array([1]))
    assert np.isnan(at.mean[0]).all()
    assert np.isfinite(at.mean[1]).all()


def test_patterns_are_workloads_with_few_points_among_three_with_many():
    time, power = (np.log(values) for values in truth([0.1, 0.3, 0.5, 0.7]))
    time[1, 3:], power[1, 3:] = np.nan, np.nan
    (found,) = siblings.patterns((time, power))
    assert found.workloads.tolist() == [1]
    assert found.siblings.tolist() == [0, 2, 3]
    assert siblings.patterns((time[:3], power[:3])) == []


def test_a_correction_that_does_not_help_is_none():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(9, 12))
    base = values.copy()
    base[1:] += 0.01 * rng.standard_normal((8, 12))
    pattern = siblings.Pattern(np.arange(12) < 2, np.array([0]), np.arange(1, 9))
    found = siblings.correction((values, np.full_like(values, np.nan)), base, 0, pattern)
    assert np.abs(found.shift).max() < 0.01


def test_an_offset_common_to_all_siblings_is_carried_over():
    rng = np.random.default_rng(4)
    base = rng.normal(size=(9, 12))
    values = base + np.linspace(0, 0.3, 12)
    pattern = siblings.Pattern(np.arange(12) < 2, np.array([0]), np.arange(1, 9))
    found = siblings.correction((values, np.full_like(values, np.nan)), base, 0, pattern)
    assert found.shift[0] == pytest.approx(np.linspace(0, 0.3, 12), abs=0.02)


def test_a_measured_point_is_what_was_measured_within_its_noise_alone():
    time, power = truth([0.2, 0.5, 0.8])
    at_time, at_power = fit_pooled(TWO, POINTS, time, power).predict(POINTS)
    assert at_time.mean == pytest.approx(np.log(time), abs=1e-12)
    assert at_power.mean == pytest.approx(np.log(power), abs=1e-12)
    assert at_time.sd.max() < 0.03


def test_between_few_points_the_interval_is_wider_than_at_them():
    time, power = truth([0.2, 0.5, 0.8])
    chosen = np.array([0, 2, 7, 15, 17])
    at, _ = fit_pooled(TWO, POINTS[chosen], time[:, chosen], power[:, chosen]).predict(POINTS)
    others = np.setdiff1d(np.arange(len(POINTS)), chosen)
    assert np.median(at.sd[:, others]) > 1.5 * np.median(at.sd[:, chosen])


def test_where_nothing_shows_which_clock_ran_straight_lines_count_for_more():
    clocks = np.array([[1.35e8], [4.05e8], [1.4e9]])
    power = np.array([[35.0, 40.6, 100.0], [70.0, 81.2, 200.0]])
    middle, lines = np.array([[9e8]]), np.log(70.0)
    _, blind = fit_pooled(("core_hz",), clocks, np.full_like(power, np.nan), power).predict(middle)
    _, seen = fit_pooled(("core_hz",), clocks, 1e8 / clocks.T * np.ones((2, 1)), power).predict(middle)
    assert abs(blind.mean[0, 0] - lines) < abs(seen.mean[0, 0] - lines)
    assert blind.mean[0, 0] - 2 * blind.sd[0, 0] < lines < blind.mean[0, 0] + 2 * blind.sd[0, 0]
