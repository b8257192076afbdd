"""A schedule → every request as it was planned, one at a time; between requests the clocks the plan waits at.

A plan with run-time punctuality is quicker when it is late, so what may be promised to a newcomer is the fastest way
through it and not the planned one: whoever has to queue for a while can still be on time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from amble.core.ladder import Rung
from amble.core.schedule import Schedule
from amble.stages.control.batcher import Pace
from amble.stages.control.governor import Decision, Observation

__all__ = ["Planned"]


@dataclass(frozen=True, slots=True)
class Planned:
    """Follow one rung's schedule. ValueError for a rung without one."""

    rung: Rung
    name: str = "schedule"
    _pace: Pace = field(init=False)
    _schedule: Schedule = field(init=False)

    def __post_init__(self) -> None:
        """Look up the fastest way through the schedule."""
        schedule = self.rung.schedule
        if schedule is None:
            raise ValueError("a governor of a schedule needs a rung that has one")
        quickest_s = min(self.rung.latency_s[0], _quickest_s(schedule))
        quick = replace(self.rung, latency_s=(quickest_s,))
        object.__setattr__(self, "_schedule", schedule)
        object.__setattr__(self, "_pace", Pace(quick, quick))

    def init(self, now_s: float) -> None:
        """Nothing needs to be remembered."""

    def pace(self, state: None) -> Pace:
        """Promise the fastest way through the schedule."""
        return self._pace

    def step(self, state: None, seen: Observation) -> tuple[None, Decision]:
        """Serve who is first; while nobody waits, wait where the plan says."""
        if not seen.due_s:
            return None, Decision(self._pace, clocks=self._schedule.wait)
        return None, Decision(self._pace, self.rung, 1)


def _quickest_s(schedule: Schedule) -> float:
    """Return the least time [s] in which a schedule may be kept from where it waits; without a choice, as planned."""
    rest = schedule.rest
    if rest is None:
        return schedule.predicted.latency_s
    begins = [choice for choice in rest.choices if choice.start == 0 and rest.settings[choice.held] == schedule.wait]
    return min((choice.needs_s[0] for choice in begins), default=schedule.predicted.latency_s)
