"""One connection to a server → answers, each with an end by which nobody waits for it any longer.

What is waited for ends at its time, whatever trickles in until then: a watch shuts the connection. A connection that
the server closed while it was idle is opened anew once, which costs a round trip and loses nothing.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from amble.runtimes.remote.client import Body, Remote, Reply, reply_of

__all__ = ["Heard", "Wire"]

_LENGTH = "Inference-Header-Content-Length"
_MOST_BYTES = 1 << 30  # of one answer


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply (status 0: none came), when it was asked for, when it began to come and when it was there [s]."""

    reply: Reply
    asked_s: float
    first_s: float
    whole_s: float

    @property
    def answered(self) -> bool:
        """Tell whether there is an answer."""
        return self.reply.status == 200


class Wire:
    """A connection that is opened when it is needed, and kept."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._connection: http.client.HTTPConnection | None = None
        self._shut = threading.Event()

    def ask(self, method: str, path: str, body: Body | None, until_s: float) -> Heard:
        """Ask, and wait for the answer until then (on ``time.perf_counter``)."""
        asked_s = time.perf_counter()
        for is_old in (self._connection is not None, False):
            try:
                return self._exchange(method, path, body, until_s)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._drop()
                again = is_old and isinstance(error, ConnectionError | http.client.BadStatusLine)
                if again and time.perf_counter() < until_s and not self._shut.is_set():
                    continue
                now_s = time.perf_counter()
                late = now_s >= until_s or isinstance(error, TimeoutError)
                reason = "no answer in time" if late else str(error) or type(error).__name__
                return Heard(Reply(0, reason=reason), asked_s, now_s, now_s)
        raise AssertionError("the second try ends it")

    @property
    def is_open(self) -> bool:
        """Tell whether a question could be sent at once."""
        return self._connection is not None

    def open(self, until_s: float) -> None:
        """Connect before there is anything to ask, so that no question waits for it; nothing is lost where it fails."""
        try:
            self._opened(until_s)
        except (OSError, http.client.HTTPException):
            self._drop()

    def stop(self) -> None:
        """End what is under way, from whatever thread; nothing is asked afterwards."""
        self._shut.set()
        connection = self._connection
        if connection is not None:
            _shut_down(connection)

    def close(self) -> None:
        """Close the connection; only the thread that asks may do so, or it would break under its hands."""
        self.stop()
        self._drop()

    def _exchange(self, method: str, path: str, body: Body | None, until_s: float) -> Heard:
        connection = self._opened(until_s)
        with _watched(connection, until_s):
            asked_s = time.perf_counter()
            headers = dict(body.headers) if body else {}
            connection.request(method, path, body.content if body else None, headers)
            response = connection.getresponse()
            first_s = time.perf_counter()
            content = _read(response)
            whole_s = time.perf_counter()
        if response.will_close:
            self._drop()
        return Heard(reply_of(response.status, content, response.getheader(_LENGTH)), asked_s, first_s, whole_s)

    def _opened(self, until_s: float) -> http.client.HTTPConnection:
        """Return the connection, open; TimeoutError where there is no time for it."""
        left_s = until_s - time.perf_counter()
        if left_s <= 0 or self._shut.is_set():
            raise TimeoutError("no time is left")
        if self._connection is None:
            connection = self._remote.connection()
            connection.timeout = left_s
            connection.connect()
            self._connection = connection
            if self._shut.is_set():  # meanwhile
                raise TimeoutError("no time is left")
        if self._connection.sock is not None:
            self._connection.sock.settimeout(left_s)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _forget(connection)
            _shut_down(connection)
            connection.close()


@contextmanager
def _watched(connection: http.client.HTTPConnection, until_s: float) -> Iterator[None]:
    """Shut a connection at a time, unless the block is done by then; TimeoutError where it was shut."""
    done, shut = threading.Event(), threading.Event()

    def watch() -> None:
        if not done.wait(max(0.0, until_s - time.perf_counter())):
            shut.set()
            _shut_down(connection)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    if shut.is_set():
        raise TimeoutError("no answer in time")


def _forget(connection: http.client.HTTPConnection) -> None:
    """Have what was not sent yet never be sent: nobody waits for its answer, and the link is free for what comes."""
    opened = connection.sock
    if opened is not None:
        with suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _shut_down(connection: http.client.HTTPConnection) -> None:
    opened = connection.sock
    if opened is not None:
        with suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)


def _read(response: http.client.HTTPResponse) -> bytes:
    content = response.read(_MOST_BYTES)
    if response.length:
        raise http.client.IncompleteRead(content, response.length)
    return content
