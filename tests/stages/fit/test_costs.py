"""Margins of costs: bounds that hold for the runs still to come, not estimates from those that were measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from amble.core.point import Clocks, OperatingPoint
from amble.core.profile import Profile, Sample
from amble.core.subject import Subject, Where
from amble.stages.fit.costs import Costs, Error, Surfaces
from amble.stages.fit.costs import costs as fit_costs

LOW, HIGH = OperatingPoint(Clocks(1e9)), OperatingPoint(Clocks(2e9))


def costs(residuals, runs):
    return Costs(
        subject=Subject("network"),
        where=Where(device="made-up", calibration="made up"),
        model="amble",
        error=Error(),
        operators=("all",),
        points=(OperatingPoint(Clocks(1e9)),),
        latency_s=((0.01,),),
        energy_j=(),
        idle_power_w=(),
        residuals=tuple(np.quantile(residuals, np.linspace(0, 1, 1001)).tolist()),
        runs=runs,
    )


def fitted(*samples: Sample) -> Costs:
    """Costs of two operators at two points, where the laws say 2 s and 8 W of the first, 3 s and 5 W of the second."""
    points = (LOW, HIGH)
    profile = Profile(Subject("network"), Where("made-up", "made up"), ("conv", "relu"), samples, points=points)
    laws = Surfaces(np.full((3, 2), [[2.0], [3.0], [0.0]]), np.full((3, 2), [[8.0], [5.0], [1.0]]), "laws", Error())
    return fit_costs(profile, lambda profile, points: laws)


def test_a_measured_point_stays_as_measured_and_a_throttled_one_is_what_the_laws_say():
    steady = Sample("conv", LOW, LOW.clocks, 5.0, 10.0, 3)
    throttled = Sample("conv", HIGH, LOW.clocks, 5.0, 10.0, 3, throttled=True)
    found = fitted(steady, throttled)
    assert found.latency_s == ((5.0, 2.0), (3.0, 3.0))
    assert found.energy_j == ((10.0, 16.0), (15.0, 15.0))
    assert fitted(steady, replace(throttled, throttled=False)).latency_s == ((5.0, 5.0), (3.0, 3.0))


def test_a_sample_whose_energy_is_unknown_leaves_the_energy_of_all_unknown():
    found = fitted(Sample("conv", LOW, LOW.clocks, 5.0, None, 3))
    assert found.latency_s == ((5.0, 2.0), (3.0, 3.0))
    assert found.energy_j == ()
    assert np.isnan(found.arrays().energy_j).all()


@pytest.mark.parametrize("percentile", [0.9, 0.99])
def test_a_margin_holds_for_most_samples_of_runs(percentile):
    rng = np.random.default_rng(1)
    margins = np.array([costs(np.exp(rng.normal(0, 0.05, 600)), 600).margin(percentile) for _ in range(20)])
    late = 1 - np.mean(np.exp(rng.normal(0, 0.05, (2000, 1))) <= margins, axis=0)
    assert np.mean(late <= (1 - percentile) * 1.02) >= 0.85


def test_a_margin_falls_as_runs_grow():
    rng = np.random.default_rng(2)
    few, many = (costs(np.exp(rng.normal(0, 0.05, runs)), runs).margin(0.95) for runs in (200, 50_000))
    assert few > many > np.exp(0.05 * 1.645)


def test_a_margin_holds_where_a_very_late_request_makes_the_next_ones_wait():
    rng = np.random.default_rng(5)
    spiked = np.where(rng.random(20_000) < 0.004, 1.6, 1.0) * np.exp(rng.normal(0, 0.02, 20_000))
    margin = costs(spiked, 20_000).margin(0.99)
    waits, late = 0.0, 0
    for service in rng.permutation(spiked):
        late += waits + service > margin
        waits = max(0.0, waits + service - margin)
    assert margin > 1.05 * np.quantile(spiked, 0.99)
    assert late / len(spiked) <= 0.01


def test_runs_too_few_for_a_bound_give_more_than_the_slowest_seen():
    residuals = np.exp(np.random.default_rng(3).exponential(0.03, 50))
    margin = costs(residuals, 50).margin(0.99)
    assert margin > residuals.max()
    assert margin < residuals.max() ** 3
    assert costs(residuals, 50).margin(0.999) > margin


def test_a_margin_is_at_least_one_and_one_where_no_run_was_seen():
    assert costs(np.full(300, 0.9), 300).margin(0.99) == 1.0
    assert replace(costs(np.ones(3), 3), residuals=()).margin(0.99) == 1.0
