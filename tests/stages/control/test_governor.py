"""Governors are pure, and each follows its rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amble.core.errors import Infeasible
from amble.core.schedule import Deadline
from amble.stages.control.batcher import Pace
from amble.stages.control.governor import NEVER_S, Decision, Done, Observation, replay
from amble.stages.control.governors import Amble, Dvfs, Pit, Tuning, best_fixed, int8_max, max_clocks
from tests.stages.control.ladders import FAST, MIDDLE, SLOW, every_rung, ladder, open_device, poisson, serve

QUICK = Tuning(grid=6, clumps=(1,))


class Recorder:
    """Any governor, with what it was told and what it answered."""

    name = "recorded"

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.seen: list[Observation] = []
        self.decided: list[Decision] = []

    def init(self, now_s: float) -> Any:
        return self.inner.init(now_s)

    def pace(self, state: Any) -> Pace:
        pace: Pace = self.inner.pace(state)
        return pace

    def step(self, state: Any, seen: Observation) -> tuple[Any, Decision]:
        state, decision = self.inner.step(state, seen)
        self.seen.append(seen)
        self.decided.append(decision)
        return state, decision


@pytest.mark.parametrize("name", ["max", "int8-max", "static", "dvfs", "pit", "amble"])
def test_replaying_a_log_gives_the_same_decisions(name: str) -> None:
    steps = ladder(stall_s=0.0002, settle_s=0.01)
    governor: Any = {
        "max": lambda: max_clocks(steps),
        "int8-max": lambda: int8_max(steps),
        "static": lambda: best_fixed(steps, 50.0),
        "dvfs": lambda: Dvfs(steps),
        "pit": lambda: Pit(steps),
        "amble": lambda: Amble(steps, Deadline(0.1), tuning=QUICK),
    }[name]()
    recorder = Recorder(governor)
    serve(open_device(noise=0.05, stall_s=0.0002, settle_s=0.01), recorder, poisson(80.0, 500), 0.1)
    assert governor.name == name
    assert replay(governor, 0.0, recorder.seen) == recorder.decided


def test_max_is_fp32_at_the_highest_clock() -> None:
    _, decision = max_clocks(ladder()).step(None, Observation(0.0, (1.0,), 1))
    assert decision.rung is not None
    assert (decision.rung.variant, decision.rung.clocks) == ("fp32", FAST)


def test_int8_max_is_int8_at_the_highest_clock() -> None:
    _, decision = int8_max(ladder()).step(None, Observation(0.0, (1.0,), 1))
    assert decision.rung is not None
    assert (decision.rung.variant, decision.rung.clocks) == ("int8", FAST)


def test_static_takes_the_cheapest_rung_that_carries_the_rate() -> None:
    steps = ladder(every_rung(int8=False))
    assert best_fixed(steps, 10.0).rung.clocks == MIDDLE, "the slowest costs more in all than it saves"
    assert best_fixed(steps, 75.0).rung.clocks == FAST


def test_static_keeps_the_accuracy() -> None:
    assert best_fixed(ladder(), 10.0, accuracy=0.999).rung.variant == "fp32"
    assert best_fixed(ladder(), 10.0, accuracy=0.99).rung.variant == "int8"
    with pytest.raises(Infeasible, match="allow more loss"):
        best_fixed(ladder(), 10.0, accuracy=1.1)


def waiting(now_s: float, *due_s: float, arrived: int = 0) -> Observation:
    return Observation(now_s, due_s, len(due_s), arrived, asked=MIDDLE)


def test_dvfs_takes_the_slowest_clock_that_is_on_time() -> None:
    governor = Dvfs(ladder(every_rung(int8=False)))
    state = governor.init(0.0)
    for due_s, clocks in ((0.1, MIDDLE), (0.014, FAST)):
        _, decision = governor.step(state, waiting(0.0, due_s))
        assert decision.rung is not None
        assert decision.rung.clocks == clocks


def test_dvfs_never_leaves_fp32_and_never_goes_below_the_floor() -> None:
    recorder = Recorder(Dvfs(ladder()))
    serve(open_device(noise=0.05), recorder, poisson(60.0, 500), 0.1)
    used = {(each.rung.variant, each.rung.clocks) for each in recorder.decided if each.rung}
    assert used == {("fp32", MIDDLE), ("fp32", FAST)}


def test_dvfs_goes_up_at_once_and_down_only_after_patience() -> None:
    governor = Dvfs(ladder(every_rung(int8=False)), patience=3)
    state, decision = governor.step(governor.init(0.0), waiting(0.0, 0.014))
    clocks = []
    for _ in range(4):
        state, decision = governor.step(state, waiting(0.0, 1.0))
        assert decision.rung is not None
        clocks.append(decision.rung.clocks)
    assert clocks == [FAST, FAST, MIDDLE, MIDDLE]


def test_dvfs_parks_after_five_idle_seconds() -> None:
    governor = Dvfs(ladder(every_rung(int8=False)))
    state, first = governor.step(governor.init(0.0), Observation(1.0))
    assert (first.clocks, first.wake_s) == (None, 5.0)
    _, later = governor.step(state, Observation(5.0))
    assert later.clocks == SLOW


def test_pit_gives_up_accuracy_last() -> None:
    governor = Pit(ladder())
    state = governor.init(0.0)
    used = []
    for _ in range(3):
        state, decision = governor.step(state, waiting(0.0, 0.005))
        assert decision.rung is not None
        used.append((decision.rung.variant, decision.rung.clocks))
    assert used == [("fp32", FAST), ("int8", FAST), ("int8", FAST)]


def test_pit_gives_accuracy_back_first_and_clocks_afterwards() -> None:
    governor = Pit(ladder(), patience=2)
    state = governor.init(0.0)
    for _ in range(3):
        state, _ = governor.step(state, waiting(0.0, 0.005))
    used = []
    for _ in range(4):
        state, decision = governor.step(state, waiting(0.0, 1.0))
        assert decision.rung is not None
        used.append((decision.rung.variant, decision.rung.clocks))
    assert used == [("int8", FAST), ("fp32", FAST), ("fp32", FAST), ("fp32", MIDDLE)]


def test_pit_holds_between_tight_and_relaxed() -> None:
    governor = Pit(ladder(), margin=1.0)
    state, _ = governor.step(governor.init(0.0), waiting(0.0, 0.005))
    used = set()
    for _ in range(10):
        state, decision = governor.step(state, waiting(0.0, 0.015))  # slack of 5 ms, less than the margin of 10
        assert decision.rung is not None
        used.add(decision.rung.clocks)
    assert used == {FAST}


def test_pit_answers_in_int8_when_the_rate_is_more_than_fp32_carries() -> None:
    governor = Pit(ladder())
    state, used = governor.init(0.0), []
    for step in range(200):
        state, decision = governor.step(state, waiting(0.005 * step, 0.005 * step + 1.0, arrived=1))
        used.append(decision.rung.variant if decision.rung else None)
    assert used[-1] == "int8"


def test_pit_without_deadlines_goes_by_the_next_expected_arrival() -> None:
    governor = Pit(ladder())
    state, used = governor.init(0.0), []
    for step in range(300):
        seen = Observation(0.012 * step, (NEVER_S,) * 3, 3, 1, asked=MIDDLE)
        state, decision = governor.step(state, seen)
        used.append(decision.rung.variant if decision.rung else None)
    assert used[-1] == "int8", "three of them take 30 ms, the next comes in 12"


def test_pit_heeds_a_deadline_behind_a_request_of_higher_priority_that_has_none() -> None:
    governor = Pit(ladder())
    state, used = governor.init(0.0), []
    for _ in range(2):
        seen = Observation(0.0, (NEVER_S, 0.005), 2, 0, asked=FAST)
        state, decision = governor.step(state, seen)
        assert decision.rung is not None
        used.append((decision.rung.variant, decision.rung.clocks))
    assert used == [("fp32", FAST), ("int8", FAST)]


def test_observations_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Observation(0.0).now_s = 1.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Done(ladder().rungs[0], 1, 0.0, 0.0).rows = 2  # type: ignore[misc]


def test_one_clock_and_one_precision_are_enough_for_every_governor() -> None:
    only = ladder((every_rung(int8=False)[0],))
    for governor in (max_clocks(only), int8_max(only), Dvfs(only), Pit(only), Amble(only, Deadline(0.2), tuning=QUICK)):
        notes, _ = serve(open_device((every_rung(int8=False)[0],)), governor, np.arange(20.0) * 0.05, 0.2)
        assert notes.num_answered == 20
