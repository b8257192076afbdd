"""Watch over devices: a budget that is kept while orders travel, deaths, devices that are not believed, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.services.cluster.capping import watts
from amble.services.cluster.reports import Order
from amble.services.cluster.steering import overrun
from tests.services.cluster.local import Rack, close, rack
from tests.services.serve.house import HIGH, LOW

PARKED_W, TOP_W = 2.1, 42.0  # of each device


def within(test: Callable[[Rack], Awaitable[None]], *names: str, **wanted: Any) -> None:
    async def run() -> None:
        made = await rack(names, **wanted)
        try:
            await test(made)
        finally:
            await close(made)

    asyncio.run(asyncio.wait_for(run(), 120))


async def round_trip(made: Rack, rows: int) -> None:
    """Hear all devices that can be heard, divide, and have the orders taken."""
    for upstream in made.cluster.upstreams:
        await made.cluster.steering._heard(upstream, 0.0)
    made.cluster.steering.step(1.0, rows)
    for upstream in made.cluster.upstreams:
        await made.cluster.steering._heard(upstream, 0.0)


def drawn_w(made: Rack) -> float:
    """Return the most that the devices may draw by what their governors may choose now."""
    total = 0.0
    for link in made.links.values():
        step = link.worker._held
        total += max(link.worker._limit_w(step), PARKED_W)
    return total


def test_a_budget_below_what_all_draw_parked_is_refused_with_the_least_possible() -> None:
    async def test() -> None:
        with pytest.raises(Refused, match="give at least 5 W"):
            await rack(["a", "b"], budget_w=3.0)

    asyncio.run(test())


def test_devices_wake_with_the_demand_and_the_budget_is_never_exceeded() -> None:
    async def test(made: Rack) -> None:
        assert [link.worker._held for link in made.links.values()] == [0, 0]
        for rows in (0, 400, 3000, 3000, 3000, 0, 0):
            await round_trip(made, rows)
            assert drawn_w(made) <= 50.0
            if rows == 0:
                assert sum(upstream.step > 0 for upstream in made.cluster.upstreams) >= 1, "somebody must be awake"
        await round_trip(made, 3000)
        await round_trip(made, 3000)
        awake = [upstream for upstream in made.cluster.upstreams if upstream.step > 0]
        assert len(awake) == 2, "more is asked for than one device serves"
        for link in made.links.values():
            governor = link.worker._within_step["m/1", 0, link.worker._held].loaded.governor
            assert all(watts(rung) <= 50.0 for rung in governor.governor.ladder.rungs)  # type: ignore[attr-defined]

    within(test, "a", "b", budget_w=50.0)


def test_a_parked_device_gets_no_work_and_waits_at_its_lowest_clocks() -> None:
    async def test(made: Rack) -> None:
        await round_trip(made, 0)
        parked = next(upstream for upstream in made.cluster.upstreams if upstream.step == 0)
        for _ in range(5):
            assert (await made.infer()).answer.parameters["device"] != parked.name
        assert made.links[parked.name].worker.admission.device.actuator.current() == LOW

    within(test, "a", "b", budget_w=30.0)


def test_the_share_of_a_device_that_died_goes_to_the_others() -> None:
    async def test(made: Rack) -> None:
        for _ in range(3):
            await round_trip(made, 3000)
        before = {upstream.name: upstream.step for upstream in made.cluster.upstreams}
        assert min(before.values()) >= 1
        made.links["a"].cut.set()
        for _ in range(3):
            await round_trip(made, 3000)
        assert made.upstream("b").step > before["b"]
        assert made.upstream("b").known.power_w[made.upstream("b").step] + PARKED_W <= 46.0
        assert made.upstream("a").order is None, "what was on its way is lost with it"

    within(test, "a", "b", budget_w=46.0)


def test_a_device_that_says_nothing_keeps_its_charge() -> None:
    async def test(made: Rack) -> None:
        for _ in range(3):
            await round_trip(made, 3000)
        before = made.upstream("b").step
        made.upstream("a").fall("silence", dead=False)
        for _ in range(3):
            made.cluster.steering.step(1.0, 3000)
            await made.cluster.steering._heard(made.upstream("b"), 0.0)
        assert made.upstream("b").step <= before

    within(test, "a", "b", budget_w=46.0)


def test_a_device_whose_clocks_run_above_those_asked_for_is_said() -> None:
    async def test(made: Rack) -> None:
        made.links["a"].lies = {"asked": LOW, "ran": HIGH}
        for _ in range(3):
            await made.cluster.steering._heard(made.upstream("a"), 0.0)
        assert made.cluster.steering.disbelieved == {
            "a": "core was asked for at 1000 MHz and runs at 2000 MHz",
        }
        assert 'amble_device_disbelieved{device="a"} 1' in made.cluster.steering.text()
        assert 'amble_device_disbelieved{device="b"} 0' in made.cluster.steering.text()

    within(test, "a", "b")


def test_a_device_whose_meter_contradicts_its_step_is_parked() -> None:
    async def test(made: Rack) -> None:
        for _ in range(2):
            await round_trip(made, 400)
        energy_j, time_s = 1e6, 1e6
        for _ in range(6):
            energy_j, time_s = energy_j + 100.0, time_s + 1.0
            for link in made.links.values():
                link.lies = {"energy_j": energy_j, "time_s": time_s} if link is made.links["a"] else {}
            await made.cluster.steering._heard(made.upstream("a"), 0.0)
        assert made.cluster.steering._energy[made.upstream("a")].steady_w == pytest.approx(100.0)
        await round_trip(made, 400)
        await round_trip(made, 400)
        assert "its meter says more" in made.cluster.steering.disbelieved["a"]
        assert made.upstream("a").step == 0

    within(test, "a", "b", budget_w=90.0)


def test_power_while_a_step_changes_is_held_against_nobody() -> None:
    async def test(made: Rack) -> None:
        await round_trip(made, 400)
        made.upstream("a").order = Order(0, 99)
        link = made.links["a"]
        link.lies = {"energy_j": 0.0, "time_s": 1000.0}
        await made.cluster.steering._heard(made.upstream("a"), 0.0)
        link.lies = {"energy_j": 1000.0, "time_s": 1001.0, "serial": 100}
        await made.cluster.steering._heard(made.upstream("a"), 0.0)
        assert made.cluster.steering._energy[made.upstream("a")].steady_w != pytest.approx(1000.0)

    within(test, "a", "b", budget_w=90.0)


def test_overrun() -> None:
    assert overrun(HIGH, LOW) == "", "throttled is no lie"
    assert overrun(None, HIGH) == ""
    assert overrun(Clocks(), HIGH) == ""
    assert "1000 MHz and runs at 2000 MHz" in overrun(LOW, HIGH)


def test_a_device_that_comes_back_with_other_files_is_left_out() -> None:
    async def test(made: Rack) -> None:
        async with made.cluster.steering.running():
            assert made.upstream("b").up
            link = made.links["b"]
            link.digest = "other"
            link.lies = {"boot": "again"}
            await made.cluster.steering._heard(made.upstream("b"), 0.0)
            assert not made.upstream("b").up
            assert "the devices disagree about model 'm'" in made.upstream("b").why
            link.digest = ""
            await made.cluster.steering._heard(made.upstream("b"), 0.0)
            assert made.upstream("b").up

    within(test, "a", "b")
