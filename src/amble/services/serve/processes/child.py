"""``python -m amble.services.serve.processes.child FD NAME``: a front or an engine, on a line to its parent.

A child heeds no signal to end (they go to the whole group, at Ctrl-C or by systemd): its parent says when, by a word or
by its own end. One that is stopped (SIGSTOP) cannot hear that: the kernel then wakes it.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

__all__ = ["Logs", "Role", "main"]

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True, slots=True)
class Logs:
    """How the parent logs: a level and a form, by logger."""

    by_name: tuple[tuple[str, int, logging.Formatter | None], ...]

    @classmethod
    def here(cls) -> Logs:
        """Return how this process logs."""
        found = []
        for name in ("amble", "uvicorn.error"):
            logger = logging.getLogger(name)
            if logger.handlers:
                found.append((name, logger.level, logger.handlers[0].formatter))
        return cls(tuple(found))

    def apply(self) -> None:
        """Log so, on stderr."""
        for name, level, form in self.by_name:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(form)
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [handler], False
            logger.setLevel(level)


class Role(Protocol):
    """What a child is; it comes from the parent in one piece."""

    @property
    def logs(self) -> Logs:
        """Return how it logs."""
        ...

    def play(self, connection: Connection) -> None:
        """Be it, until the parent says otherwise or is gone."""
        ...


def _woken_at_the_parents_end() -> None:
    """Have the kernel wake this process, should it be stopped when its parent ends (Linux).

    It is sent whenever the thread ends that started this process, too, which may be long before: so it is a signal that
    does nothing to who runs. That thread's end leaves it in force for the next (kernel/exit.c, forget_original_parent).
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGCONT, 0, 0, 0)


def main() -> None:
    """Take a role from the parent, and play it."""
    _woken_at_the_parents_end()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    try:
        role: Role = connection.recv()
    except EOFError:
        return
    role.logs.apply()
    role.play(connection)


if __name__ == "__main__":
    main()
