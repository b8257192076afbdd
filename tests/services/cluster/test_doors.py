"""A governor behind an address: what it answers, and how long it is waited for."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import pytest

from amble.core.errors import Refused
from amble.services.cluster.doors import Door, at_once
from amble.services.govern.cap import Cap
from amble.services.govern.live import serve_page


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[1]",
        b"[" * 200_000,
        b'{"serial": "x"}',
        b'{"serial": 1, "most_w": [], "speed": []}',
        b'{"serial": 1e999, "power_w": null}',
    ],
)
def test_an_answer_that_is_no_report_counts_as_none(body):
    class Nonsense:
        def answer(self, order, authorization):
            return 200, body

    server = serve_page(lambda: "", 0, cap=cast("Cap", Nonsense()))
    try:
        assert Door(f"http://127.0.0.1:{server.server_address[1]}").report() is None
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def trickling(first: bytes) -> Iterator[str]:
    """Serve connections that are answered with some bytes, and then one more every tenth of a second, without end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with suppress(OSError):
                    line, _ = listening.accept()
                    with line:
                        line.sendall(first)
                        while not over.wait(0.1):
                            line.sendall(b"1")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        with suppress(OSError):
            socket.create_connection(listening.getsockname(), 1).close()
        thread.join(5)


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.0 200 ",
        b"HTTP/1.0 200 OK\r\nServer: ",
        b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    ],
    ids=["status", "head", "body to the end", "body of a length"],
)
def test_an_answer_that_trickles_is_cut_off(first: bytes) -> None:
    with trickling(first) as url:
        began_s = time.perf_counter()
        assert Door(url).report() is None
        assert time.perf_counter() - began_s < 5.0


def test_asked_at_once_each_answers_for_itself() -> None:
    def refuses() -> int:
        raise Refused("no")

    def sleeps() -> int:
        time.sleep(3.0)
        return 2

    began_s = time.perf_counter()
    found = at_once([lambda: 1, refuses, sleeps, sleeps], 0.3)
    assert time.perf_counter() - began_s < 2.5
    assert found[0] == 1
    assert isinstance(found[1], Refused)
    assert found[2:] == [None, None]
