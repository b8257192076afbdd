"""`amble`, the default governor: least energy, idle included, with latency and accuracy as constraints.

Theory of operation. The ladder is condensed into *gears* (`gears`): its clocks, each with every accuracy level. Before
anything is served a *policy* (`policy`) is solved for each of a range of rates: the gear to serve in, given how many
wait and which clocks run, of least energy among those that refuse no more than the baseline at full clocks would, and
no more than the objective's percentile allows. Then, at each decision,

1. what was measured corrects the table (one slow-down factor for all rungs, `slowdown`, as in ALERT), the arrivals
   the rate estimate, and what was answered the accuracy account (`budget`);
2. the policy of the estimated rate gives a gear;
3. the deadlines that wait may raise it: whatever is served next must leave time for all the others, with a guard
   in hand, at the fastest that is then still allowed;
4. inside a gear the less accurate level is cheaper and quicker, and the account says how often it may be used. It is
   kept for busy moments: the shorter the queue, the fuller the account must be;
5. while the first deadline leaves room and more requests are expected in time, it holds them back to make one
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
from amble.control.governors.policy import Load, Policy, baseline_refusals, solve
from amble.control.governors.rate import Rate, arrive, fresh
from amble.control.slowdown import Slowdown, observe
from amble.core.ladder import Ladder, Rung
from amble.core.point import Clocks
from amble.core.schedule import Deadline

__all__ = ["Amble", "AmbleState", "Tuning"]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the governor cannot know from the ladder.

    ``guard``: slack kept in hand, in multiples of one request's time at the fastest rung. ``deviations``: how sure a
    predicted time must be. ``chance``: how likely another request must be to wait for it. ``hoard``: share of the
    accuracy account kept back for each waiting request fewer than three. ``grid``: number of rates that policies are
    solved for, up to ``ceiling`` times the capacity. ``allowed``: share of the refusals that the objective's
    percentile allows to be planned with. ``sudden``: standard deviations at which the fast rate overrules the slow.
    ``give``: where the percentile cannot be kept, how far to go from the fewest refusals towards the baseline's.
    """

    guard: float = 0.25
    deviations: float = 2.0
    chance: float = 0.5
    hoard: float = 0.45
    grid: int = 30
    ceiling: float = 1.2
    allowed: float = 0.8
    sudden: float = 3.0
    give: float = 0.5


