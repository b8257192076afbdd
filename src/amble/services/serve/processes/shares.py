"""What each front holds of each client, in memory that all fronts share: so a limit is that of the whole server.

Each front writes its own row only, and reads all of them. A client's place follows from its address and a secret, so
that nobody can choose to share another's; two that meet in one of the 65,535 places are counted as one. Two fronts that
let something in at the same moment do not see each other: the limit may be passed by what each has just let in.
"""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import blake2b

from amble.services.serve.processes.arena import mapped

__all__ = ["KINDS", "Shares", "new_shares", "wipe"]

KINDS = ("bytes", "connections", "calls")
_PLACES = 1 << 16  # the first one is for the sum
_WORD = 8


def new_shares(fronts: int) -> int:
    """Make the memory → an open file. Pages count once they are touched."""
    fd = os.memfd_create("amble-shares")
    os.ftruncate(fd, _WORD * _PLACES * fronts * len(KINDS))
    return fd


class Shares:
    """One kind of thing, as one front sees it."""

    def __init__(self, fd: int, fronts: int, own: int, kind: str, secret: bytes) -> None:
        table, number = mapped(fd).cast("q"), KINDS.index(kind)
        rows = [_row(table, fronts, number, front) for front in range(fronts)]
        self._own = rows.pop(own)
        self._others = rows
        self._at = lru_cache(4096)(lambda client: _place(client, secret))

    def held(self, client: str) -> tuple[int, int]:
        """Return what other fronts hold: of this client, and of all."""
        at = self._at(client)
        return sum([row[at] for row in self._others]), sum([row[0] for row in self._others])

    def add(self, client: str, count: int) -> None:
        """Tell them that this front holds so much more of a client, or less."""
        self._own[self._at(client)] += count
        self._own[0] += count


def wipe(memory: memoryview, fronts: int, front: int) -> None:
    """Forget what a front held that is no more."""
    table = memory.cast("q")
    for kind in range(len(KINDS)):
        _row(table, fronts, kind, front)[:] = memoryview(bytes(_WORD * _PLACES)).cast("q")


def _row(table: memoryview, fronts: int, kind: int, front: int) -> memoryview:
    start = (kind * fronts + front) * _PLACES
    return table[start : start + _PLACES]


def _place(client: str, secret: bytes) -> int:
    digest = blake2b(client.encode("utf-8", "surrogateescape"), digest_size=_WORD, key=secret).digest()
    return 1 + int.from_bytes(digest, "little") % (_PLACES - 1)
