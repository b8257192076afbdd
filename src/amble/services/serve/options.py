"""How models are served: what may be chosen, and the governors there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from amble.core.ladder import Ladder
from amble.core.schedule import Deadline
from amble.core.variants import Allowance
from amble.stages.control.governor import Governor
from amble.stages.control.governors import Amble, Budget, Dvfs, Pit, Tuning, int8_max, max_clocks

__all__ = ["GOVERNORS", "Options"]

_LIVE = Tuning(worth=1.0)
"""Never hold a request back for company: a client that waits for its answer sends nothing meanwhile."""

MakeGovernor = Callable[[Ladder, Deadline, Budget], Governor[Any]]
GOVERNORS: Mapping[str, MakeGovernor] = {
    "amble": lambda ladder, aim, budget: Amble(ladder, aim, budget, _LIVE),
    "pit": lambda ladder, aim, budget: Pit(ladder),
    "dvfs": lambda ladder, aim, budget: Dvfs(ladder),
    "int8-max": lambda ladder, aim, budget: int8_max(ladder),
    "max": lambda ladder, aim, budget: max_clocks(ladder),
}


@dataclass(frozen=True, slots=True)
class Options:
    """How models are served. ``max_loss`` is the accuracy that may be lost on the mean.

    ``shapes`` binds open axes of inputs that are not the batch; ``trace`` sends spans to an OpenTelemetry collector.
    """

    governor: str = "amble"
    max_batch: int = 8
    max_loss: Allowance = Allowance(0.5, relative=True)
    threads: int = 1
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    trace: bool = False
