"""Task, settling times → what changing clocks within a request saves over the best single setting at each of them.

Per-operator clocks pay while a change is short against the operators; once it takes milliseconds little is left. This
says how little, from the same search that plans, so that nobody has to believe it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from amble.core.cost import Cost
from amble.core.profile import SwitchCost
from amble.stages.plan import search
from amble.stages.plan.clocks import best_alone
from amble.stages.plan.problem import Task, pose, to_schedule, too_slow

__all__ = ["SETTLE_S", "Worth", "break_even_s", "worth"]

SETTLE_S = (0.0, 10e-6, 100e-6, 1e-3, 3e-3, 10e-3)


@dataclass(frozen=True, slots=True)
class Worth:
    """The best plan if changes took ``settle_s`` [s], beside the best single setting; energies [J] of one period.

    ``shortest_s`` is the predicted time of its shortest segment, the dwell that still pays.
    """

    settle_s: float
    energy_j: float
    lower_bound_j: float
    single_j: float
    segments: int
    shortest_s: float

    @property
    def saving(self) -> float:
        """Return the share of the single setting's energy that changing saves."""
        return 1.0 - self.energy_j / self.single_j


def worth(task: Task, settle_s: Iterable[float] = SETTLE_S) -> tuple[Worth, ...]:
    """Plan for each settling time; a stall lasts no longer than the settling, and costs energy in proportion.

    Infeasible where no single setting keeps the deadline.
    """
    return tuple(_at(task, each) for each in settle_s)


def break_even_s(found: Sequence[Worth], *, least: float = 0.01) -> float | None:
    """Return the longest settling time [s] at which changing still saves this share; None where it never does."""
    return max((each.settle_s for each in found if each.saving >= least), default=None)


def _at(task: Task, settle_s: float) -> Worth:
    problem = pose(task, switches=[_settling(switch, settle_s) for switch in task.costs.switches])
    steady = best_alone(problem)
    if steady is None:
        raise too_slow(problem)
    found = search.solve(problem.trellis, problem.limit_s, wait=problem.wait)
    plan = to_schedule(problem, found, "trellis")
    lengths_s = [sum(step.predicted.latency_s for step in plan.steps[a.start : a.stop]) for a in plan.segments]
    return Worth(settle_s, found.energy_j, found.lower_bound_j, steady.energy_j, len(lengths_s), min(lengths_s))


def _settling(switch: SwitchCost, settle_s: float) -> SwitchCost:
    share = min(1.0, settle_s / switch.cost.latency_s) if switch.cost.latency_s > 0 else float(settle_s > 0)
    energy_j = None if switch.cost.energy_j is None else switch.cost.energy_j * share
    return replace(switch, cost=Cost(switch.cost.latency_s * share, energy_j), settle_s=settle_s)
