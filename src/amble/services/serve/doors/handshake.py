"""A listening socket → connections over TLS, each counted before it has shaken hands, and only so many at a time.

Whoever is counted only after the handshake is not counted while it lasts: thousands of clients that connect and say
nothing would then take as much memory and as many file descriptors as they like.

A handshake takes the loop about a millisecond. Thousands that come at once would keep everybody waiting who has shaken
hands already; so they begin one after the other, with time for others in between, and clients take turns.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from amble.services.serve.doors.crowd import Crowd

__all__ = ["Entrance", "Guard", "Turns"]

_HANDSHAKE_S = 10.0
_GOODBYE_S = 2.0
_PACE_S = 0.002  # between two handshakes that begin: about half of the loop's time at most
_REST_S = 0.1  # after a connection that could not be accepted: most likely there is no file descriptor left


@dataclass(frozen=True, slots=True)
class Guard:
    """What connections are let in by: a context for their handshakes, and the places that there are."""

    tls: ssl.SSLContext
    crowd: Crowd


class Turns:
    """Gives turns at a pace, clients one after the other however many each asks for."""

    def __init__(self, pace_s: float) -> None:
        self._pace_s = pace_s
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._next_s = 0.0
        self._set = False

    async def take(self, client: str) -> None:
        """Wait for a turn."""
        turn = self._loop.create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        if not self._set:
            self._set = True
            self._loop.call_at(max(self._next_s, self._loop.time()), self._give)
        await turn

    def _give(self) -> None:
        """Give a turn to the client that has waited longest for one."""
        self._set = False
        while self._waiting:
            client = next(iter(self._waiting))
            asked = self._waiting.pop(client)
            turn = asked.popleft()
            if asked:
                self._waiting[client] = asked
            if not turn.done():
                turn.set_result(None)
                self._next_s = self._loop.time() + self._pace_s
                break
        if self._waiting:
            self._set = True
            self._loop.call_at(self._next_s, self._give)


class Entrance:
    """Takes connections until it is closed; used as asyncio's servers are."""

    def __init__(self, opened: socket.socket, guard: Guard, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._socket = opened
        self._guard = guard
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(_PACE_S)
        self._shaking: set[asyncio.Task[None]] = set()
        self._accepting = self._loop.create_task(self._accept())

    def close(self) -> None:
        """Take no more, and give up with those that have not shaken hands yet."""
        for task in (self._accepting, *self._shaking):
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing is left of it."""
        await asyncio.gather(self._accepting, *self._shaking, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                opened, address = await self._loop.sock_accept(self._socket)
            except OSError:
                await asyncio.sleep(_REST_S)
                continue
            client = str(address[0])
            if not self._guard.crowd.enter(client):
                opened.close()
                continue
            task = self._loop.create_task(self._shake(opened, client))
            self._shaking.add(task)
            task.add_done_callback(partial(self._shaken, opened, client))

    async def _shake(self, opened: socket.socket, client: str) -> None:
        """Shake hands when the client has said something and has its turn; the connection counts itself from then."""
        with suppress(OSError):
            async with asyncio.timeout(_HANDSHAKE_S):
                await self._spoken(opened)
                await self._turns.take(client)
            await self._loop.connect_accepted_socket(
                self._protocol,
                opened,
                ssl=self._guard.tls,
                ssl_handshake_timeout=_HANDSHAKE_S,
                ssl_shutdown_timeout=_GOODBYE_S,
            )
            return
        opened.close()

    async def _spoken(self, opened: socket.socket) -> None:
        """Wait until there is something to read, or the client has gone."""
        spoken = self._loop.create_future()
        self._loop.add_reader(opened, lambda: None if spoken.done() else spoken.set_result(None))
        try:
            await spoken
        finally:
            self._loop.remove_reader(opened)

    def _shaken(self, opened: socket.socket, client: str, task: asyncio.Task[None]) -> None:
        """Give a place back: a task that is cancelled may not even have begun."""
        self._shaking.discard(task)
        self._guard.crowd.leave(client)
        if task.cancelled():
            opened.close()
