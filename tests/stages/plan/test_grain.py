"""Clocks may change only as often as they settle, and where it pays most."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.stages.plan.grain import blocks


def test_without_settling_every_operator_may_change() -> None:
    values = np.ones((5, 3))
    assert blocks(values, values, settle_s=0.0, budget_s=10.0).tolist() == [0, 1, 2, 3, 4]


def test_a_network_that_is_over_before_a_clock_settles_is_one_block() -> None:
    values = np.ones((5, 3))
    assert blocks(values, values, settle_s=6.0, budget_s=10.0).tolist() == [0]


def test_the_change_lies_where_the_network_changes_its_nature() -> None:
    # Seven operators that the second point runs at less energy, then five for which the first does.
    early, late = [[1.0, 1.0]] * 7, [[1.0, 1.0]] * 5
    energy = np.array([[2.0, 1.0]] * 7 + [[1.0, 2.0]] * 5)
    assert 7 in blocks(np.array(early + late), energy, settle_s=4.0, budget_s=100.0).tolist()


def test_a_long_network_is_cut_in_few_atoms() -> None:
    values = np.ones((5000, 2)) * 1e-3
    starts = blocks(values, values, settle_s=8e-3, budget_s=10.0)
    assert 100 <= len(starts) <= 120
    assert np.diff(starts).min() >= 8


@settings(deadline=None, max_examples=60)
@given(
    num_operators=st.integers(1, 40),
    dwell=st.floats(0.01, 20.0),
    seed=st.integers(0, 1000),
    budget=st.floats(0.1, 100.0),
)
def test_every_block_is_long_enough_at_any_point(num_operators: int, dwell: float, seed: int, budget: float) -> None:
    random = np.random.default_rng(seed)
    latency = random.uniform(0.0, 2.0, (num_operators, 4))
    energy = random.uniform(0.0, 2.0, (num_operators, 4))
    starts = blocks(latency, energy, settle_s=dwell, budget_s=budget)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    if len(starts) > 1:
        least = np.add.reduceat(latency.min(axis=1), starts)
        assert least.min() >= dwell * (1 - 1e-9)


def test_idle_power_makes_slow_points_cheaper() -> None:
    latency = np.array([[1.0, 2.0]] * 4)
    energy = np.array([[1.0, 1.9]] * 2 + [[1.0, 2.5]] * 2)
    for idle_w in (0.0, 1.0):
        assert blocks(latency, energy, settle_s=1.5, budget_s=100.0, idle_w=idle_w)[0] == 0
    assert blocks(latency, energy, settle_s=1.5, budget_s=100.0, idle_w=1.0).tolist() == pytest.approx([0, 2])
