"""The lower bound is below the exact optimum, and that below what any governor does."""

from __future__ import annotations

import numpy as np
import pytest
from clairvoyant import Case, exact_j, lower_bound_j

from amble.control.governors import Amble, Tuning, max_clocks
from amble.core.schedule import Deadline
from tests.control.ladders import ladder, menu, open_device, poisson, serve

SLO_S = 0.1


def case(arrivals_s: np.ndarray[tuple[int], np.dtype[np.float64]], *, drops: int = 0, end_s: float = 0.0) -> Case:
    return Case(arrivals_s, SLO_S, 0.005, drops, end_s or float(arrivals_s[-1]) + SLO_S)


@pytest.mark.parametrize("max_batch", [1, 2])
@pytest.mark.parametrize("rate_hz", [20.0, 80.0])
def test_the_bound_is_below_the_optimum_and_not_far(max_batch: int, rate_hz: float) -> None:
    steps = ladder(menu(max_batch=max_batch), stall_s=0.0002)
    one = case(poisson(rate_hz, 8, seed=4))
    bound_j, best_j = lower_bound_j(one, steps), exact_j(one, steps)
    assert bound_j <= best_j + 1e-9
    assert bound_j > 0.9 * best_j


@pytest.mark.parametrize("rate_hz", [30.0, 90.0])
def test_no_governor_is_below_the_bound(rate_hz: float) -> None:
    steps = ladder()
    arrivals_s = poisson(rate_hz, 300, seed=5)
    for governor in (max_clocks(steps), Amble(steps, Deadline(SLO_S, 0.95), tuning=Tuning(grid=8, clumps=(1,)))):
        device = open_device()
        notes, totals = serve(device, governor, arrivals_s, SLO_S)
        dropped = len(arrivals_s) - notes.num_answered + notes.num_late
        one = case(arrivals_s, drops=dropped, end_s=device.clock.now_s())
        assert (totals.active_j or 0.0) + (totals.idle_j or 0.0) >= lower_bound_j(one, steps) - 1e-6


def test_one_request_alone_is_served_at_the_floor() -> None:
    steps = ladder(menu(int8=False))
    one = Case(np.array([0.0]), SLO_S, 0.005, 0, 1.0)
    floor = steps.levels[0].rungs[-1]
    expected_j = steps.park_w * 1.0 + floor.energy_j[0] - steps.park_w * floor.latency_s[0]
    assert lower_bound_j(one, steps) == pytest.approx(expected_j)
    assert exact_j(one, steps) == pytest.approx(expected_j)


def test_more_accuracy_costs_more_energy() -> None:
    arrivals_s = poisson(50.0, 100)
    strict, loose = (Case(arrivals_s, SLO_S, allowed, 0, 3.0) for allowed in (0.0, 0.006))
    assert lower_bound_j(strict, ladder()) > lower_bound_j(loose, ladder())


def test_what_nobody_can_serve_in_time_has_no_bound_unless_it_may_be_dropped() -> None:
    crowd = np.zeros(40)
    assert lower_bound_j(Case(crowd, SLO_S, 0.005, 0, 1.0), ladder()) == float("inf")
    assert np.isfinite(lower_bound_j(Case(crowd, SLO_S, 0.005, 30, 1.0), ladder()))
