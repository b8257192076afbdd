"""What every front has given to every engine and has no answer to [ns of work], in memory that all fronts share.

Each front writes its own row only, and reads all of them: so fronts that know nothing of each other send a request to
the engine that has the least to do. Work is what the network's single row took when it was measured.
"""

from __future__ import annotations

import os

import numpy as np

from amble.services.serve.processes.arena import mapped

__all__ = ["Loads", "new_loads"]


def new_loads(fronts: int, engines: int) -> int:
    """Make the memory → an open file."""
    fd = os.memfd_create("amble-loads")
    os.ftruncate(fd, 8 * fronts * engines)
    return fd


class Loads:
    """The table [front, engine], as one front sees it."""

    def __init__(self, fd: int, fronts: int, engines: int, own: int = 0) -> None:
        self._table = np.frombuffer(mapped(fd), np.int64).reshape(fronts, engines)
        self._own = own
        self._turn = own

    def least(self, able: list[int]) -> int:
        """Return who of those that are able has the least to do; of several, each in its turn."""
        self._turn += 1
        if len(able) == 1:
            return able[0]
        work = self._table.sum(axis=0)
        return min(able, key=lambda engine: (work[engine], (engine + self._turn) % len(work)))

    def add(self, engine: int, work_ns: int) -> None:
        """Count work that goes to an engine, or comes back from it."""
        self._table[self._own, engine] += work_ns

    def clear(self, front: int) -> None:
        """Forget what a front gave that is no more."""
        self._table[front] = 0
