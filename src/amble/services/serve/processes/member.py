"""A child as its parent knows it."""

from __future__ import annotations

import subprocess
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from amble.services.serve.processes.child import Role
from amble.services.serve.processes.control import Control, Gone

__all__ = ["Member"]


@dataclass(slots=True, eq=False)
class Member:
    """A child: what it is, its process and the line to it, and what it said last. ``up``: it does its work.

    ``hung``: it did not, and is being ended for that. ``replaced`` counts its predecessors, by what became of them.
    """

    name: str
    role: Role
    fds: tuple[int, ...] = ()
    running: subprocess.Popen[bytes] | None = None
    control: Control | None = None
    said: Any = None
    up: bool = False
    since_s: float = 0.0
    failures: int = 0
    hung: bool = False
    replaced: dict[str, int] = field(default_factory=lambda: {"died": 0, "hung": 0})

    def ask(self, name: str, *arguments: Any) -> Future[Any]:
        """Ask it something; `Gone` where it is not there."""
        if self.control is None:
            gone: Future[Any] = Future()
            gone.set_exception(Gone(f"{self.name} is not there"))
            return gone
        return self.control.ask(name, *arguments)
