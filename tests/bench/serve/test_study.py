"""The load generator keeps its schedule whatever the server does, and counts everything that it sent."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from bench.serve import study as serve
from bench.serve.load import Client, request


async def against(behaviour: str, client: Client, rate_hz: float, seconds: float) -> None:
    """Load a server that answers at once, late, with an error, or hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readexactly(len(client.message)):
            if behaviour == "hang up":
                writer.close()
                return
            await asyncio.sleep(0.2 if behaviour == "late" else 0)
            status = 503 if behaviour == "error" else 200
            writer.write(b'HTTP/1.1 %d X\r\ncontent-length: 20\r\n\r\n{"service_s":0.0015}' % status)

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await answer(reader, writer)
        writer.close()

    server = await asyncio.start_server(quiet, "127.0.0.1", 0)
    async with server:
        client.port = server.sockets[0].getsockname()[1]
        await client.poisson(rate_hz, seconds, seed=1)
        for _, writer in client.free:
            writer.close()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("behaviour", "status"), [("at once", 200), ("late", 200), ("error", 503), ("hang up", 0)])
def test_every_arrival_is_sent_on_time_and_counted(behaviour: str, status: int) -> None:
    client = Client(0, request("ray", (1, 2)))
    start_s = time.perf_counter()
    asyncio.run(against(behaviour, client, 100.0, 0.3))
    assert time.perf_counter() - start_s < 5.0
    assert 10 <= len(client.rows) <= 60
    assert {row[0] for row in client.rows} == {status}
    assert all(row[1] >= (0.2 if behaviour == "late" else 0.0) for row in client.rows)


def test_what_a_server_says_of_itself_is_read() -> None:
    client = Client(0, request("amble", (1, 2), name="x", timeout_us=5))
    assert b'"timeout": 5' in client.message
    asyncio.run(against("at once", client, 50.0, 0.1))
    assert {row[2] for row in client.rows} == {0.0015}


def test_goodput_counts_only_what_is_within_the_objective() -> None:
    found = serve.Found(sent=5, answered_s=[0.01, 0.02, 0.5], own_s=[], seconds=2.0)
    assert found.goodput_hz(0.02) == 1.0
    assert found.tail_s() == pytest.approx(0.5, rel=0.05)
    assert serve.Found(3, [], [], 1.0).tail_s() is None


def load(share: float, sent: int, good: int, *, server: str = "amble") -> dict[str, object]:
    about = {"network": "n", "server": server, "load": share, "seconds": 10.0, "sent": sent, "answered": good}
    return {**about, "goodput_hz": good / 10.0, "bare_s": 0.01, "own_capacity_hz": 100.0}


def summary(loads: list[dict[str, object]], **more: object) -> dict[str, object]:
    about = {"network": "n", "server": loads[0]["server"], "overhead_s": 0.0009, "overhead_bare_s": 0.0011}
    return {**about, **serve.summed(loads), **more}


LOADS = [load(0.2, 200, 199), load(0.5, 500, 480), load(1.0, 1000, 750), load(1.5, 1500, 900)]


def test_a_load_is_held_only_where_what_was_refused_is_counted() -> None:
    """All 750 answers at load 1 are in time, yet a quarter of what was sent was not answered."""
    found = serve.summed(LOADS)
    assert found["best_load"] == 0.2
    assert found["best_hz"] == 19.9
    assert found["best_ratio"] == pytest.approx(0.199)


def test_a_server_that_holds_no_load_has_no_goodput_and_makes_no_ratio() -> None:
    other = [load(0.2, 200, 100, server="litserve"), load(1.5, 1500, 0, server="litserve")]
    assert serve.summed(other)["best_ratio"] == 0.0
    found = {each.target: each for each in serve.targets([*LOADS, summary(LOADS), *other, summary(other)])}
    (beside,) = (each for name, each in found.items() if "litserve" in name)
    assert "no goodput at this objective" in beside.target
    assert beside.value == pytest.approx(0.199)
    (unknown,) = (each for name, each in found.items() if "mlserver" in name)
    assert unknown.met is None


def test_the_overhead_promised_is_the_one_beside_the_bare_network() -> None:
    (found,) = (each for each in serve.targets([*LOADS, summary(LOADS)]) if "overhead at p50, HTTP" in each.target)
    assert (found.value, found.met) == (0.0011, False)


def test_sums_follow_from_the_loads_when_a_document_is_judged_anew() -> None:
    old = summary(LOADS, best_hz=75.0, best_ratio=0.75)
    again = serve.judged_anew([*LOADS, old])
    assert again[:-1] == LOADS
    assert again[-1]["best_ratio"] == pytest.approx(0.199)
    assert again[-1]["overhead_s"] == 0.0009
