"""A dispatcher of a front and an engine, over a real line: answers, refusals, who goes away, memory that comes back."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from amble.core.graph import Port
from amble.runtimes.remote.fault import Fault
from amble.services.serve.models.model import Found, Model
from amble.services.serve.processes.arena import Arena
from amble.services.serve.processes.exchange import Exchange
from amble.services.serve.processes.line import INLINE_BYTES, packed, room
from amble.services.serve.processes.loads import Loads, new_loads
from amble.services.serve.processes.workshop import Workshop
from amble.services.serve.requests.asking import Asked, Tensor
from amble.services.serve.telling.ledger import Ledger
from tests.services.serve.house import Doubler, loaded

LARGE = 50_000
KEY = "m/1"


def model(width: int) -> Model:
    ports = [(Port(name, (-1, width), "float"),) for name in ("x", "x_out")]
    return Model(Found("m", "1", Path("m.onnx")), replace(loaded({"x": "float"}), inputs=ports[0], outputs=ports[1]))


@dataclass
class Both:
    """A dispatcher and an engine with one model, in one process."""

    doubler: Doubler
    workshop: Workshop
    dispatcher: Exchange
    model: Model

    async def ask(self, rows: np.ndarray) -> np.ndarray:
        asked = Asked((Tensor("x", "FP32", rows.shape, rows),))
        reply = await self.dispatcher.infer(self.model, asked, arrival_s=self.dispatcher.now_s(), context={})
        return np.asarray(reply.answer.outputs["x_out"])

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.002)


async def nobody_comes(folder: Path) -> None:
    """Assert that no front finds an engine that may not have its models yet."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as early, pytest.raises(ConnectionRefusedError):
        early.connect(str(folder / "engine"))


def run(
    folder: Path, work: Callable[[Both], Awaitable[None]], *, width: int = LARGE, room_bytes: int = 64 << 20
) -> None:
    """Do some work with a dispatcher that has reached an engine."""

    async def nothing() -> Ledger:
        return Ledger()

    async def main() -> None:
        doubler = Doubler()
        workshop, arena = Workshop(doubler.device(), folder / "engine"), Arena(room_bytes)
        computing = threading.Thread(target=workshop.lanes.run)
        computing.start()
        own = model(width)
        workshop.open(own, 1)
        await nobody_comes(folder)
        workshop.admit()
        dispatcher = Exchange(
            arena=arena,
            loads=Loads(new_loads(1, 1), 1, 1),
            engines=[folder / "engine"],
            gather=lambda: asyncio.ensure_future(nothing()),
            generations={KEY: 1},
        )
        dispatcher.starting = False
        dispatcher.mailbox.open()
        reaching = asyncio.create_task(dispatcher.reach())
        both = Both(doubler, workshop, dispatcher, own)
        try:
            await both.until(lambda: dispatcher.connected() == 1)
            await work(both)
            if dispatcher.connected():
                await both.until(lambda: arena.taken_bytes == 0)
        finally:
            doubler.gate.set()
            reaching.cancel()
            dispatcher.close()
            dispatcher.mailbox.close()
            workshop.lanes.close()
            computing.join(20)
            workshop.end()
            arena.close()

    asyncio.run(main())


@pytest.mark.parametrize("width", [3, 5_000, LARGE])
def test_answers_of_any_size_are_right_at_first_and_once_their_size_is_known(width: int, tmp_path: Path) -> None:
    async def work(both: Both) -> None:
        for turn in range(3):
            rows = [np.full((1 + each % 2, width), turn + each, np.float32) for each in range(12)]
            for given, found in zip(rows, await asyncio.gather(*map(both.ask, rows)), strict=True):
                assert np.array_equal(found, given + given)
        assert both.dispatcher.ledger.book("m", "1").success == 36
        assert both.workshop.look().ledger.book("m", "1").batches <= 36

    run(tmp_path, work, width=width)


