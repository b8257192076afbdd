"""Water-filling beside the relaxation's bound and a dynamic programme: never above budget, never far below the best."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.services.cluster.filling import Frontiers, exact, fill, relaxed


@st.composite
def fleets(draw, devices=5, rungs=4):
    """A small fleet of several kinds, and a budget between parked and everything at its top."""
    kinds = draw(st.integers(1, 3))
    steps = st.floats(0.5, 50.0)
    power = np.cumsum([[draw(steps) for _ in range(rungs)] for _ in range(kinds)], axis=1)
    rate = np.cumsum([[0.0, *(draw(steps) for _ in range(rungs - 1))] for _ in range(kinds)], axis=1)
    kind = np.array(draw(st.lists(st.integers(0, kinds - 1), min_size=1, max_size=devices)), dtype=np.int64)
    fleet = Frontiers(power, rate, kind)
    share = draw(st.floats(0.0, 1.2))
    return fleet, float(fleet.parked_w.sum() + share * (fleet.top_w - fleet.parked_w).sum())


@settings(deadline=None, max_examples=200)
@given(fleets())
def test_under_a_tight_budget_it_is_within_one_edge_of_the_bound_and_of_the_best(case):
    fleet, budget_w = case
    found, best, (_, bound_hz) = fill(fleet, budget_w), exact(fleet, budget_w), relaxed(fleet, budget_w)
    assert found.power_w <= budget_w * (1 + 1e-9)
    assert found.power_w == pytest.approx(fleet.watts(found.rung).sum())
    assert found.rate_hz <= best.rate_hz + 1e-6 <= bound_hz + 2e-6
    assert bound_hz - found.rate_hz <= fleet.edges.rate_hz.max() + 1e-6


@settings(deadline=None, max_examples=200)
@given(fleets(), st.floats(0.01, 1.0))
def test_a_demand_is_met_for_at_most_one_edge_more_than_the_bound(case, share):
    fleet, _ = case
    everything_w = float(fleet.top_w.sum())
    demand_hz = share * float(fleet.rates(np.full(fleet.num_devices, fleet.power_w.shape[1] - 1)).sum())
    found, best = fill(fleet, everything_w, demand_hz), exact(fleet, everything_w, demand_hz)
    bound_w, _ = relaxed(fleet, everything_w, demand_hz)
    assert found.rate_hz >= demand_hz * (1 - 1e-6)
    assert found.power_w >= best.power_w - 1e-6 >= bound_w - 2e-6
    assert found.power_w - bound_w <= fleet.edges.power_w.max() + 1e-6


@settings(deadline=None, max_examples=100)
@given(fleets(), st.integers(0, 20))
def test_where_the_budget_ends_at_an_edge_all_three_are_equal(case, edges):
    fleet, _ = case
    some = min(edges, len(fleet.edges.power_w))
    budget_w = float(fleet.parked_w.sum() + fleet.edges.power_w[:some].sum()) * (1 + 1e-12)
    rate_hz = float(fleet.edges.rate_hz[:some].sum())
    assert fill(fleet, budget_w).rate_hz == pytest.approx(rate_hz, abs=1e-6)
    assert exact(fleet, budget_w).rate_hz == pytest.approx(rate_hz, abs=1e-6)
    assert relaxed(fleet, budget_w)[1] == pytest.approx(rate_hz, abs=1e-6)


def test_the_next_watt_goes_to_the_device_that_meets_most_deadlines_with_it():
    fleet = Frontiers(np.array([[10.0, 50.0], [10.0, 50.0]]), np.array([[0.0, 40.0], [0.0, 80.0]]), np.array([0, 1, 0]))
    assert fill(fleet, 70.0).rung.tolist() == [0, 1, 0]
    assert fill(fleet, 110.0).rung.tolist() == [1, 1, 0]
    assert fill(fleet, 150.0, demand_hz=60.0).rung.tolist() == [0, 1, 0], "what nobody asks for is not bought"


def test_a_rung_off_the_hull_is_used_where_the_next_one_on_it_is_too_dear():
    fleet = Frontiers(np.array([[0.0, 60.0, 100.0]]), np.array([[0.0, 50.0, 100.0]]), np.array([0]))
    assert fleet.hulls == ((0, 2),)
    assert fill(fleet, 70.0).rung.tolist() == [1]


def test_devices_that_are_not_usable_stay_parked():
    fleet = Frontiers(np.array([[10.0, 50.0]]), np.array([[0.0, 40.0]]), np.zeros(3, dtype=np.int64))
    assert fill(fleet, 1000.0, usable=np.array([True, False, True])).rung.tolist() == [1, 0, 1]


def test_a_budget_below_a_parked_fleet_is_no_budget():
    fleet = Frontiers(np.array([[10.0, 50.0]]), np.array([[0.0, 40.0]]), np.zeros(3, dtype=np.int64))
    for each in (fill, exact, relaxed):
        with pytest.raises(ValueError, match=r"29\.0 W is below the 30\.0 W of a parked fleet"):
            each(fleet, 29.0)


@pytest.mark.parametrize(
    ("power", "rate", "kind", "what"),
    [
        ([[10.0, 5.0]], [[0.0, 1.0]], [0], "must not fall"),
        ([[10.0, 50.0]], [[1.0, 2.0]], [0], "parked"),
        ([[10.0, 50.0]], [[0.0, 1.0]], [1], "a kind that has a frontier"),
        ([[10.0, np.nan]], [[0.0, 1.0]], [0], "finite"),
        ([[10.0, 50.0]], [[0.0]], [0], "every kind and rung"),
    ],
)
def test_what_is_no_frontier_is_refused(power, rate, kind, what):
    with pytest.raises(ValueError, match=what):
        Frontiers(np.array(power), np.array(rate), np.array(kind))
