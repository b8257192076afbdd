"""Connections over TLS that never, slowly or wrongly shake hands: counted, bounded, and nobody else's trouble."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.doors.handshake import Entrance, Guard, Turns
from amble.services.serve.doors.tls import Certificate
from amble.services.serve.doors.web import new_loop
from amble.services.serve.front import Doors
from bench.soak.attackers import KINDS, Target, again_and_again, hello
from tests.services.serve.certificates import Pair, authority, signed
from tests.services.serve.house import House, house

pytest.importorskip("uvicorn")
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]})


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return authority(tmp_path_factory.mktemp("certificates"), "ours")


@pytest.fixture(scope="module")
def server(ours: Pair) -> Pair:
    return signed(ours.cert.parent, "server", ours)


@pytest.fixture(scope="module")
def open_house(server: Pair) -> Iterator[House]:
    doors = Doors(http_port=0, grpc_port=None, metrics_port=0, drain_s=5.0, tls=Certificate(server.cert, server.key))
    with house("plain", doors=doors) as found:
        yield found


def trusting(ours: Pair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ours.cert))


def asked(found: House, ours: Pair) -> int:
    with closing(
        http.client.HTTPSConnection("127.0.0.1", found.port, timeout=20, context=trusting(ours))
    ) as connection:
        connection.request("POST", "/v2/models/plain/infer", BODY)
        answer = connection.getresponse()
        assert json.loads(answer.read())["outputs"][0]["data"] == [2.0, 4.0]
        return answer.status


class Kept(asyncio.Protocol):
    """Keeps its connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


def entered(server: Pair, most: int, visit: Callable[[int, Crowd], Coroutine[Any, Any, None]]) -> None:
    """Open an entrance with so many places, and visit it."""

    async def run() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(server.cert, server.key)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            crowd = Crowd(most)
            entrance = Entrance(listening, Guard(tls, crowd), Kept)
            try:
                await asyncio.wait_for(visit(listening.getsockname()[1], crowd), 20.0)
            finally:
                entrance.close()
                await entrance.wait_closed()
            assert crowd.total == 0, "every place is given back"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


def closed(client: socket.socket) -> bool:
    """Tell whether the server has closed a connection over which it sends nothing."""
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.01)


def test_who_has_not_shaken_hands_has_a_place_and_no_more_than_his_share(server: Pair, ours: Pair) -> None:
    async def visit(port: int, crowd: Crowd) -> None:
        with ExitStack() as stack:
            silent = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)))
                for _ in range(8)
            ]
            await until(lambda: crowd.by_client.get("127.0.0.2") == 4)
            for each in silent:
                each.setblocking(False)
            await until(lambda: sum(map(closed, silent)) == 4)
            assert crowd.by_client["127.0.0.2"] == 4, "the others were turned away at once"
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting(ours), server_hostname="localhost"
            )
            writer.close()
        await until(lambda: not crowd.total)

    entered(server, 8, visit)


def test_a_handshake_that_fails_gives_its_place_back(server: Pair) -> None:
    async def visit(port: int, crowd: Crowd) -> None:
        for words in (b"GET / HTTP/1.1\r\n\r\n", hello() + b"\xff" * 100, b"\x16\x03\x03\x00\x05nonsense", b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(words)
            if not words:
                writer.close()
            with suppress(ConnectionError):
                await reader.read(1 << 16)
                await reader.read(1 << 16)
            await until(lambda: not crowd.total)
            writer.close()

    entered(server, 8, visit)


def test_the_end_waits_for_no_handshake(server: Pair) -> None:
    begun_s, silent = time.monotonic(), list[socket.socket]()

    async def visit(port: int, crowd: Crowd) -> None:
        silent.append(socket.create_connection(("127.0.0.1", port)))
        await until(lambda: crowd.total == 1)

    entered(server, 8, visit)
    silent[0].close()
    assert time.monotonic() - begun_s < 5.0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to ask with")
def test_keys_are_agreed_on_once(open_house: House) -> None:
    words = ["s_client", "-connect", f"127.0.0.1:{open_house.port}", "-tls1_2"]
    done = subprocess.run(["openssl", *words], input="R\n", capture_output=True, text=True, timeout=30, check=False)
    assert "RENEGOTIATING" in done.stdout + done.stderr
    assert "no renegotiation" in done.stderr


def test_no_renegotiation_is_an_option_of_the_context(server: Pair) -> None:
    assert Certificate(server.cert, server.key).server_context().options & ssl.OP_NO_RENEGOTIATION


def _attacking(kind: str, target: Target, count: int, over: Event) -> Thread:
    async def attack() -> None:
        tasks = [asyncio.create_task(again_and_again(KINDS[kind][0], target, seed)) for seed in range(count)]
        while not over.is_set():
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = Thread(target=asyncio.run, args=(attack(),))
    thread.start()
    return thread


@pytest.mark.parametrize("kind", [each for each in KINDS if each != "renegotiation"])
def test_honest_clients_are_answered_beside_attackers_and_the_server_is_whole_afterwards(
    kind: str, open_house: House, ours: Pair
) -> None:
    over = Event()
    before = _sockets(open_house.port)
    attacking = _attacking(kind, Target(open_house.port, trusting(ours)), 20, over)
    try:
        time.sleep(0.3)
        for _ in range(3):
            begun_s = time.monotonic()
            assert asked(open_house, ours) == 200
            assert time.monotonic() - begun_s < 5.0
    finally:
        over.set()
        attacking.join(30.0)
    deadline_s = time.monotonic() + 20.0
    while _sockets(open_house.port) > before + 1:
        assert time.monotonic() < deadline_s, "connections of attackers stay"
        time.sleep(0.05)


def _sockets(port: int) -> int:
    """Count the server's connections that are open."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    words = [line.split() for line in lines]
    return sum(each[1].endswith(f":{port:04X}") and each[3] in ("01", "08") for each in words)


def test_turns_keep_a_pace_and_go_from_client_to_client() -> None:
    async def run() -> list[tuple[str, float]]:
        loop, given = asyncio.get_running_loop(), list[tuple[str, float]]()
        turns, start_s = Turns(0.01), loop.time()

        async def asking(client: str) -> None:
            await turns.take(client)
            given.append((client, loop.time() - start_s))

        many = [asyncio.create_task(asking("many")) for _ in range(20)]
        await asyncio.sleep(0)
        many[3].cancel()
        few = [asyncio.create_task(asking("few")) for _ in range(2)]
        await asyncio.gather(*many, *few, return_exceptions=True)
        await asyncio.sleep(0.02)
        await asking("late")
        return given

    given = asyncio.run(run())
    assert [client for client, _ in given] == ["many", "few", "many", "few", *["many"] * 17, "late"]
    assert all(at_s > 0.0099 * turn for turn, (_, at_s) in enumerate(given)), (
        "who wakes late leaves the others their pace"
    )
