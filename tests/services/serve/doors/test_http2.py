"""HTTP/2 in any pieces and windows; clients that break it, flood, stall or flee are got rid of, and nobody else is."""

from __future__ import annotations

import asyncio
import gc
import struct
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tritonclient.grpc")

from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.doors.http2 import Connection
from amble.services.serve.doors.http2 import House as Shared
from amble.services.serve.doors.outgoing import (
    AWAY,
    CONTINUATION,
    DATA,
    HEADERS,
    PING,
    PUSH,
    RESET,
    SETTINGS,
    WINDOW,
    Stream,
    frame,
)
from amble.services.serve.front import Doors
from tests.services.serve.doors.frames import PREFACE, STREAM, client, head, message, prefixed, values
from tests.services.serve.house import Doubler, House, house

DOORS = Doors(http_port=0, grpc_port=0, metrics_port=0, body_s=2.0)
WIDE = 1 << 20
ONE = prefixed(message())


@pytest.fixture(scope="module")
def open_house() -> Iterator[House]:
    with house("plain", "wide", doors=DOORS) as found:
        yield found


def opened(size: int, stream: int) -> bytes:
    return frame(WINDOW, 0, stream, struct.pack(">I", size))


def asked(stream: int = 1) -> bytes:
    return head(stream) + frame(DATA, 1, stream, ONE)


def still_serves(found: House) -> bool:
    with client(found) as one:
        one.send(asked())
        return values(one.answer()[1]) == [0.0, 2.0]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_call_may_come_in_any_pieces(open_house: House, size: int) -> None:
    with client(open_house, greet=False) as one:
        sent = PREFACE + frame(SETTINGS, 0, 0, b"") + asked()
        for start in range(0, len(sent), size):
            one.send(sent[start : start + size])
        assert values(one.answer()[1]) == [0.0, 2.0]


def test_a_large_body_comes_in_frames_of_any_size_with_what_fills_them_up(open_house: House) -> None:
    sent = prefixed(message(50_000, "wide"))
    with client(open_house, (4, WIDE)) as one:
        one.send(opened(WIDE, 0), head(1))
        at, sizes = 0, [3, 9, 16000, 1, 0, 16384, 200_000]
        while at < len(sent):
            size = sizes[0]
            sizes = [*sizes[1:], size]
            piece = sent[at : at + size]
            padded = bytes([20]) + piece + bytes(20) if len(piece) < 16000 else piece
            one.send(frame(DATA, 8 if padded is not piece else 0, 1, padded))
            at += len(piece)
        one.send(frame(DATA, 1, 1, b""))
        assert values(one.answer()[1]) == [2.0 * each for each in range(100_000)]


def test_headers_may_go_on_in_other_frames_and_trailers_may_follow(open_house: House) -> None:
    whole = head(1)[9:]
    with client(open_house) as one:
        one.send(frame(HEADERS, 0, 1, whole[:10]), frame(CONTINUATION, 0, 1, whole[10:50]))
        one.send(frame(CONTINUATION, 4, 1, whole[50:]), frame(DATA, 0, 1, ONE))
        one.send(frame(HEADERS, 5, 1, b"\x40\x01x\x01y"))
        assert values(one.answer()[1]) == [0.0, 2.0]
        one.send(
            head(3, "/inference.GRPCInferenceService/ServerLive", (b"trace", b"\xbe")), frame(DATA, 1, 3, bytes(5))
        )
        assert one.answer(3)[1] == b"\0\0\0\0\2\x08\1"


def test_answers_keep_to_windows_and_to_the_size_of_frames(open_house: House) -> None:
    sent, room = prefixed(message(30_000, "wide")), 0
    with client(open_house, (4, 10)) as one:
        one.send(head(1), frame(DATA, 1, 1, sent))
        room, body = 10, b""
        for each in one.frames():
            if each.kind == DATA:
                body += each.payload
                assert len(each.payload) <= 16384
                assert len(body) <= room, "more than there was room for"
                if len(body) == room:
                    step = 5 if room < 100 else 30_000
                    room += step
                    one.send(opened(step, 1), opened(step, 0))
            if each.kind == HEADERS and each.flags & 1:
                break
        assert values(body) == [2.0 * each for each in range(60_000)]


