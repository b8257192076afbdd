"""Requests at a cluster's door: routed, put to another device when one dies or refuses, and never left without word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from amble.runtimes.remote.fault import Fault
from amble.services.serve.requests.asking import Asked, Tensor
from amble.services.serve.telling import metrics
from tests.services.cluster.local import Rack, close, rack


def within(test: Callable[[Rack], Awaitable[None]], *names: str, **wanted: object) -> None:
    """Run a test with devices that are up."""

    async def run() -> None:
        made = await rack(names or ("a", "b"), **wanted)  # type: ignore[arg-type]
        try:
            async with made.cluster.steering.running():
                await test(made)
        finally:
            await close(made)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_answers_are_the_devices_own_and_counted_at_the_door() -> None:
    async def test(made: Rack) -> None:
        for value in (1.0, 2.0, 3.0):
            reply = await made.infer(value)
            np.testing.assert_array_equal(reply.answer.outputs["x_out"], np.full((1, 2), 2 * value, np.float32))
            assert reply.answer.parameters["device"] in ("a", "b")  # of equals the one that was quicker so far
            assert reply.outcome.finish_s >= reply.outcome.start_s >= reply.outcome.arrival_s
        book = made.admission.ledger.book("m", "1")
        assert (book.success, book.batches, book.pending) == (3, 3, 0)
        assert made.cluster.totals[-1]().answered == 3
        seen = metrics.Seen("cluster", "0", "fake")
        page = (
            metrics.text(made.admission.counted, [(made.cluster.totals[-1](), seen)], metrics.Host())
            + made.cluster.steering.text()
        )
        assert 'amble_requests_total{model="m",version="1",outcome="met"} 3' in page
        assert 'amble_device_up{device="b"} 1' in page

    within(test)


def test_a_request_whose_device_dies_is_answered_by_another_one() -> None:
    async def test(made: Rack) -> None:
        made.links["a"].held.set()
        asked = [asyncio.create_task(made.infer(float(value))) for value in range(4)]
        while not made.links["a"].calls or not made.upstream("a").rows:
            await asyncio.sleep(0.001)
        made.links["a"].cut.set()
        replies = await asyncio.gather(*asked)
        assert [reply.answer.parameters["device"] for reply in replies] == ["b"] * 4
        assert [float(reply.answer.outputs["x_out"][0, 0]) for reply in replies] == [0.0, 2.0, 4.0, 6.0]
        assert not made.upstream("a").up
        assert (await made.infer()).answer.parameters["device"] == "b"

    within(test)


def test_what_no_device_is_left_for_is_refused_and_not_lost() -> None:
    async def test(made: Rack) -> None:
        for link in made.links.values():
            link.held.set()
        asked = asyncio.create_task(made.infer())
        await asyncio.sleep(0.05)
        for link in made.links.values():
            link.cut.set()
        with pytest.raises(Fault, match="died while it had the request") as told:
            await asked
        assert told.value.status == 503
        with pytest.raises(Fault, match="no device takes requests"):
            await made.infer()
        assert made.admission.pending == 0
        assert sum(made.cluster.totals[-1]().refused.values()) == 2

    within(test)


def test_a_device_that_says_nothing_leaves_time_for_another_one() -> None:
    async def test(made: Rack) -> None:
        made.links["a"].held.set()
        reply = await made.infer(timeout_s=4.0)
        assert reply.answer.parameters["device"] == "b"
        assert not reply.outcome.late
        assert made.links["a"].calls

    within(test)


def test_a_device_that_said_nothing_is_asked_last_until_it_reports_again() -> None:
    async def test(made: Rack) -> None:
        a, b = made.upstream("a"), made.upstream("b")
        made.links["a"].held.set()
        made.cluster.steering.beat_s = 60.0
        await made.cluster.steering.hear(a)  # what is under way now reports within the old beat
        await asyncio.sleep(1.0)
        assert (await made.infer(timeout_s=2.0)).answer.parameters["device"] == "b"
        assert a.doubted
        began_s = made.admission.now_s()
        for _ in range(3):
            assert (await made.infer(timeout_s=2.0)).answer.parameters["device"] == "b"
        assert len(made.links["a"].calls) == 1
        assert made.admission.now_s() - began_s < 1.5, "each waited for it again"
        await made.cluster.steering.hear(a)
        assert not a.doubted, "it has reported since"
        made.links["a"].held.clear()
        a.doubted, b.open = True, False
        assert (await made.infer(timeout_s=5.0)).answer.parameters["device"] == "a", "nobody else was left"
        assert not a.doubted, "it has answered"

    within(test)


def test_nobody_waits_beyond_the_deadline_for_devices_that_say_nothing() -> None:
    async def test(made: Rack) -> None:
        for link in made.links.values():
            link.held.set()
        began_s = made.admission.now_s()
        with pytest.raises(Fault, match="said nothing in time"):
            await made.infer(timeout_s=0.2)
        assert made.admission.now_s() - began_s < 3.0

    within(test)


def test_what_one_device_refuses_another_one_may_answer() -> None:
    async def test(made: Rack) -> None:
        made.links["a"].worker.admission.draining = True
        assert (await made.infer(timeout_s=5.0)).answer.parameters["device"] == "b"
        assert [len(link.calls) for link in made.links.values()] == [1, 1]

    within(test)


def test_a_client_that_goes_takes_its_request_back() -> None:
    async def test(made: Rack) -> None:
        made.links["a"].held.set()
        asked = asyncio.create_task(made.infer())
        while not made.links["a"].calls:
            await asyncio.sleep(0.001)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert made.upstream("a").rows == 0
        assert made.upstream("a").up
        assert made.admission.ledger.book("m", "1").failures["CANCELED"] == 1

    within(test)


def test_wrong_requests_reach_no_device() -> None:
    async def test(made: Rack) -> None:
        model = made.repository.model("m")
        wrong = Asked((Tensor("y", "FP32", (1, 2), np.zeros((1, 2), np.float32)),))
        with pytest.raises(Fault, match="unknown name 'y'"):
            await made.admission.infer(model, wrong, arrival_s=made.admission.now_s(), context={})
        assert not made.links["a"].calls

    within(test)


def test_the_time_that_travelling_takes_is_taken_from_the_devices() -> None:
    async def test(made: Rack) -> None:
        made.upstream("a").way_s = 0.5
        await made.infer(timeout_s=5.0)
        (call,) = made.links["a"].calls
        assert call.left_s <= 4.5

    within(test, "a")
