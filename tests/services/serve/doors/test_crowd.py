"""What a client does not read of its answers takes room of it, over HTTP and over gRPC, until it reads or goes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import numpy as np
import pytest

from amble.services.serve.doors.crowd import Crowd, Unread
from amble.services.serve.doors.outgoing import HEADERS, SETTINGS, WINDOW, frame
from amble.services.serve.front import Doors
from amble.services.serve.requests.quota import Quota, Reservation
from tests.services.serve.doors.frames import PREFACE, Client, message, prefixed
from tests.services.serve.doors.test_rpc import _pieces
from tests.services.serve.house import binary, house

ROWS = 1_000_000  # of 8 bytes, so that no socket takes an answer whole
DOORS = Doors(http_port=0, grpc_port=0, metrics_port=None, body_s=60.0, max_bytes=16 << 20, room_bytes=48 << 20)


class Full(asyncio.Transport):
    """A transport in which so much waits."""

    def __init__(self, waiting_bytes: int) -> None:
        super().__init__()
        self.waiting_bytes, self.aborted = waiting_bytes, False

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def abort(self) -> None:
        self.aborted = True


def test_what_waits_takes_room_and_gives_it_back() -> None:
    quota = Quota(1000)
    crowd = Crowd(10, holding=lambda client: Reservation(quota, client))
    first, second = crowd.unread("a"), crowd.unread("a")
    for waiting_bytes in (300, 200):
        first.wait(Full(waiting_bytes))
        assert quota.by_client == {"a": waiting_bytes}
    second.wait(Full(300))
    assert quota.by_client == {"a": 500}
    for each in (first, second, second):
        each.over()
    assert quota.taken_bytes == 0


def test_who_has_no_room_for_what_waits_is_hung_up_on() -> None:
    quota = Quota(1000)
    held, full = Reservation(quota, "a"), Full(300)
    held.grow(400)
    unread = Unread(lambda: Reservation(quota, "a"))
    unread.wait(full)
    assert full.aborted
    unread.over()
    assert quota.taken_bytes == 400


def over_http(opened: socket.socket) -> None:
    """Ask, and return when the answer begins."""
    raw = {"name": "x_out", "parameters": {"binary_data": True}}
    body, length = binary({"x": ("FP32", np.zeros((ROWS, 2), np.float32))}, outputs=[raw])
    lines = ["POST /v2/models/wide/infer HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"inference-header-content-length: {length}", "", ""]
    opened.sendall("\r\n".join(lines).encode() + body)
    opened.recv(12)


def over_grpc(opened: socket.socket) -> None:
    """Ask, and return when the answer begins."""
    one = Client(opened)
    wide = ((4).to_bytes(2, "big") + (1 << 30).to_bytes(4, "big"), (5).to_bytes(2, "big") + b"\x00\xff\xff\xff")
    one.send(PREFACE, frame(SETTINGS, 0, 0, b"".join(wide)), frame(WINDOW, 0, 0, (1 << 30).to_bytes(4, "big")))
    one.send(_pieces(1, prefixed(message(ROWS, "wide"))))
    next((each for each in one.frames() if each.kind == HEADERS), None)


def whole(opened: socket.socket) -> bool:
    """Read on, and tell whether nearly all of an answer comes."""
    opened.settimeout(5.0)
    came, place = 0, memoryview(bytearray(1 << 20))
    try:
        while came < 7 * ROWS:
            size = opened.recv_into(place)
            if not size:
                return False
            came += size
    except (ConnectionError, TimeoutError):
        return False
    return True


@pytest.mark.parametrize("ask", [over_http, over_grpc])
def test_answers_that_nobody_reads_take_room_whatever_they_are_sent_over(ask: Callable[[socket.socket], None]) -> None:
    with house("wide", doors=DOORS) as found:
        door = str(found.addresses.http if ask is over_http else found.addresses.grpc)

        def asked(closing: ExitStack) -> socket.socket:
            opened = closing.enter_context(socket.socket())
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.settimeout(60.0)
            opened.connect(("127.0.0.1", int(door.rpartition(":")[2])))
            with suppress(ConnectionError):
                ask(opened)
            return opened

        with ExitStack() as closing:
            opened = [asked(closing) for _ in range(10)]
            read = [whole(each) for each in opened]
            assert read[0]
            assert sum(read) < 7, "of 48 MB a client may have half, and each waits for some 5"
        until_s = time.monotonic() + 20.0
        with ExitStack() as closing:
            while not whole(asked(closing)):
                assert time.monotonic() < until_s, "who has gone still has its room"
