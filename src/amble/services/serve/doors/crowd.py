"""How many connections each client may have, and what it has not read of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from amble.runtimes.remote.fault import Fault
from amble.services.serve.requests.elsewhere import Elsewhere, Nowhere
from amble.services.serve.requests.quota import Quota, Reservation

__all__ = ["Crowd", "Unread"]


class Unread:
    """What the socket of one connection has not taken yet: room of its client, until it has."""

    def __init__(self, hold: Callable[[], Reservation]) -> None:
        self._new = hold
        self._hold: Reservation | None = None

    def wait(self, transport: asyncio.Transport) -> None:
        """Count what waits, which is all that will: nothing more is written to a full socket. Abort without room."""
        self.over()
        self._hold = self._new()
        try:
            self._hold.grow(transport.get_write_buffer_size())
        except Fault:
            transport.abort()

    def over(self) -> None:
        """Give the room back."""
        if self._hold is not None:
            self._hold.__exit__()
        self._hold = None


@dataclass(slots=True)
class Crowd:
    """Connections by client. One client may have as many as would stay free for others (see `quota`).

    ``elsewhere``: those that other processes of this server have. ``holding`` is the room of a client.
    """

    most: int
    total: int = 0
    by_client: dict[str, int] = field(default_factory=dict)
    elsewhere: Elsewhere = field(default_factory=Nowhere)
    holding: Callable[[str], Reservation] = lambda client: Reservation(Quota(), client)

    def unread(self, client: str) -> Unread:
        """Return what counts the answers that one connection of a client has not read."""
        return Unread(lambda: self.holding(client))

    def enter(self, client: str) -> bool:
        """Count a connection; False when there is no place for one more of this client's."""
        own = self.by_client.get(client, 0) + 1
        others, all_others = self.elsewhere.held(client)
        if own + others > max(1, self.most - self.total - all_others - 1):
            return False
        self.by_client[client] = own
        self.total += 1
        self.elsewhere.add(client, 1)
        return True

    def leave(self, client: str) -> None:
        """Count one less."""
        self.total -= 1
        self.elsewhere.add(client, -1)
        self.by_client[client] -= 1
        if not self.by_client[client]:
            del self.by_client[client]
