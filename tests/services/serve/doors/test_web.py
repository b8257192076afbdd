"""Bodies on real sockets, cut anywhere: each is read whole, and what follows on the connection is the next request."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.front import Doors
from tests.services.serve.house import House, binary, house

pytest.importorskip("uvicorn")

LARGEST = 400_000
DOORS = Doors(http_port=0, grpc_port=None, metrics_port=0, max_bytes=LARGEST)
CUTS = ("in the headers", "after them", "one byte on", "in the middle", "before the last byte")
INFER = "/v2/models/plain/infer"


@pytest.fixture(scope="module")
def open_house() -> Iterator[House]:
    with house("plain", doors=DOORS) as found:
        yield found


def message(number: float, *, num_bytes: int = 300_000, more: str = "") -> bytes:
    """A request for [number, 1], its JSON as long as wanted; an odd length, so that tensors would lie askew."""
    array = np.array([[number, 1]], np.float32)
    length = binary({"x": ("FP32", array)}, id="")[1]
    body, length = binary({"x": ("FP32", array)}, id="i" * (num_bytes - length + 1))
    head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ninference-header-content-length: {length}\r\n{more}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def answer(reader: Any) -> tuple[int, Any]:
    """Read one response from a connection → status and document."""
    status = int(reader.readline().split()[1])
    length = 0
    while (line := reader.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return status, json.loads(reader.read(length))


def doubled(found: tuple[int, Any]) -> float:
    status, document = found
    assert status == 200, document
    return float(document["outputs"][0]["data"][0])


@pytest.mark.parametrize("num_bytes", [100, 16_384, 300_000])
@pytest.mark.parametrize(
    "cut", ["in the headers", "after them", "one byte on", "in the middle", "before the last byte"]
)
def test_a_body_that_comes_in_two_pieces_is_read_whole(open_house: House, num_bytes: int, cut: str) -> None:
    said = message(3.0, num_bytes=num_bytes)
    head = said.index(b"\r\n\r\n") + 4
    places = [20, head, head + 1, (head + len(said)) // 2, len(said) - 1]
    place = places[CUTS.index(cut)]
    with socket.create_connection(("127.0.0.1", open_house.port), timeout=20) as connection:
        for _ in range(2):  # and the connection is good for another one
            connection.sendall(said[:place])
            time.sleep(0.02)
            connection.sendall(said[place:])
            assert doubled(answer(connection.makefile("rb"))) == 6.0


def test_requests_that_follow_each_other_unasked_are_answered_in_order(open_house: House) -> None:
    said = b"".join(
        message(number, num_bytes=size) for number, size in [(1, 300_000), (2, 100), (3, 300_000), (4, 100)]
    )
    with socket.create_connection(("127.0.0.1", open_house.port), timeout=20) as connection:
        connection.sendall(said)
        reader = connection.makefile("rb")
        assert [doubled(answer(reader)) for _ in range(4)] == [2.0, 4.0, 6.0, 8.0]


def test_a_body_that_is_refused_is_passed_over_and_the_next_request_is_answered(open_house: House) -> None:
    with socket.create_connection(("127.0.0.1", open_house.port), timeout=20) as connection:
        reader = connection.makefile("rb")
        said = message(1.0, num_bytes=LARGEST + 1)
        connection.sendall(said[: len(said) // 2])
        status, document = answer(reader)
        assert (status, list(document)) == (413, ["error"])
        connection.sendall(said[len(said) // 2 :] + message(5.0))
        assert doubled(answer(reader)) == 10.0


def test_who_wants_to_be_asked_for_the_body_is_asked(open_house: House) -> None:
    said = message(2.0, more="expect: 100-continue\r\n")
    head = said.index(b"\r\n\r\n") + 4
    with socket.create_connection(("127.0.0.1", open_house.port), timeout=20) as connection:
        reader = connection.makefile("rb")
        connection.sendall(said[:head])
        assert b"100" in reader.readline()
        assert reader.readline() == b"\r\n"
        connection.sendall(said[head:])
        assert doubled(answer(reader)) == 4.0


def test_who_closes_after_each_request_is_told_that_it_was_the_last(open_house: House) -> None:
    with socket.create_connection(("127.0.0.1", open_house.port), timeout=20) as connection:
        connection.sendall(message(2.0, more="connection: close\r\n"))
        heard = connection.makefile("rb").read()
    assert b"connection: close" in heard.partition(b"\r\n\r\n")[0]
    assert json.loads(heard.partition(b"\r\n\r\n")[2])["outputs"][0]["data"] == [4.0, 2.0]


def test_what_is_sent_in_chunks_is_put_together(open_house: House) -> None:
    body = message(7.0).partition(b"\r\n\r\n")[2]
    length = len(body) - 8
    head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ninference-header-content-length: {length}\r\n"
    pieces = [body[start : start + 70_000] for start in range(0, len(body), 70_000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    with socket.create_connection(("127.0.0.1", open_house.port), timeout=20) as connection:
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n")
        assert doubled(answer(connection.makefile("rb"))) == 14.0


def test_no_door_reads_into_what_another_reads_to(open_house: House) -> None:
    """Doors have threads of their own; while one takes bytes from the kernel, another may run."""
    metrics = urlsplit(str(open_house.addresses.metrics))
    looked = f"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\nnoise: {'x' * 3000}\r\n\r\n".encode()
    over, wrong = threading.Event(), list[tuple[int, Any]]()

    def look() -> None:
        with socket.create_connection(("127.0.0.1", int(metrics.port or 0)), timeout=20) as connection:
            reader = connection.makefile("rb")
            while not over.is_set():
                connection.sendall(looked)
                status, document = answer(reader)
                wrong.extend([(status, document)] if status != 200 else [])

    lookers = [threading.Thread(target=look, daemon=True) for _ in range(2)]
    for each in lookers:
        each.start()
    try:
        with socket.create_connection(("127.0.0.1", open_house.port), timeout=20) as connection:
            reader = connection.makefile("rb")
            for number in range(1500):
                connection.sendall(message(float(number), num_bytes=2000))
                assert doubled(answer(reader)) == 2.0 * number
    finally:
        over.set()
        for each in lookers:
            each.join(20)
    assert not wrong


async def said(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


@contextmanager
def idling(idle_s: float) -> Iterator[int]:
    """Serve connections that may be idle for so long [s] → the port."""
    from amble.services.serve.doors import web

    def serve() -> None:
        with asyncio.Runner(loop_factory=web.new_loop) as runner:
            runner.run(served.run())

    with web.listen("127.0.0.1", 0, "http") as opened:
        served = web.Web(said, opened, web.Patience(idle_s=idle_s), Crowd(8))
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield opened.getsockname()[1]
        finally:
            served.stop()
            thread.join()


def ask(connection: socket.socket, reader: Any) -> None:
    """Ask for something over a connection that stays open."""
    connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert answer(reader) == (200, {})


def test_an_idle_connection_is_closed_after_its_time_counted_from_its_last_answer() -> None:
    with idling(1.5) as port, socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        reader = connection.makefile("rb")
        for _ in range(4):
            ask(connection, reader)
            time.sleep(0.5)
        began_s = time.monotonic()
        assert reader.read() == b""
        assert 0.5 < time.monotonic() - began_s < 15


def test_who_asks_before_its_time_is_over_may_stay_for_another() -> None:
    with idling(3.0) as port, socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        reader = connection.makefile("rb")
        for _ in range(3):
            ask(connection, reader)
            connection.settimeout(1.2)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(20)
