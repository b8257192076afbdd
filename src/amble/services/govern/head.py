"""The governor of any server: what happened in the last period → the setting for the next one.

Theory of operation. ``init`` and ``step`` are pure: who replays the looks of a log gets the same choices.

*Choice.* Among the settings whose late answers stay within what the objectives allow, the one of least power for the
work that comes. A setting counts as safe at a load when its own late answers there are no more than those at the
fastest setting plus ``extra``; before it has answers of its own, when those of the nearest faster setting, stretched by
the slowness learnt, would be so. A search goes one setting beyond what was seen, and only while the account of late
answers has credit.

*Clumps.* Who may make many answers late (``extra`` above 0.2 %) gets them in clumps, which are no danger: settings are
tried one by one, each by more answers, and judged with the chance of a clump; what was seen of them is kept.

*Danger.* A queue that would take half of a limit to drain, late answers, or arrivals far above their mean: the fastest
setting at once, until the queue has gone. What was late meanwhile is charged to the setting that led there; a setting
that has cost more than it may is closed at that load and above, for a time that doubles.

*Idle.* A server without work is parked at the setting of least idle power, looked at more often, and woken by its first
request; what is late after that is charged to the parking.

*Proof.* In random blocks of time the clocks are as found: nobody decides, and the report can compare.

An objective that is already missed at the fastest setting is said so, and nothing is slowed.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from amble.core.ports import FloatArray
from amble.services.govern.belief import Belief, load_class
from amble.services.govern.buckets import Buckets
from amble.services.govern.eyes import Look
from amble.services.govern.hands import AS_FOUND
from amble.services.govern.objective import Objective

__all__ = ["AS_FOUND", "Choice", "Head", "Seen", "State"]

_FEW = 4.0  # answers at a setting before a slower one is judged by them
_ENOUGH = 20.0  # answers of its own before a setting is judged by them
_WOKEN = "woken"
_QUEUE = "the queue grows"
_DRAINED = 0.1  # of a limit: a queue that short has gone
_MANY = 0.002  # of the answers: who may make so many late gets them in clumps, which are no danger
_CLUMPS = 2.0  # standard deviations
_LATE_BACK_S = 120.0  # a setting that was closed is tried again after this, and twice that the next time


class Seen(NamedTuple):
    """A look, the power [W] meanwhile (None: unknown), and the setting that ran: an index, or ``AS_FOUND``."""

    look: Look
    power_w: float | None
    ran: int


class Choice(NamedTuple):
    """The setting to ask for, whether that is by lot, when to look again [s], and why."""

    setting: int
    control: bool
    look_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """What the head remembers. ``closed``: (load, setting) → until when [s], and for how long the next time."""

    start_s: float
    belief: Belief
    fast_hz: float = 0.0
    recent: tuple[int, ...] = ()
    setting: int = 0
    load: int = 0
    parked: bool = False
    since_s: float = 0.0
    danger_until_s: float | None = None
    blamed: tuple[int, int] | None = None
    blamed_until_s: float = 0.0
    idle_since_s: float | None = None
    answers: tuple[float, ...] = ()
    overdrawn: tuple[float, ...] = ()
    closed: tuple[tuple[int, int, float, float], ...] = ()


@dataclass(frozen=True)
class Head:
    """See the module's theory of operation.

    slowness: [setting][objective]; ``extra`` is the share of answers that slowing down may make late, on top of those
    late anyway. ``control`` is the share of the time with clocks as found: one block of ``block_s`` [s], by lot, in
    every 1 / ``control`` of them.
    ``change_s`` is how long a change of clocks takes: slower ones are asked for ten times as seldom at most.
    """

    objectives: tuple[Objective, ...]
    edges_s: tuple[tuple[float, ...], ...]
    judged_s: tuple[float, ...]
    slowness: tuple[tuple[float, ...], ...]
    period_s: float = 1.0
    control: float = 0.1
    seed: int = 0
    extra: float = 0.001
    block_s: float = 20.0
    park_after_s: float = 3.0
    parked_look_s: float = 0.1
    change_s: float = 0.0
    _middles_s: tuple[FloatArray, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Place a latency in every bucket."""
        middles = tuple(_middles_s(edges) for edges in self.edges_s)
        object.__setattr__(self, "_middles_s", middles)

    def init(self, now_s: float) -> State:
        """Return the state before anything was seen."""
        belief = Belief.blank(len(self.slowness), [len(each) + 1 for each in self.edges_s])
        nothing = (0.0,) * len(self.objectives)
        return State(now_s, belief, since_s=now_s, answers=nothing, overdrawn=nothing)

    def step(self, state: State, seen: Seen) -> tuple[State, Choice]:
        """Learn from a period, and choose the setting of the next."""
        look = seen.look
        if not look.usable:
            lost = replace(state, recent=(), setting=AS_FOUND, since_s=look.time_s, danger_until_s=None, blamed=None)
            return lost, Choice(AS_FOUND, False, self.period_s, look.note or "the page cannot be trusted")
        state = self._learnt(state, seen)
        if self._by_lot(state, look.time_s):
            return self._went(state, look, AS_FOUND), Choice(AS_FOUND, True, self.period_s, "as found, by lot")
        state, setting, reason = self._chosen(state, look)
        wait_s = min(self.period_s, self.parked_look_s) if reason == "parked" else self.period_s
        return self._went(state, look, setting), Choice(setting, False, wait_s, reason)

    def missed_anyway(self, state: State) -> tuple[float, ...]:
        """Return the share of answers that come late at the fastest setting, by objective; 0 before 100 answers."""
        shares = []
        for index, counts in enumerate(state.belief.counts):
            fastest = counts[:, 0].sum(axis=0) + counts[:, -1].sum(axis=0)
            total = float(fastest.sum())
            shares.append(self._late(index, fastest) / total if total >= 100.0 else 0.0)
        return tuple(shares)

    def _learnt(self, state: State, seen: Seen) -> State:
        """Take in a period: load, power, latencies, and what they cost."""
        look, span_s = seen.look, max(seen.look.span_s, 1e-3)
        keep = math.exp(-span_s / max(5.0, 3.0 * self.period_s))
        passed_s = look.time_s - state.start_s
        share = max(1.0 - keep, min(1.0, span_s / max(passed_s, span_s)))  # a plain mean to begin with
        rate_hz = state.fast_hz + share * (look.arrivals / span_s - state.fast_hz)
        belief = state.belief.with_power(max(1, load_class(rate_hz)), seen.ran, seen.power_w, span_s)
        recent = (*state.recent, seen.ran)[-16:]
        overdrawn = list(state.overdrawn)
        state = replace(state, fast_hz=rate_hz, belief=belief, recent=recent)
        for index, counts in enumerate(look.counts):
            if not any(counts):
                continue
            load, row = self._charged(state, index, look.time_s)
            late = self._late(index, np.asarray(counts))
            if row > 0:
                overdrawn[index] += max(0.0, late - self._anyway(state, index, load) * sum(counts))
            state = replace(state, belief=state.belief.with_latencies(index, load, row, counts))
            if row > 0 and late > 0.0:
                state = self._closed(state, index, load, row, look.time_s)
        idle = look.arrivals == 0 and not look.waiting and not look.running and look.finished == 0
        if idle:
            state = replace(state, belief=state.belief.with_idleness(seen.ran, seen.power_w, span_s))
        since = (look.time_s if state.idle_since_s is None else state.idle_since_s) if idle else None
        answers = tuple(had + sum(new) for had, new in zip(state.answers, look.counts, strict=True))
        return replace(state, overdrawn=tuple(overdrawn), answers=answers, idle_since_s=since)

    def _charged(self, state: State, objective: int, now_s: float) -> tuple[int, int]:
        """Return load and setting that answer for latencies of now: the slowest of the periods they may span."""
        if state.blamed is not None and now_s <= state.blamed_until_s:
            return state.blamed
        spans = 1 + math.ceil(min(self.objectives[objective].limit_s, 10.0) / self.period_s)
        recent = state.recent[-spans:]
        slowest = max(recent)
        return state.load, slowest  # AS_FOUND is the last row

    def _chosen(self, state: State, look: Look) -> tuple[State, int, str]:
        danger = self._danger(state, look)
        if danger:
            until_s = None if danger == _WOKEN else look.time_s + max(2.0 * self.period_s, 1.0)
            state = replace(state, danger_until_s=until_s)
            if danger == _QUEUE and state.setting > 0 and not self._many:
                state = self._shut(state, state.load, state.setting, look.time_s)
            state = replace(self._blaming(state, look) if state.setting > 0 else state, parked=False)
            if danger == _WOKEN and self._drain(look, state) <= 0.5:
                state, setting, _ = self._cheapest(replace(state, setting=AS_FOUND), look)
                return state, setting, danger
            return state, 0, danger
        if state.danger_until_s is not None:
            if look.time_s < state.danger_until_s or self._drain(look, state) > _DRAINED:
                return state, 0, "until the queue has gone"
            state = replace(state, danger_until_s=None, blamed=None)
        missed = [
            f"'{each}' is missed at the fastest setting: {100 * share:.2g} % late"
            for each, share in zip(self.objectives, self.missed_anyway(state), strict=True)
            if share > each.allowed
        ]
        if missed:
            return state, 0, missed[0]
        if state.idle_since_s is not None and look.time_s - state.idle_since_s >= self.park_after_s:
            if state.parked and state.setting >= 0:
                return state, state.setting, "parked"
            stay = max(0, state.setting)
            setting = self._parking(state, look.time_s)
            if setting == stay:
                return state, stay, "idle"
            return replace(state, load=0, parked=True), setting, "parked"
        return self._cheapest(state, look)

    def _blaming(self, state: State, look: Look) -> State:
        """Charge what is late for a while, as long as requests of now may take, to the setting that runs."""
        longest_s = max(each.limit_s for each in self.objectives)
        until_s = look.time_s + max(5.0 * self.period_s, 3.0 * min(longest_s, 10.0))
        return replace(state, blamed=(state.load, state.setting), blamed_until_s=until_s)

    def _danger(self, state: State, look: Look) -> str:
        """Say what threatens an objective at the setting that runs; empty when nothing does."""
        if state.setting <= 0 and state.danger_until_s is None:
            return ""
        if state.parked and state.setting > 0 and (look.arrivals > 0 or look.waiting or look.running):
            return _WOKEN
        if self._drain(look, state) > (1.0 if self._many else 0.5):
            return _QUEUE
        for index, each in enumerate(self.objectives):
            late = self._late(index, np.asarray(look.counts[index]))
            answers = sum(look.counts[index])
            if late > 0 and late > each.allowed * answers + self._clump(1.0 + each.allowed * answers):
                return f"late answers ({each})"
        usual = state.fast_hz * look.span_s
        if look.arrivals > 2.0 * usual + 4.0 * math.sqrt(usual) + 2.0:
            return "arrivals far above their mean"
        return ""

    def _drain(self, look: Look, state: State) -> float:
        """Return how long the queue takes to drain, in units of the tightest limit on waiting.

        At the rate of late, which is little at a light load; where many may be late, at least one after the other.
        """
        if not look.waiting:
            return 0.0
        waits = [each.limit_s for each in self.objectives if each.kind != "itl"]
        rate_hz = max(state.fast_hz, look.finished / max(look.span_s, 1e-3), 1e-6)
        if self._many and state.setting >= 0:
            load = max(1, load_class(state.fast_hz))
            means_s = (state.belief.mean_s(at, load, state.setting, each) for at, each in enumerate(self._middles_s))
            rate_hz = max([rate_hz, *(1.0 / each for each in means_s if each)])
        return look.waiting / rate_hz / min(waits) if waits else 0.0

    def _cheapest(self, state: State, look: Look) -> tuple[State, int, str]:
        load = max(1, load_class(state.fast_hz))
        now_s = look.time_s
        safe = self._slowest_safe(state, load, now_s)
        power_w = state.belief.power_w(load)
        if power_w is None:
            best, why = safe, "the slowest that keeps the objectives"
        else:
            best, why = int(np.argmin(power_w[: safe + 1])), "least power that keeps the objectives"
            held = min(max(state.setting, 0), safe)
            if power_w[best] > 0.99 * power_w[held] and held != best:
                best = held
        hold_s = max(self.period_s if self._many else 3.0 * self.period_s, 10.0 * self.change_s)
        if best > state.setting >= 0 and now_s - state.since_s < hold_s:
            best, why = min(state.setting, safe), "held a while"
        return replace(state, load=load, parked=False), best, why

    def _slowest_safe(self, state: State, load: int, now_s: float) -> int:
        """Return the slowest setting that keeps every objective at this load: by its own answers, or one or two beyond
        by those of a faster one."""
        objectives = range(len(self.objectives))
        bound = len(self.slowness)
        for at, setting, until_s, _ in state.closed:
            if at <= load and until_s > now_s:
                bound = min(bound, setting)
        proven = 0
        for setting in range(bound - 1, 0, -1):
            if all(self._own(state, index, load, setting) for index in objectives):
                proven = setting
                break
        safe = proven
        for setting in range(proven + 1, min(proven + (2 if self._many else 3), bound)):
            if not all(
                self._own(state, index, load, setting) is not False and self._stretched(state, index, load, setting)
                for index in objectives
            ):
                break
            safe = setting
        return safe

    def _own(self, state: State, objective: int, load: int, setting: int) -> bool | None:
        """Tell whether a setting's own answers keep an objective; None when it has too few."""
        own = state.belief.seen(objective, load, setting)
        total = float(own.sum())
        if total < _ENOUGH:
            return None
        allowed = self._anyway(state, objective, load) + self.extra
        spare = 1.0 if self._credit(state, objective) > 0.0 else 0.0
        return self._late(objective, own) <= allowed * total + spare * (1.0 + self._clump(allowed * total))

    def _stretched(self, state: State, objective: int, load: int, setting: int) -> bool:
        """Tell whether the answers of the nearest faster setting, stretched, would keep an objective here."""
        if self._credit(state, objective) <= 0.0:
            return False
        belief = state.belief
        allowed = self._anyway(state, objective, load) + self.extra
        for faster in range(setting - 1, -1, -1):
            from_there = belief.seen(objective, load, faster)
            if float(from_there.sum()) < _FEW:
                from_there = belief.seen(objective, load, faster, near=False)
            if (answers := float(from_there.sum())) >= (2.5 * _FEW if self._many else _FEW):
                stretch = self._stretch(belief, objective, load, setting, faster) * (1.0 + 3.0 / answers)
                over = self._over(objective, from_there, self.judged_s[objective] / stretch)
                while_tried = max(0.0, over / answers - allowed) * _ENOUGH  # late before it has answers of its own
                risk = 0.5 if self._many else 0.5 * self._credit(state, objective)
                return setting - faster <= 2 and while_tried <= risk
        return False

    def _stretch(self, belief: Belief, objective: int, load: int, setting: int, faster: int) -> float:
        """Return how many times as long a latency is at a setting as at a faster one.

        By the law of this objective, or, where that is more, by queueing: slowness over mean latency falls in a
        straight line as a single server slows down, and is zero where it cannot keep up.
        """
        slow = np.array([each[objective] for each in self.slowness])
        middles_s = self._middles_s[objective]
        power = max(1.0 if self._many else 0.5, 1.2 * belief.law(objective, slow, middles_s))
        by_law = float((slow[setting] / slow[faster]) ** power)
        first_s, there_s = (belief.mean_s(objective, load, row, middles_s) for row in (0, faster))
        arm = slow[faster] - slow[0]
        if first_s is None or there_s is None or arm < max(0.1, 0.5 * (slow[setting] - slow[faster])):
            return by_law
        pace = slow[faster] / there_s
        fall = min(0.0, (pace - slow[0] / first_s) / arm)
        left = pace + 1.5 * fall * (slow[setting] - slow[faster])
        if left <= 0.2 * pace:
            return math.inf
        return max(by_law, float(slow[setting] / left / there_s))

    def _closed(self, state: State, objective: int, load: int, row: int, now_s: float) -> State:
        """Close a setting whose late answers are more than it may have."""
        if self._own(state, objective, load, row) is not False and self._credit(state, objective) > 0.0:
            return state
        return self._shut(state, load, row, now_s)

    def _shut(self, state: State, load: int, row: int, now_s: float) -> State:
        """Close a setting at a load and above for a while, and twice that the next time."""
        before = [each for each in state.closed if each[:2] == (load, row)]
        for_s = 2.0 * before[0][3] if before and not self._many else _LATE_BACK_S
        for_s = for_s / 2.0 if self._many else for_s  # its own answers speak against it, and are not forgotten
        if before and before[0][2] > now_s:
            return state
        kept = tuple(each for each in state.closed if each[:2] != (load, row))
        closed = (*kept, (load, row, now_s + for_s, for_s))
        return replace(state, closed=closed, belief=state.belief if self._many else state.belief.forgotten(load, row))

    def _parking(self, state: State, now_s: float) -> int:
        """Return the setting of least idle power that parking is not closed at."""
        power_w = state.belief.idle_w()
        open_to = len(self.slowness) - 1
        for at, which, until_s, _ in state.closed:
            if at == 0 and until_s > now_s:
                open_to = min(open_to, which - 1)
        if any(self._credit(state, index) <= 0.0 for index in range(len(self.objectives))):
            open_to = 0
        stay = max(0, state.setting)
        if open_to <= 0:
            return 0
        if power_w is None:
            return open_to
        best = int(np.argmin(power_w[: open_to + 1]))
        return best if power_w[best] < 0.99 * power_w[stay] else stay

    @property
    def _many(self) -> bool:
        """Tell whether so many answers may be made late that a few of them say nothing."""
        return self.extra > _MANY

    def _clump(self, expected: float) -> float:
        """Return how many more late answers than expected come by chance; 0 where hardly any may be made late."""
        return _CLUMPS * math.sqrt(expected) if self._many else 0.0

    def _credit(self, state: State, objective: int) -> float:
        """Return how many more answers slowing down may make late now."""
        may = 1.0 + self.extra * state.answers[objective]
        return may + self._clump(may) - state.overdrawn[objective]

    def _anyway(self, state: State, objective: int, load: int) -> float:
        """Return the share that is late at the fastest setting at this load."""
        fastest = state.belief.seen(objective, load, 0)
        total = float(fastest.sum())
        return self._late(objective, fastest) / total if total >= 100.0 else 0.0

    def _late(self, objective: int, counts: FloatArray) -> float:
        return self._over(objective, counts, self.judged_s[objective])

    def _over(self, objective: int, counts: FloatArray, limit_s: float) -> float:
        """Return how many latencies are above a limit [s]; in a bucket they are spread evenly over its logarithm."""
        edges_s = self.edges_s[objective]
        over = Buckets(edges_s, tuple(counts)).over(limit_s)
        index = sum(1 for edge_s in edges_s if edge_s <= limit_s * (1.0 + 1e-9))
        if index >= len(edges_s) or (index and math.isclose(edges_s[index - 1], limit_s)):
            return over
        low_s = edges_s[index - 1] if index else edges_s[0] / 2.0
        inside = math.log(max(limit_s, low_s) / low_s) / math.log(edges_s[index] / low_s)
        return over - inside * float(counts[index])

    def _by_lot(self, state: State, now_s: float) -> bool:
        """Tell whether the clocks are as found now: in one block, drawn by lot, of each group of blocks."""
        if self.control <= 0.0:
            return False
        size = max(2, round(1.0 / self.control))
        group, place = divmod(int((now_s - state.start_s) / self.block_s), size)
        return place == random.Random(self.seed * 1_000_003 + group).randrange(size)  # noqa: S311

    def _went(self, state: State, look: Look, setting: int) -> State:
        if setting == state.setting:
            return state
        gone = replace(state, setting=setting, since_s=look.time_s)
        return replace(gone, danger_until_s=None, blamed=None) if setting == AS_FOUND else gone


def _middles_s(edges_s: tuple[float, ...]) -> FloatArray:
    """Return a latency for each bucket [s]: its geometric middle."""
    edges = np.array(edges_s)
    inner = np.sqrt(edges[:-1] * edges[1:])
    return np.concatenate([[edges[0] / 2.0], inner, [edges[-1] * 1.5]])
