"""Frames of HTTP/2 that go to a client: as many as its windows and its socket take, the rest when they open again."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Iterable

from amble.services.serve.doors.crowd import Unread
from amble.services.serve.doors.manners import FLOW, PROTOCOL, Broken

__all__ = ["Outgoing", "Stream", "frame", "head_of"]

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, AWAY, WINDOW, CONTINUATION = range(10)
ACK, END_STREAM, _END_HEADERS = 1, 1, 4
WIDEST = (1 << 31) - 1
_HEAD = struct.Struct(">HBBBI")  # length in 16 and 8 bits, kind, flags, stream
_SMALL_BYTES = 1 << 16  # up to here a copy is cheaper than a list of pieces

Pieces = tuple[bytes | memoryview, ...]


def head_of(data: memoryview) -> tuple[int, int, int, int]:
    """Read the head of a frame → length, kind, flags and stream."""
    high, low, kind, flags, number = _HEAD.unpack_from(data)
    return high << 8 | low, kind, flags, number & WIDEST


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """Write one frame."""
    return _head(kind, flags, number, len(payload)) + payload


def _head(kind: int, flags: int, number: int, size: int) -> bytes:
    return _HEAD.pack(size >> 8, size & 255, kind, flags, number)


class Stream:
    """One request and its answer. Whoever answers makes a kind of it, and is told what comes."""

    __slots__ = ("half_closed", "number", "waiting", "window")

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.half_closed = False  # the client has said everything
        self.window = window  # bytes that the client has room for
        self.waiting: deque[tuple[int, int, memoryview]] = deque()  # kind, flags and payload of frames to come

    def place(self) -> memoryview | None:
        """Return where the body is to be read to; None: to anywhere, it is handed over by ``came``."""
        raise NotImplementedError

    def placed(self, num_bytes: int) -> None:
        """Take note of what was read to its place."""
        raise NotImplementedError

    def came(self, payload: memoryview) -> None:
        """Take a piece of the body, which is overwritten afterwards."""
        raise NotImplementedError

    def ended(self) -> None:
        """Take the end of the body."""
        raise NotImplementedError

    def gone(self) -> None:
        """Take that the client wants no answer any more."""
        raise NotImplementedError

    def sent(self) -> None:
        """Take that all that waited has been sent."""
        raise NotImplementedError

    def overdue(self, now_s: float) -> None:
        """Look whether the client has taken too long; called every few seconds."""
        raise NotImplementedError


class Outgoing:
    """The way to one client."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.transport: asyncio.Transport | None = None
        self._unread: Unread | None = None
        self.window = self.first_window = 65535
        self.frame_bytes = 16384
        self.sent_bytes = 0  # for which the client has not opened windows by little yet
        self.blocked: dict[int, Stream] = {}  # that have frames waiting
        self.paused = False  # the socket is full
        self.moved_s = loop.time()
        self._loop = loop

    def made(self, transport: asyncio.Transport, unread: Unread) -> None:
        """Take the way."""
        self.transport, self._unread = transport, unread

    def lost(self) -> None:
        """Take that there is none any more."""
        self.transport = None
        if self._unread is not None:
            self._unread.over()

    @property
    def stalled_s(self) -> float:
        """Return for how long the client has taken nothing of what waits for it."""
        return self._loop.time() - self.moved_s if self.blocked or self.paused else 0.0

    def pause(self) -> None:
        """Read no more from a client that does not read itself."""
        self.paused, self.moved_s = True, self._loop.time()
        if self.transport is not None and self._unread is not None:
            self.transport.pause_reading()
            self._unread.wait(self.transport)

    def resume(self) -> None:
        """Go on with a client that reads."""
        self.paused, self.moved_s = False, self._loop.time()
        if self._unread is not None:
            self._unread.over()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        for each in list(self.blocked.values()):
            if not self.paused and each.waiting[0][0] != DATA:
                self._sent_one(each)
        self.go_on()

    def set(self, settings: bytes, streams: Iterable[Stream]) -> None:
        """Keep to what a client sets, in the streams that are open too."""
        for name, value in struct.iter_unpack(">HI", settings):
            if name == 4:
                if value > WIDEST:
                    raise Broken(FLOW, f"a window of {value} bytes")
                for each in streams:
                    each.window += value - self.first_window
                self.first_window = value
            elif name == 5:
                if not 16384 <= value < 1 << 24:
                    raise Broken(PROTOCOL, f"frames of {value} bytes")
                self.frame_bytes = value
        self.write(frame(SETTINGS, ACK, 0, b""))
        self.go_on()

    def paid(self, num_bytes: int) -> bool:
        """Tell whether so much was sent that was not counted here before, and count it."""
        if self.sent_bytes < num_bytes:
            return False
        self.sent_bytes -= num_bytes
        return True

    def close(self) -> None:
        """Close when everything is written."""
        if self.transport is not None:
            self.transport.close()

    def reset(self, number: int, code: int) -> None:
        """End a stream at once."""
        self.blocked.pop(number, None)
        self.write(frame(RESET, 0, number, struct.pack(">I", code)))

    def refill(self, number: int, num_bytes: int) -> None:
        """Let a client send as much more in a stream, or in all of them together (0)."""
        self.write(frame(WINDOW, 0, number, struct.pack(">I", num_bytes)))

    def send(self, stream: Stream, head: bytes, body: Pieces, tail: bytes) -> bool:
        """Send headers, a body in pieces, and trailers, each unless empty → whether they are on their way already."""
        size = sum(map(len, body))
        if self.paused or stream.waiting or size > min(self.window, stream.window, self.frame_bytes):
            self._queue(stream, head, body, tail)
            return not stream.waiting
        out: list[bytes | memoryview] = [frame(HEADERS, _END_HEADERS, stream.number, head)] if head else []
        if size:
            self.window -= size
            stream.window -= size
            self.sent_bytes += size
            out += [_head(DATA, 0, stream.number, size), *body]
        if tail:
            out.append(frame(HEADERS, _END_HEADERS | END_STREAM, stream.number, tail))
        self.write(*out)
        return True

    def _queue(self, stream: Stream, head: bytes, body: Pieces, tail: bytes) -> None:
        if head:
            stream.waiting.append((HEADERS, _END_HEADERS, memoryview(head)))
        stream.waiting.extend((DATA, 0, memoryview(piece)) for piece in body if len(piece))
        if tail:
            stream.waiting.append((HEADERS, _END_HEADERS | END_STREAM, memoryview(tail)))
        if not self.blocked:
            self.moved_s = self._loop.time()
        self.blocked[stream.number] = stream
        if not self.paused:
            self._sent_one(stream)
            self.go_on(stream)

    def go_on(self, *streams: Stream) -> None:
        """Send what windows allow of what waits (in these streams, or all), a frame of each stream in turn."""
        left = [each for each in streams or self.blocked.values() if each.waiting]
        while left and not self.paused:
            more = []
            for each in left:
                if self.paused or self.window <= 0:
                    return
                if self._sent_one(each):
                    more.append(each)
            left = more

    def _sent_one(self, stream: Stream) -> bool:
        """Send one piece of what a stream has waiting, and the headers around it → whether it may have more to send."""
        waiting = stream.waiting
        self._send_heads(stream)
        size = min(len(waiting[0][2]), self.window, stream.window, self.frame_bytes) if waiting else 0
        if size > 0:
            kind, flags, payload = waiting[0]
            if size == len(payload):
                waiting.popleft()
            else:
                waiting[0] = (kind, flags, payload[size:])
            self.window -= size
            stream.window -= size
            self.sent_bytes += size
            self.moved_s = self._loop.time()
            self.write(_head(DATA, flags, stream.number, size), payload[:size])
            self._send_heads(stream)
        if not waiting and self.blocked.pop(stream.number, None) is not None:
            stream.sent()
        return size > 0 and bool(waiting)

    def _send_heads(self, stream: Stream) -> None:
        """Send headers and trailers, which need no window."""
        while stream.waiting and stream.waiting[0][0] != DATA:
            kind, flags, payload = stream.waiting.popleft()
            self.moved_s = self._loop.time()
            self.write(_head(kind, flags, stream.number, len(payload)), payload)

    def write(self, *pieces: bytes | memoryview) -> None:
        """Write pieces of frames, unless the connection is being closed."""
        if self.transport is None or self.transport.is_closing():
            return
        if sum(map(len, pieces)) <= _SMALL_BYTES:
            self.transport.write(b"".join(pieces))
        else:
            self.transport.writelines(pieces)
