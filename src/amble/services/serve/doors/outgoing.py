"""Frames of HTTP/2 that go to a client: as many as its windows and its socket take, the rest when they open again."""

from __future__ import annotations

import asyncio
import struct
from collections import deque

__all__ = ["Outgoing", "Stream", "frame", "head_of"]

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, AWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, _END_HEADERS = 1, 4
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

    __slots__ = ("number", "waiting", "window")

    def __init__(self, number: int, window: int) -> None:
        self.number = number
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
        self.window = self.first_window = 65535
        self.frame_bytes = 16384
        self.blocked: dict[int, Stream] = {}  # that have frames waiting
        self.paused = False  # the socket is full
        self.moved_s = loop.time()
        self._loop = loop

    @property
    def stalled_s(self) -> float:
        """Return for how long the client has taken nothing of what waits for it."""
        return self._loop.time() - self.moved_s if self.blocked or self.paused else 0.0

    def pause(self) -> None:
        """Read no more from a client that does not read itself."""
        self.paused, self.moved_s = True, self._loop.time()
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        """Go on with a client that reads."""
        self.paused, self.moved_s = False, self._loop.time()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        self.go_on()

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
        self.go_on()

    def go_on(self) -> None:
        """Send what windows allow of what waits, a frame of each stream in turn."""
        while self.blocked and not self.paused:
            moved = False
            for number, stream in list(self.blocked.items()):
                if self.paused:
                    break
                moved |= self._sent_one(stream)
                if not stream.waiting:
                    self.blocked.pop(number, None)
                    stream.sent()
            if not moved:
                return
            self.moved_s = self._loop.time()

    def _sent_one(self, stream: Stream) -> bool:
        """Send one frame of what a stream has waiting; False where its window, or the connection's, is shut."""
        kind, flags, payload = stream.waiting[0]
        if kind != DATA:
            stream.waiting.popleft()
            self.write(_head(kind, flags, stream.number, len(payload)), payload)
            return True
        size = min(len(payload), self.window, stream.window, self.frame_bytes)
        if size <= 0:
            return False
        if size == len(payload):
            stream.waiting.popleft()
        else:
            stream.waiting[0] = (kind, flags, payload[size:])
        self.window -= size
        stream.window -= size
        self.write(_head(DATA, flags, stream.number, size), payload[:size])
        return True

    def write(self, *pieces: bytes | memoryview) -> None:
        """Write pieces of frames, unless the connection is being closed."""
        if self.transport is None or self.transport.is_closing():
            return
        if sum(map(len, pieces)) <= _SMALL_BYTES:
            self.transport.write(b"".join(pieces))
        else:
            self.transport.writelines(pieces)
