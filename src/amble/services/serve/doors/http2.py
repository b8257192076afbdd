"""One connection of HTTP/2 (RFC 9113), as a server has it: frames → streams.

Bodies are read by the socket to where they stay. What a client can make the server do without asking for anything is
counted: pings, settings, streams that are taken back, frames with nothing in them; and a client that does not read
what it asked for, or stops in the midst of a frame, is given up after some time.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, cast

from amble.runtimes.remote import limits
from amble.services.serve.doors.hpack import Decoder, Headers, Malformed, TooLarge
from amble.services.serve.doors.manners import (
    CALM,
    CLOSED,
    COMPRESSION,
    FLOW,
    NO_ERROR,
    PROTOCOL,
    REFUSED,
    SIZE,
    Broken,
    House,
    Noise,
)
from amble.services.serve.doors.outgoing import (
    AWAY,
    CONTINUATION,
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    RESET,
    SETTINGS,
    WIDEST,
    WINDOW,
    Outgoing,
    Stream,
    frame,
    head_of,
)

__all__ = ["Connection", "House"]

ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 4, 8, 32
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW_BYTES = 1 << 30  # of a connection: what requests hold is counted by the quota
_FRAME_BYTES = 1 << 20  # of a body; in larger frames the fewer headers are no gain
_STREAMS = 1024
_WORTH_BYTES = 1024  # by which a window opens, or that were sent for each that opens by less


class Connection(asyncio.BufferedProtocol):
    """Reads and writes frames of one client."""

    seen: tuple[Headers, Any] | None = None  # the last headers, and what ``begin`` made of them

    def __init__(self, house: House) -> None:
        self.house = house
        self.loop = asyncio.get_running_loop()
        self.client = ""
        self.streams: dict[int, Stream] = {}
        self.stopping = False
        self.out = Outgoing(self.loop)
        self._decoder = Decoder(limits.HEADER_BYTES)
        self._take: Callable[[memoryview], int] = self._greeted
        self._rest = b""
        self._left = self._pad = 0  # of the body in a frame whose beginning has come, and of what fills it up
        self._reading: Stream | None = None  # whose body that is; None: nobody's
        self._ends = False  # the stream does, with that frame
        self._block: tuple[int, int, bytearray] | None = None  # headers that go on
        self._last = self._came = 0  # the latter: bytes that the connection's window has not got back
        self._noise = Noise(self.loop.time())
        self._entered = self._placing = False
        self._active_s = self.loop.time()
        self.pause_writing = self.out.pause  # type: ignore[method-assign]
        self.resume_writing = self.out.resume  # type: ignore[method-assign]
        self._timer: asyncio.TimerHandle | None = None

    # the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet a client, unless the house is full."""
        self.client = str((transport.get_extra_info("peername") or ("",))[0])
        self.out.made(cast(asyncio.Transport, transport), self.house.crowd.unread(self.client))
        if not self.house.crowd.enter(self.client):
            self.abort()
            return
        self._entered = True
        self.house.connections.add(self)
        told = {3: _STREAMS, 4: min(self.house.stream_bytes, WIDEST), 5: _FRAME_BYTES, 6: limits.HEADER_BYTES}
        settings = b"".join(struct.pack(">HI", name, value) for name, value in told.items())
        self.out.write(frame(SETTINGS, 0, 0, settings), frame(WINDOW, 0, 0, struct.pack(">I", _WINDOW_BYTES - 65535)))
        self._timer = self.loop.call_later(self.house.look_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everyone who works for a client that has gone."""
        if self._timer is not None:
            self._timer.cancel()
        if self._entered:
            self.house.crowd.leave(self.client)
            self.house.connections.discard(self)
        self._entered, self._reading = False, None
        self.out.lost()
        self._take = len  # a method of its own would keep it until garbage is looked for
        self._forget_all()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to read to."""
        place = self._reading.place() if self._left and self._reading is not None else None
        self._placing = place is not None
        return self.house.scratch if place is None else place[: self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        try:
            if self._placing:
                if self._reading is not None:
                    self._reading.placed(nbytes)
                self._counted(nbytes)
            else:
                came = self.house.scratch[:nbytes]
                data = memoryview(self._rest + came) if self._rest else came
                self._rest = b""
                at = 0
                while at < len(data) and (step := self._take(data[at:])):
                    at += step
                self._rest = bytes(data[at:])
        except Broken as broken:
            self._give_up(broken.code, broken.text)

    # frames that come

    def _greeted(self, data: memoryview) -> int:
        """Take what a client begins with."""
        if not _PREFACE.startswith(bytes(data[: len(_PREFACE)])):
            raise Broken(PROTOCOL, "this is no HTTP/2")
        if len(data) < len(_PREFACE):
            return 0
        self._take = self._framed
        return len(_PREFACE)

    def _framed(self, data: memoryview) -> int:
        """Take a frame, or as much of a body as there is → its bytes; 0: more must come."""
        if self._left or self._pad:
            return self._filled(data)
        if len(data) < 9:
            return 0
        size, kind, flags, number = head_of(data)
        if kind == DATA:
            return self._data(data, size, flags, number)
        if size > limits.HEADER_BYTES:
            raise Broken(SIZE, f"a frame of {size} bytes")
        if len(data) < 9 + size:
            return 0
        if self._block is not None and kind != CONTINUATION:
            raise Broken(PROTOCOL, "headers that do not go on")
        take = _TAKES.get(kind)
        if take is not None:
            take(self, flags, number, bytes(data[9 : 9 + size]))
        else:
            self._noise.count(self.loop.time())
        return 9 + size

    def _data(self, data: memoryview, size: int, flags: int, number: int) -> int:
        """Begin to take a body."""
        pad, head = 0, 9
        if flags & PADDED:
            if len(data) < 10:
                return 0
            pad, head = data[9], 10
        if self._block is not None or not 0 < number <= self._last or pad + head - 9 > size:
            raise Broken(PROTOCOL, "a body where none can be")
        if size > _FRAME_BYTES:
            raise Broken(SIZE, f"a frame of {size} bytes")
        self._left, self._pad, self._ends = size - pad - (head - 9), pad, bool(flags & END_STREAM)
        self._reading = self.streams.get(number)
        if self._reading is not None and self._reading.half_closed:
            raise Broken(CLOSED, "more of a stream after its end")
        self._credit(head - 9)
        if head > 9 and self._reading is not None and not self._ends:
            self.out.refill(number, pad + head - 9)
        if not self._left:
            if not self._ends:
                self._noise.count(self.loop.time())
            self._counted(0)
        return head

    def _filled(self, data: memoryview) -> int:
        """Take a piece of a body, or of what fills its frame up."""
        if not self._left:
            size = min(self._pad, len(data))
            self._pad -= size
            self._credit(size)
            return size
        piece = data[: self._left]
        if self._reading is not None:
            self._reading.came(piece)
        self._counted(len(piece))
        return len(piece)

    def _counted(self, num_bytes: int) -> None:
        """Count a body; the stream may end with it."""
        self._left -= num_bytes
        self._credit(num_bytes)
        if not self._left:
            ended, self._reading = self._reading, None
            if self._ends and ended is not None:
                self._end(ended)

    @staticmethod
    def _end(stream: Stream) -> None:
        """Take the end of what a client says in a stream, which comes once."""
        if stream.half_closed:
            raise Broken(CLOSED, "more of a stream after its end")
        stream.half_closed = True
        stream.ended()

    def _credit(self, num_bytes: int) -> None:
        """Give the connection's window back, a large part at a time."""
        self._came += num_bytes
        if self._came > _WINDOW_BYTES // 2:
            self.out.refill(0, self._came)
            self._came = 0

    def _take_headers(self, flags: int, number: int, payload: bytes) -> None:
        start, stop = 0, len(payload)
        if flags & PADDED:
            start, stop = 1, stop - (payload[0] if payload else 0)
        if flags & PRIORITIZED:
            start += 5
        if start > stop or not number & 1:
            raise Broken(PROTOCOL, "headers that are none")
        self._went_on(flags, number, bytearray(payload[start:stop]), flags & END_STREAM)

    def _take_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise Broken(PROTOCOL, "headers that go on without a beginning")
        self._noise.count(self.loop.time())
        _, ends, block = self._block
        self._went_on(flags, number, block + payload, ends)

    def _went_on(self, flags: int, number: int, block: bytearray, ends: int) -> None:
        """Take headers as far as they have come."""
        if len(block) > limits.HEADER_BYTES:
            raise Broken(CALM, f"the headers are larger than {limits.HEADER_BYTES} bytes")
        if not flags & END_HEADERS:
            self._block = (number, ends, block)
            return
        self._block = None
        headers: Headers | None = None
        try:
            headers = self._decoder.read(bytes(block))
        except TooLarge:
            pass
        except Malformed as error:
            raise Broken(COMPRESSION, str(error)) from error
        self._begun(number, headers, ended=bool(ends))

    def _begun(self, number: int, headers: Headers | None, *, ended: bool) -> None:
        """Begin a stream, or take what follows a body."""
        if number <= self._last:
            known = self.streams.get(number)
            if known is None or not ended:
                self._noise.count(self.loop.time())
            else:
                self._end(known)
            return
        self._last = number
        if self.stopping or len(self.streams) >= _STREAMS:
            self.out.reset(number, REFUSED)
            return
        made = self.house.begin(self, number, headers, ended)
        if made is not None and ended:
            self._end(made)

    def _take_reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4 or not 0 < number <= self._last:
            raise Broken(PROTOCOL, "a stream that cannot be taken back")
        self._noise.count(self.loop.time())
        gone = self.streams.pop(number, None)
        self.out.blocked.pop(number, None)
        if gone is not None:
            gone.gone()
            self._forgotten()

    def _take_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) % 6 or (flags & ACK and payload):
            raise Broken(SIZE if not number else PROTOCOL, "settings that are none")
        self._noise.count(self.loop.time())
        if flags & ACK:
            return
        self.out.set(payload, self.streams.values())

    def _take_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            raise Broken(SIZE if not number else PROTOCOL, "a ping that is none")
        self._noise.count(self.loop.time())
        if not flags & ACK:
            self.out.write(frame(PING, ACK, 0, payload))

    def _take_window(self, flags: int, number: int, payload: bytes) -> None:
        size = int.from_bytes(payload, "big") & WIDEST
        if len(payload) != 4 or not size or number > self._last:
            raise Broken(PROTOCOL, "a window that does not open")
        opened = self.streams.get(number) if number else self.out
        if (opened is None or size < _WORTH_BYTES) and not self.out.paid(_WORTH_BYTES):
            self._noise.count(self.loop.time())
        if opened is None:
            return
        was_shut, opened.window = opened.window <= 0, opened.window + size
        if opened.window > WIDEST:
            raise Broken(FLOW, "a window that is too wide")
        if was_shut:
            self.out.go_on(*([self.streams[number]] if number else []))

    # what streams ask for

    def open(self, stream: Stream) -> None:
        """Have what comes for a stream handed to it."""
        self._active_s = self.loop.time()
        stream.window = self.out.first_window
        self.streams[stream.number] = stream

    def answered(self) -> None:
        """Make up for noise: something that was asked for is answered."""
        self._noise.forgive()

    def close(self, stream: Stream, *, early: bool) -> None:
        """Forget a stream that is answered; ``early``: before all of its request has come."""
        self.answered()
        if self._reading is stream:
            self._reading = None
        if self.streams.pop(stream.number, None) is not None and early:
            self.out.reset(stream.number, NO_ERROR)
        self._forgotten()

    def _forgotten(self) -> None:
        """Take note that one stream is left less."""
        self._active_s = self.loop.time()
        if self.stopping and not self.streams:
            self.out.close()

    # the end

    def stop(self) -> None:
        """Take no more requests; close when those that run are answered."""
        if not self.stopping:
            self.stopping = True
            self.out.write(frame(AWAY, 0, 0, struct.pack(">II", self._last, NO_ERROR)))
        if not self.streams:
            self.out.close()

    def abort(self) -> None:
        """Close at once."""
        if self.out.transport is not None:
            self.out.transport.abort()

    def _forget_all(self) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        self.out.blocked.clear()
        for each in streams:
            each.gone()

    def _give_up(self, code: int, text: str) -> None:
        """End the connection of a client that breaks the protocol, and say why."""
        self.out.write(frame(AWAY, 0, 0, struct.pack(">II", self._last, code) + text.encode()))
        self._take, self._rest, self._left, self._pad, self._reading = len, b"", 0, 0, None
        self.out.close()
        self._forget_all()

    def _look(self) -> None:
        """Look whether the client has taken too long for something."""
        house, now_s = self.house, self.loop.time()
        self._timer = self.loop.call_later(house.look_s, self._look)
        idle_s = 0.0 if self.streams else now_s - self._active_s
        closing = self.out.transport is not None and self.out.transport.is_closing()
        if self.out.stalled_s > house.answer_s or (closing and idle_s > house.answer_s):
            self.abort()
        elif self._take == self._greeted and idle_s > house.handshake_s:
            self._give_up(PROTOCOL, f"no HTTP/2 within {house.handshake_s:g} s")
        elif idle_s > house.idle_s:
            self.stop()
        for stream in list(self.streams.values()):
            stream.overdue(now_s)


_TAKES: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    HEADERS: Connection._take_headers,
    RESET: Connection._take_reset,
    SETTINGS: Connection._take_settings,
    PING: Connection._take_ping,
    WINDOW: Connection._take_window,
    CONTINUATION: Connection._take_continuation,
}
