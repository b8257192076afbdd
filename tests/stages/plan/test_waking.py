"""Starting a request from the clocks of waiting is priced by what then runs."""

import numpy as np
import pytest

from amble.stages.plan.waking import parking, waking

# Two points: slow takes 4 s for each of four operators, fast takes 1 s. Power is 1 W slow and 10 W fast.
LATENCY = np.array([[4.0, 1.0]] * 4)
ENERGY = np.array([[4.0, 10.0]] * 4)
LEVELS = np.array([[0], [1]])


def test_who_waits_at_the_clocks_of_the_request_pays_nothing() -> None:
    time_s, energy_j = waking(LATENCY, ENERGY, LEVELS, np.array([2.0]))
    assert np.diag(time_s) == pytest.approx([0, 0])
    assert np.diag(energy_j) == pytest.approx([0, 0])


def test_waking_runs_at_the_old_clocks_until_they_settle() -> None:
    time_s, energy_j = waking(LATENCY, ENERGY, LEVELS, np.array([2.0]))
    assert time_s[0, 1] == pytest.approx(2.0 - 0.5)  # half an operator in 2 s, which the fast clock does in 0.5 s
    assert energy_j[0, 1] == pytest.approx(2.0 - 5.0)


def test_who_waits_faster_is_ahead_when_the_clocks_settle() -> None:
    time_s, energy_j = waking(LATENCY, ENERGY, LEVELS, np.array([2.0]))
    assert time_s[1, 0] == pytest.approx(2.0 - 8.0)
    assert energy_j[1, 0] == pytest.approx(20.0 - 8.0)


def test_a_request_may_be_over_before_its_clocks_settle() -> None:
    time_s, energy_j = waking(LATENCY, ENERGY, LEVELS, np.array([100.0]))
    assert time_s[0, 1] == pytest.approx(16.0 - 4.0)
    assert energy_j[0, 1] == pytest.approx(16.0 - 40.0)


def test_domains_settle_each_in_its_own_time() -> None:
    levels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    latency = np.array([[8.0, 4.0, 2.0, 1.0]] * 4)
    time_s, _ = waking(latency, latency, levels, np.array([2.0, 6.0]))
    # 2 s at (0,0): 0.25 operators; then 4 s at (1,0): 2 operators; 2.25 operators take 2.25 s at (1,1)
    assert time_s[0, 3] == pytest.approx(6.0 - 2.25)


def test_a_mixture_that_is_no_legal_point_stays_at_the_old_one() -> None:
    levels = np.array([[0, 0], [1, 1]])
    latency = np.array([[8.0, 1.0]] * 4)
    time_s, _ = waking(latency, latency, levels, np.array([2.0, 6.0]))
    assert time_s[0, 1] == pytest.approx(6.0 - 0.75)


def test_parking_costs_the_higher_idle_power_until_it_settles() -> None:
    assert parking(np.array([1.0, 3.0]), np.array([0.5, 2.0])) == pytest.approx(np.array([[0.0, 0.0], [4.0, 0.0]]))
