"""The suite of governors catches what is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from amble.core.ladder import Rung
from amble.stages.control.batcher import Pace
from amble.stages.control.governor import NEVER_S, Decision, Observation
from amble.stages.control.governors import Fixed, max_clocks
from amble.testing import GovernorConformance
from tests.stages.control.ladders import every_rung, ladder

TOP = max_clocks(ladder(every_rung(max_batch=2)))


@dataclass
class Wrapped:
    """A sound governor; what is broken overrides a method."""

    inner: Fixed = TOP
    name: str = "wrapped"
    calls: int = 0
    state: dict[str, int] = field(default_factory=dict)

    @property
    def rung(self) -> Rung:
        return self.inner.rung

    def init(self, now_s: float) -> Any:
        return self.state

    def pace(self, state: Any) -> Pace:
        return self.inner.pace(None)

    def step(self, state: Any, seen: Observation) -> tuple[Any, Decision]:
        self.calls += 1
        return state, self.changed(self.inner.step(None, seen)[1], seen)

    def changed(self, decision: Decision, seen: Observation) -> Decision:
        return decision


class Mutating(Wrapped):
    def step(self, state: Any, seen: Observation) -> tuple[Any, Decision]:
        state["steps"] = state.get("steps", 0) + 1
        return super().step(state, seen)


class Remembering(Wrapped):
    """Counts outside its state."""

    def changed(self, decision: Decision, seen: Observation) -> Decision:
        return decision._replace(wake_s=seen.now_s + self.calls)


class Eager(Wrapped):
    def changed(self, decision: Decision, seen: Observation) -> Decision:
        return decision if seen.due_s else decision._replace(rung=self.rung, rows=1)


class Greedy(Wrapped):
    def changed(self, decision: Decision, seen: Observation) -> Decision:
        return decision._replace(rows=decision.rows + 2) if decision.rung else decision


class Asleep(Wrapped):
    """Never serves, and wakes now."""

    def changed(self, decision: Decision, seen: Observation) -> Decision:
        return decision._replace(rung=None, rows=0, wake_s=seen.now_s) if seen.due_s else decision


class Dead(Wrapped):
    """Never serves, and never wakes."""

    def changed(self, decision: Decision, seen: Observation) -> Decision:
        return decision._replace(rung=None, rows=0, wake_s=NEVER_S)


class Empty(Wrapped):
    def changed(self, decision: Decision, seen: Observation) -> Decision:
        return decision._replace(pace=decision.pace._replace(max_batch=0))


RULES = GovernorConformance


class TestSound(GovernorConformance):
    @pytest.fixture
    def governor(self) -> Wrapped:
        return Wrapped()


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Mutating(), RULES.test_a_step_changes_neither_its_state_nor_its_observation),
        (Remembering(), RULES.test_replaying_a_log_gives_the_same_decisions),
        (Eager(), RULES.test_an_empty_queue_is_never_served),
        (Greedy(), RULES.test_rows_are_within_limits),
        (Dead(), RULES.test_it_wakes_in_the_future),
        (Dead(), RULES.test_everybody_who_waits_is_served),
        (Empty(), RULES.test_what_it_promises_can_be_kept),
        (Wrapped(name=""), RULES.test_it_has_a_name),
    ],
)
def test_a_broken_governor_is_caught(broken: Wrapped, rule: Callable[..., None]) -> None:
    with pytest.raises(AssertionError):
        rule(GovernorConformance(), broken)


def test_a_governor_that_wakes_now_for_ever_is_caught_and_does_not_hang() -> None:
    with pytest.raises(AssertionError):
        GovernorConformance().test_it_wakes_in_the_future(Asleep())
