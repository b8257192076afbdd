"""What no clock can do is found, and what one can is left alone."""

from __future__ import annotations

import numpy as np

from amble.stages.fit.bounds import POWER, TIME, breaking, broken, noise_allowed

KNOBS = ("core_hz",)
POINTS = np.array([[0.5e9], [0.8e9], [1.0e9], [1.5e9], [2.0e9]])


def test_a_law_that_physics_allows_breaks_nothing() -> None:
    for power, output in ((-1.0, TIME), (0.0, TIME), (1.0, POWER)):
        values = power * np.log(POINTS[:, 0])
        assert not (broken(values, POINTS, KNOBS, output) > noise_allowed(1)).any()
        assert breaking(values[None], POINTS, KNOBS, output)[0].tolist() == []


def test_a_run_that_is_slower_at_a_higher_clock_is_found_and_alone_blamed() -> None:
    values = -np.log(POINTS[:, 0])
    values[3] += 1.5
    assert broken(values, POINTS, KNOBS, TIME)[3].max() > noise_allowed(1)
    assert breaking(values[None], POINTS, KNOBS, TIME)[0].tolist() == [3]


def test_what_was_not_measured_breaks_nothing() -> None:
    values = -np.log(POINTS[:, 0])
    values[[1, 3]] = np.nan
    assert breaking(values[None], POINTS, KNOBS, TIME)[0].tolist() == []


def test_several_knobs_at_once_have_more_noise() -> None:
    assert noise_allowed(2) > noise_allowed(1)
