"""How clients of HTTP/2 must behave: what breaks the protocol, and how much they may make a server do for nothing.

Pings, settings, streams that are taken back, headers in pieces, frames with nothing in them: each costs work and asks
for no answer. A client may send some, the more so the more it asks for besides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amble.services.serve.doors.crowd import Crowd
    from amble.services.serve.doors.hpack import Headers
    from amble.services.serve.doors.http2 import Connection
    from amble.services.serve.doors.outgoing import Stream

__all__ = ["Broken", "House", "Noise"]

NO_ERROR, PROTOCOL, FLOW, CLOSED, SIZE, REFUSED, COMPRESSION, CALM = 0, 1, 3, 5, 6, 7, 9, 11
_MOST = 1000
_QUIET_S = 60.0  # after which it begins anew
_FORGIVEN = 10  # with each answer


class Broken(Exception):
    """The client breaks the protocol: the connection ends with this code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass(slots=True)
class Noise:
    """Frames of one connection that cost work and asked for nothing."""

    since_s: float
    frames: int = 0

    def count(self, now_s: float) -> None:
        """Count one more; Broken when there were too many."""
        if now_s - self.since_s > _QUIET_S:
            self.since_s, self.frames = now_s, 0
        self.frames += 1
        if self.frames > _MOST:
            raise Broken(CALM, "too many frames that ask for nothing")

    def forgive(self) -> None:
        """Make up for some: a request was answered."""
        self.frames = max(0, self.frames - _FORGIVEN)


@dataclass(slots=True)
class House:
    """What all connections share: who takes requests, how many and how much may come, and for how long one waits [s].

    ``begin`` makes a stream of headers: connection, number, headers (None: too large), whether nothing follows.
    """

    begin: Callable[[Connection, int, Headers | None, bool], Stream | None]
    crowd: Crowd
    stream_bytes: int
    handshake_s: float = 10.0
    answer_s: float = 30.0
    idle_s: float = 75.0
    look_s: float = 5.0
    scratch: memoryview = field(default_factory=lambda: memoryview(bytearray(1 << 16)))
    connections: set[Connection] = field(default_factory=set)
