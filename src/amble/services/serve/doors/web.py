"""ASGI applications on sockets, by uvicorn: errors in JSON, time limits, a head count, bodies read in place.

The one module that knows uvicorn (extra ``serve``).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import httptools
import numpy as np
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from amble.runtimes.remote import limits
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.doors.handshake import Entrance, Guard
from amble.services.serve.doors.http import ALIGNED_BYTES, AT_ONCE, CAME, GONE, LENGTH, WHOLE, App, Scope
from amble.services.serve.doors.sockets import listen, reserve

__all__ = ["Patience", "Web", "listen", "new_loop", "reserve"]

_OFFERS = (b"upgrade", b"http2-settings")
_AT_ONCE_BYTES = 1 << 30
_SCRATCH_BYTES = 16 << 10


def new_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop: uvloop's."""
    made: asyncio.AbstractEventLoop = _Loop()
    return made


class _Loop(uvloop.Loop):  # type: ignore[misc]
    """uvloop's loop, whose servers count those who shake hands."""

    async def create_server(self, *arguments: Any, **named: Any) -> Any:
        guard = named.get("ssl")
        if isinstance(guard, Guard):
            return Entrance(named["sock"], guard, arguments[0])
        return await super().create_server(*arguments, **named)


@dataclass(frozen=True, slots=True)
class Patience:
    """Times [s] that a client may take for its headers, to go on reading an answer, and to ask for more."""

    headers_s: float = 10.0
    answer_s: float = 30.0
    idle_s: float = 75.0


