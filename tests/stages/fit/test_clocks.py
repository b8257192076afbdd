"""The clock that runs is learned from the clocks that were asked for."""

from __future__ import annotations

import numpy as np

from amble.stages.fit.clocks import AskedToRan, learn

NAN = float("nan")


def test_without_observations_every_request_runs():
    assert AskedToRan().at(np.array([1e9, 2e9])).tolist() == [1e9, 2e9]
    assert learn(np.array([1e9]), np.array([NAN])) == AskedToRan()


def test_requests_above_the_highest_that_ran_are_held_there():
    clocks = learn(np.array([405e6, 960e6, 2100e6]), np.array([405e6, 960e6, 1740e6]))
    assert clocks.at(np.array([500e6, 1500e6, 1900e6, 2100e6])).tolist() == [500e6, 1500e6, 1740e6, 1740e6]


def test_a_clock_that_is_always_short_stays_short_in_between():
    clocks = learn(np.array([1e9, 2e9]), np.array([0.9e9, 1.8e9]))
    assert np.allclose(clocks.at(np.array([1.5e9])), [1.35e9])


def test_repeated_requests_are_averaged():
    clocks = learn(np.array([1e9, 1e9, NAN]), np.array([0.998e9, 1.0e9, 1e9]))
    assert clocks.asked_hz == (1e9,)
    assert clocks.ran_hz == (0.999e9,)
