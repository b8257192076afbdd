"""Calls of gRPC over HTTP/2: messages out of bodies, methods by their path, statuses, deadlines, cancelling.

The protocol is gRPC's own description of itself over HTTP/2. What a message holds is counted as its bytes come.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from amble.runtimes.remote import limits
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors import codings, metadata
from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.doors.hpack import Headers
from amble.services.serve.doors.http2 import Connection
from amble.services.serve.doors.manners import CALM
from amble.services.serve.doors.outgoing import Stream
from amble.services.serve.doors.reading import Readers
from amble.services.serve.doors.wire import prefix, raw_at
from amble.services.serve.requests.quota import Reservation

__all__ = ["CALLS", "Call", "Method", "Service"]

CALLS = 4096
"""How many calls may be open at once, of a whole server."""

_LOG = logging.getLogger(__name__)
_PREFIX_BYTES = 5
_ALIGNED_BYTES = 64
_MESSAGE_BYTES = 128  # that each message counts beside its text
_FOREVER_S = 1e8
_CUT_OFF = "the call ended before its message did"


class Method(NamedTuple):
    """How a method is answered: ``run`` gets what ``read`` made of a message, and the call.

    ``many``: it gets an iterator of messages as they came, or gives one of answers. ``open``: no key is needed.
    """

    run: Callable[[Any, Call], Any]
    read: Callable[[bytes], Any] | None
    write: Callable[[Any], bytes]
    many_in: bool = False
    many_out: bool = False
    open: bool = False


class _Asked(NamedTuple):
    """What the headers of a call say."""

    path: str
    method: Method | None
    told: Mapping[str, str]
    timeout_s: float
    coding: bytes


@dataclass(slots=True)
class Service:
    """What there is to be called, by path, and how much of it at once: ``calls`` until their answers are sent."""

    methods: Mapping[str, Method]
    check_key: Callable[[Mapping[str, str]], None]
    holding: Callable[[str], Reservation]
    readers: Readers
    max_bytes: int
    body_s: float = 30.0
    calls: Crowd = field(default_factory=lambda: Crowd(CALLS))

    def begin(self, connection: Connection, number: int, headers: Headers | None, ended: bool) -> Call | None:
        """Take a call, or refuse it at once: that is what connections begin their streams by."""
        try:
            if headers is None:
                raise Fault(429, f"the headers are larger than {limits.HEADER_BYTES} bytes")
            seen = connection.seen
            if seen is None or seen[0] is not headers:
                seen = connection.seen = (headers, self._asked(headers))
            asked: _Asked = seen[1]
            if asked.method is None:
                raise Fault(501, f"{asked.path}: there is no such method")
            if not asked.method.open:
                self.check_key(asked.told)
            if not self.calls.enter(connection.client):
                raise Fault(429, "too many calls are being answered, or are open: end some, or try again later")
        except Fault as fault:
            refused = Call(self, connection, number, _NOTHING)
            connection.open(refused)
            refused.half_closed = ended
            refused.fail(fault)
            return None
        call = Call(self, connection, number, asked)
        connection.open(call)
        call.begin()
        return call

    def _asked(self, headers: Headers) -> _Asked:
        told = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        if told.get(":method") != "POST" or not metadata.is_grpc(told.get("content-type", "")):
            raise Fault(415, "this is no call of gRPC: POST application/grpc")
        coding = told.get("grpc-encoding", "identity")
        if coding not in ("identity", "gzip", "deflate"):
            raise Fault(501, f"grpc-encoding {coding[:100]!r}: use gzip, deflate or identity")
        path = told.get(":path", "")
        return _Asked(path, self.methods.get(path), told, metadata.timeout_s(told.get("grpc-timeout")), coding.encode())


_NOTHING = _Asked("", None, {}, math.inf, b"identity")


class Call(Stream):
    """One call: who asks, what he says of himself, the message, the answer."""

    __slots__ = (
        "_arrived", "_asked", "_began_s", "_connection", "_counted", "_filled", "_message_s", "_over", "_packed",
        "_prefix", "_reader", "_sent_head", "_service", "_task", "_timer", "_whole", "_writer", "client", "hold",
        "told",
    )  # fmt: skip

    def __init__(self, service: Service, connection: Connection, number: int, asked: _Asked) -> None:
        super().__init__(number, 0)
        self._service, self._connection, self._asked = service, connection, asked
        self.client, self.told = connection.client, asked.told
        self.hold = service.holding(connection.client)
        self._began_s = self._message_s = connection.loop.time()
        self._arrived: deque[tuple[bytes | memoryview, bool]] = deque()  # messages, and whether they are packed
        self._prefix = b""
        self._whole: memoryview | None = None  # a message that has come in part
        self._filled, self._packed = 0, False
        self._over = self._sent_head = self._counted = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Start the clock of a call that is counted."""
        self._counted = True
        if self._asked.timeout_s < _FOREVER_S:
            self._timer = self._connection.loop.call_later(self._asked.timeout_s, self._expire)
        if self._method.many_in:
            self._start()

    def left_s(self) -> float:
        """Return the time [s] until the call's deadline; infinite where it has none."""
        return self._asked.timeout_s - (self._connection.loop.time() - self._began_s)

    @property
    def _method(self) -> Method:
        assert self._asked.method is not None, "calls that are begun have a method"
        return self._asked.method

    @property
    def _in_message(self) -> bool:
        """Tell whether a message has come in part."""
        return self._whole is not None or bool(self._prefix)

    # what comes

    def place(self) -> memoryview | None:
        """Return where the rest of a message is read to."""
        return None if self._whole is None or self._over else self._whole[self._filled :]

    def placed(self, num_bytes: int) -> None:
        """Take note of a part of a message in its place."""
        self._guarded(partial(self._grown, num_bytes))

    def came(self, payload: memoryview) -> None:
        """Take a piece of a body."""
        self._guarded(partial(self._taken, payload))

    def ended(self) -> None:
        """Begin to answer, when all has come."""
        if self._over:
            return
        if self._method.many_in:
            _wake(self._reader)
        elif not self._arrived or self._in_message:
            self.fail(Fault(400, _CUT_OFF))
        else:
            self._start()

    def gone(self) -> None:
        """Take back what is being done for a client that has gone."""
        self._stop()
        self._cancel()
        self._release()

    def overdue(self, now_s: float) -> None:
        """Give up a call whose message does not come."""
        waits = self._task is None or self._whole is not None  # for the first message, or the rest of a later one
        if waits and not self._over and now_s - self._message_s > self._service.body_s:
            self.fail(Fault(408, f"the message did not come within {self._service.body_s:g} s"))
            self._cancel()

    def _guarded(self, take: Callable[[], None]) -> None:
        if self._over:
            return
        try:
            take()
        except Fault as fault:
            self.fail(fault)
            self._cancel()

    def _taken(self, payload: memoryview) -> None:
        while payload:
            if self._whole is not None:
                size = min(len(payload), len(self._whole) - self._filled)
                self._whole[self._filled : self._filled + size] = payload[:size]
                payload = payload[size:]
                self._grown(size)
                continue
            size = _PREFIX_BYTES - len(self._prefix)
            self._prefix += payload[:size]
            payload = payload[size:]
            if len(self._prefix) == _PREFIX_BYTES:
                payload = self._begun(payload)

    def _begun(self, payload: memoryview) -> memoryview:
        """Begin a message whose prefix has come → what follows it."""
        packed, size = self._prefix[0], int.from_bytes(self._prefix[1:], "big")
        self._prefix = b""
        if size > self._service.max_bytes:
            raise Fault(413, f"the message is larger than {self._service.max_bytes} bytes")
        if packed and self._asked.coding == b"identity":
            raise Fault(400, "the message is packed, and no grpc-encoding says how")
        if self._arrived and not self._method.many_in:
            raise Fault(400, "the call has more than one message")
        self._packed, self._message_s = bool(packed), self._connection.loop.time()
        if size <= len(payload):
            self.hold.grow(_MESSAGE_BYTES + size)
            self._deliver(bytes(payload[:size]))
            return payload[size:]
        self.hold.grow(_MESSAGE_BYTES)
        pad = -raw_at(payload) % _ALIGNED_BYTES  # memory is not touched before the bytes come
        self._whole, self._filled = np.empty(pad + size, np.uint8).data[pad:], 0
        return payload

    def _grown(self, num_bytes: int) -> None:
        assert self._whole is not None, "a message is being read"
        self.hold.grow(num_bytes)
        self._filled += num_bytes
        if self._filled == len(self._whole):
            whole, self._whole = self._whole, None
            self._deliver(whole)

    def _deliver(self, message: bytes | memoryview) -> None:
        self._arrived.append((message, self._packed))
        _wake(self._reader)

    # what is done

    def _start(self) -> None:
        self._task = self._connection.loop.create_task(self._answer())

    async def _answer(self) -> None:
        method = self._method
        try:
            given = self._messages() if method.many_in else await self._read(await self._plain(*self._arrived[0]))
            if method.many_out:
                async for made in method.run(given, self):
                    await self._write(method.write(made))
                self._finish(metadata.OK)
            else:
                self._finish(metadata.OK, "", method.write(await method.run(given, self)))
        except Fault as fault:
            self.fail(fault)
        except Exception:
            _LOG.exception("%s failed", self._asked.path)
            self._finish(metadata.INTERNAL, "the server failed: see its log")

    async def _plain(self, message: bytes | memoryview, packed: bool) -> bytes | memoryview:
        """Unpack a message, beside the loop."""
        if not packed:
            return message
        unpack = partial(codings.unpacked, message, self._asked.coding, self._service.max_bytes, self._grow)
        return await self._service.readers.read(self.client, unpack)

    def _grow(self, num_bytes: int) -> None:
        if self._over:
            raise Fault(499, "the client has gone")
        self.hold.grow(num_bytes)

    async def _read(self, message: bytes | memoryview) -> Any:
        """Read a message: beside the loop where it may take long."""
        read = self._method.read
        if read is None:
            return message
        try:
            if len(message) > limits.INLINE_BYTES:
                return await self._service.readers.read(self.client, partial(read, bytes(message)))
            return read(bytes(message))
        except DecodeError as error:
            raise Fault(400, f"request is no message of {self._asked.path}: {error}") from error

    async def _messages(self) -> AsyncIterator[Any]:
        """Give messages as they come; room for each is given back when the next is asked for."""
        while True:
            while not self._arrived:
                if self.half_closed and self._in_message:
                    raise Fault(400, _CUT_OFF)
                if self.half_closed:
                    return
                self._reader = self._connection.loop.create_future()
                await self._reader
            message, packed = self._arrived.popleft()
            plain = await self._plain(message, packed)
            yield await self._read(plain)
            if not self._over:
                self.hold.shrink(_MESSAGE_BYTES + len(message) + (len(plain) if packed else 0))
            if not self.half_closed:
                self._connection.out.refill(self.number, len(message) + _PREFIX_BYTES)
            del message, plain

    async def _write(self, payload: bytes) -> None:
        """Send one answer of many, and wait until it is on its way."""
        self._connection.answered()
        head, self._sent_head = b"" if self._sent_head else metadata.HEAD, True
        if not self._connection.out.send(self, head, (prefix(payload), payload), b"") and not self._over:
            self._writer = self._connection.loop.create_future()
            await self._writer

    def sent(self) -> None:
        """Go on when all that waited has been sent."""
        if self._over:
            self._close()
        else:
            _wake(self._writer)

    def _expire(self) -> None:
        self._finish(metadata.DEADLINE, "the deadline of the call has passed")
        self._cancel()

    def fail(self, fault: Fault) -> None:
        """End the call with the status of a fault."""
        self._finish(metadata.status_of(fault), fault.text)

    def _finish(self, status: int, text: str = "", payload: bytes | None = None) -> None:
        """Send the end of the call, and its answer if it has one."""
        if self._over:
            return
        tail = metadata.trailers(status, text)
        body = () if payload is None else (prefix(payload), payload)
        head = b"" if self._sent_head else metadata.HEAD
        if not body:
            head, tail = b"", head + tail
        self._stop()
        if self._connection.out.send(self, head, body, tail):
            self._close()
        else:
            self._owe()

    def _owe(self) -> None:
        """Hold what the client has not read: it takes room, of which each client has its share."""
        try:
            self.hold.resize(sum(len(payload) for _, _, payload in self.waiting))
        except Fault:  # there is none left
            self._release()
            self._connection.out.reset(self.number, CALM)
            self._connection.close(self, early=False)

    def _close(self) -> None:
        """Forget a call whose answer is on its way."""
        self._release()
        self._connection.close(self, early=not self.half_closed)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _stop(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._arrived.clear()
        self._whole = None

    def _release(self) -> None:
        """Give back what the call holds: its room, and its place among the calls."""
        self.hold.__exit__()
        if self._counted:
            self._service.calls.leave(self.client)
        self._counted = False


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
