"""What a batch took is shared by those who were in it, and the shares add up to what the meter counted."""

from __future__ import annotations

import asyncio
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from amble.services.serve.models.model import Model
from amble.services.serve.requests.admission import Admission, Listener
from amble.stages.control.engine import Batch
from tests.services.serve.house import Doubler, house


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
    doubler = Doubler()
    with house("plain", doubler=doubler) as found, ThreadPoolExecutor(1) as pool:
        assert found.addresses.metrics is not None
        watching = urlsplit(found.addresses.metrics).port

        def health(kind: str) -> set[int]:
            told = set()
            for port in (found.port, watching):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request("GET", f"/v2/health/{kind}")
                told.add(connection.getresponse().status)
                connection.close()
            return told

        assert health("live") == {200}
        doubler.gate.clear()
        waiting = pool.submit(found.infer, [0.0, 0.0])
        status, told, *_ = waiting.result(20)
        assert status == 503
        assert "hangs" in told["error"]
        assert health("live") == health("ready") == {503}
        assert found.infer([0.0, 0.0])[0] == 503
        doubler.gate.set()
        deadline_s = time.monotonic() + 20
        while health("live") != {200}:
            assert time.monotonic() < deadline_s, "it never recovered"
            time.sleep(0.05)
        assert found.infer([0.0, 0.0])[0] == 200


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
