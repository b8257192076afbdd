"""The ladders of a device's models -> the steps of its power, and the part of a ladder that a step allows.

A step's power is the most that any rung up to it may draw: a batch's energy over its time, or waiting at its clocks,
whichever is more, with some headroom for what was fitted. Its rate is what the most accurate rungs up to it serve; with
several models that of an equal mixture. Step 0 is parked: no work, and the clocks that cost least to wait at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from amble.core.errors import Refused
from amble.core.ladder import Ladder, Level, Rung
from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.services.cluster.filling import Frontiers
from amble.stages.control.batcher import Pace
from amble.stages.control.governor import Decision, Governor, Observation

__all__ = ["Steps", "Within", "capped", "frontiers", "steps_of", "watts"]

_HEADROOM = 1.05
_MOST_STEPS = 12


@dataclass(frozen=True, slots=True)
class Steps:
    """The most power [W] of each step and the rows it serves in a second; step 0 is parked."""

    power_w: tuple[float, ...]
    rate_hz: tuple[float, ...]

    @property
    def top(self) -> int:
        """Return the highest step."""
        return len(self.power_w) - 1


@dataclass(frozen=True, slots=True)
class Within:
    """A governor of a capped ladder, which leaves clocks that do not belong to it also when nothing is served.

    Governors let an idle device stand where it is until parking pays; that may be at clocks of a step before.
    """

    governor: Governor[Any]
    allowed: frozenset[Clocks]
    park: Clocks

    @classmethod
    def of(cls, governor: Governor[Any], ladder: Ladder, *, parked: bool) -> Within:
        """Hold a governor within a ladder's clocks; a parked device waits at the clocks that cost least."""
        own = frozenset() if parked else frozenset(rung.clocks for rung in ladder.rungs)
        return cls(governor, own | {ladder.park}, ladder.park)

    @property
    def name(self) -> str:
        """Return the governor's own name."""
        return self.governor.name

    def init(self, now_s: float) -> Any:
        """Return the governor's state."""
        return self.governor.init(now_s)

    def step(self, state: Any, seen: Observation) -> tuple[Any, Decision]:
        """Return the governor's decision; without a batch to run, at clocks that belong here."""
        state, decision = self.governor.step(state, seen)
        if decision.rung is None and (decision.clocks or seen.asked) not in self.allowed:
            decision = decision._replace(clocks=self.park)
        return state, decision

    def pace(self, state: Any) -> Pace:
        """Return the governor's pace."""
        return self.governor.pace(state)


def watts(rung: Rung) -> float:
    """Return the most that a device may draw on a rung [W]; ValueError where its energy is unknown."""
    busy_w = max(joules / time_s for joules, time_s in zip(rung.joules, rung.latency_s, strict=True))
    return _HEADROOM * max(busy_w, rung.idle_w)


def steps_of(ladders: Sequence[Ladder], device: str) -> Steps:
    """Return the steps of a device that serves these ladders. Refused where it has no meter."""
    if not ladders:
        raise Refused(f"{device} serves no model, so that no power can be given to it")
    if not all(ladder.metered for ladder in ladders):
        raise Refused(
            f"{device} has no energy meter, so nobody knows what it draws: leave --power-budget out, or that device"
        )
    drawn = sorted({watts(rung) for ladder in ladders for rung in ladder.rungs})
    least = max(min(map(watts, ladder.rungs)) for ladder in ladders)
    drawn = [each for each in drawn if each >= least]
    places = np.unique(np.linspace(0, len(drawn) - 1, min(_MOST_STEPS, len(drawn))).round().astype(int))
    parked_w = _HEADROOM * max(max(ladder.park_w, min(ladder.rungs, key=watts).idle_w) for ladder in ladders)
    power_w, rate_hz = [min(parked_w, drawn[0])], [0.0]
    for limit_w in (drawn[place] for place in places):
        rate = _rate_hz(ladders, limit_w)
        if rate > rate_hz[-1]:
            power_w.append(limit_w)
            rate_hz.append(rate)
    return Steps(tuple(power_w), tuple(rate_hz))


def _rate_hz(ladders: Sequence[Ladder], limit_w: float) -> float:
    """Return the rows a second of an equal mixture of all models, within a power."""
    best = [max(rung.capacity_hz for rung in capped(ladder, limit_w).levels[0].rungs) for ladder in ladders]
    return len(best) / sum(1.0 / each for each in best)


def capped(ladder: Ladder, limit_w: float) -> Ladder:
    """Return the part of a ladder whose rungs draw no more than so much [W]; the most frugal one always stays."""
    least = min(ladder.rungs, key=watts)
    levels, index = [], 0
    for level in ladder.levels:
        kept: list[Rung] = []
        for rung in level.rungs:
            if watts(rung) <= limit_w or rung is least:
                kept.append(replace(rung, index=index))
                index += 1
        if kept:
            levels.append(Level(level.variant, level.accuracy, tuple(kept)))
    return replace(ladder, levels=tuple(levels))


def frontiers(steps: Sequence[Steps]) -> Frontiers:
    """Return the frontiers of devices, each a kind of its own."""
    longest = max(len(each.power_w) for each in steps)

    def padded(rows: Sequence[tuple[float, ...]]) -> FloatArray:
        return np.array([[*row, *[row[-1]] * (longest - len(row))] for row in rows])

    return Frontiers(
        padded([each.power_w for each in steps]), padded([each.rate_hz for each in steps]), np.arange(len(steps))
    )
