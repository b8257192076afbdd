"""Closed forms agree with brute force, and levels are chosen exactly."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.errors import Infeasible
from amble.stages.plan.single_clock import (
    PowerLaw,
    TimeLaw,
    budget_clock_hz,
    choose_by_budget,
    choose_by_deadline,
    choose_by_risk,
    choose_by_weight,
    deadline_clock_hz,
    energy_clock_hz,
)

FINE = np.geomspace(1e7, 1e10, 400_001)
LAWS = [
    (TimeLaw(0.02, 1.0, 0.0), PowerLaw(20.0, 15.0)),
    (TimeLaw(0.02, 1.0, 0.01), PowerLaw(20.0, 15.0)),
    (TimeLaw(0.02, 2.2, 0.004), PowerLaw(5.0, 30.0)),
    (TimeLaw(0.02, 0.4, 0.03), PowerLaw(40.0, 2.0)),
    (TimeLaw(0.02, 3.4, 0.03), PowerLaw(0.0, 2.0)),
]


def energies(time: TimeLaw, power: PowerLaw) -> np.ndarray:
    clock = FINE / 1e9
    return (power.static_w + power.kappa * clock**3) * (time.a * clock**-time.b + time.c)


def test_the_deadline_clock_meets_the_deadline_exactly():
    time = TimeLaw(0.02, 1.3, 0.005)
    assert time.at(deadline_clock_hz(time, 0.03)) == pytest.approx(0.03)


def test_a_deadline_below_the_constant_is_infeasible_and_carries_it():
    with pytest.raises(Infeasible) as raised:
        deadline_clock_hz(TimeLaw(0.02, 1.3, 0.005), 0.005)
    assert raised.value.fastest_s == 0.005


@pytest.mark.parametrize(("time", "power"), LAWS)
def test_the_energy_clock_is_that_of_a_fine_scan(time, power):
    best = FINE[np.argmin(energies(time, power))]
    assert energy_clock_hz(time, power) == pytest.approx(best, rel=1e-3)


def test_without_static_power_energy_falls_all_the_way_down():
    assert energy_clock_hz(TimeLaw(0.02, 1.0, 0.01), PowerLaw(0.0, 15.0)) == 0.0


@pytest.mark.parametrize(("time", "power"), LAWS)
def test_the_budget_clock_is_the_highest_within_the_budget(time, power):
    spent = energies(time, power)
    budget = 1.4 * float(spent.min())
    assert budget_clock_hz(time, power, budget) == pytest.approx(FINE[spent <= budget].max(), rel=1e-3)


def test_a_budget_below_the_least_energy_is_infeasible():
    time, power = LAWS[1]
    with pytest.raises(Infeasible, match="the least is"):
        budget_clock_hz(time, power, 0.9 * float(energies(time, power).min()))


def test_levels_are_chosen_by_exact_scan():
    latency, energy = np.array([4.0, 3.0, 2.0, 1.0]), np.array([5.0, 3.0, 4.0, 9.0])
    assert choose_by_deadline(latency, energy, 3.5) == 1
    assert choose_by_deadline(latency, energy, 1.5) == 3
    assert choose_by_budget(latency, energy, 4.5) == 2
    assert choose_by_weight(latency, energy, 1.0) == 3
    assert choose_by_weight(latency, energy, 0.0) == 1


def test_infeasible_bounds_carry_the_fastest_level():
    latency, energy = np.array([2.0, 1.0]), np.array([3.0, 4.0])
    with pytest.raises(Infeasible) as raised:
        choose_by_deadline(latency, energy, 0.5)
    assert raised.value.fastest_s == 1.0
    with pytest.raises(Infeasible):
        choose_by_budget(latency, energy, 2.0)


def test_a_weight_outside_zero_and_one_is_a_wrong_argument():
    with pytest.raises(ValueError, match="between 0 and 1"):
        choose_by_weight(np.array([1.0]), np.array([1.0]), 1.5)


def test_a_sure_prediction_is_believed_and_an_unsure_one_is_paid_for():
    latency, energy = np.array([0.99, 0.8]), np.array([1.0, 1.03])
    assert choose_by_risk(latency, np.zeros(2), energy, 1.0, price=0.2) == 0
    assert choose_by_risk(latency, np.full(2, 0.05), energy, 1.0, price=0.2) == 1


def test_a_level_that_saves_enough_is_worth_its_risk():
    latency, energy = np.array([0.99, 0.8]), np.array([1.0, 1.5])
    assert choose_by_risk(latency, np.full(2, 0.05), energy, 1.0, price=0.2) == 0


def test_levels_more_likely_to_miss_than_not_are_never_taken_while_there_are_others():
    latency, energy = np.array([1.01, 0.8]), np.array([0.1, 1.5])
    assert choose_by_risk(latency, np.full(2, 0.05), energy, 1.0, price=0.2) == 1
    assert choose_by_risk(latency, np.full(2, 0.05), energy, 0.5, price=0.2) == 1
