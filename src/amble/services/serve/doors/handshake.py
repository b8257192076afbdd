"""A listening socket → connections over TLS, each counted before it has shaken hands, and only so many at a time.

Whoever is counted only after the handshake is not counted while it lasts: thousands of clients that connect and say
nothing would then take as much memory and as many file descriptors as they like.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from amble.services.serve.doors.crowd import Crowd

__all__ = ["Entrance", "Guard"]

_HANDSHAKE_S = 10.0
_GOODBYE_S = 2.0
_REST_S = 0.1  # after a connection that could not be accepted: most likely there is no file descriptor left


@dataclass(frozen=True, slots=True)
class Guard:
    """What connections are let in by: a context for their handshakes, and the places that there are."""

    tls: ssl.SSLContext
    crowd: Crowd


class Entrance:
    """Takes connections until it is closed; used as asyncio's servers are."""

    def __init__(self, opened: socket.socket, guard: Guard, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._socket = opened
        self._guard = guard
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
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
            task = self._loop.create_task(self._shake(opened))
            self._shaking.add(task)
            task.add_done_callback(partial(self._shaken, opened, client))

    async def _shake(self, opened: socket.socket) -> None:
        """Shake hands; the connection counts itself from then on."""
        with suppress(OSError):
            await self._loop.connect_accepted_socket(
                self._protocol,
                opened,
                ssl=self._guard.tls,
                ssl_handshake_timeout=_HANDSHAKE_S,
                ssl_shutdown_timeout=_GOODBYE_S,
            )
            return
        opened.close()

    def _shaken(self, opened: socket.socket, client: str, task: asyncio.Task[None]) -> None:
        """Give a place back: a task that is cancelled may not even have begun."""
        self._shaking.discard(task)
        self._guard.crowd.leave(client)
        if task.cancelled():
            opened.close()
