"""Traffic follows from what fits on the chip."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amble.levers.memory.energy import System
from amble.levers.memory.traffic import moved

SYSTEM = System("s", 1000, 1e9, 1e9, 4.0, 0.5, weights_stay=False, active=0.5, note="")


def test_inputs_that_fit_stay_on_chip_and_weights_come_once() -> None:
    found = moved(4000, 300, SYSTEM)
    assert (found.weights_read, found.input_read, found.input_written) == (4000, 0, 0)


def test_inputs_that_do_not_fit_are_written_and_read_back() -> None:
    found = moved(100, 5000, SYSTEM)
    assert (found.weights_read, found.input_read, found.input_written) == (100, 5000, 5000)


def test_the_cheaper_order_of_loops_is_taken_unless_weights_have_to_stay() -> None:
    free, bound = moved(3000, 600, SYSTEM), moved(3000, 600, replace(SYSTEM, weights_stay=True))
    assert free.weights_read + free.input_read == 3000 + 6 * 600 == 6600
    assert moved(550, 3000, SYSTEM).input_read == 3000
    assert moved(550, 3000, replace(SYSTEM, weights_stay=True)).input_read == 6000
    assert bound.input_read == 6 * 600


def test_a_larger_buffer_never_moves_more() -> None:
    totals = []
    for size in (200, 400, 1000, 4000, 20_000):
        found = moved(3000, 5000, replace(SYSTEM, buffer_bytes=size))
        totals.append(found.weights_read + found.input_read + found.input_written)
    assert totals == sorted(totals, reverse=True)


def test_sizes_are_not_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        moved(-1, 0, SYSTEM)
