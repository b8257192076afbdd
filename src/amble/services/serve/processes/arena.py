"""Memory that a front shares with the engines: blocks for tensors on their way there and back.

The front gives out the blocks and takes them back, so nobody else keeps books, and what a process that died had is
free with it. The memory has no name: it is passed on as an open file, and gone with its last user. Pages count once
they are touched; the lowest free block is taken first, so that few of them ever are.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left, insort

__all__ = ["Arena", "mapped"]

_GRAIN_BYTES = 4096


class Arena:
    """Blocks of one piece of shared memory, first fit."""

    def __init__(self, num_bytes: int) -> None:
        size = -(-num_bytes // _GRAIN_BYTES) * _GRAIN_BYTES
        self.fd = os.memfd_create("amble", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self.memory = mapped(self.fd)
        self._free: list[tuple[int, int]] = [(0, size)]  # (offset, bytes), by offset
        self._taken: dict[int, int] = {}

    @property
    def taken_bytes(self) -> int:
        """Return how much is in use."""
        return sum(self._taken.values())

    def take(self, num_bytes: int) -> int | None:
        """Return the offset of a block of its own; None when there is no such block."""
        size = max(1, -(-num_bytes // _GRAIN_BYTES)) * _GRAIN_BYTES
        for place, (offset, free) in enumerate(self._free):
            if free >= size:
                rest = [(offset + size, free - size)] if free > size else []
                self._free[place : place + 1] = rest
                self._taken[offset] = size
                return offset
        return None

    def give_back(self, offset: int) -> None:
        """Take a block back, and join it with what is free beside it."""
        size = self._taken.pop(offset)
        place = bisect_left(self._free, (offset, 0))
        if place < len(self._free) and self._free[place][0] == offset + size:
            size += self._free.pop(place)[1]
        if place and sum(self._free[place - 1]) == offset:
            before = self._free.pop(place - 1)
            offset, size = before[0], before[1] + size
        insort(self._free, (offset, size))

    def close(self) -> None:
        """Let go of it; whoever has mapped it keeps it."""
        os.close(self.fd)


def mapped(fd: int) -> memoryview:
    """Map all of an open piece of memory; it stays for as long as something looks at it."""
    return memoryview(mmap.mmap(fd, os.fstat(fd).st_size))
