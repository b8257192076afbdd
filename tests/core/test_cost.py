"""Costs add up, and what is unknown stays so."""

from __future__ import annotations

import pytest

from amble.core.cost import Cost, Reading


def test_costs_add_up_each_by_itself() -> None:
    assert Cost(1.0, 2.0) + Cost(10.0, 20.0) == Cost(11.0, 22.0)
    assert sum([Cost(1.0, 2.0)] * 3, Cost()) == Cost(3.0, 6.0)


@pytest.mark.parametrize("known", [Cost(1.0, 2.0), Cost(1.0, 0.0)])
def test_a_sum_with_an_unknown_energy_is_unknown_on_either_side(known: Cost) -> None:
    unknown = Cost(1.0, None)
    assert known + unknown == unknown + known == unknown + unknown == Cost(2.0, None)


def test_what_passed_between_readings_is_their_difference() -> None:
    assert Reading(5.0, 9.0) - Reading(2.0, 4.0) == Cost(3.0, 5.0)


def test_what_passed_since_or_until_an_unknown_counter_is_unknown() -> None:
    for later, earlier in ((9.0, None), (None, 4.0), (None, None)):
        assert Reading(5.0, later) - Reading(2.0, earlier) == Cost(3.0, None)
