"""What a batch took is shared by those who were in it, and the shares add up to what the meter counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.access import Access
from amble.services.serve.doors.dashboard import Panel
from amble.services.serve.doors.http import App, Http
from amble.services.serve.models.model import Found, Model
from amble.services.serve.models.repository import Repository
from amble.services.serve.requests.admission import Admission, Listener, Reply
from amble.services.serve.requests.asking import Asked, Tensor
from amble.stages.control.engine import Batch
from tests.services.serve.house import Doubler, house, load, loaded


@dataclass
class Noted(Listener):
    """Remembers every batch."""

    batches: list[Batch] = field(default_factory=list)

    def ran(self, model: Model, batch: Batch) -> None:
        self.batches.append(batch)


@pytest.mark.parametrize("metered", [True, False])
def test_requests_of_unlike_size_share_the_energy_of_their_batch_and_of_waiting_for_it_by_rows(metered: bool) -> None:
    doubler, noted = Doubler(metered=metered), Noted()
    with house("plain", doubler=doubler, listeners=(noted,)) as found, ThreadPoolExecutor(3) as pool:
        doubler.gate.clear()
        first = pool.submit(found.infer, [0.0, 0.0])
        assert doubler.begun.wait(20.0)
        rest = [pool.submit(found.infer, [1.0] * (2 * rows)) for rows in (1, 3)]
        found.wait_for_pending(3)
        doubler.gate.set()
        assert first.result()[0] == 200
        small, large = (each.result()[1]["parameters"] for each in rest)
    assert doubler.batches == [1, 4]
    batch = noted.batches[-1]
    for name, whole_j in (("energy_j", batch.energy_j), ("idle_j", batch.idle_j)):
        assert (name in small) == (name in large) == (whole_j is not None) == metered
        if whole_j is not None:
            assert small[name] == pytest.approx(whole_j / 4)
            assert small[name] + large[name] == pytest.approx(whole_j)


def test_a_device_that_hangs_is_told_by_health_and_whoever_waits_is_told() -> None:
    doubler, model = Doubler(), Model(Found("m", "1", Path("m.onnx")), loaded({"x": "float"}))

    async def health(app: App, path: str) -> int:
        told: list[int] = []

        async def send(message: Mapping[str, Any]) -> None:
            told.extend([message["status"]] if "status" in message else [])

        async def receive() -> MutableMapping[str, Any]:
            raise AssertionError("there is no body")

        await app({"type": "http", "method": "GET", "path": f"/v2/health/{path}", "headers": []}, receive, send)
        return told[0]

    async def run() -> None:
        admission = Admission(device=doubler.device())
        apps = (Panel(admission, "1", Access()), Http(admission, Repository(admission, load), "1"))
        admission.mailbox.open()
        admission.starting = False
        admission.open(model)
        computing = threading.Thread(target=admission.lanes.run)
        computing.start()
        rows = np.ones((1, 2), np.float32)

        def asking() -> asyncio.Task[Reply]:
            asked = Asked((Tensor("x", "FP32", (1, 2), rows),))
            return asyncio.create_task(admission.infer(model, asked, arrival_s=admission.now_s(), context={}))

        async def healths() -> list[int]:
            return [await health(app, kind) for app in apps for kind in ("live", "ready")]

        try:
            assert await healths() == [200] * 4
            doubler.gate.clear()
            waiting = asking()
            await asyncio.to_thread(doubler.begun.wait, 20)
            while admission.well:
                await asyncio.sleep(0.05)
                admission.look(shortest_s=1.0)
            for refused in (waiting, asking()):
                with pytest.raises(Fault, match="hangs") as found:
                    await refused
                assert found.value.status == 503
            assert await healths() == [503] * 4
            doubler.gate.set()
            while not admission.well:
                await asyncio.sleep(0.05)
                admission.look(shortest_s=1.0)
            assert await healths() == [200] * 4
            assert (await asking()).answer.outputs["x_out"].tolist() == [[2.0, 2.0]]
        finally:
            doubler.gate.set()
            admission.lanes.close()
            await asyncio.to_thread(computing.join, 20)
            admission.mailbox.close()

    asyncio.run(run())


def test_who_gives_up_waiting_for_the_counters_keeps_no_answer_back() -> None:
    seen: list[int] = []
    said: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        admission = Admission(device=Doubler().device())
        admission.mailbox.open()
        admission.settle().cancel()
        admission.mailbox.send(seen.append, 1)
        async with asyncio.timeout(20):
            while not seen:
                await asyncio.sleep(0.001)
        admission.mailbox.close()

    asyncio.run(run())
    assert said == []