def test_a_window_that_is_changed_later_holds_for_streams_that_are_open(open_house: House) -> None:
    with client(open_house, (4, 0)) as one:
        one.send(asked())
        one.until(HEADERS, 1)
        one.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1000)))
        assert values(one.answer()[1]) == [0.0, 2.0]


def test_many_calls_share_a_connection_and_each_has_its_own_answer(open_house: House) -> None:
    streams = range(1, 200, 2)
    with client(open_house) as one:
        one.send(*(head(each) for each in streams))
        one.send(*(frame(DATA, 1, each, ONE) for each in reversed(streams)))
        left, bodies = set(streams), dict.fromkeys(streams, b"")
        for each in one.frames():
            if each.kind == DATA:
                bodies[each.stream] += each.payload
            if each.kind == HEADERS and each.flags & 1:
                left.discard(each.stream)
                if not left:
                    break
        assert all(values(each) == [0.0, 2.0] for each in bodies.values())


PROTOCOL, FLOW, CLOSED, SIZE, COMPRESSION, CALM = 1, 3, 5, 6, 9, 11
BROKEN: dict[str, tuple[int, Callable[[], bytes]]] = {
    "headers of an even stream": (PROTOCOL, lambda: head(2)),
    "a body before its headers": (PROTOCOL, lambda: frame(DATA, 1, 1, b"")),
    "a body of no stream": (PROTOCOL, lambda: frame(DATA, 0, 0, b"x")),
    "more padding than frame": (PROTOCOL, lambda: head(1) + frame(DATA, 8, 1, b"\x09x")),
    "headers that are cut off by another frame": (PROTOCOL, lambda: head(1, flags=0) + frame(PING, 0, 0, bytes(8))),
    "a continuation of nothing": (PROTOCOL, lambda: frame(CONTINUATION, 4, 1, b"")),
    "a window that does not open": (PROTOCOL, lambda: opened(0, 0)),
    "a window that is too wide": (FLOW, lambda: opened((1 << 31) - 1, 0)),
    "a first window that is too wide": (FLOW, lambda: frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31))),
    "frames too small": (PROTOCOL, lambda: frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1))),
    "settings cut off": (SIZE, lambda: frame(SETTINGS, 0, 0, b"12345")),
    "a ping of seven bytes": (SIZE, lambda: frame(PING, 0, 0, bytes(7))),
    "a large frame of headers": (SIZE, lambda: frame(HEADERS, 4, 1, bytes(1 << 17))),
    "a frame larger than agreed": (SIZE, lambda: head(1) + frame(DATA, 0, 1, bytes((1 << 20) + 1))),
    "headers that are none": (COMPRESSION, lambda: frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff")),
    "a reset of what never was": (PROTOCOL, lambda: frame(RESET, 0, 9, bytes(4))),
    "a call that ends twice": (CLOSED, lambda: asked() + frame(DATA, 1, 1, b"")),
    "trailers behind an end": (CLOSED, lambda: asked() + frame(HEADERS, 5, 1, b"")),
    "more of a call that has ended": (CLOSED, lambda: asked() + frame(DATA, 0, 1, b"x")),
    "settings that are agreed to": (CALM, lambda: frame(SETTINGS, 1, 0, b"") * 2000),
    "answers to no ping": (CALM, lambda: frame(PING, 1, 0, bytes(8)) * 2000),
    "headers without end": (CALM, lambda: head(1, flags=0) + frame(CONTINUATION, 0, 1, bytes(16000)) * 3),
    "empty continuations": (CALM, lambda: head(1, flags=0) + frame(CONTINUATION, 0, 1, b"") * 2000),
    "pings": (CALM, lambda: frame(PING, 0, 0, bytes(8)) * 2000),
    "settings": (CALM, lambda: frame(SETTINGS, 0, 0, b"") * 2000),
    "pushes": (CALM, lambda: frame(PUSH, 4, 1, bytes(4)) * 2000),
    "frames of an unknown kind": (CALM, lambda: frame(99, 0, 0, b"?") * 2000),
    "empty pieces of a body": (CALM, lambda: head(1) + frame(DATA, 0, 1, b"") * 2000),
    "streams that are taken back at once": (
        CALM,
        lambda: b"".join(head(each) + frame(RESET, 0, each, bytes(4)) for each in range(1, 4000, 2)),
    ),
    "windows opened by a byte": (CALM, lambda: opened(1, 0) * 2000),
    "windows of a call that was taken back": (
        CALM,
        lambda: asked() + frame(RESET, 0, 1, bytes(4)) + opened(WIDE, 1) * 2000,
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_who_breaks_the_protocol_or_floods_is_told_so_and_cut_off(open_house: House, kind: str) -> None:
    code, sent = BROKEN[kind]
    with client(open_house) as one:
        one.send(sent())
        found, text = one.away()
        assert (found, bool(text)) == (code, True)
        assert not [each for each in one.frames() if each.kind != AWAY]
    assert still_serves(open_house)


def test_who_speaks_http_1_is_told_so(open_house: House) -> None:
    with client(open_house, greet=False) as one:
        one.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert one.away() == (PROTOCOL, "this is no HTTP/2")


def test_noise_is_forgiven_to_who_asks_for_something(open_house: House) -> None:
    with client(open_house) as one:
        for stream in range(1, 401, 2):
            one.send(frame(PING, 0, 0, bytes(8)) * 8, asked(stream))
            one.answer(stream)


def test_noise_is_forgiven_with_each_answer_of_a_stream(open_house: House) -> None:
    with client(open_house) as one:
        one.send(head(1, STREAM))
        for _ in range(400):
            one.send(frame(DATA, 0, 1, ONE))
            one.until(DATA, 1)
            one.send(opened(100, 0), opened(100, 1), frame(PING, 0, 0, bytes(8)))


def test_who_gives_back_exactly_what_came_may_have_large_answers(open_house: House) -> None:
    with client(open_house, (4, 5000)) as one:
        one.send(head(1), *frames_of(1, prefixed(message(500_000, "wide"))))
        small, body = 0, 0
        for each in one.frames():
            if each.kind == DATA:
                body += len(each.payload)
                small += len(each.payload) < 1024
                one.send(opened(len(each.payload), 1), opened(len(each.payload), 0))
            if each.kind == HEADERS and each.flags & 1:
                break
        assert small > 500
        assert body > 4_000_000


def test_more_streams_than_may_be_are_refused_one_by_one() -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler, doors=DOORS) as found, client(found) as one:
        doubler.gate.clear()
        one.send(*(asked(each) for each in range(1, 2 * 1025 + 1, 2)))
        refused = one.until(RESET)
        assert (refused.stream, refused.payload) == (2049, struct.pack(">I", 7))
        doubler.gate.set()


def test_a_client_that_does_not_read_is_given_up_and_what_it_asked_for_is_let_go(open_house: House) -> None:
    with client(open_house, (4, (1 << 31) - 1)) as one:
        one.send(opened((1 << 30), 0))
        sent = prefixed(message(100_000, "wide"))
        began_s = time.monotonic()
        one.socket.settimeout(20.0)
        with pytest.raises((ConnectionError, BrokenPipeError)):
            one.send(*(head(stream) + b"".join(frames_of(stream, sent)) for stream in range(1, 200, 2)))
        assert time.monotonic() - began_s < 15.0
    assert still_serves(open_house)


def test_a_client_whose_window_stays_shut_is_given_up(open_house: House) -> None:
    with client(open_house, (4, 0)) as one:
        one.send(asked())
        began_s = time.monotonic()
        assert [each.kind for each in one.frames()].count(DATA) == 0
        assert 1.5 < time.monotonic() - began_s < 15.0


def frames_of(stream: int, body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 16384):
        yield frame(DATA, int(start + 16384 >= len(body)), stream, body[start : start + 16384])


def test_who_never_greets_is_shown_out_and_idle_ones_after_some_time() -> None:
    async def run() -> list[bytes]:
        shared = Shared(lambda *_: None, Crowd(10), 1 << 16, handshake_s=0.1, idle_s=0.3, look_s=0.05)
        server = await asyncio.get_running_loop().create_server(lambda: Connection(shared), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = []
        for greeting in (b"", PREFACE + frame(SETTINGS, 0, 0, b"")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(greeting)
            found.append(await asyncio.wait_for(reader.read(), 10.0))
            writer.close()
        server.close()
        assert not shared.connections
        assert not shared.crowd.total
        return found

    silent, idle = asyncio.run(run())
    assert silent.endswith(b"no HTTP/2 within 0.1 s")
    assert idle.endswith(frame(AWAY, 0, 0, struct.pack(">II", 0, 0)))


def test_one_client_cannot_take_all_connections_and_those_that_go_are_counted_off() -> None:
    async def run() -> tuple[int, int, int]:
        shared = Shared(lambda *_: None, Crowd(8), 1 << 16)
        server = await asyncio.get_running_loop().create_server(lambda: Connection(shared), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        served = 0
        for reader, _ in streams:
            try:
                served += bool(await asyncio.wait_for(reader.read(9), 10.0))
            except ConnectionError:
                continue
        inside = shared.crowd.total
        for _, writer in streams:
            writer.close()
        until_s = time.monotonic() + 10.0
        while shared.crowd.total and time.monotonic() < until_s:
            await asyncio.sleep(0.01)
        server.close()
        return served, inside, shared.crowd.total

    assert asyncio.run(run()) == (4, 4, 0)


def test_at_the_end_calls_that_run_are_answered_and_no_more_are_taken() -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler, doors=DOORS) as found, client(found) as one:
        doubler.gate.clear()
        one.send(asked())
        assert doubler.begun.wait(20.0)
        found.stop()
        doubler.gate.set()
        assert values(one.answer()[1]) == [0.0, 2.0]
        assert any(each.kind == AWAY for each in one.frames())


class Taken(Stream):
    """Takes whatever comes, at times to a place of its own."""

    def __init__(self, connection: Connection, number: int) -> None:
        super().__init__(number, 0)
        self.connection, self.body, self.over = connection, bytearray(), 0
        self.own = memoryview(bytearray(100)) if number % 4 == 1 else None

    def place(self) -> memoryview | None:
        return self.own

    def placed(self, num_bytes: int) -> None:
        assert self.own is not None
        self.body += self.own[:num_bytes]

    def came(self, payload: memoryview) -> None:
        self.body += payload

    def ended(self) -> None:
        self.over += 1
        self.connection.out.send(self, b"\x88", (bytes(self.body),), b"\x88")
        self.connection.close(self, early=False)

    def gone(self) -> None:
        self.over += 1

    def sent(self) -> None:
        pass


def begun(connection: Connection, number: int, headers: object, ended: bool) -> Stream:
    made = Taken(connection, number)
    connection.open(made)
    return made


class Socket(asyncio.Transport):
    """Keeps what is written, and is closed once asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = bytearray(), False

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, pieces: Any) -> None:
        self.written += b"".join(pieces)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def connected() -> tuple[Connection, Socket]:
    connection, opened = Connection(Shared(begun, Crowd(10), 1 << 16)), Socket()
    connection.connection_made(opened)
    fed(connection, PREFACE)
    return connection, opened


def fed(connection: Connection, sent: bytes) -> None:
    place = connection.get_buffer(-1)
    place[: len(sent)] = sent
    connection.buffer_updated(len(sent))


def test_what_fills_frames_up_is_given_back_to_the_window_of_its_stream() -> None:
    async def run() -> None:
        connection, written = connected()
        fed(connection, frame(HEADERS, 4, 3, b"\x83") + frame(DATA, 8, 3, b"\x05body" + bytes(5)))
        assert written.written.endswith(opened(6, 3))

    asyncio.run(run())


def test_calls_of_who_breaks_the_protocol_are_given_up_at_once() -> None:
    async def run() -> None:
        connection, written = connected()
        fed(connection, frame(HEADERS, 4, 3, b"\x83"))
        taken = connection.streams[3]
        assert isinstance(taken, Taken)
        fed(connection, frame(DATA, 0, 0, b""))
        assert (written.closed, taken.over, connection.streams) == (True, 1, {})

    asyncio.run(run())


def test_a_connection_that_is_gone_is_no_garbage_that_must_be_looked_for() -> None:
    async def run() -> None:
        connection, _ = connected()
        fed(connection, frame(HEADERS, 4, 3, b"\x83"))
        connection.connection_lost(None)
        known = weakref.ref(connection)
        gc.disable()
        try:
            del connection
            assert known() is None
        finally:
            gc.enable()

    asyncio.run(run())


def test_the_end_does_not_wait_for_calls_that_are_taken_back() -> None:
    async def run() -> None:
        connection, written = connected()
        fed(connection, frame(HEADERS, 4, 3, b"\x83"))
        connection.stop()
        assert not written.closed
        fed(connection, frame(RESET, 0, 3, bytes(4)))
        assert written.closed

    asyncio.run(run())


def test_windows_that_open_cost_no_more_when_many_answers_wait() -> None:
    async def took_s(streams: int) -> float:
        connection, _ = connected()
        fed(connection, frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
        for number in range(3, 3 + 4 * streams, 4):
            fed(connection, frame(HEADERS, 4, number, b"\x83") + frame(DATA, 1, number, b"x" * 10))
            connection.open(connection.out.blocked[number])
        assert len(connection.out.blocked) == streams
        began_s = time.process_time()
        for _ in range(10):
            fed(connection, opened(1024, 0) * 200)
        return time.process_time() - began_s

    few_s, many_s = (min(asyncio.run(took_s(streams)) for _ in range(3)) for streams in (1, 500))
    assert many_s < 10.0 * few_s


FRAMES = st.builds(
    lambda kind, flags, stream, payload: frame(kind, flags, stream, payload),
    st.sampled_from([*range(10), 77]),
    st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 32, 36, 37, 255]),
    st.sampled_from([0, 1, 3, 5, 7, 2, 1 << 31]),
    st.one_of(
        st.binary(max_size=300),
        st.just(b"\x83\x86\x84\x88"),
        st.integers(0, (1 << 32) - 1).map(lambda value: value.to_bytes(4, "big")),
        st.tuples(st.integers(0, 7), st.integers(0, (1 << 32) - 1)).map(lambda pair: struct.pack(">HI", *pair)),
    ),
)


@given(st.lists(st.one_of(FRAMES, st.binary(max_size=20)), max_size=30), st.integers(1, 200))
def test_whatever_comes_is_taken_or_refused_and_every_frame_back_is_whole(sent: list[bytes], size: int) -> None:
    async def run() -> None:
        shared, opened = Shared(begun, Crowd(10), 1 << 16), Socket()
        connection = Connection(shared)
        connection.connection_made(opened)
        stream = PREFACE + b"".join(sent)
        while stream:
            place = connection.get_buffer(-1)
            step = min(size, len(place), len(stream))
            place[:step] = stream[:step]
            connection.buffer_updated(step)
            stream = stream[step:]
        connection.connection_lost(None)
        assert not shared.connections
        at = 0
        while at < len(opened.written):
            at += 9 + int.from_bytes(opened.written[at : at + 3], "big")
        assert at == len(opened.written)

    asyncio.run(run())
