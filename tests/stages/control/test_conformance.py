"""What every governor must do, over all of them, on ladders with and without INT8 and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from amble.core.ladder import Ladder, Rung
from amble.core.schedule import Deadline
from amble.stages.control.governor import Governor
from amble.stages.control.governors import Amble, Dvfs, Pit, Tuning, best_fixed, int8_max, max_clocks
from amble.stages.control.governors.planned import Planned
from amble.stages.plan.clocks import per_operator
from amble.testing import GovernorConformance
from tests.stages.control.ladders import every_rung, ladder
from tests.stages.plan.test_clocks import made_up

QUICK = Tuning(grid=6, clumps=(1,))


def planned() -> Planned:
    """Follow a plan of five operators, one request at a time."""
    plan = per_operator(*made_up(), Deadline(0.08))
    return Planned(Rung("fp32", plan.steps[0].point.clocks, (plan.predicted.latency_s,), (1.0,), schedule=plan))


GOVERNORS: dict[str, Callable[[Ladder], Governor[Any]]] = {
    "max": max_clocks,
    "int8-max": int8_max,
    "static": lambda steps: best_fixed(steps, 50.0),
    "dvfs": Dvfs,
    "pit": Pit,
    "schedule": lambda steps: planned(),
    "amble": lambda steps: Amble(steps, Deadline(0.1), tuning=QUICK),
}
LADDERS = {
    "two variants": ladder(stall_s=0.0002, settle_s=0.01),
    "batches": ladder(every_rung(max_batch=4), stall_s=0.0002),
    "one variant": ladder(every_rung(int8=False)),
}


@pytest.mark.parametrize("steps", LADDERS.values(), ids=LADDERS)
@pytest.mark.parametrize("make", GOVERNORS.values(), ids=GOVERNORS)
class TestEveryGovernor(GovernorConformance):
    @pytest.fixture
    def governor(self, make: Callable[[Ladder], Governor[Any]], steps: Ladder) -> Governor[Any]:
        return make(steps)
