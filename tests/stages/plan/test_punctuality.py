"""The rest of a plan is known from everywhere: more time left is never dearer, too little runs at the fastest."""

from itertools import pairwise

import numpy as np
import pytest

from amble.core.cost import Cost
from amble.core.profile import SwitchCost
from amble.core.schedule import Deadline, Schedule
from amble.stages.plan.punctuality import on_time
from tests.stages.plan.test_clocks import POINTS, MadeUp, made_up

SETTLING = (SwitchCost("core", Cost(1e-5, 1e-4), 0.004), SwitchCost("memory", Cost(1e-5, 1e-4), 0.007))


def planned(factor: float = 1.5, spread: float = 1.1, pace: float = 0.5) -> tuple[MadeUp, Schedule]:
    graph, costs = made_up(30, 2, switches=SETTLING, spread=spread)
    fast_s = float(costs.latency_s.sum(axis=0).min())
    return costs, on_time(graph, costs, Deadline(factor * spread * fast_s), pace=pace)


def test_every_setting_that_can_be_met_has_a_choice_at_the_next_place() -> None:
    rest = planned()[1].rest
    assert rest is not None
    starts = sorted({choice.start for choice in rest.choices})
    known = {(choice.start, choice.held) for choice in rest.choices}
    for before, after in pairwise(starts):
        asked = {ask for choice in rest.choices if choice.start == before for ask in choice.asks}
        assert {(after, ask) for ask in asked} <= known
    assert starts[0] == 0


def test_the_less_time_is_left_the_faster_it_goes_on() -> None:
    costs, plan = planned()
    rest = plan.rest
    assert rest is not None
    clocks = [point.clocks for point in POINTS]
    for choice in rest.choices:
        assert list(choice.needs_s) == sorted(choice.needs_s)
        if choice.start == max(each.start for each in rest.choices):
            nodes = [clocks.index(rest.settings[ask]) for ask in choice.asks]
            own_s = costs.latency_s[choice.start :, nodes].sum(axis=0)
            assert own_s[0] == pytest.approx(own_s.min(), rel=0.05)


@pytest.mark.parametrize("spread", [1.0, 1.2])
def test_a_choice_leaves_room_for_the_margin(spread: float) -> None:
    costs, plan = planned(spread=spread)
    rest = plan.rest
    assert rest is not None
    fastest_s = costs.latency_s.min(axis=1)
    for choice in rest.choices:
        assert choice.needs_s[0] >= fastest_s[choice.start :].sum() * (1 - 1e-6)
        assert choice.needs_s[0] >= fastest_s[choice.start :].sum() + (spread - 1) * 0.5 * fastest_s.sum() - 1e-9


def test_who_keeps_no_pace_ahead_starts_slower() -> None:
    eager, lazy = (planned(1.3, 1.3, pace)[1].rest for pace in (1.0, 0.0))
    assert eager is not None and lazy is not None  # noqa: PT018
    first = [min(each.choices, key=lambda choice: choice.start) for each in (eager, lazy)]
    assert max(first[1].needs_s) <= max(first[0].needs_s)


def test_without_a_meter_there_is_no_rest() -> None:
    graph, costs = made_up()
    unmetered = MadeUp(costs.latency_s, np.full_like(costs.power_w, np.nan), idle=(None,) * 4)
    assert on_time(graph, unmetered, Deadline(1.0)).rest is None
