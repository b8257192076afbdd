"""``python -m amble.services.serve.processes.child FD NAME``: a front or an engine, on a line to its parent.

A child heeds no signal to end (they go to the whole group, at Ctrl-C or by systemd): its parent says when, by a word or
by its own end.
"""

from __future__ import annotations

import logging
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

__all__ = ["Logs", "Role", "main"]


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


def main() -> None:
    """Take a role from the parent, and play it."""
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
