"""The lower bound is below the exact optimum, and that below what any governor does."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.schedule import Deadline
from amble.stages.control.governors import Amble, Tuning, max_clocks
from bench.pit.clairvoyant import Case, exact_j, lower_bound
from bench.pit.relaxed import Prices, priced_j
from tests.stages.control.ladders import every_rung, ladder, open_device, poisson, serve

SLO_S = 0.1


def case(arrivals_s: np.ndarray[tuple[int], np.dtype[np.float64]], *, drops: int = 0, end_s: float = 0.0) -> Case:
    return Case(arrivals_s, SLO_S, 0.005, drops, end_s or float(arrivals_s[-1]) + SLO_S)


@pytest.mark.parametrize("max_batch", [1, 2])
@pytest.mark.parametrize("rate_hz", [20.0, 80.0])
def test_the_bound_is_below_the_optimum_and_not_far(max_batch: int, rate_hz: float) -> None:
    steps = ladder(every_rung(max_batch=max_batch), stall_s=0.0002)
    one = case(poisson(rate_hz, 8, seed=4))
    bound, best_j = lower_bound(one, steps), exact_j(one, steps)
    assert bound.linear_j <= best_j + 1e-9
    assert bound.whole_j <= best_j + 1e-9
    assert bound.least_j > 0.9 * best_j


@pytest.mark.parametrize("max_batch", [1, 3])
@pytest.mark.parametrize("loss_j", [0.0, 10.0, 100.0, 1000.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_price_lifts_the_bound_above_the_optimum(max_batch: int, loss_j: float, seed: int) -> None:
    steps = ladder(every_rung(max_batch=max_batch), stall_s=0.002)
    one = case(poisson(90.0, 7, seed=seed))
    best_j = exact_j(one, steps)
    assert priced_j(one, steps, Prices(loss_j, 0.0)) <= best_j + 1e-9


def test_a_drop_that_costs_nothing_leaves_only_idling() -> None:
    steps = ladder()
    one = case(poisson(80.0, 10), drops=10)
    assert priced_j(one, steps, Prices(0.0, 0.0)) <= steps.park_w * one.end_s + 1e-9


def test_dearer_changes_of_clocks_lift_the_bound_of_whole_requests_only() -> None:
    arrivals_s = np.concatenate([np.arange(6) * 0.011, 1.0 + np.arange(3) * 0.2])
    free, dear = (lower_bound(case(arrivals_s), ladder(stall_s=stall_s)) for stall_s in (0.0, 0.008))
    assert dear.linear_j == pytest.approx(free.linear_j)
    assert dear.whole_j >= free.whole_j - 1e-9


@pytest.mark.parametrize("rate_hz", [30.0, 90.0])
def test_no_governor_is_below_the_bound(rate_hz: float) -> None:
    steps = ladder()
    arrivals_s = poisson(rate_hz, 300, seed=5)
    for governor in (max_clocks(steps), Amble(steps, Deadline(SLO_S, 0.95), tuning=Tuning(grid=8, clumps=(1,)))):
        device = open_device()
        notes, totals = serve(device, governor, arrivals_s, SLO_S)
        dropped = len(arrivals_s) - notes.num_answered + notes.num_late
        one = case(arrivals_s, drops=dropped, end_s=device.clock.now_s())
        assert (totals.active_j or 0.0) + (totals.idle_j or 0.0) >= lower_bound(one, steps).least_j - 1e-6


def test_one_request_alone_is_served_at_the_floor() -> None:
    steps = ladder(every_rung(int8=False))
    one = Case(np.array([0.0]), SLO_S, 0.005, 0, 1.0)
    floor = steps.levels[0].rungs[-1]
    expected_j = steps.park_w * 1.0 + floor.energy_j[0] - steps.park_w * floor.latency_s[0]
    assert lower_bound(one, steps).least_j == pytest.approx(expected_j)
    assert exact_j(one, steps) == pytest.approx(expected_j)


def test_more_accuracy_costs_more_energy() -> None:
    arrivals_s = poisson(50.0, 100)
    strict, loose = (Case(arrivals_s, SLO_S, allowed, 0, 3.0) for allowed in (0.0, 0.006))
    assert lower_bound(strict, ladder()).least_j > lower_bound(loose, ladder()).least_j


def test_what_nobody_can_serve_in_time_has_no_bound_unless_it_may_be_dropped() -> None:
    crowd = np.zeros(40)
    assert lower_bound(Case(crowd, SLO_S, 0.005, 0, 1.0), ladder()).least_j == float("inf")
    assert np.isfinite(lower_bound(Case(crowd, SLO_S, 0.005, 30, 1.0), ladder()).least_j)
