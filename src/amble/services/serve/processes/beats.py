"""A sign of life of every child, in memory that they share with their parent: when it was last well, and for how long.

A process that is stopped gives no sign, nor does one whose interpreter is held up or whose loop never comes round. An
engine whose batch takes far longer than any that was measured says so itself: it is alive, and of no use. Whoever is
silent for longer than it said, or says that it hangs, is ended by the parent and replaced.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from amble.services.serve.processes.arena import mapped

__all__ = ["LOADING_S", "SILENT_S", "STARTING_S", "Beat", "Beats", "Heart", "new_beats", "verdict"]

SILENT_S = 5.0
"""How long [s] a child may give no sign."""
LOADING_S = 60.0
"""The same while it loads a model: reading a large file holds the interpreter up."""
STARTING_S = 120.0
"""From its start to its first sign."""
_EVERY_S = 0.25
_COLUMNS = 4


class Beat(NamedTuple):
    """What a child said last: when [s], how long it may be silent from then on, in which thread, whether it hangs."""

    at_s: float
    patience_s: float
    thread_id: int
    hangs: bool


def new_beats(children: int) -> int:
    """Make the memory → an open file."""
    fd = os.memfd_create("amble-beats")
    os.ftruncate(fd, 8 * children * _COLUMNS)
    return fd


class Beats:
    """The table [child, (at_ns, patience_ns, thread_id, hangs)]; each child writes its own row."""

    def __init__(self, fd: int, children: int) -> None:
        self._table = np.frombuffer(mapped(fd), np.int64).reshape(children, _COLUMNS)

    def give(self, child: int, patience_s: float, *, hangs: bool = False) -> None:
        """Give a sign of life."""
        self._table[child, 1:] = (round(1e9 * patience_s), threading.get_native_id(), hangs)
        self._table[child, 0] = time.monotonic_ns()

    def of(self, child: int) -> Beat | None:
        """Return a child's last sign; None before its first."""
        at_ns, patience_ns, thread_id, hangs = self._table[child].tolist()
        return Beat(at_ns / 1e9, patience_ns / 1e9, thread_id, bool(hangs)) if at_ns else None

    def clear(self, child: int) -> None:
        """Forget a child that is no more."""
        self._table[child] = 0


@dataclass(frozen=True, slots=True)
class Heart:
    """A child's own row; it can be sent to a process that has inherited the file."""

    fd: int
    children: int
    own: int

    def beat(self, hangs: Callable[[], str | None], patience_s: Callable[[], float]) -> None:
        """Give signs in a thread of its own, for as long as the process lives.

        ``hangs`` says why the process is of no use, ``patience_s`` how long [s] it may be silent.
        """
        beats = Beats(self.fd, self.children)

        def work() -> None:
            while True:
                beats.give(self.own, patience_s(), hangs=hangs() is not None)
                time.sleep(_EVERY_S)

        threading.Thread(target=work, name="amble-heart", daemon=True).start()

    async def beat_in_loop(self) -> None:
        """Give signs whenever the loop comes round, until cancelled."""
        beats = Beats(self.fd, self.children)
        while True:
            beats.give(self.own, SILENT_S)
            await asyncio.sleep(_EVERY_S)


def verdict(beat: Beat | None, since_s: float, kept_s: float, now_s: float) -> str | None:
    """Say why a child must be replaced; None where it is well. Times [s] are of the monotonic clock.

    ``since_s`` is when it was started, or since when it has been watched without a break: a machine that slept has
    silenced all alike. ``kept_s``: for so long it wanted to give a sign and was not let run.
    """
    if beat is None:
        silent_s, most_s = now_s - since_s, STARTING_S
    elif beat.hangs:
        return "what it computes takes far longer than anything that was measured"
    else:
        silent_s, most_s = now_s - max(beat.at_s, since_s), beat.patience_s
    return f"it has given no sign for {silent_s:.1f} s" if silent_s - kept_s > most_s else None
