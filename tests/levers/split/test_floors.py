"""No plan of any cut takes less than its floor, and most cuts need not be searched for that."""

import numpy as np
import pytest

from amble.core.cost import Cost
from amble.core.profile import SwitchCost
from amble.levers.split.floors import Floors
from amble.levers.split.link import Link
from amble.levers.split.planning import best, choice
from amble.stages.plan.search import solve
from amble.stages.plan.trellis import DomainSwitch, Trellis, Wait
from tests.levers.split.test_planning import RADIO, chain, question


@pytest.mark.parametrize("seed", range(8))
def test_no_cut_takes_less_than_its_floor_which_is_near(seed: int) -> None:
    asked, link = question(seed), Link(5e6, 0.002, RADIO)
    near = []
    for index, cut in enumerate(asked.cuts):
        of = choice(asked, link, index, "fp32")
        floor_j = asked.floors.energy_j(index, asked.left_s(index, of.link_s))
        assert not of.fits or of.energy_j is None or floor_j <= of.energy_j - of.radio_j
        if of.fits and of.energy_j is not None and cut.local:
            near.append(floor_j / (of.energy_j - of.radio_j))
    assert min(near, default=1.0) > 0.7


def test_a_floor_holds_where_changing_saves_idling() -> None:
    """Where a stall draws less than idling, each change lowers the energy of a period."""
    rng = np.random.default_rng(0)
    latency_s = rng.uniform(1e-3, 2e-3, (5, 2))
    energy_j = latency_s * 5.0
    stall = SwitchCost("core", Cost(5e-4, 0.0))
    switch = DomainSwitch(np.array([[0], [1]]), np.array([5e-4]), np.array([0.0]))
    found = solve(Trellis(latency_s, energy_j, switch), 0.02, wait=Wait(np.array([4.9, 4.9]), 0.02), exact=True)
    floors = Floors.of(chain([1] * 5), latency_s, energy_j, [stall], idle_w=4.9, period_s=0.02)
    assert floors.energy_j(5, 0.02) <= found.energy_j
    free = Floors.of(chain([1] * 5), latency_s, energy_j, [], idle_w=4.9, period_s=0.02)
    assert free.energy_j(5, 0.02) > floors.energy_j(5, 0.02)


def test_what_cannot_be_in_time_has_no_floor() -> None:
    asked = question(0)
    assert asked.floors.energy_j(4, 1e-6) == np.inf
    assert asked.floors.energy_j(0, 0.0) < np.inf


def test_few_cuts_are_searched() -> None:
    asked = question(1, count=12, deadline_s=0.06)
    found = best(asked, Link(1e6, 0.002, RADIO))
    assert found.fits
    assert 0 < len(asked.searched) < 8
