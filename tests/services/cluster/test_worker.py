"""One device that obeys orders: never above its step, and back to its own clocks at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from amble import bundled
from amble.core.errors import Refused
from amble.services.cluster.reports import Answered, Call, Order, Turned
from amble.services.cluster.worker import Plan, Worker, digest
from amble.services.serve.models.model import Found, Loaded
from amble.services.serve.models.options import Options
from amble.services.serve.pulse import Do
from amble.services.serve.requests.asking import Asked, Tensor
from tests.services.cluster.local import Rack, close, load, rack
from tests.services.serve.house import LOW, Doubler


def within(test: Callable[[Rack, Worker], Awaitable[None]]) -> None:
    async def run() -> None:
        made = await rack(["a"], budget_w=50.0)
        try:
            await test(made, made.links["a"].worker)
        finally:
            await close(made)

    asyncio.run(asyncio.wait_for(run(), 120))


def test_it_starts_parked_and_holds_what_it_is_told() -> None:
    async def test(made: Rack, worker: Worker) -> None:
        first = await worker.report(None)
        assert (first.step, first.serial, first.asked) == (0, -1, LOW)
        for step, serial in ((3, 0), (1, 1), (2, 5)):
            told = await worker.report(Order(step, serial))
            told = told if told.step == step else await worker.report(None)
            assert (told.step, told.serial) == (step, serial)

    within(test)


def test_older_orders_are_ignored() -> None:
    async def test(made: Rack, worker: Worker) -> None:
        await worker.report(Order(1, 7))
        told = await worker.report(Order(3, 6))
        assert (told.step, told.serial) == (1, 7)

    within(test)


def test_a_report_while_an_order_is_carried_out_tells_of_the_step_before() -> None:
    async def test(made: Rack, worker: Worker) -> None:
        _, meanwhile = await asyncio.gather(worker.report(Order(2, 1)), worker.report(None))
        assert (meanwhile.step, meanwhile.serial) == (0, 1), "governors that are not made yet cannot be held to"
        await worker.report(Order(1, 2))
        await worker.report(Order(3, 3))
        _, meanwhile = await asyncio.gather(worker.report(Order(1, 4)), worker.report(None))
        assert (meanwhile.step, meanwhile.serial) == (3, 4), "its clocks would do, but the governors of before decide"
        assert (await worker.report(None)).step == 1

    within(test)


def test_an_order_is_carried_out_also_where_whoever_brought_it_gives_up() -> None:
    async def test(made: Rack, worker: Worker) -> None:
        given_up = asyncio.ensure_future(worker.report(Order(2, 1)))
        await asyncio.sleep(0.0)
        given_up.cancel()
        told = await worker.report(Order(2, 1))
        assert (told.step, told.serial) == (2, 1)

    within(test)


@pytest.mark.parametrize("first", [1, 3])
def test_of_orders_that_come_together_the_newest_is_held(first: int) -> None:
    async def test(made: Rack, worker: Worker) -> None:
        orders = [Order(first, 1), Order(2, 2), Order(first, 3), Order(1, 4)]
        await asyncio.gather(*(worker.report(each) for each in orders))
        told = await worker.report(None)
        assert (told.step, told.serial) == (1, 4)

    within(test)


def test_what_runs_keeps_within_the_step() -> None:
    async def test(made: Rack, worker: Worker) -> None:
        made.upstream("a").up = True
        for step in (1, 2, 3, 1):
            made.upstream("a").order = Order(
                step, step if made.upstream("a").order is None else made.upstream("a").order.serial + 1
            )
            made.upstream("a").report = await worker.report(made.upstream("a").order)
            made.upstream("a").report = await worker.report(None)
            outcome = (await made.infer()).outcome
            assert outcome.rung.energy_j is not None
            drawn_w = outcome.rung.energy_j[0] / outcome.rung.latency_s[0]
            assert drawn_w <= made.upstream("a").known.power_w[step]

    within(test)


def test_what_it_cannot_answer_is_a_word_and_no_exception() -> None:
    async def test(made: Rack, worker: Worker) -> None:
        told = await worker.infer(Call("none", "", Asked(()), 1.0, {}))
        assert isinstance(told, Turned)
        assert told.status == 404
        assert "not served" in told.text

    within(test)


def test_at_the_end_the_clocks_are_those_that_were_found() -> None:
    async def run() -> None:
        doubler = Doubler()
        worker = Worker.over(Plan("a", {"m": Path("m")}, capped=True), doubler.device(), load)
        await worker.start()
        await worker.report(Order(3, 1))
        await worker.close()
        assert doubler.asked == LOW
        assert not worker.working

    asyncio.run(asyncio.wait_for(run(), 120))


def test_a_model_that_cannot_be_loaded_is_refused_with_its_device() -> None:
    async def run() -> None:
        def broken(found: Found, do: object) -> None:
            raise Refused(f"{found.path} is no network")

        worker = Worker.over(Plan("a", {"m": Path("m")}), Doubler().device(), broken)  # type: ignore[arg-type]
        with pytest.raises(Refused, match="a: cannot load 'm': m is no network"):
            await worker.start()

    asyncio.run(asyncio.wait_for(run(), 120))


def test_other_files_have_another_digest(tmp_path: Path) -> None:
    one = Found("m", "1", bundled.model_path())
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(bundled.model_path().read_bytes())
    assert digest(one, Options()) == digest(Found("m", "1", copy), Options())
    text = bundled.model_path().read_bytes()
    copy.write_bytes(text + b"\x72\x00")  # an empty metadata entry
    assert digest(one, Options()) != digest(Found("m", "1", copy), Options())


def test_a_model_that_comes_while_its_order_is_repeated_keeps_within_the_step() -> None:
    async def run() -> None:
        loading, go_on = threading.Event(), threading.Event()

        def slowly(found: Found, do: Do) -> Loaded:
            if found.name == "late":
                loading.set()
                assert go_on.wait(60)
            return load(found, do)

        named = {"m": Path("m"), "late": Path("late")}
        worker = Worker.over(Plan("a", named, capped=True), Doubler().device(), slowly)
        go_on.set()
        await worker.start()
        try:
            await worker.report(Order(1, 1))
            assert await worker.change("late", None, load=False) is None
            loading.clear()
            go_on.clear()
            changing = asyncio.ensure_future(worker.change("late", None, load=True))
            await asyncio.to_thread(loading.wait, 60)
            await worker.report(Order(1, 1))
            go_on.set()
            assert await changing is None
            told = await worker.report(Order(1, 1))
            assert (told.step, told.serial) == (1, 1)
            x = Tensor("x", "FP32", (1, 2), np.ones((1, 2), np.float32))
            answered = await worker.infer(Call("late", "", Asked((x,)), 10.0, {}))
            assert isinstance(answered, Answered)
            rung = answered.outcome.rung
            assert rung.energy_j is not None
            assert rung.energy_j[0] / rung.latency_s[0] < 40.0, "the most that a step of this order allows is less"
        finally:
            go_on.set()
            await worker.close()

    asyncio.run(asyncio.wait_for(run(), 120))
