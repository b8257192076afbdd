"""A URL → the text of its metrics page, over HTTP or HTTPS, kept alive, with a bearer token and a CA file."""

from __future__ import annotations

import http.client
import queue
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from amble.core.errors import Refused

__all__ = ["Fetch", "Gone", "Http", "Line", "within"]

_LARGEST = 32 * 2**20
Fetch = Callable[[], str]


class Gone(Exception):
    """The page did not come; the text says why. Expected now and then: servers restart."""


@dataclass(frozen=True, slots=True)
class Http:
    """How to reach a page. ``timeout_s`` bounds each wait [s]; ``ca`` is a file of trusted certificates."""

    url: str
    timeout_s: float = 1.0
    token: str | None = None
    ca: Path | None = None

    def open(self) -> Line:
        """Return a line to the page, not connected yet; Refused when the address is none."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refused(f"{self.url!r} is no address of a metrics page; write http://HOST:PORT/metrics")
        try:
            port = parts.port
            context = ssl.create_default_context(cafile=str(self.ca)) if parts.scheme == "https" and self.ca else None
        except (ValueError, OSError, ssl.SSLError) as error:
            raise Refused(f"{self.url}: {error}; give a port from 1 to 65535, and a PEM file as --ca") from error
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, port, timeout=self.timeout_s, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, port, timeout=self.timeout_s)
        headers = {"Accept": "text/plain;version=0.0.4"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        path = (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
        return Line(connection, path, headers, self.url)


class Line:
    """A connection that is kept from one page to the next."""

    def __init__(self, connection: http.client.HTTPConnection, path: str, headers: dict[str, str], url: str) -> None:
        self._connection, self._path, self._headers, self._url = connection, path, headers, url

    def fetch(self) -> str:
        """Get the page; a kept connection that was closed meanwhile is opened once more. Gone when it does not come."""
        for attempt in (1, 2):
            fresh = self._connection.sock is None
            try:
                return self._got()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if attempt == 2 or fresh:
                    raise Gone(f"{self._url} does not answer: {error or type(error).__name__}") from error
        raise AssertionError("two attempts end in a page or an error")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _got(self) -> str:
        self._connection.request("GET", self._path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read(_LARGEST)
        if answer.will_close or answer.status != 200:
            self._connection.close()
        if answer.status != 200:
            remedy = "; give --token-file" if answer.status in (401, 403) else ""
            raise Gone(f"{self._url} answers {answer.status} {answer.reason}{remedy}")
        return body.decode("utf-8", "replace")


def within(fetch: Fetch, limit_s: float, url: str) -> Fetch:
    """Return the same pages, but Gone when one takes longer than a limit [s] in all, whatever it waits for.

    A server that sends a byte now and then keeps every single wait short; the one who waits here does not wait on.
    """
    worker = _Worker(fetch)
    return lambda: worker.page(limit_s, url)


class _Worker:
    """Fetches in a thread of its own, one page at a time; a page that came too late is thrown away."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._asked: queue.Queue[int] = queue.Queue()
        self._given: queue.Queue[tuple[int, str | Gone]] = queue.Queue()
        self._number = 0
        self._busy = False
        self._thread: threading.Thread | None = None

    def page(self, limit_s: float, url: str) -> str:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="amble fetch", daemon=True)
            self._thread.start()
        end_s = time.perf_counter() + limit_s
        if not self._busy:
            self._number += 1
            self._busy = True
            self._asked.put(self._number)
        asked_anew = self._number
        while True:
            try:
                number, found = self._given.get(timeout=max(1e-3, end_s - time.perf_counter()))
            except queue.Empty:
                self._number += 1  # what still comes belongs to nobody
                raise Gone(f"{url} takes longer than {limit_s:g} s") from None
            self._busy = False
            if number == asked_anew:
                break
            self._number += 1
            asked_anew, self._busy = self._number, True
            self._asked.put(self._number)
        if isinstance(found, Gone):
            raise found
        return found

    def _work(self) -> None:
        while True:
            number = self._asked.get()
            try:
                self._given.put((number, self._fetch()))
            except Gone as reason:
                self._given.put((number, reason))
