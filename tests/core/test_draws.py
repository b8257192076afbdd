"""Random numbers belong to their names, and sparse samples are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.core import draws
from amble.core.draws import chosen, chosen_many, hashed, hashed_below, key_of, stream


def test_the_stream_of_a_key_is_pinned() -> None:
    assert key_of(3, "conv.weight", 0) == 96954071727127771312915396953263620135
    np.testing.assert_allclose(stream(7).random(2), [0.87207345, 0.29536538], atol=1e-8)
    np.testing.assert_allclose(hashed(9, np.array([5])), [0.26255342], atol=1e-8)
    assert chosen(7, 100, 0.05).tolist() == [9, 10, 56, 74, 86, 92]


def test_keys_tell_order_split_and_type_apart() -> None:
    keys = {key_of(1, 2), key_of(2, 1), key_of(12), key_of("1", 2), key_of("1, 2")}
    assert len(keys) == 5


def test_hashed_numbers_are_uniform_and_uncorrelated_with_their_place() -> None:
    numbers = hashed(key_of("cell", 0), np.arange(200_000))
    counts = np.histogram(numbers, bins=50, range=(0, 1))[0]
    assert ((counts - 4_000) ** 2 / 4_000).sum() < 85.4  # 99.9 % of chi square with 49 degrees of freedom
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.01


def test_a_cell_has_the_same_number_whoever_asks_and_in_whatever_order() -> None:
    cells = np.array([5, 1 << 40, 77])
    np.testing.assert_array_equal(hashed(9, cells)[::-1], hashed(9, cells[::-1]))
    assert (hashed(9, cells) != hashed(10, cells)).all()


@settings(deadline=None)
@given(st.integers(0, 2**127), st.lists(st.sampled_from([0.0, 1e-300, 2**-53, 0.1, 0.7, 1.0]), max_size=40))
def test_cells_below_their_limits_are_those_whose_numbers_are(key: int, limits: list[float]) -> None:
    starts, offsets = np.array([0, 1 << 33, 9_000]), np.arange(len(limits)) * 3
    cells = starts[:, None] + offsets
    expected = cells[hashed(key, cells) < np.array(limits)]
    np.testing.assert_array_equal(hashed_below(key, starts, offsets, np.array(limits, np.float64)), expected)


def test_a_number_just_at_its_limit_is_not_below_it() -> None:
    cells = np.arange(500)
    numbers = hashed(3, cells)
    assert not len(hashed_below(3, np.array([0]), cells, numbers))
    assert len(hashed_below(3, np.array([0]), cells, np.nextafter(numbers, 2.0))) == 500


@settings(deadline=None)
@given(st.integers(0, 3_000), st.floats(0.0, 1.0), st.integers(0, 50))
def test_chosen_positions_are_distinct_ascending_and_in_range(count: int, probability: float, key: int) -> None:
    positions = chosen(key, count, probability)
    assert (np.diff(positions) > 0).all()
    assert not len(positions) or (positions[0] >= 0 and positions[-1] < count)


@pytest.mark.parametrize("probability", [0.003, 0.15, 0.2, 0.6])
def test_every_position_is_chosen_as_often_as_asked_and_independently_of_its_neighbour(probability: float) -> None:
    taken = np.zeros((4_000, 50), dtype=bool)
    for key in range(len(taken)):
        taken[key, chosen(key, 50, probability)] = True
    spread = np.sqrt(probability * (1 - probability) / taken.size)
    assert abs(taken.mean() - probability) < 4.5 * spread
    both = (taken[:, 1:] & taken[:, :-1]).mean()
    assert abs(both - probability**2) < 4.5 * probability / np.sqrt(taken.size)
    assert abs(taken.mean(axis=0) - probability).max() < 5 * np.sqrt(probability * (1 - probability) / len(taken))


def test_certain_and_impossible_choices_need_no_luck() -> None:
    np.testing.assert_array_equal(chosen(0, 5, 1.0), np.arange(5))
    assert chosen(0, 5, 0.0).size == chosen(0, 0, 0.5).size == 0
    assert chosen(0, 10, 1e-300).size == 0
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        chosen(0, 5, 1.5)


@pytest.mark.parametrize("probability", [0.0, 1e-3, 0.3, 1.0])
def test_drawing_together_gives_what_drawing_alone_does(probability: float) -> None:
    keys, counts = [key_of(each) for each in range(40)], [each * 977 for each in range(40)]
    together = chosen_many(keys, counts, probability)
    for key, count, found in zip(keys, counts, together, strict=True):
        np.testing.assert_array_equal(found, chosen(key, count, probability))


def test_a_stream_that_falls_short_goes_on() -> None:
    short = [key for key in range(3_000) if len(chosen(key, 200, 0.19)) > 16 + 38 + 5 * 38**0.5 - 1]
    assert not short  # five standard deviations: the first draw is enough in all but a millionth
    np.testing.assert_array_equal(chosen(5, 1_000_000, 1e-9), np.empty(0))
    far = draws._further(np.array([-1, 3]), 5, 4_000, -20.0)
    assert (np.diff(far) > 0).all()
    assert far[-1] >= 4_000
    assert 150 < np.searchsorted(far, 4_000) < 260
