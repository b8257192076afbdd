"""A request that is sent again and again → a latency histogram of our own, for servers whose pages have none.

The file is JSON: ``url``, ``body`` (any JSON) and, if need be, ``headers``. Requests go out at moments of a Poisson
process, so that they meet the server as others do; each waits for its answer. What is judged then is the canary's
latency and no other request's: the report says so.
"""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.request
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from amble.core.errors import Refused
from amble.services.govern.fetch import Fetch
from amble.services.govern.maps import ServerMap, Source
from amble.services.govern.objective import Objective

__all__ = ["SERIES", "Canary", "Request", "edges_s", "load_request", "with_canary"]

SERIES = "amble_canary_seconds"


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sent."""

    url: str
    body: object = None
    headers: dict[str, str] = {}


def load_request(path: Path) -> Request:
    """Read a request; Refused when the file is not one."""
    try:
        request = msgspec.json.decode(path.read_bytes(), type=Request)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Refused(f'--canary {path}: {error}; write {{"url": "http://…", "body": {{…}}}}') from error
    if not request.url.startswith(("http://", "https://")):
        raise Refused(f"--canary {path}: url {request.url!r} must begin with http:// or https://")
    return request


def edges_s(objectives: tuple[Objective, ...]) -> tuple[float, ...]:
    """Return bucket edges [s] with one at every limit, and six to an octave of ten between."""
    limits = [each.limit_s for each in objectives]
    grid = [1e-4 * 10.0 ** (step / 6.0) for step in range(37)]
    return tuple(sorted({*(round(edge, 9) for edge in grid), *limits}))


def with_canary(server: ServerMap) -> ServerMap:
    """Return a server's map whose ``latency`` is the canary's."""
    latencies = server.latencies | {"latency": Source((SERIES,))}
    return msgspec.structs.replace(server, latencies=latencies)


@dataclass
class Canary:
    """Sends a request ``rate_hz`` [1/s] times a second on average, until stopped; a failure counts as late."""

    send: Callable[[], None]
    rate_hz: float
    edges_s: tuple[float, ...]
    seed: int = 0
    _counts: list[int] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, request: Request, rate_hz: float, objectives: tuple[Objective, ...], timeout_s: float) -> Canary:
        """Return a canary that sends this request over HTTP."""
        return cls(lambda: _send(request, timeout_s), rate_hz, edges_s(objectives))

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._sing, name="amble canary", daemon=True).start()

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()

    def once(self) -> None:
        """Send one request and count its latency."""
        start_s = time.perf_counter()
        try:
            self.send()
            took_s = time.perf_counter() - start_s
        except OSError:
            took_s = float("inf")
        with self._guard:
            self._counts = self._counts or [0] * (len(self.edges_s) + 1)
            self._counts[bisect_left(self.edges_s, took_s)] += 1

    def beside(self, fetch: Fetch) -> Fetch:
        """Return pages that have the canary's histogram too."""
        return lambda: f"{fetch()}\n{self.page()}"

    def page(self) -> str:
        """Return the canary's histogram as lines of a page."""
        with self._guard:
            counts = list(self._counts) or [0] * (len(self.edges_s) + 1)
        below, lines = 0, []
        for edge, count in zip((*(repr(each) for each in self.edges_s), "+Inf"), counts, strict=True):
            below += count
            lines.append(f'{SERIES}_bucket{{le="{edge}"}} {below}')
        return "\n".join(lines)

    def _sing(self) -> None:
        lot = random.Random(self.seed)  # noqa: S311
        while not self._stop.wait(lot.expovariate(self.rate_hz)):
            self.once()


def _send(request: Request, timeout_s: float) -> None:
    body = None if request.body is None else json.dumps(request.body).encode()
    headers = {"Content-Type": "application/json", **request.headers}
    asked = urllib.request.Request(request.url, data=body, headers=headers)  # noqa: S310  the scheme was looked at
    with urllib.request.urlopen(asked, timeout=timeout_s) as answer:  # noqa: S310
        answer.read()
