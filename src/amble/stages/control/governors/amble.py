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
4. inside a gear the less accurate level is cheaper and quicker, and the account says how often it may be used; while
   more come than did, or they come or go several at a time, a part of the account is put by for when a deadline needs
   it, and always a little for when one batch does not serve all, so that the accurate level is used in quiet moments;
5. while the first deadline leaves room, a larger batch would save energy and the next request is expected in time,
   it holds back those that wait, until then at most (`company`); with nothing waiting, it parks the clocks once
   waiting on has cost as much as parking (the rule that is never worse than twice the best, whatever comes).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import NamedTuple

from threadpoolctl import threadpool_limits

from amble.core.ladder import Ladder, Rung
from amble.core.point import Clocks
from amble.core.schedule import Deadline
from amble.stages.control.batcher import Pace, fitting_batch, lateness_s
from amble.stages.control.governor import NEVER_S, Decision, Observation
from amble.stages.control.governors.budget import Budget
from amble.stages.control.governors.company import Company, held, hold, unheld
from amble.stages.control.governors.gears import Gear, gears
from amble.stages.control.governors.policy import Load, Policy, baseline_refusals, solve
from amble.stages.control.governors.rate import Rate, arrive, fresh
from amble.stages.control.governors.shifts import Shifts
from amble.stages.control.slowdown import Slowdown, aged, observe

