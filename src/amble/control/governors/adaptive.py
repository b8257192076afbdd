"""`amble`, the default governor: least energy, idle included, with latency and accuracy as constraints.

Theory of operation. The ladder is condensed into *gears* (`gears`): for each price of device time the cheapest rung of
every accuracy level. At each decision

1. what was measured corrects the table (one slow-down factor for all rungs, `slowdown`, as in ALERT), the arrivals
   the rate estimate, and what was answered the accuracy account (`budget`);
2. the estimated rate sets the lowest gear: the first that carries it with some room to spare, a speed held evenly
   being cheaper than a slow start and a rush;
3. the deadlines that wait raise it: the first gear at which all of them, served one after the other with a guard
   in hand, would still be on time;
4. inside a gear the less accurate level is cheaper and quicker, and the account says how often it may be used. It is
   kept for busy moments: the shorter the queue, the fuller the account must be;
5. clocks that differ from those that run cost their switch now, so a more frugal rung must earn it back over the
   batches it is expected to stay;
6. while the first deadline leaves room and more requests are expected in time, it holds them back to make one
   larger batch of them; with nothing waiting, it parks the clocks once waiting on has cost as much as parking
   (the rule that is never worse than twice the best, whatever comes).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp
from typing import NamedTuple

from amble.control.batcher import Pace, fitting_batch, lateness_s
from amble.control.governor import NEVER_S, Decision, Observation
from amble.control.governors.budget import Budget
from amble.control.governors.gears import Gear, gears
from amble.control.governors.rate import Rate, arrive, fresh
from amble.control.slowdown import Slowdown, observe
from amble.core.ladder import Ladder, Rung
from amble.core.point import Clocks

__all__ = ["Amble", "AmbleState", "Tuning"]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the governor cannot know from the ladder.

    ``fill``: share of a gear's capacity that the mean rate may take. ``guard``: slack kept in hand, in multiples of
    one request's time at the fastest rung. ``deviations``: how sure a predicted time must be. ``dwell``: batches over
    which a change of clocks is paid off. ``chance``: how likely another request must be to wait for it.
    ``hoard``: share of the accuracy account kept back for each waiting request fewer than three.
    """

    fill: float = 0.92
    guard: float = 0.5
    deviations: float = 2.0
    dwell: float = 8.0
    chance: float = 0.5
    hoard: float = 0.45


class AmbleState(NamedTuple):
    """Slow-down, arrival rate, saved accuracy, the gear that is held, and since when nothing waits [s]."""

    slowdown: Slowdown
    rate: Rate
    saved: float
    gear: int
    idle_s: float


