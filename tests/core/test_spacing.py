"""Ends first, then the farthest; what is measured is left out, and spread is judged from it."""

import numpy as np

from amble.core.spacing import scaled, spread_out

GRID = np.array([[x, y] for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0)])


def test_the_ends_come_first_and_every_point_once():
    order = list(spread_out(GRID))
    assert order[:2] == [8, 0]
    assert set(order[:4]) == {0, 2, 6, 8}
    assert sorted(order) == list(range(9))


def test_what_is_measured_is_not_chosen_again_and_repels():
    assert next(spread_out(GRID, [0, 8])) in (2, 6)
    assert next(spread_out(GRID, [0, 8, 2, 6])) == 4
    assert list(spread_out(GRID, range(9))) == []


def test_an_end_that_is_not_measured_goes_before_a_farther_point():
    assert next(spread_out(GRID, [8])) == 0
    assert next(spread_out(GRID, [0])) == 8


def test_columns_are_scaled_by_their_own_range_or_by_anothers_and_constant_ones_stand_still():
    values = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert scaled(values).tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert scaled(values, np.array([[1.0, 0.0], [5.0, 10.0]])).tolist() == [[0.0, 0.5], [0.5, 0.5]]