class AmbleState(NamedTuple):
    """Slow-down, arrival rate, saved accuracy, and since when nothing waits [s]."""

    slowdown: Slowdown
    rate: Rate
    saved: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class Amble:
    """The governor over one ladder. ``budget`` bounds the accuracy loss in every sliding window."""

    ladder: Ladder
    objective: Deadline
    budget: Budget = Budget()
    tuning: Tuning = Tuning()
    name: str = "amble"
    gears: tuple[Gear, ...] = field(init=False, repr=False)
    losses: tuple[float, ...] = field(init=False, repr=False)
    policies: tuple[Policy, ...] = field(init=False, repr=False)
    switch_s: tuple[tuple[float, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Condense the ladder and solve its policies, once."""
        object.__setattr__(self, "gears", gears(self.ladder, self.budget))
        object.__setattr__(self, "losses", tuple(max(0.0, 1.0 - level.accuracy) for level in self.ladder.levels))
        object.__setattr__(self, "switch_s", tuple(tuple(self._switch_s(a, b) for b in self.gears) for a in self.gears))
        object.__setattr__(self, "policies", tuple(self._policy(place) for place in range(self.tuning.grid)))

    def init(self, now_s: float) -> AmbleState:
        """Begin without a rate, with an empty account."""
        scale_s = self.ladder.levels[0].rungs[0].latency_s[0]
        return AmbleState(Slowdown(), fresh(now_s, fast_s=60 * scale_s, slow_s=1000 * scale_s), 0.0, now_s)

    def pace(self, state: AmbleState) -> Pace:
        """Promise the fastest gear, and no more of its quick level than the account pays for."""
        top = self.gears[-1].rungs
        factor = state.slowdown.high(self.tuning.deviations)
        quick = min(range(len(top)), key=lambda level: top[level].latency_s[0])
        left = self.budget.rows_left(state.saved, self.losses[quick])
        return Pace(top[quick], top[0], left, factor, self.ladder.max_batch)

    def _pace_from(self, pace: Pace, running: int) -> Pace:
        """Return the same promise when it has to begin with a change from this gear's clocks."""
        return pace._replace(switch_s=self.switch_s[running][-1]) if self.switch_s[running][-1] else pace

    def step(self, state: AmbleState, seen: Observation) -> tuple[AmbleState, Decision]:
        """Learn from what has happened, then choose."""
        state = self._learned(state, seen)
        if not seen.due_s:
            return self._idle(state, seen)
        state = state._replace(idle_s=NEVER_S)
        running = self._running(seen.asked)
        pace = self.pace(state)
        gear, level = self._choice(state, seen, pace, running)
        rung = self.gears[gear].rungs[level]
        rows = self._rows(rung, level, state, seen, pace)
        wake_s = self._hold_until_s(rung, rows, state, seen, pace)
        if wake_s > seen.now_s:
            return state, Decision(self._pace_from(pace, running), wake_s=wake_s)
        return state, Decision(self._pace_from(pace, gear), rung, rows)

    def _learned(self, state: AmbleState, seen: Observation) -> AmbleState:
        rate = arrive(state.rate, seen.now_s, seen.num_arrived)
        done = seen.done
        if done is None:
            return state._replace(rate=rate)
        slowdown = state.slowdown
        if done.settled:
            slowdown = observe(slowdown, done.took_s / done.rung.latency_s[done.rows - 1])
        saved = self.budget.after(state.saved, max(0.0, 1.0 - done.rung.accuracy), done.rows)
        return AmbleState(slowdown, rate, saved, state.idle_s)

    def _policy(self, place: int) -> Policy:
        """Solve for one rate of the grid, with no more refusals than the baseline's or the percentile's."""
        rate_hz = (place + 1) / self.tuning.grid * self.tuning.ceiling * self.gears[-1].capacity_hz
        load = Load(rate_hz, self.objective.latency_s)
        baseline = baseline_refusals(self.ladder.levels[0].rungs[0], self.ladder, load)
        goal = min(baseline + 0.0005, self.tuning.allowed * (1.0 - self.objective.percentile))
        strict = solve(self.gears, self.ladder, load, goal=goal)
        if strict.refused <= goal or strict.refused >= baseline:
            return strict
        goal = strict.refused + self.tuning.give * (baseline - strict.refused)
        return solve(self.gears, self.ladder, load, goal=goal)

    def _choice(self, state: AmbleState, seen: Observation, pace: Pace, running: int) -> tuple[int, int]:
        """Return the gear for the next batch and its level: the policy's, or the first that keeps all deadlines."""
        level = self._level(state, seen)
        spare = self._spare_level(state, seen.head_rows)
        first = self._planned(state, seen.now_s).choose(running, seen.num_waiting)
        for gear in range(first, len(self.gears)):
            for each in {level: None, spare: None}:
                if self._keeps(gear, each, seen, pace, running):
                    return gear, each
        return len(self.gears) - 1, spare

    def _planned(self, state: AmbleState, now_s: float) -> Policy:
        """Return the policy for the estimated rate; a rate that has surely changed counts at once."""
        fast_hz, slow_hz = state.rate.hz(now_s)
        spread_hz = (slow_hz / (2.0 * state.rate.fast_s)) ** 0.5
        rate_hz = fast_hz if abs(fast_hz - slow_hz) > self.tuning.sudden * spread_hz else slow_hz
        share = rate_hz * state.slowdown.mean / (self.tuning.ceiling * self.gears[-1].capacity_hz)
        return self.policies[max(0, min(self.tuning.grid - 1, int(share * self.tuning.grid + 0.5) - 1))]

    def _running(self, asked: Clocks | None) -> int:
        """Return the gear whose clocks run; the nearest more frugal one where none has exactly these."""
        place = 0
        for index, gear in enumerate(self.gears):
            clocks = gear.rungs[0].clocks
            if clocks is asked or clocks == asked:
                return index
            if asked is not None and clocks < asked:
                place = index
        return place

    def _level(self, state: AmbleState, seen: Observation) -> int:
        """Return the cheapest level that the account affords with what is hoarded for a queue this short."""
        hoard = self.tuning.hoard * max(0, 3 - seen.num_waiting) * self.budget.cap
        gear = self.gears[0]
        best = 0
        for level in range(1, len(self.losses)):
            cheaper = gear.cheaper[level] < gear.cheaper[best]
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

    def _keeps(self, gear: int, level: int, seen: Observation, pace: Pace, running: int) -> bool:
        """Tell whether all others would still be on time at the fastest after a batch at this rung, and that one too."""
        rung, due_s = self.gears[gear].rungs[level], seen.due_s
        guard_s = self.tuning.guard * pace.quick.latency_s[0]
        start_s = seen.now_s + seen.other_s + guard_s + self.switch_s[running][gear]
        rows = (
            1 if pace.max_batch == 1 else fitting_batch(due_s, start_s, rung, limit=pace.max_batch, factor=pace.factor)
        )
        start_s += pace.factor * rung.latency_s[rows - 1]
        if start_s > min(due_s[:rows]):
            return False
        return len(due_s) == rows or lateness_s(due_s[rows:], start_s, self._pace_from(pace, gear)) <= 0

    def _switch_s(self, before: Gear, after: Gear) -> float:
        """Return how much later [s] a request is done when its gear's clocks do not run yet."""
        old, new = before.rungs[0], after.rungs[0]
        settle_s = self.ladder.settle_s(old.clocks, new.clocks)
        lost = min(1.0, settle_s / old.latency_s[0]) * (old.latency_s[0] - new.latency_s[0])
        return self.ladder.stall_s(old.clocks, new.clocks) + max(0.0, lost)

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
        guard_s = self.tuning.guard * pace.quick.latency_s[0]
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
        asked, park = seen.asked, self.ladder.park
        pace = self._pace_from(self.pace(state), self._running(asked))
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