@dataclass(frozen=True, slots=True)
class Amble:
    """The governor over one ladder. ``budget`` bounds the accuracy loss in every sliding window."""

    ladder: Ladder
    budget: Budget = Budget()
    tuning: Tuning = Tuning()
    name: str = "amble"
    gears: tuple[Gear, ...] = field(init=False, repr=False)
    losses: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Condense the ladder once."""
        object.__setattr__(self, "gears", gears(self.ladder, self.budget))
        object.__setattr__(self, "losses", tuple(max(0.0, 1.0 - level.accuracy) for level in self.ladder.levels))

    def init(self, now_s: float) -> AmbleState:
        """Begin without a rate, with an empty account, in the lowest gear."""
        scale_s = self.ladder.levels[0].rungs[0].latency_s[0]
        return AmbleState(Slowdown(), fresh(now_s, fast_s=60 * scale_s, slow_s=1000 * scale_s), 0.0, 0, now_s)

    def pace(self, state: AmbleState) -> Pace:
        """Promise the fastest gear, and no more of its quick level than the account pays for."""
        top = self.gears[-1].rungs
        factor = state.slowdown.high(self.tuning.deviations)
        quick = min(range(len(top)), key=lambda level: top[level].latency_s[0])
        left = self.budget.rows_left(state.saved, self.losses[quick])
        return Pace(top[quick], top[0], left, factor, self.ladder.max_batch)

    def step(self, state: AmbleState, seen: Observation) -> tuple[AmbleState, Decision]:
        """Learn from what has happened, then choose."""
        state = self._learned(state, seen)
        if not seen.due_s:
            return self._idle(state, seen)
        state = state._replace(idle_s=NEVER_S)
        pace = self.pace(state)
        gear, level = self._choice(state, seen, pace)
        rung = self._held(self.gears[gear].rungs[level], level, seen, pace)
        rows = self._rows(rung, level, state, seen, pace)
        wake_s = self._hold_until_s(rung, rows, state, seen, pace)
        state = state._replace(gear=gear)
        if wake_s > seen.now_s:
            return state, Decision(pace, wake_s=wake_s)
        return state, Decision(pace, rung, rows)

    def _learned(self, state: AmbleState, seen: Observation) -> AmbleState:
        rate = arrive(state.rate, seen.now_s, seen.num_arrived)
        done = seen.done
        if done is None:
            return state._replace(rate=rate)
        slowdown = state.slowdown
        if done.settled:
            slowdown = observe(slowdown, done.took_s / done.rung.latency_s[done.rows - 1])
        saved = self.budget.after(state.saved, max(0.0, 1.0 - done.rung.accuracy), done.rows)
        return AmbleState(slowdown, rate, saved, state.gear, state.idle_s)

    def _choice(self, state: AmbleState, seen: Observation, pace: Pace) -> tuple[int, int]:
        """Return gear and level for the next batch: the lowest gear that carries the load and keeps all deadlines."""
        start_s = seen.now_s + seen.other_s
        level = self._level(state, seen)
        spare = self._spare_level(state, seen.head_rows)
        guard_s = self.tuning.guard * pace.factor * self.gears[-1].rungs[-1].latency_s[0]
        for gear in range(self._base_gear(state, seen.now_s), len(self.gears)):
            if self._keeps(gear, level, seen, start_s + guard_s, pace):
                return gear, level
            if spare != level and self._keeps(gear, spare, seen, start_s + guard_s, pace):
                return gear, spare
        return len(self.gears) - 1, spare

    def _base_gear(self, state: AmbleState, now_s: float) -> int:
        """Return the first gear whose capacity the estimated rate leaves some of."""
        fast_hz, slow_hz = state.rate.hz(now_s)
        needed_hz = max(slow_hz, min(fast_hz, 1.5 * slow_hz)) * state.slowdown.mean / self.tuning.fill
        for index, gear in enumerate(self.gears):
            if gear.capacity_hz >= needed_hz:
                return index
        return len(self.gears) - 1

    def _level(self, state: AmbleState, seen: Observation) -> int:
        """Return the cheapest level that the account affords with what is hoarded for a queue this short."""
        hoard = self.tuning.hoard * max(0, 3 - seen.num_waiting) * self.budget.cap
        gear = self.gears[0]
        best = 0
        for level in range(1, len(self.losses)):
            cheaper = gear.objective_j[level][0] < gear.objective_j[best][0]
            if cheaper and self.budget.affords(state.saved - hoard, self.losses[level], seen.head_rows):
                best = level
        return best

    def _spare_level(self, state: AmbleState, rows: int) -> int:
        """Return the quickest level that the account affords at all."""
        top = self.gears[-1].rungs
        affordable = [
            level
            for level, loss in enumerate(self.losses)
            if level == 0 or self.budget.affords(state.saved, loss, rows)
        ]
        return min(affordable, key=lambda level: top[level].latency_s[0])

    def _keeps(self, gear: int, level: int, seen: Observation, start_s: float, pace: Pace) -> bool:
        """Tell whether all that waits would be on time in this gear, this level first and then as the budget allows."""
        rungs = self.gears[gear].rungs
        left = self.budget.rows_left(0.0, self.losses[level]) if level == 0 else pace.quick_left
        if seen.asked is not None and rungs[level].clocks is not seen.asked:
            start_s += self._late_start_s(rungs[level], seen.asked)
        return lateness_s(seen.due_s, start_s, pace._replace(quick=rungs[level], steady=rungs[0], quick_left=left)) <= 0

    def _late_start_s(self, rung: Rung, asked: Clocks) -> float:
        """How much later [s] a rung is done because its clocks do not run yet: at most a settling time at half speed."""
        if rung.clocks == asked:
            return 0.0
        return self.ladder.stall_s(asked, rung.clocks) + 0.5 * self.ladder.settle_s(asked, rung.clocks)

    def _held(self, rung: Rung, level: int, seen: Observation, pace: Pace) -> Rung:
        """Stay at the clocks that run when going down would not earn its switch back."""
        if seen.asked is None or rung.clocks is seen.asked or rung.clocks == seen.asked:
            return rung
        running = [each for each in self.ladder.levels[level].rungs if each.clocks == seen.asked]
        if not running or running[0].latency_s[0] > rung.latency_s[0]:
            return rung
        idle_w = 0.0 if self.ladder.accounting == "gross" else self.ladder.park_w
        here, there = (each.energy_j[0] - idle_w * each.latency_s[0] for each in (running[0], rung))
        earned_j = (here - there) * self.tuning.dwell
        return rung if earned_j > self.ladder.stall_j(seen.asked, rung.clocks) else running[0]

    def _rows(self, rung: Rung, level: int, state: AmbleState, seen: Observation, pace: Pace) -> int:
        """Return the largest batch on time that the accuracy account can pay for."""
        limit = pace.max_batch
        if self.losses[level] > self.budget.income:
            limit = min(limit, int(self.budget.rows_left(state.saved, self.losses[level])))
        if limit <= seen.head_rows or len(seen.due_s) == seen.head_rows:
            return seen.head_rows
        return fitting_batch(seen.due_s, seen.now_s, rung, limit=limit, factor=pace.factor)

    def _hold_until_s(self, rung: Rung, rows: int, state: AmbleState, seen: Observation, pace: Pace) -> float:
        """Return until when to wait for a larger batch; now or earlier when serving at once is better."""
        if rows < seen.num_waiting or rows >= pace.max_batch or seen.due_s[0] == NEVER_S:
            return seen.now_s
        guard_s = self.tuning.guard * pace.factor * self.gears[-1].rungs[-1].latency_s[0]
        latest_s = min(seen.due_s[:rows]) - guard_s - pace.factor * rung.latency_s[rows] - seen.other_s
        room_s = latest_s - seen.now_s
        if room_s <= 0.01 * rung.latency_s[0]:
            return seen.now_s
        rate_hz = min(state.rate.hz(seen.now_s))
        worth = rung.energy_j[0] + rung.energy_j[rows - 1] > rung.energy_j[rows]
        return latest_s if worth and 1.0 - exp(-rate_hz * room_s) >= self.tuning.chance else seen.now_s

    def _idle(self, state: AmbleState, seen: Observation) -> tuple[AmbleState, Decision]:
        """Park the clocks when waiting at them has cost as much as parking, or is going to."""
        since_s = min(state.idle_s, seen.now_s)
        state = state._replace(idle_s=since_s)
        pace = self.pace(state)
        asked, park = seen.asked, self.ladder.park
        if asked is None or asked == park:
            return state, Decision(pace)
        after_s = self._break_even_s(asked)
        expected_s = 1.0 / max(1e-9, min(state.rate.hz(seen.now_s)))
        if seen.now_s >= since_s + after_s or expected_s > 2.0 * after_s:
            return state, Decision(pace, clocks=park)
        return state, Decision(pace, wake_s=since_s + after_s)

    def _break_even_s(self, asked: Clocks) -> float:
        """Return how long [s] idling at these clocks costs as much as going to park and back."""
        idle_w = next((rung.idle_w for rung in self.ladder.rungs if rung.clocks == asked), self.ladder.park_w)
        cost_j = self.ladder.stall_j(asked, self.ladder.park) + self.ladder.stall_j(self.ladder.park, asked)
        return cost_j / (idle_w - self.ladder.park_w) if idle_w > self.ladder.park_w else NEVER_S
