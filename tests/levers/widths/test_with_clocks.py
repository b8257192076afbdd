"""Clocks and widths together need less energy than either alone, within the same latency and loss."""

from dataclasses import replace

import pytest

from amble.core.errors import Infeasible
from amble.core.point import Clocks
from amble.levers.widths.choosing import Pricing
from amble.levers.widths.staircase import StaircaseTable
from amble.levers.widths.with_clocks import Setting, choose_together
from tests.levers.widths.test_choosing import residual, table_of

NETWORK = residual()
WHOLE = NETWORK.lost(dict.fromkeys(NETWORK.today, 0))


def at(speed: float) -> StaircaseTable:
    """Time goes with one over the clock, energy of the work with its square, on top of what idles."""
    table = table_of(NETWORK)
    stairs = []
    for each in table.staircases:
        points = tuple(
            replace(p, latency_s=p.latency_s / speed, energy_j=p.latency_s * (speed**2 + 0.2 / speed))
            for p in each.points
        )
        stairs.append(replace(each, points=points))
    return replace(table, staircases=tuple(stairs))


def settings() -> list[Setting]:
    tables = {speed: at(speed) for speed in (0.5, 0.75, 1.0)}
    return [
        Setting(Clocks(core_hz=speed * 1e9), Pricing(NETWORK, table), Pricing(NETWORK, table, "energy"))
        for speed, table in tables.items()
    ]


def test_a_narrower_network_may_run_at_lower_clocks() -> None:
    every = settings()
    today_s = every[-1].latency.total({})
    found = choose_together(every, today_s, 0.4 * WHOLE)
    assert found.latency_s <= today_s
    assert found.lost <= 0.4 * WHOLE
    assert found.clocks.core_hz is not None
    assert found.clocks.core_hz < 1e9
    at_the_top = choose_together(every[-1:], today_s, 0.4 * WHOLE)
    assert found.energy_j < at_the_top.energy_j
    assert found.energy_j < every[-1].energy.total({})


def test_nothing_lost_leaves_the_choice_of_clocks_alone() -> None:
    every = settings()
    found = choose_together(every, every[-1].latency.total({}) * (1 + 1e-9), 0.0)
    assert found.widths == NETWORK.today
    assert found.clocks.core_hz == 1e9


def test_what_cannot_be_kept_names_the_fastest() -> None:
    with pytest.raises(Infeasible, match="allow more loss or more time"):
        choose_together(settings(), 1e-9, 0.2 * WHOLE)
