"""Bytes in flight, by client: nobody can take all the room, and what is only announced takes none.

The rule is the dynamic threshold of shared-memory switches (Choudhury and Hahne 1998): a client may hold as much as
would stay free. One alone gets half of the room, two a third each; there is always some left for the next to come.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from amble.runtimes.remote.fault import Fault
from amble.services.serve.requests.elsewhere import Elsewhere, Nowhere

__all__ = ["Quota", "Reservation"]


@dataclass(slots=True)
class Quota:
    """What all requests in flight may hold together, and what each client's do; ``elsewhere``: in other processes."""

    limit_bytes: int = 256 << 20
    taken_bytes: int = 0
    by_client: dict[str, int] = field(default_factory=dict)
    elsewhere: Elsewhere = field(default_factory=Nowhere)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, client: str, num_bytes: int, *, held_bytes: int = 0) -> None:
        """Give a client so many bytes more for a request that has ``held_bytes``; Fault when they are not free for it.

        A client's only request may take whatever there is: its size has a limit of its own.
        """
        with self._lock:
            here = self.by_client.get(client, 0)
            others, all_others = self.elsewhere.held(client)
            before = here + others
            own, taken = before + num_bytes, self.taken_bytes + num_bytes
            free = self.limit_bytes - taken - all_others
            if free < 0 or (own > free and before > held_bytes):
                raise Fault(
                    503,
                    f"too much in flight: all requests together may hold {self.limit_bytes} bytes, "
                    "and one client no more than stays free; wait for answers, or send less at a time",
                )
            self.by_client[client] = here + num_bytes
            self.taken_bytes = taken
            self.elsewhere.add(client, num_bytes)

    def give_back(self, client: str, num_bytes: int) -> None:
        """Take back what a client had."""
        with self._lock:
            self.taken_bytes -= num_bytes
            self.elsewhere.add(client, -num_bytes)
            left = self.by_client.get(client, 0) - num_bytes
            if left > 0:
                self.by_client[client] = left
            else:
                self.by_client.pop(client, None)


@dataclass(slots=True)
class Reservation:
    """One request's share of the room."""

    quota: Quota
    client: str = ""
    num_bytes: int = 0
    closed: bool = False  # whoever still grows it, in another thread, must not take what nobody gives back
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Reservation:
        """Begin with nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give it all back, and take no more."""
        with self._lock:
            self.quota.give_back(self.client, self.num_bytes)
            self.num_bytes, self.closed = 0, True

    def grow(self, num_bytes: int) -> None:
        """Take more room; Fault when there is none left for this client."""
        with self._lock:
            if self.closed:
                raise Fault(499, "the client has gone")
            self.quota.take(self.client, num_bytes, held_bytes=self.num_bytes)
            self.num_bytes += num_bytes

    def shrink(self, num_bytes: int) -> None:
        """Give some of it back."""
        self.quota.give_back(self.client, num_bytes)
        self.num_bytes -= num_bytes

    def resize(self, num_bytes: int) -> None:
        """Have so much from here on; Fault when it is more, and there is no room left for this client."""
        if self.num_bytes >= num_bytes:
            self.shrink(self.num_bytes - num_bytes)
        else:
            self.grow(num_bytes - self.num_bytes)
