"""A fleet in virtual time: nothing is lost or invented, nobody beats the bound, the budget holds through failures."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.services.cluster.fleet import SLOTS, Day, Fleet, Policy, least_j, simulate, smoothest
from amble.services.cluster.governor import ClusterGovernor
from amble.services.cluster.ladders import of_chips


@cache
def a_fleet():
    ladders = of_chips(("v100", "jetson-orin-nano"), "fashion-resnet", 0.1, most=6)
    return Fleet(ladders.fleet((20, 20)), ladders, 0.1)


def top(fleet):
    return np.full(fleet.frontiers.num_devices, fleet.frontiers.power_w.shape[1] - 1)


def a_day(fleet, load, *, seconds=6, fails=None):
    rows = load * fleet.frontiers.rates(top(fleet)).sum() * fleet.slot_s
    return Day(np.random.default_rng(1).poisson(rows, seconds * 100), 200, fails)


def governed(fleet, share=1.0):
    return Policy("joules", governor=ClusterGovernor(fleet.frontiers, share * float(fleet.frontiers.top_w.sum())))


@pytest.mark.parametrize("load", [0.2, 0.7])
def test_the_governed_fleet_misses_nothing_for_less_than_today_and_not_less_than_the_bound(load):
    fleet = a_fleet()
    day = a_day(fleet, load)
    mine = simulate(fleet, day, governed(fleet))
    today = simulate(fleet, day, Policy("least loaded", held=top(fleet)))
    assert mine.missed < 1e-4
    assert today.missed < 1e-4
    bound_j = least_j(fleet, day)
    assert bound_j * (1 - 1e-9) <= mine.energy_j < 0.9 * today.energy_j
    assert mine.energy_j < 1.1 * bound_j


def test_what_a_fleet_cannot_serve_is_missed_and_not_more():
    fleet = a_fleet()
    found = simulate(fleet, a_day(fleet, 2.0), Policy("least loaded", held=top(fleet)))
    assert found.missed == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("load", [0.3, 1.5])
@pytest.mark.parametrize("spread", ["round-robin", "least loaded", "joules"])
def test_every_row_is_met_or_lost(load, spread):
    fleet = a_fleet()
    down = np.arange(40) % 10 == 0
    day = replace(a_day(fleet, load, fails=(300, down)), lead=0)
    found = simulate(fleet, day, Policy(spread, held=top(fleet)))
    assert found.met + found.lost == pytest.approx(found.arrived)


def test_round_robin_overruns_the_slow_devices_of_a_mixed_fleet():
    fleet = a_fleet()
    slow, fast = np.sort(np.unique(fleet.frontiers.rates(top(fleet))))
    found = simulate(fleet, a_day(fleet, 0.6), Policy("round-robin", held=top(fleet)))
    share = 0.6 * (slow + fast) / 2
    assert found.missed == pytest.approx((share - slow) / (2 * share), abs=0.03)


def test_parked_devices_serve_nothing_and_draw_what_parked_ones_draw():
    fleet = a_fleet()
    found = simulate(fleet, a_day(fleet, 0.3), Policy("least loaded", held=0 * top(fleet)))
    assert found.met == 0.0
    assert found.missed == 1.0
    assert found.energy_j == pytest.approx(fleet.frontiers.parked_w.sum() * (4.0 + SLOTS * fleet.slot_s))


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_the_budget_is_never_exceeded_when_a_tenth_of_the_nodes_fail_under_overload(share):
    fleet = a_fleet()
    down = np.zeros(40, dtype=np.bool_)
    down[:4] = True
    found = simulate(fleet, a_day(fleet, 1.0, fails=(400, down)), governed(fleet, share))
    assert found.over_s == 0.0
    assert found.most_w <= share * fleet.frontiers.top_w.sum() * (1 + 1e-6)
    assert found.most_w > 0.97 * share * fleet.frontiers.top_w.sum(), "the budget is used"


def test_nodes_that_fail_cost_what_waited_there_and_little_more():
    fleet = a_fleet()
    down = np.zeros(40, dtype=np.bool_)
    down[::10] = True
    found = simulate(fleet, a_day(fleet, 0.5, fails=(300, down)), governed(fleet))
    assert 0.0 < found.missed < 0.03


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_the_smoothest_service_is_in_time_and_no_other_is_smoother(counts, delay, seed):
    arrivals = np.array(counts)
    rates = smoothest(arrivals, delay)
    padded = np.concatenate([arrivals, np.zeros(delay, dtype=np.int64)])
    due = np.concatenate([np.zeros(delay, dtype=np.int64), arrivals])
    assert (np.cumsum(rates) <= np.cumsum(padded) + 1e-6).all()
    assert (np.cumsum(rates) >= np.cumsum(due) - 1e-6).all()
    random = np.random.default_rng(seed)
    share = random.random()
    other = share * padded + (1 - share) * due
    for mixed in (other, 0.9 * rates + 0.1 * other):
        assert (rates**2).sum() <= (mixed**2).sum() + 1e-6
        assert np.maximum(0, rates - 5).sum() <= np.maximum(0, mixed - 5).sum() + 1e-6


def test_demand_that_jumps_within_a_period_is_met_since_the_next_step_comes_at_once():
    fleet = a_fleet()
    calm = a_day(fleet, 0.3)
    jumps = replace(calm, arrivals=np.where(np.arange(600) < 423, calm.arrivals, 2 * calm.arrivals))
    waits = replace(governed(fleet), soonest_s=0.5)
    assert simulate(fleet, jumps, waits).missed > 1e-3
    assert simulate(fleet, jumps, governed(fleet)).missed < 1e-4


def test_a_run_is_the_same_twice():
    fleet = a_fleet()
    day = a_day(fleet, 0.5, seconds=3)
    assert simulate(fleet, day, governed(fleet), seed=4) == simulate(fleet, day, governed(fleet), seed=4)