def test_an_answer_that_lies_in_shared_memory_is_copied_even_where_its_bytes_alone_would_go_inline(
    tmp_path: Path,
) -> None:
    """Alignment makes it too large for a message by some bytes: the first answer tells how large."""
    width = 8152
    sizes = [len(each) for each in packed({"x_out": np.zeros((1, width), np.float32)})]
    assert sum(sizes) <= INLINE_BYTES < room(sizes)

    async def work(both: Both) -> None:
        await both.ask(np.zeros((1, width), np.float32))
        found = await both.ask(np.ones((1, width), np.float32))
        both.dispatcher.arena.memory[:] = bytes(len(both.dispatcher.arena.memory))
        assert np.array_equal(found, np.full((1, width), 2, np.float32))

    run(tmp_path, work, width=width, room_bytes=1 << 20)


def test_who_goes_away_is_taken_back_and_its_memory_too(tmp_path: Path) -> None:
    async def work(both: Both) -> None:
        both.doubler.gate.clear()
        first = asyncio.create_task(both.ask(np.ones((1, LARGE), np.float32)))
        await asyncio.to_thread(both.doubler.begun.wait, 20)
        second = asyncio.create_task(both.ask(np.ones((1, LARGE), np.float32)))
        await both.until(lambda: both.dispatcher.pending == 2)
        both_bytes = both.dispatcher.arena.taken_bytes
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await both.until(lambda: both.dispatcher.arena.taken_bytes < both_bytes)
        both.doubler.gate.set()
        await first
        assert sum(both.doubler.batches) == 1, "nobody computes what nobody waits for"

    run(tmp_path, work)


def test_a_request_of_another_generation_is_refused(tmp_path: Path) -> None:
    async def work(both: Both) -> None:
        both.dispatcher.generations = {KEY: 2}
        with pytest.raises(Fault, match="just been changed") as found:
            await both.ask(np.ones((1, LARGE), np.float32))
        assert found.value.status == 503
        assert both.doubler.batches == []

    run(tmp_path, work)


def test_without_room_a_request_is_refused_and_later_ones_are_not(tmp_path: Path) -> None:
    async def work(both: Both) -> None:
        both.doubler.gate.clear()
        rows = np.ones((1, LARGE), np.float32)
        asked = [asyncio.create_task(both.ask(rows)) for _ in range(6)]
        await both.until(lambda: sum(each.done() for each in asked) >= 1)
        both.doubler.gate.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in found if isinstance(each, Fault)]
        assert 0 < len(refused) < 6
        assert all("too much in flight" in each.text for each in refused)
        assert np.array_equal(await both.ask(rows), rows + rows)

    run(tmp_path, work, room_bytes=3 * 4 * LARGE)


def test_who_waits_for_an_engine_that_goes_is_told_and_nobody_is_asked_again(tmp_path: Path) -> None:
    async def work(both: Both) -> None:
        both.doubler.gate.clear()
        asked = [asyncio.create_task(both.ask(np.ones((1, LARGE), np.float32))) for _ in range(3)]
        await both.until(lambda: both.dispatcher.pending == 3)
        await asyncio.to_thread(both.workshop.end)
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(each, Fault) and each.status == 503 for each in found)
        assert not both.dispatcher.open_for_all
        with pytest.raises(Fault, match="no process computes"):
            await both.ask(np.ones((1, LARGE), np.float32))
        assert both.dispatcher.arena.taken_bytes == 0

    run(tmp_path, work)


def test_a_message_that_cannot_be_taken_ends_its_line_and_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(both: Both) -> None:
        rows = np.ones((1, LARGE), np.float32)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as broken:
            broken.settimeout(20)
            await asyncio.to_thread(broken.connect, str(tmp_path / "engine"))
            broken.send(b"\x04\0\0\0none")
            assert await asyncio.to_thread(broken.recv, 1) == b"", "it is let go"
        for _ in range(2):
            assert np.array_equal(await both.ask(rows), rows + rows)
        assert not both.workshop.deaf

    run(tmp_path, work)
    assert "could not be taken" in caplog.text


def test_an_engine_that_can_hear_nobody_any_more_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workshop = Workshop(Doubler().device(), tmp_path / "engine")
    computing = threading.Thread(target=workshop.lanes.run)
    computing.start()
    workshop.admit()
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as front:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (front.fileno(), allowed[1]))
            front.connect(str(tmp_path / "engine"))
            computing.join(20)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    assert not computing.is_alive()
    assert workshop.deaf
    assert "hear nobody" in caplog.text
    workshop.end()