class Web:
    """One application on one socket."""

    def __init__(
        self, app: App, opened: socket.socket, patience: Patience, crowd: Crowd, tls: ssl.SSLContext | None = None
    ) -> None:
        """Serve an application to as many connections as a crowd may have, over TLS where a context is given."""
        self._socket = opened
        scratch = memoryview(bytearray(_SCRATCH_BYTES))  # of this loop's connections: read and parsed in one go
        config = uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", partial(_connection, patience, crowd, scratch)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            date_header=False,
            timeout_keep_alive=patience.idle_s,  # type: ignore[arg-type]  # any number will do
            timeout_graceful_shutdown=5,
        )
        config.load()
        config.ssl = None if tls is None else cast("ssl.SSLContext", Guard(tls, crowd))
        self._server = _Server(config)

    async def run(self) -> None:
        """Serve until ``stop``."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Take no more connections, finish what is being answered, and return from ``run``."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol; what it says by itself is JSON, and nobody may take forever to say what he wants.

    A body whose length is told is handed over whole, in the scope; the connection reads it to where it stays.
    """

    _patience: asyncio.TimerHandle | None = None
    _waits: bool = False  # for headers
    _entered: bool = False  # counted in the crowd
    _head_bytes: int = 0  # of headers that are not complete
    _unread: asyncio.TimerHandle | None = None  # until a client must have read some of its answer
    _told_bytes: int = 0  # of the body, where its length is told
    _pad_bytes: int = 0  # go before the body, so that the tensors in it are aligned
    _body: memoryview | None = None  # where the rest of a body is read to; None: it is thrown away
    left_bytes: int = 0  # of that rest; 0: what comes next goes to the parser
    _idle_since_s: float | None = None  # on the loop's clock; None: it has asked, or begun to
    _keeping: asyncio.TimerHandle | None = None  # looks whether it has been idle for long, not at each request anew

    def __init__(self, patience: Patience, crowd: Crowd, scratch: memoryview, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.scratch = scratch
        self._headers_s = patience.headers_s
        self._answer_s = patience.answer_s
        self._crowd = crowd
        self._chunks: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Greet a client, unless the house is full."""
        super().connection_made(transport)
        self._held = self._crowd.unread(self._whose())
        if not self._crowd.enter(self._whose()):
            self._turn_away(503, "too many connections, of all clients or of yours: try again later")
            return
        self._entered = True
        self._patience = self.loop.call_later(self._headers_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application when it works for a client that has gone."""
        self._calm()
        self._resumed()
        if self._entered:
            self._crowd.leave(self._whose())
            self._entered = False
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None
        self._body = None
        scope = cast("Scope", self.scope or {})
        gone = scope.get(GONE)
        super().connection_lost(exc)
        if gone is not None:
            gone()

    def data_received(self, data: bytes) -> None:
        """Parse; what is left of a large body then comes without the parser, and of headers within their time."""
        self._idle_since_s = None
        self._parse(data)
        self._head_bytes = self._head_bytes + len(data) if self._waits else 0
        if self._head_bytes > limits.HEADER_BYTES and not self.transport.is_closing():
            self._turn_away(431, f"the headers are larger than {limits.HEADER_BYTES} bytes")
            return
        if self._waits and self._patience is None:
            self._patience = self.loop.call_later(self._headers_s, self._give_up)
        came = sum(map(len, self._chunks))
        if came and came < self._told_bytes and not self.transport.is_closing():
            self._begin_rest(came)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("this is no HTTP")
        except httptools.HttpParserUpgrade as stop:
            self._stay(data[stop.args[0] :])

    def _stay(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 with a client that offered another protocol: as if it had not, and had its body read."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.send_400_response("this is no proxy")
            return
        lines = [b"%b %b HTTP/1.1" % (method, self.url)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in _OFFERS]
        self.parser = httptools.HttpRequestParser(self)
        self._parse(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def place(self) -> memoryview:
        """Return where the rest of a body is to be read to."""
        return self.scratch[: self.left_bytes] if self._body is None else self._body[-self.left_bytes :]

    def placed(self, num_bytes: int) -> None:
        """Take note of what was read to its place."""
        self.left_bytes -= num_bytes
        if self.cycle.response_complete:  # refused, most likely
            self._body = None
        elif self._body is not None:
            self._count(num_bytes)
        if not self.left_bytes:
            self._end_rest()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._waits = True
        self._told_bytes = 0
        self._chunks.clear()

    def on_headers_complete(self) -> None:
        """Go on with a request whose headers are here."""
        if self.parser.should_upgrade():
            return  # the parser stops there, and is asked again without the offer
        self._calm()
        told = dict(self.headers)
        length = int(told.get(b"content-length", b"0"))  # the application makes room for what is told only
        self._told_bytes = length if length <= _AT_ONCE_BYTES else 0
        head = told.get(LENGTH, b"")
        self._pad_bytes = -int(head) % ALIGNED_BYTES if head.isdigit() else 0
        super().on_headers_complete()
        if self.scope["method"] == "POST":
            cast("Scope", self.scope)[AT_ONCE] = partial(_send_at_once, self.cycle)

    def on_body(self, body: bytes) -> None:
        """Collect what came with the headers of a body whose length is told."""
        if self._told_bytes:
            self._chunks.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Hand over a body that the parser has seen all of."""
        if self.parser.should_upgrade():
            return
        if self._chunks:
            self._hand_over(memoryview(b"".join([bytes(self._pad_bytes), *self._chunks])))
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what a client has sent meanwhile, or take note that it has nothing to ask."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since_s = self.loop.time()
        if self._keeping is None:
            self._keeping = self.loop.call_later(self.timeout_keep_alive, self._keep)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._turn_away(400, msg)

    def _begin_rest(self, came: int) -> None:
        """Make a place for a body of which a part has come. Memory is not touched before the bytes come."""
        whole = np.empty(self._pad_bytes + self._told_bytes, np.uint8).data
        whole[self._pad_bytes : self._pad_bytes + came] = b"".join(self._chunks)
        self._chunks.clear()
        self._body, self.left_bytes = whole, self._told_bytes - came

    def _end_rest(self) -> None:
        """Hand over a body that was read to its place, and parse anew what follows it."""
        self.parser = httptools.HttpRequestParser(self)
        if self._body is not None:
            self._hand_over(self._body)
        self._body = None
        super().on_message_complete()

    def _count(self, num_bytes: int) -> None:
        """Tell the application of bytes that have come; it may want no more."""
        scope = cast("Scope", self.cycle.scope)
        came = scope.get(CAME)
        if came is None:
            return
        try:
            came(num_bytes)
        except Fault as fault:
            self._body = None
            scope[WHOLE] = fault
            self.cycle.message_event.set()

    def pause_writing(self) -> None:
        """Give a client that does not read its answer some time to do so."""
        super().pause_writing()
        self._held.wait(self.transport)
        if self._unread is None:
            self._unread = self.loop.call_later(self._answer_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with a client that reads."""
        super().resume_writing()
        self._resumed()

    def _resumed(self) -> None:
        self._held.over()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _keep(self) -> None:
        """Close a connection that has been idle for too long, or look again when it will have been."""
        self._keeping = None
        if self._idle_since_s is None:
            return  # the answer that is due begins anew
        left_s = self._idle_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._keeping = self.loop.call_later(left_s, self._keep)
        else:
            self.timeout_keep_alive_handler()

    def _whose(self) -> str:
        """Return whose connection this is: an address."""
        return self.client[0] if self.client else ""

    def _hand_over(self, body: memoryview) -> None:
        cast("Scope", self.cycle.scope)[WHOLE] = body[self._pad_bytes :]
        self._chunks.clear()

    def _calm(self) -> None:
        self._waits = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        self._turn_away(408, f"no request within {self._headers_s:g} s")

    def _turn_away(self, status: int, text: str) -> None:
        body = b'{"error":"%s"}' % text.encode()
        head = f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        if not self.transport.is_closing():
            self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
            self.transport.close()


def _send_at_once(
    cycle: RequestResponseCycle, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> bool:
    """Write a whole response as uvicorn would, but at once; False when its client is slow to read."""
    if cycle.flow.write_paused or cycle.response_started:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    if cycle.disconnected:
        return True
    head = b"".join([b"%b: %b\r\n" % header for header in headers])
    ending = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
    cycle.transport.write(b"".join([STATUS_LINE[status], head, ending, body]))
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


class _Intake(asyncio.BufferedProtocol):
    """What the socket reads → the protocol, in the place that it names.

    What is shared is shared within one event loop only: while one loop reads, that of another door may run.
    """

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        self.connection_made = protocol.connection_made  # type: ignore[assignment, method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to read to."""
        protocol = self._protocol
        return protocol.place() if protocol.left_bytes else protocol.scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        protocol = self._protocol
        if protocol.left_bytes:
            protocol.placed(nbytes)
        else:
            protocol.data_received(bytes(protocol.scratch[:nbytes]))


def _connection(patience: Patience, crowd: Crowd, scratch: memoryview, *arguments: Any, **named: Any) -> _Intake:
    return _Intake(_Protocol(patience, crowd, scratch, *arguments, **named))
