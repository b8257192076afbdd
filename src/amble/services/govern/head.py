"""The governor of any server: what happened in the last period → the setting for the next one.

Theory of operation. ``init`` and ``step`` are pure: who replays the looks of a log gets the same choices.

*Choice.* Among the settings whose late answers stay within what the objectives allow (`judging`), the one of least
power for the work that comes: by `phases` where a server counts tokens, else as measured at this load (`belief`).

*Danger.* A queue, or prompts without a first token, that would take a good part of a limit, late answers, arrivals far
above their mean, or more requests together than may have room: the fastest setting at once, until the queue has gone.
What was late meanwhile, and the power, are charged to the setting that led there: so a setting is judged with all that
it needs, and one that a burst of speed now and then makes cheaper than the next faster one wins.

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
from amble.services.govern.belief import load_class
from amble.services.govern.eyes import Look
from amble.services.govern.hands import AS_FOUND
from amble.services.govern.judging import Account, Judge
from amble.services.govern.objective import Objective
from amble.services.govern.phases import Phases

__all__ = ["AS_FOUND", "Choice", "Head", "Seen", "State"]

_QUEUE = "the queue grows"
_SLOWEST, _LEAST = "the slowest that keeps the objectives", "least power that keeps the objectives"
_HELD, _PARKED, _IDLE, _WOKEN = "held a while", "parked", "idle", "woken"
_CALM = frozenset({_SLOWEST, _LEAST, _HELD, _PARKED, _IDLE, _WOKEN})
_FULL = 0.25  # of a limit: a queue that long is a danger at most, and
_LEAST_FULL = 0.1  # at least
_WARNED, _CALMED_S = 0.8, 300.0  # after late answers it is that much shorter, and longer again over that time
_DRAINED = 0.2  # of that: a queue that short has gone
_CROWD, _THINNED = 1.25, 1.1  # times as many requests that run together as of late are one, and until it is none
_LONGEST_S = 10.0  # that a danger is charged to the setting that led there, beyond what its own answers take
_WORTH = 0.995  # of the power of now: what another setting must promise, or this one is kept
_MEANT = 20.0  # arrivals that their rate is a mean of


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

    @property
    def calm(self) -> bool:
        """Tell whether no objective was in danger, or is missed even at the fastest setting."""
        return self.reason in _CALM


@dataclass(frozen=True, slots=True)
class State:
    """What the head remembers. ``blamed``: the load and setting that answer for what is late in a danger; ``full``: the
    queue that is one, in limits. Until ``capped_until_s`` nobody answers for what is late: a cap from above did it."""

    start_s: float
    account: Account
    phases: Phases
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
    full: float = 0.7 * _FULL
    capped_until_s: float = -math.inf


@dataclass(frozen=True)
class Head:
    """See the module's theory of operation.

    slowness: [setting][objective]; ``extra`` is the share of answers that slowing down may make late, on top of those
    late anyway. ``control`` is the share of the time with clocks as found: one block of ``block_s`` [s], by lot, in
    every 1 / ``control`` of them.
    ``draws``: [setting] what each draws while busy, in any unit, where a table says so.
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
    draws: tuple[float, ...] | None = None
    _judge: Judge = field(init=False, repr=False)
    _phase_slowness: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Find who judges, and how slow each phase is at each setting."""
        judge = Judge(self.objectives, self.edges_s, self.judged_s, self.slowness, self.extra, self.draws is not None)
        object.__setattr__(self, "_judge", judge)
        kinds = [each.kind for each in self.objectives]
        columns = [kinds.index(kind) if kind in kinds else 0 for kind in ("itl", "ttft")]
        object.__setattr__(self, "_phase_slowness", np.array(self.slowness)[:, columns])

    def init(self, now_s: float) -> State:
        """Return the state before anything was seen."""
        return State(now_s, self._judge.blank(), Phases.blank(len(self.slowness)), since_s=now_s)

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
        wait_s = min(self.period_s, self.parked_look_s) if reason == _PARKED else self.period_s
        return self._went(state, look, setting), Choice(setting, False, wait_s, reason)

    def _learnt(self, state: State, seen: Seen) -> State:
        """Take in a period: load, power, latencies, and what they cost."""
        look, span_s = seen.look, max(seen.look.span_s, 1e-3)
        mean_s = min(120.0, max(5.0, 3.0 * self.period_s, _MEANT / max(state.fast_hz, 1e-3)))
        passed_s = max(look.time_s - state.start_s, span_s)
        share = 1.0 - math.exp(-span_s / min(mean_s, passed_s))  # a plain mean to begin with
        rate_hz = state.fast_hz + share * (look.arrivals / span_s - state.fast_hz)
        blamed = None if state.danger_until_s is None else state.blamed
        row = seen.ran if blamed is None else blamed[1]
        belief = state.account.belief.with_power(look.finished / span_s, row, seen.power_w, span_s)
        belief = belief.with_help(state.load, row, span_s, helped=blamed is not None)
        firsts = [sum(look.counts[at]) for at, each in enumerate(self.objectives) if each.kind == "ttft"]
        phases = state.phases.after(look, seen.ran, seen.power_w, firsts[0] if firsts else None)
        idle = look.arrivals == 0 and not look.waiting and not look.running and look.finished == 0
        if idle:
            belief = belief.with_idleness(seen.ran, seen.power_w, span_s)
        since = (look.time_s if state.idle_since_s is None else state.idle_since_s) if idle else None
        account = replace(state.account, belief=belief).with_answers(look.counts, span_s)
        state = replace(
            state, fast_hz=rate_hz, account=account, phases=phases, idle_since_s=since,
            recent=(*state.recent, seen.ran)[-48:],
            full=min(_FULL, state.full * math.exp(span_s / _CALMED_S)),
        )  # fmt: skip
        if seen.ran > max(state.setting, 0):  # slower than was asked for: somebody above holds it there
            state = replace(state, capped_until_s=look.time_s + 2.0 * _LONGEST_S)
        return state if look.time_s <= state.capped_until_s else self._charging(state, look)

    def _charging(self, state: State, look: Look) -> State:
        account, full = state.account, state.full
        for index, counts in enumerate(look.counts):
            if not any(counts):
                continue
            where = self._answers_for(state, index, look.time_s)
            account = self._judge.charged(account, index, where, counts)
            if where[1] > 0 and self._judge.late(index, np.asarray(counts)) > 0.0:
                account = self._judge.closing(account, index, where, look.time_s)
                full = max(_LEAST_FULL, _WARNED * full)
        return replace(state, account=account, full=full)

    def _answers_for(self, state: State, objective: int, now_s: float) -> tuple[int, int]:
        """Return load and setting that answer for latencies of now: the slowest of the periods they may span."""
        if state.blamed is not None and now_s <= state.blamed_until_s + (_LONGEST_S if state.danger_until_s else 0.0):
            return state.blamed
        spans = 1 + math.ceil(min(self.objectives[objective].limit_s, 10.0) / self.period_s)
        return state.load, max(state.recent[-spans:])  # AS_FOUND is the last row

    def _chosen(self, state: State, look: Look) -> tuple[State, int, str]:
        danger = self._danger(state, look)
        if danger:
            until_s = None if danger == _WOKEN else look.time_s + max(2.0 * self.period_s, 0.5)
            state = replace(state, danger_until_s=until_s)
            new = look.time_s > state.blamed_until_s  # one crowd says once that slower would not do
            if danger == _QUEUE and state.setting > 0 and new and not self._judge.many:
                state = replace(state, account=state.account.shut(state.load, state.setting + 1, look.time_s))
            state = replace(self._blaming(state, look) if state.setting > 0 else state, parked=False)
            if danger == _WOKEN and self._drain(look, state) <= state.full:
                state, setting, _ = self._cheapest(replace(state, setting=AS_FOUND), look)
                return state, setting, danger
            return state, 0, danger
        if state.danger_until_s is not None:
            full = self._drain(look, state) > _DRAINED * state.full or state.phases.crowded(_THINNED)
            if full or look.time_s < state.danger_until_s:
                return state, 0, "until the queue has gone"
            until_s = look.time_s + 2.0 * self.period_s + min(max(each.limit_s for each in self.objectives), 10.0)
            state = replace(state, danger_until_s=None, blamed_until_s=until_s, since_s=-math.inf)
        missed = [
            f"'{each}' is missed at the fastest setting: {100 * share:.2g} % late"
            for each, share in zip(self.objectives, self._judge.missed_anyway(state.account), strict=True)
            if share > each.allowed
        ]
        if missed:
            return state, 0, missed[0]
        if state.idle_since_s is not None and look.time_s - state.idle_since_s >= self.park_after_s:
            if state.parked and state.setting >= 0:
                return state, state.setting, _PARKED
            stay = max(0, state.setting)
            setting = self._parking(state, look.time_s)
            if setting == stay:
                return state, stay, _IDLE
            return replace(state, load=0, parked=True), setting, _PARKED
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
        if self._drain(look, state) > (1.0 if self._judge.many else state.full):
            return _QUEUE
        for index, each in enumerate(self.objectives):
            late = self._judge.late(index, np.asarray(look.counts[index]))
            due = each.allowed * sum(look.counts[index])
            if late > 0 and late > due + self._judge.clump(1.0 + due):
                return f"late answers ({each})"
        if state.phases.crowded(_CROWD):
            return "far more requests run together than of late"
        usual = state.fast_hz * max(look.span_s, 0.0)
        if look.arrivals > 2.0 * usual + 4.0 * math.sqrt(usual) + 2.0:
            return "arrivals far above their mean"
        return ""

    def _drain(self, look: Look, state: State) -> float:
        """Return how long the queue takes to drain, in units of the tightest limit on waiting: those that wait at the
        rate of late, and those without a first token at the setting that runs."""
        waits = [each.limit_s for each in self.objectives if each.kind != "itl"]
        if not waits:
            return 0.0
        first_s = state.phases.wait_s(self._phase_slowness, state.setting, look.time_s)
        rate_hz = max(state.fast_hz, look.finished / max(look.span_s, 1e-3), 1e-6)
        if self._judge.many and state.setting >= 0:  # a server with little to do is not slow
            rate_hz = max(rate_hz, 1.0 / (self._judge.mean_s(state.account, max(1, state.load), state.setting) or 1e6))
        return max(first_s, (look.waiting or 0.0) / rate_hz) / min(waits)

    def _cheapest(self, state: State, look: Look) -> tuple[State, int, str]:
        load = max(1, load_class(state.fast_hz, state.load))
        now_s = look.time_s
        safe = self._judge.slowest_safe(state.account, load, now_s)
        power_w = self._power_w(state, load)
        if power_w is None:
            best, why = safe, _SLOWEST
        else:
            best, why = int(np.argmin(power_w[: safe + 1])), _LEAST
            held = min(max(state.setting, 0), safe)
            if power_w[best] > _WORTH * power_w[held] and held != best:
                best = held
        hold_s = max(self.period_s if self._judge.many else 3.0 * self.period_s, 10.0 * self.change_s)
        if best > state.setting >= 0 and now_s - state.since_s < hold_s:
            best, why = min(state.setting, safe), _HELD
        return replace(state, load=load, parked=False), best, why

    def _power_w(self, state: State, load: int) -> FloatArray | None:
        """Return the power expected at each setting, in any unit, with that of the fastest while it needs help."""
        belief = state.account.belief
        power_w = state.phases.power_w(self._phase_slowness, belief.idle_w(cheaper=1.0), self.draws)
        if power_w is None:
            return belief.power_w(load)
        helped = np.array([belief.help_share(load, row) for row in range(len(power_w))])
        mixed: FloatArray = power_w + helped * (power_w[0] - power_w)
        return mixed

    def _parking(self, state: State, now_s: float) -> int:
        """Return the setting of least idle power that parking is not closed at."""
        power_w = state.account.belief.idle_w()
        open_to = self._judge.open_to(state.account, 0, now_s) - 1
        if any(self._judge.credit(state.account, index) <= 0.0 for index in range(len(self.objectives))):
            open_to = 0
        stay = max(0, state.setting)
        if open_to <= 0:
            return 0
        if power_w is None:
            return open_to
        best = int(np.argmin(power_w[: open_to + 1]))
        return best if power_w[best] < 0.99 * power_w[stay] else stay

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
