"""Masks flip the bits that positions name: each once, of every tensor its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from amble.core.bits import masks_of, masks_of_many, stored_bits


def flip(words: NDArray[Any], positions: NDArray[np.int64]) -> None:
    hit, masks = masks_of(positions, words.itemsize)
    words[hit] = words[hit] ^ masks


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=64), st.data())
def test_flipping_twice_gives_back_what_was_stored(content: bytes, data: st.DataObject) -> None:
    stored = np.frombuffer(content, dtype=np.uint8).copy()
    places = data.draw(st.sets(st.integers(0, 8 * len(stored) - 1)))
    positions = np.array(sorted(places), dtype=np.int64)
    before = stored_bits(stored, positions)
    flip(stored, positions)
    np.testing.assert_array_equal(stored_bits(stored, positions), 1 - before)
    assert (np.frombuffer(content, dtype=np.uint8) != stored).any() == bool(places)
    flip(stored, positions)
    assert stored.tobytes() == content


@pytest.mark.parametrize("word_bytes", [1, 2, 4, 8])
@pytest.mark.parametrize("rate", [0.001, 0.02, 0.5])
def test_masks_name_the_bits_of_every_word_whether_few_or_many_share_one(word_bytes: int, rate: float) -> None:
    random = np.random.default_rng(3)
    positions = np.flatnonzero(random.random(64 * 200) < rate)
    words = np.zeros(64 * 200 // (8 * word_bytes), dtype=f"u{word_bytes}")
    flip(words, positions)
    assert np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist() == positions.tolist()


@pytest.mark.parametrize("rate", [0.0, 0.0005, 0.02, 0.4])
def test_masks_of_many_tensors_are_those_of_each(rate: float) -> None:
    random = np.random.default_rng(5)
    positions = [np.flatnonzero(random.random(count) < rate) for count in (0, 40_000, 1, 33, 70_000, 64, 64)]
    for one, (hit, masks) in zip(positions, masks_of_many(positions, 4), strict=True):
        words = np.zeros(70_000 // 32 + 1, dtype=np.uint32)
        words[hit] = masks
        assert np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist() == one.tolist()


def test_words_of_neighbouring_tensors_are_not_mixed_up() -> None:
    ends = [np.array([*range(0, 6_400, 64), 6_463]), np.array([6_462]), np.array([6_460, 6_461])]
    found = [int(masks[-1]) for _, masks in masks_of_many(ends, 8)]
    assert found == [1 << 63, 1 << 62, 0b11 << 60]