__all__ = ["Amble", "AmbleState", "Tuning"]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the governor cannot know from the ladder.

    ``guard``: slack kept in hand, in multiples of one request's time at the fastest rung. ``deviations``: how sure a
    predicted time must be. ``worth``: share of a batch's energy that a larger one must save to wait for it.
    ``probe_s``: time [s] after which a slow-down that refuses everybody is put to the test. ``grid``: number of rates
    that policies are solved for, up to ``ceiling`` times the capacity, each for every one of ``clumps`` requests at a
    time. ``allowed``: share of the refusals that the objective's percentile allows to be planned with. ``sudden``:
    standard deviations at which the fast rate overrules the slow. ``give``: where the percentile cannot be kept, how
    far to go from the fewest refusals towards the baseline's. ``margin`` and ``more``: share of the baseline's refusals
    to plan with, and a share of all requests on top. ``parking``: share of the deadline within which parked clocks must
    be able to answer what comes at a time. ``quiet``: share of the accuracy account not spent if all go at once.
    ``reach``: share of the objective by which a batch that was held back must be done.
    """

    guard: float = 0.25
    deviations: float = 1.0
    worth: float = 0.02
    probe_s: float = 1.0
    grid: int = 30
    ceiling: float = 1.2
    clumps: tuple[int, ...] = (1, 2, 4, 8)
    allowed: float = 0.2
    sudden: float = 3.0
    give: float = 0.25
    margin: float = 1.0
    more: float = 0.0004
    parking: float = 0.5
    quiet: float = 0.05
    reach: float = 0.6


_BUDGET, _TUNING = Budget(), Tuning()
_CLUMPED = 1.4  # times as many at a time as a policy was solved for, from which on the next one serves better


class AmbleState(NamedTuple):
    """Slow-down, arrival rate, saved accuracy and what of it is put by, since when nothing waits [s], and the clocks.

    ``company`` is what waiting for more brought. ``sure`` is the slow-down that nobody doubted at the last look.

    Until ``settled_s`` the clocks of gear ``before`` run, and not those that were asked for.
    """

    slowdown: Slowdown
    rate: Rate
    saved: float
    kept: float
    idle_s: float
    before: int = 0
    settled_s: float = 0.0
    company: Company = Company()
    sure: float = 1.0


@dataclass(frozen=True, slots=True)
class Amble:
    """The governor over one ladder. ``budget`` bounds the accuracy loss in every sliding window."""

    ladder: Ladder
    objective: Deadline
    budget: Budget = _BUDGET
    tuning: Tuning = _TUNING
    name: str = "amble"
    gears: tuple[Gear, ...] = field(init=False, repr=False)
    losses: tuple[float, ...] = field(init=False, repr=False)
    policies: tuple[tuple[Policy, ...], ...] = field(init=False, repr=False)
    shifts: Shifts = field(init=False, repr=False)
    quick: int = field(init=False, repr=False)
    max_batch: int = field(init=False, repr=False)
    only: Rung | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Condense the ladder and solve its policies, once."""
        object.__setattr__(self, "gears", gears(self.ladder, self.budget))
        object.__setattr__(self, "losses", tuple(max(0.0, 1.0 - level.accuracy) for level in self.ladder.levels))
        top = self.gears[-1].rungs
        object.__setattr__(self, "quick", min(range(len(top)), key=lambda level: top[level].latency_s[0]))
        object.__setattr__(self, "max_batch", self.ladder.max_batch)
        choice = len(self.gears) * len(top) * self.max_batch > 1 or top[0].clocks != self.ladder.park
        object.__setattr__(self, "only", None if choice else top[0])
        object.__setattr__(self, "shifts", Shifts(self.ladder, self.gears))
        object.__setattr__(self, "policies", self._policies())

    def init(self, now_s: float) -> AmbleState:
        """Begin without a rate, with an empty account."""
        scale_s = self.ladder.levels[0].rungs[0].latency_s[0]
        rate = fresh(now_s, fast_s=60 * scale_s, slow_s=1000 * scale_s, window_s=self.objective.latency_s)
        return AmbleState(Slowdown(), rate, 0.0, 0.0, now_s)

    def pace(self, state: AmbleState) -> Pace:
        """Promise the fastest gear, and no more of its quick level than the account pays for."""
        return self._busy(state)._replace(sure=state.sure)

    def _busy(self, state: AmbleState) -> Pace:
        """Return the pace of a device that is not idle: the whole slow-down counts."""
        top = self.gears[-1].rungs
        factor = state.slowdown.high(self.tuning.deviations)
        left = self.budget.rows_left(state.saved, self.losses[self.quick])
        return Pace(top[self.quick], top[0], left, factor, self.max_batch)

    def step(self, state: AmbleState, seen: Observation) -> tuple[AmbleState, Decision]:
        """Learn from what has happened, then choose."""
        state = self._learned(state, seen)
        if not seen.due_s:
            return self._idle(state, seen)
        pace = self._busy(state)
        if self.only is not None:
            return state._replace(idle_s=NEVER_S), Decision(pace, self.only, seen.head_rows)
        running = self._running(state, seen)
        gear, level = self._choice(state, seen, running)
        rung = self.gears[gear].rungs[level]
        rows = self._rows(rung, level, state, seen, pace)
        wake_s = self._hold_until_s(rung, rows, state, seen, pace) - self.shifts.late_s(running, gear, seen.asked)
        if state.idle_s != NEVER_S:
            state = state._replace(idle_s=NEVER_S)
        state = self._asked(state, seen, rung.clocks, running)
        if wake_s > seen.now_s:
            state = state._replace(company=state.company._replace(waiting=seen.num_waiting, until_s=wake_s))
            promise = self._promise(self.pace(state), gear, running, state.settled_s - seen.now_s)
            return state, Decision(promise, clocks=rung.clocks, wake_s=wake_s)
        if state.company.luck < 1.0:
            state = state._replace(company=unheld(state.company))
        left_s = state.settled_s - seen.now_s - pace.factor * rung.latency_s[rows - 1]
        return state, Decision(self._promise(pace, gear, running, left_s), rung, rows)

    def _promise(self, pace: Pace, gear: int, before: int, left_s: float) -> Pace:
        """Return the pace when this gear has been asked for, and the clocks of the one before run for ``left_s``."""
        lost_s = self.shifts.climb_s(gear, before, left_s)
        if lost_s <= 0.0:
            return pace
        now = self.gears[before if left_s > 0.0 else gear].rungs
        return pace._replace(switch_s=lost_s, meanwhile=(now[self.quick], now[0]))

    def _running(self, state: AmbleState, seen: Observation) -> int:
        """Return the gear whose clocks run now, whatever was asked for."""
        return self.shifts.gear_of(seen.asked) if seen.now_s >= state.settled_s else state.before

    def _asked(self, state: AmbleState, seen: Observation, clocks: Clocks, running: int) -> AmbleState:
        """Remember that a change of clocks begins, if it is one."""
        if seen.asked is None or clocks is seen.asked or clocks == seen.asked:
            return state
        return state._replace(before=running, settled_s=seen.now_s + self.shifts.settle_s(seen.asked, clocks))

    def _learned(self, state: AmbleState, seen: Observation) -> AmbleState:
        now_s, done, slowdown = seen.now_s, seen.done, state.slowdown
        rate = arrive(state.rate, now_s, seen.num_arrived)
        company = held(state.company, seen) if self.max_batch > 1 else state.company
        if done is None:
            if now_s > slowdown.aged_s + self.tuning.probe_s:
                slowdown = aged(slowdown, now_s)
            sure = slowdown.sure(now_s, self.tuning.probe_s)
            return state._replace(slowdown=slowdown, rate=rate, company=company, sure=sure)
        if done.settled:
            slowdown = observe(slowdown, done.took_s / done.rung.latency_s[done.rows - 1], now_s)
        saved = self.budget.after(state.saved, max(0.0, 1.0 - done.rung.accuracy), done.rows)
        kept = self.budget.put_by(state.kept, saved, 0 if self._calm(rate, now_s) else done.rows)
        sure = slowdown.sure(now_s, self.tuning.probe_s)
        return state._replace(slowdown=slowdown, rate=rate, saved=saved, kept=kept, company=company, sure=sure)

    def _policies(self) -> tuple[tuple[Policy, ...], ...]:
        """Solve for every clump and rate of the grid; the matrices are small: threads would wait for each other."""
        step_hz = self.tuning.ceiling * self.gears[-1].capacity_hz / self.tuning.grid
        rates_hz = [step_hz * (place + 1) for place in range(self.tuning.grid)]
        deadline_s = self.objective.latency_s
        with threadpool_limits(limits=1, user_api="blas"):
            return tuple(
                tuple(self._policy(Load(rate_hz, deadline_s, clump)) for rate_hz in rates_hz)
                for clump in self.tuning.clumps
            )

    def _policy(self, load: Load) -> Policy:
        """Solve for one load, with no more refusals than the baseline's or the percentile's."""
        baseline = baseline_refusals(self.ladder.levels[0].rungs[0], self.ladder, load)
        goal = min(
            self.tuning.margin * baseline + self.tuning.more, self.tuning.allowed * (1.0 - self.objective.percentile)
        )
        strict = solve(self.gears, self.ladder, load, goal=goal)
        if strict.refused <= goal or strict.refused >= baseline:
            return strict
        goal = strict.refused + self.tuning.give * max(0.0, self.tuning.margin * baseline - strict.refused)
        return solve(self.gears, self.ladder, load, goal=goal)

    def _choice(self, state: AmbleState, seen: Observation, running: int) -> tuple[int, int]:
        """Return the gear for the next batch and its level: the policy's, or the first that keeps all deadlines."""
        level, spare = self._level(state, seen), self._spare_level(state, seen)
        if seen.now_s < state.settled_s:  # another change before one has settled would only begin it anew
            first = self.shifts.gear_of(seen.asked)
        else:
            first = self._planned(state, seen.now_s).choose(running, seen.num_waiting)
        for gear in range(first, len(self.gears)):
            for each in {level: None, spare: None}:
                if self._keeps(gear, each, state, seen, running):
                    return gear, each
        return len(self.gears) - 1, spare

    def _planned(self, state: AmbleState, now_s: float) -> Policy:
        """Return the policy for the estimated rate; a rate that has surely changed counts at once."""
        rate, clump = state.rate, state.rate.clump
        fast_hz, slow_hz = rate.hz(now_s)
        rate_hz = fast_hz if abs(fast_hz - slow_hz) > self._spread_hz(rate, slow_hz) else slow_hz
        share = rate_hz * state.slowdown.mean / (self.tuning.ceiling * self.gears[-1].capacity_hz)
        kind = sum(clump > _CLUMPED * each for each in self.tuning.clumps[:-1])
        return self.policies[kind][max(0, min(self.tuning.grid - 1, int(share * self.tuning.grid + 0.5) - 1))]

    def _calm(self, rate: Rate, now_s: float) -> bool:
        """Tell whether requests come and go one by one, and no more of them come than did."""
        fast_hz, slow_hz = rate.hz(now_s)
        alone = self.max_batch == 1 and rate.clump <= _CLUMPED
        return alone and fast_hz - slow_hz <= self._spread_hz(rate, slow_hz)

    def _spread_hz(self, rate: Rate, slow_hz: float) -> float:
        """Return the difference of the two estimates that chance alone does not make."""
        return self.tuning.sudden * sqrt(rate.clump * slow_hz / (2.0 * rate.fast_s))

    def _level(self, state: AmbleState, seen: Observation) -> int:
        """Return the cheapest level that the account affords without what is put by; less if all go at once."""
        gear, best = self.gears[0], 0
        quiet = seen.num_waiting <= max(seen.head_rows, self.max_batch)
        put_by = state.kept + (self.tuning.quiet * self.budget.cap if quiet else 0.0)
        for level in range(1, len(self.losses)):
            cheaper, loss, rows = gear.cheaper[level] < gear.cheaper[best], self.losses[level], self._batch(level, seen)
            always = loss <= self.budget.income  # nothing has to be put by for what every row pays itself
            kept = 0.0 if always else min(put_by, max(0.0, self.budget.cap - 2.0 * loss * rows))
            if cheaper and self.budget.affords(state.saved - kept, loss, rows):
                best = level
        return best

    def _spare_level(self, state: AmbleState, seen: Observation) -> int:
        """Return the quickest level that the account affords at all."""
        top = self.gears[-1].rungs
        affordable = [
            level
            for level, loss in enumerate(self.losses)
            if level == 0 or self.budget.affords(state.saved, loss, self._batch(level, seen))
        ]
        return min(affordable, key=lambda level: top[level].latency_s[0])

    def _batch(self, level: int, seen: Observation) -> int:
        """Return how many rows the account must pay for: a batch that is cut to what it pays for would serve slower.

        More than half of a full account pays for are not asked of it.
        """
        most = self.budget.rows_left(0.5 * self.budget.cap, self.losses[level])
        return max(seen.head_rows, int(min(seen.num_waiting, self.max_batch, most)))

    def _keeps(self, gear: int, level: int, state: AmbleState, seen: Observation, running: int) -> bool:
        """Tell whether a batch at this rung is on time, and all others still would be at the fastest after it."""
        rung, due_s, pace = self.gears[gear].rungs[level], seen.due_s, self._busy(state)
        guard_s = self.tuning.guard * pace.quick.latency_s[0]
        start_s = seen.now_s + seen.other_s + guard_s + self.shifts.late_s(running, gear, seen.asked)
        rows = 1
        if pace.max_batch > 1:
            rows = fitting_batch(due_s, start_s, rung, limit=pace.max_batch, factor=pace.factor)
        end_s = start_s + pace.factor * rung.latency_s[rows - 1]
        if end_s > min(due_s[:rows]):
            return False
        if len(due_s) == rows:
            return True
        settled_s = self._asked(state, seen, rung.clocks, running).settled_s
        return lateness_s(due_s[rows:], end_s, self._promise(pace, gear, running, settled_s - end_s)) <= 0

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
        spare_s = max(guard_s, (1.0 - self.tuning.reach) * self.objective.latency_s)
        latest_s = min(seen.due_s[:rows]) - spare_s - pace.factor * rung.latency_s[rows] - seen.other_s
        if latest_s - seen.now_s <= 0.01 * rung.latency_s[0]:
            return seen.now_s
        objective = self.ladder.objective(rung)
        apart = objective[rows - 1] + objective[0]
        if apart - objective[rows] < self.tuning.worth * apart:
            return seen.now_s
        return hold(state.company, seen, state.rate, latest_s)

    def _idle(self, state: AmbleState, seen: Observation) -> tuple[AmbleState, Decision]:
        """Park the clocks when waiting at them has cost as much as parking, or is going to."""
        since_s = min(state.idle_s, seen.now_s)
        if since_s != state.idle_s:
            state = state._replace(idle_s=since_s)
        running = self.shifts.gear_of(seen.asked)
        pace = self._promise(self.pace(state), running, running, 0.0)
        gear = self._planned(state, seen.now_s).choose(running, 1)
        park = gear == 0 and self.shifts.parks(state.rate.clump, self.tuning.parking * self.objective.latency_s)
        asked, rest = seen.asked, self.ladder.park if park else self.gears[gear].rungs[0].clocks
        wake_s = self._doubt_s(state.slowdown, state.sure)
        if asked is None or gear > running or asked == rest:
            return state, Decision(pace, wake_s=wake_s)
        after_s = self.shifts.break_even_s(asked, rest)
        expected_s = 1.0 / max(1e-9, min(state.rate.hz(seen.now_s)))
        if seen.now_s >= since_s + after_s or expected_s > 2.0 * after_s:
            return self._asked(state, seen, rest, running), Decision(pace, clocks=rest, wake_s=wake_s)
        return state, Decision(pace, wake_s=min(wake_s, since_s + after_s))

    def _doubt_s(self, slowdown: Slowdown, sure: float) -> float:
        """Return when to look again [s] at a slow-down that nothing confirms any more."""
        if sure > 1.0:
            return slowdown.at_s + self.tuning.probe_s
        return slowdown.aged_s + 5.0 * self.tuning.probe_s if slowdown.mean > 1.1 else NEVER_S
