"""What other processes of the same server hold, of a client and of all: limits are the server's, not each process's."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Elsewhere", "Nowhere"]


class Elsewhere(Protocol):
    """Counts one kind of thing, bytes or connections."""

    def held(self, client: str) -> tuple[int, int]:
        """Return what other processes hold: of this client, and of all."""
        ...

    def add(self, client: str, count: int) -> None:
        """Tell them that this process holds so much more of a client, or less."""
        ...


class Nowhere:
    """There are no others."""

    def held(self, client: str) -> tuple[int, int]:
        """Return that they hold nothing."""
        return 0, 0

    def add(self, client: str, count: int) -> None:
        """Tell nobody."""
