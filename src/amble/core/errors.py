"""The errors that reach a user; each one's text is one line that says what to do.

::

    AmbleError
    ├── Refused       hardware, rights, files or arguments do not allow it
    └── Infeasible    the plan misses its deadline; carries the fastest one

Wrong arguments in a Python call are ``ValueError``; our own mistakes are ``assert``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amble.core.schedule import Schedule

__all__ = ["AmbleError", "Infeasible", "Refused", "how_to_install"]


class AmbleError(Exception):
    """Anything amble says to its user instead of doing it."""


class Refused(AmbleError):
    """Something outside (a device, a right, a file) does not allow what was asked. Nothing was changed."""


class Infeasible(AmbleError):
    """No schedule, or not the one of the planner that was asked for, meets the deadline.

    ``fastest_s`` is the shortest predicted latency [s] at the asked percentile; ``fastest`` the fastest schedule that
    holds one setting, where schedules were asked for.
    """

    def __init__(self, message: str, *, fastest_s: float, fastest: Schedule | None = None) -> None:
        super().__init__(message)
        self.fastest_s = fastest_s
        self.fastest = fastest


def how_to_install(extra: str) -> str:
    """Return what to do for a missing extra. It names no package of a registry, where amble is not published."""
    project = Path(__file__).parents[3]
    where = str(project) if (project / "pyproject.toml").is_file() else "the folder of amble's sources"
    return f"run make setup in {where}, or there pip install -e '.[{extra}]'"
