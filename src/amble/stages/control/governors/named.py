"""A governor's name → what makes it: amble's own, in one table, and those that other packages registered.

A package of somebody else's names a function of a ladder, the deadline to aim at and the accuracy that may be lost::

    [project.entry-points."amble.governors"]
    steady = "amble_steady:governor"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from amble.core.ladder import Ladder
from amble.core.names import nearest
from amble.core.registered import GOVERNORS as GROUP
from amble.core.registered import names, registered
from amble.core.schedule import Deadline
from amble.stages.control.governor import Governor
from amble.stages.control.governors.amble import Amble, Tuning
from amble.stages.control.governors.budget import Budget
from amble.stages.control.governors.dvfs import Dvfs
from amble.stages.control.governors.fixed import int8_max, max_clocks
from amble.stages.control.governors.pit import Pit

__all__ = ["GOVERNORS", "MakeGovernor", "governor", "known"]

MakeGovernor = Callable[[Ladder, Deadline, Budget], Governor[Any]]

_LIVE = Tuning(worth=1.0)
"""Never hold a request back for company: a client that waits for its answer sends nothing meanwhile."""

GOVERNORS: Mapping[str, MakeGovernor] = {
    "amble": lambda ladder, aim, budget: Amble(ladder, aim, budget, _LIVE),
    "pit": lambda ladder, aim, budget: Pit(ladder),
    "dvfs": lambda ladder, aim, budget: Dvfs(ladder),
    "int8-max": lambda ladder, aim, budget: int8_max(ladder),
    "max": lambda ladder, aim, budget: max_clocks(ladder),
}


def governor(name: str) -> MakeGovernor:
    """Return what makes a governor; ValueError for a name that nobody knows."""
    found: MakeGovernor | None = registered(GROUP, name, GOVERNORS, callable)
    if found is None:
        near = nearest(name, known())
        raise ValueError(f"unknown governor {name!r}, did you mean {near!r}? choose {', '.join(known())}")
    return found


def known() -> tuple[str, ...]:
    """Return the names of all governors, amble's own first; what others registered is not imported for it."""
    return (*GOVERNORS, *(each for each in names(GROUP) if each not in GOVERNORS))
