"""A device's ladders as steps of its power, and governors that keep within one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amble.core.errors import Refused
from amble.services.cluster.capping import Within, capped, frontiers, steps_of, watts
from amble.stages.control.governor import Observation
from amble.stages.control.governors import Fixed
from tests.services.cluster.local import MIDDLE, ladder
from tests.services.serve.house import HIGH, LOW


def test_steps_rise_from_parked_to_the_top() -> None:
    steps = steps_of([ladder()], "a")
    assert steps.rate_hz == pytest.approx((0.0, 500.0, 1000 / 1.5, 1000.0))
    assert steps.power_w == pytest.approx((2.1, 10.5, 21.0, 42.0))


def test_with_two_models_the_rate_is_that_of_an_equal_mixture() -> None:
    steps = steps_of([ladder(), ladder(service_s=3e-3)], "a")
    assert steps.rate_hz[-1] == pytest.approx(2 / (1e-3 + 3e-3))


def test_every_rung_of_a_capped_ladder_draws_no_more() -> None:
    for limit_w in steps_of([ladder()], "a").power_w[1:]:
        kept = capped(ladder(), limit_w)
        assert all(watts(rung) <= limit_w for rung in kept.rungs)
        assert [rung.index for rung in kept.rungs] == list(range(len(kept.rungs)))
    assert len(capped(ladder(), 0.0).rungs) == 1


def test_a_device_without_a_meter_is_refused() -> None:
    blind = ladder()
    rungs = tuple(replace(rung, energy_j=None) for rung in blind.rungs)
    blind = replace(blind, levels=(replace(blind.levels[0], rungs=rungs),))
    with pytest.raises(Refused, match=r"host has no energy meter.*leave --power-budget out"):
        steps_of([blind], "host")


def test_frontiers_of_unlike_devices() -> None:
    one, other = steps_of([ladder()], "a"), steps_of([capped(ladder(), 10.5)], "b")
    made = frontiers([one, other])
    assert made.num_devices == 2
    assert made.top_w.tolist() == [one.power_w[-1], other.power_w[-1]]


def test_an_idle_device_leaves_clocks_above_its_step() -> None:
    low = capped(ladder(), 10.5)
    governor = Within.of(Fixed("fixed", low.rungs[0], 1), low, parked=False)
    state = governor.init(0.0)
    for asked in (HIGH, MIDDLE, None):
        assert governor.step(state, Observation(1.0, asked=asked))[1].clocks == LOW
    serving = governor.step(state, Observation(1.0, (9.0,), 1, 1, asked=HIGH))[1]
    assert serving.rung is not None
    assert serving.rung.clocks == LOW
