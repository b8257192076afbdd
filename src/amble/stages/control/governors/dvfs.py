"""FP32, clocks only: the slowest clock at which everything that waits is on time, never below the energy floor.

The plain rule of today's serving systems: lowest clock that meets the objective (throttLL'eM, Kakolyris et al., HPCA
2025), the age of the oldest request subtracted and the lowest clock after five idle seconds (VoltanaLLM, 2025). Up at
once; down only after ``patience`` decisions in a row that would have allowed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from amble.core.ladder import Ladder
from amble.stages.control.batcher import Pace, fitting_batch, lateness_s
from amble.stages.control.governor import NEVER_S, Decision, Observation

__all__ = ["Dvfs", "DvfsState"]


class DvfsState(NamedTuple):
    """Place on the level's rungs (0: the fastest), decisions in a row that wanted a slower one, idle since [s]."""

    place: int
    relaxed: int
    idle_s: float


@dataclass(frozen=True, slots=True)
class Dvfs:
    """The clocks-only governor over the most accurate level of a ladder."""

    ladder: Ladder
    patience: int = 3
    park_after_s: float = 5.0
    name: str = "dvfs"

    def init(self, now_s: float) -> DvfsState:
        """Begin at the floor."""
        return DvfsState(len(self.ladder.levels[0].rungs) - 1, 0, now_s)

    def pace(self, state: DvfsState) -> Pace:
        """Promise the fastest clock."""
        fastest = self.ladder.levels[0].rungs[0]
        return Pace(fastest, fastest, NEVER_S, self.ladder.margin, self.ladder.max_batch)

    def step(self, state: DvfsState, seen: Observation) -> tuple[DvfsState, Decision]:
        """Choose the slowest clock at which all that waits is on time."""
        pace = self.pace(state)
        if not seen.due_s:
            return self._idle(state, seen, pace)
        wanted = self._wanted(seen)
        relaxed = state.relaxed + 1 if wanted > state.place else 0
        place = wanted if wanted < state.place or relaxed >= self.patience else state.place
        rung = self.ladder.levels[0].rungs[place]
        rows = fitting_batch(seen.due_s, seen.now_s, rung, limit=pace.max_batch, factor=pace.factor)
        after = DvfsState(place, 0 if place == wanted else relaxed, NEVER_S)
        return after, Decision(pace, rung, rows)

    def _idle(self, state: DvfsState, seen: Observation, pace: Pace) -> tuple[DvfsState, Decision]:
        since_s = min(state.idle_s, seen.now_s)
        wake_s = since_s + self.park_after_s
        after = state._replace(idle_s=since_s)
        if seen.now_s >= wake_s:
            return after, Decision(pace, clocks=self.ladder.park)
        return after, Decision(pace, wake_s=wake_s)

    def _wanted(self, seen: Observation) -> int:
        rungs, start_s = self.ladder.levels[0].rungs, seen.now_s + seen.other_s
        for place in range(len(rungs) - 1, 0, -1):
            pace = Pace(rungs[place], rungs[place], NEVER_S, self.ladder.margin, self.ladder.max_batch)
            if lateness_s(seen.due_s, start_s, pace) <= 0:
                return place
        return 0
