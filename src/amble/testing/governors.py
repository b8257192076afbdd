"""What every governor must do: decide purely, never wait for nothing, and stay within what its rungs can serve.

The suite is the world: a seeded day of arrivals in miniature, in which a batch takes as long as its rung says. Times
are in multiples of what one request takes at the governor's own pace, so it fits any ladder.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from amble.core.point import Clocks
from amble.stages.control.governor import NEVER_S, Decision, Done, Governor, Observation, replay

__all__ = ["GovernorConformance"]

_LOADS = (0.2, 0.7, 1.3)  # of what the pace carries one by one: idle moments, busy ones, and too much
_NUM_REQUESTS = 150
_DEADLINE = 6.0  # in times of one request
_MOST_STEPS = 50 * _NUM_REQUESTS
_WAIT = 1_000  # times of one request, in which a governor that wakes itself must have served somebody


@dataclass
class _Day:
    """What a governor was told and what it answered."""

    seen: list[Observation] = field(default_factory=list)
    decided: list[Decision] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)


class GovernorConformance:
    """Rules of a governor. Give the fixture ``governor``."""

    def test_a_step_changes_neither_its_state_nor_its_observation(self, governor: Governor[Any]) -> None:
        """Asked again in the same state it answers the same."""
        for load in _LOADS:
            state = governor.init(0.0)
            for seen in _day(governor, load).seen:
                before = copy.deepcopy(state)
                after, decision = governor.step(state, seen)
                assert state == before
                assert governor.step(state, seen) == (after, decision)
                governor.pace(state)
                assert state == before
                state = after

    def test_replaying_a_log_gives_the_same_decisions(self, governor: Governor[Any]) -> None:
        """Whatever it has been asked since: nothing is remembered outside the state."""
        days = [_day(governor, load) for load in _LOADS]
        for day in days:
            assert replay(governor, 0.0, day.seen) == day.decided

    def test_an_empty_queue_is_never_served(self, governor: Governor[Any]) -> None:
        """Nor are rows counted for it."""
        for seen, decision in _steps(governor):
            if not seen.due_s:
                assert decision.rung is None
                assert decision.rows == 0

    def test_rows_are_within_limits(self, governor: Governor[Any]) -> None:
        """At least one, at most what waits and what the rung and the pace can take."""
        for seen, decision in _steps(governor):
            if decision.rung is not None:
                limit = min(len(seen.due_s), decision.rung.max_batch, decision.pace.max_batch)
                assert 1 <= decision.rows <= limit

    def test_it_wakes_in_the_future(self, governor: Governor[Any]) -> None:
        """And while somebody waits it does wake."""
        for seen, decision in _steps(governor):
            if decision.rung is None:
                assert decision.wake_s > seen.now_s
                assert decision.wake_s < NEVER_S or not seen.due_s

    def test_everybody_who_waits_is_served(self, governor: Governor[Any]) -> None:
        """In time or late: who was let in gets an answer."""
        for load in _LOADS:
            served = sum(decision.rows for decision in _day(governor, load).decided if decision.rung is not None)
            assert served == _NUM_REQUESTS

    def test_what_it_promises_can_be_kept(self, governor: Governor[Any]) -> None:
        """A pace has room for one row, and takes time."""
        for _, decision in _steps(governor):
            assert decision.pace.max_batch >= 1
            assert decision.pace.factor > 0
            assert 0 < decision.pace.one_s() < NEVER_S

    def test_it_has_a_name(self, governor: Governor[Any]) -> None:
        """Reports call it by it."""
        assert governor.name


def _steps(governor: Governor[Any]) -> list[tuple[Observation, Decision]]:
    days = [_day(governor, load) for load in _LOADS]
    return [pair for day in days for pair in zip(day.seen, day.decided, strict=True)]


def _day(governor: Governor[Any], load: float) -> _Day:
    """Serve seeded arrivals: look at every arrival while idle, after every batch, and when the governor wants to."""
    state = governor.init(0.0)
    one_s = governor.pace(state).steady.latency_s[0]
    arrivals_s = np.cumsum(np.random.default_rng(7).exponential(one_s / load, _NUM_REQUESTS)).tolist()
    day, queue, told, next_, now_s = _Day(), list[float](), 0, 0, 0.0
    asked: Clocks | None = None
    done: Done | None = None
    until_s = arrivals_s[-1] + _WAIT * one_s
    while now_s < until_s and (next_ < _NUM_REQUESTS or queue) and len(day.seen) < _MOST_STEPS:
        while next_ < _NUM_REQUESTS and arrivals_s[next_] <= now_s:
            queue.append(arrivals_s[next_] + _DEADLINE * one_s)
            next_ += 1
        seen = Observation(now_s, tuple(queue), len(queue), next_ - told, done, asked)
        state, decision = governor.step(state, seen)
        day.seen.append(seen)
        day.decided.append(decision)
        told, done = next_, None
        if decision.rung is None:
            asked = decision.clocks or asked
            coming_s = arrivals_s[next_] if next_ < _NUM_REQUESTS else until_s
            now_s = max(now_s, min(coming_s, decision.wake_s))
            continue
        asked = decision.rung.clocks
        took_s = decision.rung.latency_s[min(decision.rows, decision.rung.max_batch) - 1]
        now_s += took_s
        done = Done(decision.rung, decision.rows, now_s, took_s)
        del queue[: decision.rows]
    return day
