"""A door in front of a server → latency and time to first byte of every request, for servers whose pages have none.

HTTP/1.1 is passed through as it comes: heads unchanged, bodies piece by piece in both directions, each piece only once
the one before was taken. So memory is bounded by the number of connections and not by what they carry. What is timed
are requests that ask for work (POST): the whole, and until the first byte of the answer's body, which is the first
token of a streamed answer. An answer that breaks off, or never comes, counts as late; a client that hangs up does not.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from asyncio import StreamReader, StreamWriter
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from amble.core.errors import Refused
from amble.services.govern.fetch import Fetch
from amble.services.govern.maps import ServerMap, Source

__all__ = ["Proxy", "Way", "with_proxy"]

_PIECE = 65536  # bytes in flight in one direction of a connection, and the longest head
_MOST = 1024  # connections at a time
_OPEN_S = 5.0
_FORM = re.compile(r"([^=]*):(\d+)=([^=]*):(\d+)")
_WHOLE, _FIRST = "amble_proxy_seconds", "amble_proxy_first_byte_seconds"
_TAKEN, _ANSWERED, _RUNNING = "amble_proxy_requests_total", "amble_proxy_answers_total", "amble_proxy_running"


@dataclass(frozen=True, slots=True)
class Way:
    """From where to where."""

    host: str
    port: int
    to_host: str
    to_port: int

    @classmethod
    def parse(cls, text: str) -> Way:
        """Read ``:9000=:8000`` or ``0.0.0.0:9000=10.0.0.2:8000``; Refused when it is not like that."""
        match = _FORM.fullmatch(text.strip())
        if match is None or not all(0 <= int(match.group(at)) < 65536 for at in (2, 4)):
            raise Refused(f"--proxy {text!r} is not like ':9000=:8000': where clients come to, and where the server is")
        local = "127.0.0.1"
        return cls(match[1] or local, int(match[2]), match[3] or local, int(match[4]))


def with_proxy(server: ServerMap) -> ServerMap:
    """Return a server's map whose requests, ``latency`` and ``ttft`` are the proxy's."""
    latencies = server.latencies | {"latency": Source((_WHOLE,)), "ttft": Source((_FIRST,))}
    mine = {"arrivals": Source((_TAKEN,)), "finished": Source((_ANSWERED,)), "running": Source((_RUNNING,))}
    return msgspec.structs.replace(server, latencies=latencies, series=server.series | mine)


class Proxy:
    """Passes requests on in a thread of its own, until stopped, and counts them."""

    def __init__(self, way: Way, edges_s: tuple[float, ...]) -> None:
        self._way = way
        self._edges_s = edges_s
        self._whole, self._first = ([0] * (len(edges_s) + 1) for _ in range(2))
        self._taken = self._answered = self._running = self._connections = 0
        self._server: asyncio.Server | None = None
        self.port = way.port

    def start(self) -> None:
        """Open the door; Refused when its port is taken."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="amble proxy", daemon=True)
        self._thread.start()
        try:
            self._server = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10.0)
        except OSError as error:
            self.stop()
            way = self._way
            raise Refused(
                f"port {way.port} of {way.host} cannot be listened on: {error.strerror}; choose another for --proxy"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Close the door, and hang up on those who are still there."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()

    def beside(self, fetch: Fetch) -> Fetch:
        """Return pages that have the proxy's series too."""
        return lambda: f"{fetch()}\n{self.page()}"

    def page(self) -> str:
        """Return the proxy's series as lines of a page."""
        lines = [f"{_TAKEN} {self._taken}", f"{_ANSWERED} {self._answered}", f"{_RUNNING} {self._running}"]
        for name, counts in ((_WHOLE, list(self._whole)), (_FIRST, list(self._first))):
            below = 0
            for edge, count in zip((*map(repr, self._edges_s), "+Inf"), counts, strict=True):
                below += count
                lines.append(f'{name}_bucket{{le="{edge}"}} {below}')
        return "\n".join(lines)

    async def _open(self) -> asyncio.Server:
        return await asyncio.start_server(self._client, self._way.host, self._way.port, limit=_PIECE)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            await asyncio.sleep(0.05)  # whoever was let in by then is a client below
        here = asyncio.current_task()
        rest = [task for task in asyncio.all_tasks() if task is not here]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0.01)  # what was closed is closed by then

    async def _client(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > _MOST:
                await _say(writer, 503, "too many connections")
            else:
                await self._requests(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client hung up, its head is too long, or the door closes
        except ValueError:
            with suppress(OSError):
                await _say(writer, 400, "not a request of HTTP/1.1")
        finally:
            self._connections -= 1
            writer.close()

    async def _requests(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Pass on one request after the other, all over one connection to the server."""
        upstream: tuple[StreamReader, StreamWriter] | None = None
        try:
            while True:
                head = _Head.of(await reader.readuntil(b"\r\n\r\n"))
                timed = head.line.startswith(b"POST ")
                start_s = time.perf_counter()
                self._taken += timed
                self._running += timed
                exchange = _Exchange(head, reader, writer)
                try:
                    upstream = upstream or await self._reach()
                    keep = await exchange.passed(*upstream)
                except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                    keep = False
                    if exchange.client_gone:
                        timed = False
                    elif not exchange.answering:
                        await _say(writer, 502, f"the server does not answer: {error or type(error).__name__}")
                finally:
                    self._running -= head.line.startswith(b"POST ")
                if timed:
                    self._count(exchange, start_s)
                if not keep:
                    return
        finally:
            if upstream is not None:
                upstream[1].close()

    async def _reach(self) -> tuple[StreamReader, StreamWriter]:
        async with asyncio.timeout(_OPEN_S):
            return await asyncio.open_connection(self._way.to_host, self._way.to_port, limit=_PIECE)

    def _count(self, exchange: _Exchange, start_s: float) -> None:
        whole_s = time.perf_counter() - start_s if exchange.whole else float("inf")
        first_s = whole_s if exchange.first_s is None else exchange.first_s - start_s
        self._answered += 1
        self._whole[bisect_left(self._edges_s, whole_s)] += 1
        self._first[bisect_left(self._edges_s, first_s)] += 1


@dataclass(frozen=True, slots=True)
class _Head:
    """A head as it came, and what it says of the body and of the connection. ``length``: -1 in chunks, None unknown."""

    raw: bytes
    line: bytes
    length: int | None
    keep: bool

    @classmethod
    def of(cls, raw: bytes) -> _Head:
        """Read a head. Raises ValueError for what two readers could understand differently."""
        line, *rows = raw[:-4].split(b"\r\n")
        lengths, chunked, keep = set(), False, b"HTTP/1.1" in line
        for row in rows:
            name, colon, value = row.partition(b":")
            if not colon or name != name.strip() or not name:
                raise ValueError("a header without a name")
            match name.lower():
                case b"content-length":
                    if not value.strip().isdigit():
                        raise ValueError("a length that is no number")
                    lengths.add(int(value))
                case b"transfer-encoding":
                    if value.strip().lower() != b"chunked":
                        raise ValueError("an unknown transfer encoding")
                    chunked = True
                case b"connection":
                    keep = keep and b"close" not in value.lower()
        if len(lengths) > 1 or (lengths and chunked):
            raise ValueError("two lengths")
        return cls(raw, line, -1 if chunked else next(iter(lengths), None), keep)

    @property
    def status(self) -> int:
        """Return the status of an answer."""
        return int(self.line.split(b" ", 2)[1])


class _Exchange:
    """One request and its answer."""

    def __init__(self, head: _Head, reader: StreamReader, writer: StreamWriter) -> None:
        self._head, self._reader, self._writer = head, reader, writer
        self.answering = self.whole = self.client_gone = False
        self.first_s: float | None = None

    async def passed(self, from_server: StreamReader, to_server: StreamWriter) -> bool:
        """Pass both on; tell whether the connections can be used again."""
        to_server.write(self._head.raw)
        await to_server.drain()
        sending = asyncio.create_task(self._send(to_server))
        try:
            answer = await self._answer(from_server)
            self.whole = True
            return sending.done() and self._head.keep and answer.keep and answer.length is not None
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError, OSError, EOFError, ValueError):
                await sending

    async def _send(self, to_server: StreamWriter) -> None:
        try:
            async for piece in _body(self._reader, self._head.length or 0):
                to_server.write(piece)
                await to_server.drain()
        except (EOFError, ValueError):
            self.client_gone = True
            to_server.close()

    async def _answer(self, from_server: StreamReader) -> _Head:
        while True:
            answer = _Head.of(await from_server.readuntil(b"\r\n\r\n"))
            await self._give(answer.raw)
            self.answering = True
            if answer.status >= 200 or answer.status == 101:
                break
        if answer.status == 101:
            raise ConnectionError("another protocol is not passed on")
        if self._head.line.startswith(b"HEAD ") or answer.status in (204, 304):
            return _Head(answer.raw, answer.line, 0, answer.keep)
        async for piece in _body(from_server, answer.length):
            if self.first_s is None:
                self.first_s = time.perf_counter()
            await self._give(piece)
        return answer

    async def _give(self, piece: bytes) -> None:
        try:
            self._writer.write(piece)
            await self._writer.drain()
        except OSError:
            self.client_gone = True
            raise


async def _body(reader: StreamReader, length: int | None) -> AsyncIterator[bytes]:
    """Yield a body as it is on the line: of so many bytes, in chunks (-1), or until the end (None)."""
    if length is None:
        while piece := await reader.read(_PIECE):
            yield piece
    elif length >= 0:
        async for piece in _exactly(reader, length):
            yield piece
    else:
        size = -1
        while size != 0:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line
            if size > 0:
                async for piece in _exactly(reader, size + 2):
                    yield piece
        while line != b"\r\n":  # trailers
            line = await reader.readuntil(b"\r\n")
            yield line


async def _exactly(reader: StreamReader, size: int) -> AsyncIterator[bytes]:
    while size > 0:
        piece = await reader.read(min(size, _PIECE))
        if not piece:
            raise EOFError("a body breaks off")
        size -= len(piece)
        yield piece


async def _say(writer: StreamWriter, status: int, why: str) -> None:
    body = f"amble proxy: {why}\n".encode()
    writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    await writer.drain()
