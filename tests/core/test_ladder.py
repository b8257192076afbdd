"""What no rung or ladder can be is refused; a change costs what the domains that change cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amble.core.cost import Cost
from amble.core.ladder import Ladder, Level, Rung
from amble.core.point import Clocks
from amble.core.profile import SwitchCost

SLOW, FAST, OTHER = Clocks(1e9, 1e9), Clocks(2e9, 1e9), Clocks(2e9, 2e9)
RUNG = Rung("fp32", FAST, (0.010, 0.012, 0.030), (1.0, 1.5, 2.0))
SWITCHES = (SwitchCost("core", Cost(0.001, 0.1), 0.02), SwitchCost("memory", Cost(0.002, None), 0.03))
LADDER = Ladder("net", "table:test", "gross", (Level("fp32", 1.0, (RUNG,)),), SLOW, 5.0, SWITCHES)


def test_capacity_is_that_of_the_best_batch() -> None:
    assert RUNG.capacity_hz == pytest.approx(2 / 0.012)
    assert RUNG.max_batch == 3


def test_the_smallest_limit_of_all_rungs_is_the_ladders() -> None:
    short = replace(RUNG, latency_s=(0.02,), energy_j=(0.5,))
    assert replace(LADDER, levels=(Level("fp32", 1.0, (RUNG, short)),)).max_batch == 1


def test_only_domains_that_change_cost_something_and_they_settle_together() -> None:
    assert (LADDER.stall_s(SLOW, FAST), LADDER.settle_s(SLOW, FAST)) == (0.001, 0.02)
    assert LADDER.stall_s(SLOW, OTHER) == pytest.approx(0.003)
    assert LADDER.settle_s(SLOW, OTHER) == 0.03, "they settle at the same time"
    assert LADDER.stall_j(SLOW, OTHER) == 0.1
    assert (LADDER.stall_s(FAST, FAST), LADDER.settle_s(FAST, FAST)) == (0, 0)


def test_what_cannot_be_served_is_an_error() -> None:
    with pytest.raises(ValueError, match="a latency, and an energy if any, for each"):
        Rung("fp32", FAST, (0.01,), ())
    with pytest.raises(ValueError, match="must be positive"):
        Rung("fp32", FAST, (0.0,), (1.0,))
    with pytest.raises(ValueError, match="at least one rung"):
        replace(LADDER, levels=(Level("fp32", 1.0, ()),))
