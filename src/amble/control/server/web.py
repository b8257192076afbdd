"""ASGI applications on sockets, by uvicorn: its protocol with JSON errors, a time limit on headers, and a head count.

The one module that knows uvicorn (extra ``serve``).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from amble.control.server.http import ALIGNED_BYTES, GONE, LENGTH, PAD, App, Scope
from amble.core.errors import Refused

__all__ = ["Web", "listen", "new_loop"]

_KEEP_ALIVE_S = 75
_MOST_CONNECTIONS = 4096
_BACKLOG = 2048
_AT_ONCE_BYTES = 1 << 20


def listen(host: str, port: int, what: str) -> socket.socket:
    """Open a listening socket; port 0 takes a free one. Refused when the port is taken or not allowed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise Refused(
            f"cannot listen on {host}:{port} for {what}: {error.strerror}; choose another with --{what}-port"
        ) from error
    opened.setblocking(False)
    return opened


def new_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop: uvloop's."""
    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made


class Web:
    """One application on one socket."""

    def __init__(self, app: App, opened: socket.socket, *, headers_s: float) -> None:
        self._socket = opened
        config = uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", partial(_Protocol, headers_s)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
        )
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
    """uvicorn's protocol; what it says by itself is JSON, and nobody may take forever to say what he wants."""

    _patience: asyncio.TimerHandle | None = None
    _num_bytes: int = 0
    _at_once_bytes: int = 0
    _pad: bytes = b""  # goes before a body that is handed over whole

    def __init__(self, headers_s: float, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._headers_s = headers_s
        self._chunks: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Greet a client, unless the house is full."""
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            self._turn_away(503, f"too many connections ({_MOST_CONNECTIONS}): try again later")
            return
        self._patience = self.loop.call_later(self._headers_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application when it works for a client that has gone."""
        self._calm()
        scope = cast("Scope", self.scope or {})
        gone = scope.get(GONE)
        super().connection_lost(exc)
        if gone is not None:
            gone()

    def on_message_begin(self) -> None:
        """Give a client its time for the headers."""
        super().on_message_begin()
        if self._patience is None:
            self._patience = self.loop.call_later(self._headers_s, self._give_up)

    def on_headers_complete(self) -> None:
        """Go on with a request whose headers are here."""
        self._calm()
        told = dict(self.headers)
        self._at_once_bytes = 0
        self._pad = b""
        if b"content-length" in told:  # the application makes room for what is told only
            self._at_once_bytes = _AT_ONCE_BYTES
            if (length := told.get(LENGTH, b"")).isdigit():
                self._pad = bytes(-int(length) % ALIGNED_BYTES)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect a body, so that the application is woken once for most of them and nothing is copied twice."""
        self._chunks.append(body)
        self._num_bytes += len(body)
        if self._num_bytes >= self._at_once_bytes:
            self._pad = b""
            self._hand_over()

    def on_message_complete(self) -> None:
        """Hand over what is left of a body."""
        self._hand_over()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._turn_away(400, msg)

    def _hand_over(self) -> None:
        if not self._chunks:
            return
        cast("Scope", self.cycle.scope)[PAD] = len(self._pad)
        body = b"".join([self._pad, *self._chunks]) if self._pad or len(self._chunks) > 1 else self._chunks[0]
        self._chunks.clear()
        self._num_bytes = 0
        if self.cycle.body or self.cycle.response_complete:
            super().on_body(body)
        else:  # as bytes, which uvicorn passes on without another copy
            self.cycle.body = body  # type: ignore[assignment]
            self.cycle.message_event.set()

    def _calm(self) -> None:
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
