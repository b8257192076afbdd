"""Published laws recover their own coefficients, and fall back to simpler forms by name."""

from __future__ import annotations

import numpy as np
import pytest

from amble.stages.fit.laws import POWER_LAWS, TIME_LAWS, primary_knob

CORE = ("core_hz",)
TWO = ("core_hz", "memory_hz")
CLOCKS = np.array([[0.3e9], [0.5e9], [0.8e9], [1.2e9]])
GRID = np.array([[c, m] for c in (0.3e9, 0.6e9, 1.2e9) for m in (1e9, 2e9, 4e9)])


@pytest.mark.parametrize("law", [*TIME_LAWS.values(), *POWER_LAWS.values()])
def test_every_law_predicts_positive_finite_values_between_measured_points(law):
    values = 0.2 + 1e9 / GRID[:, 0] + 0.5e9 / GRID[:, 1]
    found = law(GRID, values, TWO).predict(GRID * 1.0001 - 1e4)
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_han_recovers_exponent_and_constant_of_its_own_law():
    values = 2e-3 * (CLOCKS[:, 0] / 1e9) ** -1.7 + 4e-4
    curve = TIME_LAWS["han"](CLOCKS, values, CORE)
    assert curve.form == "han"
    assert curve.coefficients[1] == pytest.approx(1.7, abs=0.01)
    assert curve.coefficients[2] == pytest.approx(4e-4, rel=0.02)


def test_han_fixes_the_exponent_when_clocks_span_less_than_twofold():
    clocks = np.array([[1.0e9], [1.2e9], [1.4e9]])
    values = (clocks[:, 0] / 1e9) ** -1.7
    assert TIME_LAWS["han"](clocks, values, CORE).coefficients[1] == 1.0


def test_han_with_two_clocks_is_the_simpler_form_and_says_so():
    assert TIME_LAWS["han"](CLOCKS[:2], np.array([3.0, 2.0]), CORE).form == "han-b1"


def test_han_with_one_clock_is_cycles_over_frequency():
    curve = TIME_LAWS["han"](CLOCKS[:1], np.array([3.0]), CORE)
    assert curve.form == "cpu-dvfs"
    assert curve.predict(CLOCKS[:1] * 3)[0] == pytest.approx(1.0)


def test_cpu_dvfs_at_top_is_exact_at_the_highest_clock_and_wrong_below_when_there_is_a_constant():
    values = 1e9 / CLOCKS[:, 0] + 0.5
    found = TIME_LAWS["cpu-dvfs-top"](CLOCKS, values, CORE).predict(CLOCKS)
    assert found[-1] == pytest.approx(values[-1])
    assert found[0] > 1.3 * values[0]


def test_sum_recovers_a_sum_of_clocks():
    values = 0.1 + 0.7e9 / GRID[:, 0] + 0.4e9 / GRID[:, 1]
    other = np.array([[0.45e9, 3e9]])
    found = TIME_LAWS["sum"](GRID, values, TWO).predict(other)
    assert found[0] == pytest.approx(0.1 + 0.7 / 0.45 + 0.4 / 3)


def test_overlap_picks_a_high_norm_for_a_maximum_and_one_for_a_sum():
    slow, fast = 0.9e9 / GRID[:, 0], 1.5e9 / GRID[:, 1]
    assert TIME_LAWS["p-norm"](GRID, np.maximum(slow, fast), TWO).coefficients[0] >= 10
    assert TIME_LAWS["p-norm"](GRID, slow + fast, TWO).coefficients[0] == 1.0


def test_roofline_recovers_a_maximum_with_a_constant():
    def true(points):
        return 0.05 + np.maximum(0.9e9 / points[:, 0], 1.5e9 / points[:, 1])

    other = np.array([[0.4e9, 1.5e9], [1.0e9, 1.2e9]])
    found = TIME_LAWS["roofline"](GRID, true(GRID), TWO).predict(other)
    assert found == pytest.approx(true(other), rel=1e-6)


def test_cube_recovers_kappa_and_knows_no_static_power():
    values = 30 * (CLOCKS[:, 0] / 1.2e9) ** 3
    assert POWER_LAWS["cube"](CLOCKS, values, CORE).coefficients[0] == pytest.approx(30)
    assert POWER_LAWS["cube"](CLOCKS, values + 50, CORE).predict(CLOCKS)[0] < 50


def test_knee_power_bends_where_the_voltage_starts_to_rise():
    share = CLOCKS[:, 0] / CLOCKS.max()
    values = 20 + 50 * share * np.maximum(1, share / 0.6) ** 2
    curve = POWER_LAWS["knee"](CLOCKS, values, CORE)
    assert curve.coefficients[0] == pytest.approx(0.6, abs=0.03)


def test_linear_power_without_points_for_a_constant_says_so():
    assert POWER_LAWS["linear"](CLOCKS[:1], np.array([40.0]), CORE).form == "linear-no-constant"


def test_interpolation_returns_what_was_measured_and_the_nearest_value_outside():
    values = np.array([9.0, 5.0, 4.0, 3.0])
    curve = TIME_LAWS["interpolate"](CLOCKS, values, CORE)
    assert curve.predict(CLOCKS) == pytest.approx(values)
    assert curve.predict(np.array([[5e9]]))[0] == pytest.approx(3.0)


def test_interpolation_falls_back_to_the_nearest_point_when_points_span_no_area():
    line = np.array([[0.3e9, 1e9], [0.6e9, 1e9], [1.2e9, 1e9]])
    assert TIME_LAWS["interpolate"](line, np.array([3.0, 2.0, 1.0]), TWO).form == "nearest"


def test_the_primary_knob_is_the_core_then_the_cpu_then_the_limit():
    assert primary_knob(("memory_hz", "core_hz")) == 1
    assert primary_knob(("memory_hz", "cpu_hz")) == 1
    assert primary_knob(("power_limit_w",)) == 0
