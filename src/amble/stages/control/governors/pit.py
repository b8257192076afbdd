"""PIT: precision and clock chosen together from the load and the slack. A reconstruction.

After Nabavinejad, Hafez-Kolahi and Reda, "Coordinated DVFS and Precision Control for Deep Neural Networks", IEEE
Computer Architecture Letters 18(2), 2019. The abstract gives the two end states (pressed: INT8 at a raised clock;
relaxed: FP32 at a reduced one) and that the server's load decides. **Not theirs but ours**: the thresholds, the
hysteresis, the load signal, and the order in which the two knobs move.

========  ==========================================================================================
tight     slack at (FP32, top clock) < 0, or rate × time there > 1 − ``reserve``: FP32 up to the top
          clock, then INT8 at the top clock (accuracy is given up last)
relaxed   slack here ≥ ``margin`` for ``patience`` decisions in a row: first back to FP32, then down
          to the cheapest clock that keeps the margin, never below the energy floor
else      hold
========  ==========================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from amble.core.ladder import Ladder, Rung
from amble.stages.control.batcher import Pace, fitting_batch, lateness_s
from amble.stages.control.governor import NEVER_S, Decision, Observation
from amble.stages.control.governors.rate import Rate, arrive, fresh

__all__ = ["Pit", "PitState"]


class PitState(NamedTuple):
    """Precision level (0: the most accurate), place on its rungs (0: the fastest), relaxed decisions in a row, rate."""

    level: int
    place: int
    relaxed: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class Pit:
    """The two-knob rule. ``margin`` is in multiples of the time of one request at FP32 and the top clock.

    It is asked of deadlines only: the slack until the next expected arrival is below it at any load above a half, and a
    rule that wants it then never comes back from INT8.
    """

    ladder: Ladder
    reserve: float = 0.02
    margin: float = 1.0
    patience: int = 3
    name: str = "pit"

    def init(self, now_s: float) -> PitState:
        """Begin relaxed: FP32 at the floor."""
        scale_s = self.ladder.levels[0].rungs[0].latency_s[0]
        return PitState(0, len(self.ladder.levels[0].rungs) - 1, 0, _forgetful(now_s, scale_s))

    def pace(self, state: PitState) -> Pace:
        """Promise INT8 at the top clock: that is where pressure leads."""
        quickest = self.ladder.levels[-1].rungs[0]
        return self._pace(quickest)

    def step(self, state: PitState, seen: Observation) -> tuple[PitState, Decision]:
        """Decide on every arrival and completion, as the rule's table says."""
        rate = arrive(state.rate, seen.now_s, seen.num_arrived)
        level, place, relaxed = self._moved(state, seen, rate.hz(seen.now_s)[0])
        after = PitState(level, place, relaxed, rate)
        rung = self.ladder.levels[level].rungs[place]
        pace = self.pace(after)
        if not seen.due_s:
            return after, Decision(pace, clocks=rung.clocks)
        rows = fitting_batch(seen.due_s, seen.now_s, rung, limit=pace.max_batch, factor=pace.factor)
        return after, Decision(pace, rung, rows)

    def _moved(self, state: PitState, seen: Observation, rate_hz: float) -> tuple[int, int, int]:
        top = self.ladder.levels[0].rungs[0]
        overload = rate_hz > (1.0 - self.reserve) * top.capacity_hz
        if overload or self._slack_s(top, seen, rate_hz) < 0:
            at_top = state.level > 0 or state.place == 0
            return (len(self.ladder.levels) - 1 if at_top else 0), 0, 0
        margin_s = self.margin * top.latency_s[0] if seen.due_s and min(seen.due_s) < NEVER_S else 0.0
        here = self.ladder.levels[state.level].rungs[state.place]
        if self._slack_s(here, seen, rate_hz) < margin_s:
            return state.level, state.place, 0
        if state.relaxed + 1 < self.patience:
            return state.level, state.place, state.relaxed + 1
        if state.level > 0:
            return 0, 0, 0
        rungs = self.ladder.levels[0].rungs
        keeps = [place for place in range(len(rungs)) if self._slack_s(rungs[place], seen, rate_hz) >= margin_s]
        return 0, max(keeps, default=0), 0

    def _slack_s(self, rung: Rung, seen: Observation, rate_hz: float) -> float:
        """Slack [s] of the worst waiting request at this rung; without deadlines, until the next expected arrival."""
        if seen.due_s and min(seen.due_s) < NEVER_S:
            return -lateness_s(seen.due_s, seen.now_s + seen.other_s, self._pace(rung))
        next_s = 1.0 / rate_hz if rate_hz > 0 else NEVER_S
        return next_s - rung.latency_s[0] * max(1, seen.num_waiting)

    def _pace(self, rung: Rung) -> Pace:
        return Pace(rung, rung, NEVER_S, self.ladder.margin, self.ladder.max_batch)


def _forgetful(now_s: float, scale_s: float) -> Rate:
    return fresh(now_s, fast_s=50 * scale_s, slow_s=50 * scale_s, window_s=scale_s)
