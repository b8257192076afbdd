"""One rung for everything: full clocks at FP32 or INT8, or the best fixed rung for a rate that is known."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.errors import Infeasible
from amble.core.ladder import Ladder, Rung
from amble.stages.control.batcher import Pace, fitting_batch
from amble.stages.control.governor import Decision, Observation

__all__ = ["Fixed", "best_fixed", "int8_max", "max_clocks"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """Serve everything at one rung as soon as the device is free, in the largest batch that is on time."""

    name: str
    rung: Rung
    max_batch: int
    margin: float = 1.0

    def init(self, now_s: float) -> None:
        """Nothing needs to be remembered."""

    def pace(self, state: None) -> Pace:
        """Promise the one rung."""
        return Pace(self.rung, self.rung, float("inf"), self.margin, self.max_batch)

    def step(self, state: None, seen: Observation) -> tuple[None, Decision]:
        """Serve what waits; while nothing does, keep the clocks."""
        pace = self.pace(None)
        if not seen.due_s:
            return None, Decision(pace, clocks=self.rung.clocks)
        rows = fitting_batch(seen.due_s, seen.now_s, self.rung, limit=self.max_batch, factor=self.margin)
        return None, Decision(pace, self.rung, rows)


def max_clocks(ladder: Ladder) -> Fixed:
    """Return the paper's baseline: the most accurate level at its fastest rung, always."""
    return Fixed("max", ladder.levels[0].rungs[0], ladder.max_batch, ladder.margin)


def int8_max(ladder: Ladder) -> Fixed:
    """Return the fastest rung of the least accurate level; of the only level where there is one."""
    return Fixed("int8-max", ladder.levels[-1].rungs[0], ladder.max_batch, ladder.margin)


def best_fixed(ladder: Ladder, rate_hz: float, *, accuracy: float = 0.995, load: float = 0.8) -> Fixed:
    """Return the cheapest single rung that carries a known rate at ``load`` of its capacity and is accurate enough.

    Where none carries it, the one with the most capacity. Raises Infeasible when no level is accurate enough.
    """
    rungs = [rung for rung in ladder.rungs if rung.accuracy >= accuracy]
    if not rungs:
        quickest_s = min(rung.latency_s[0] for rung in ladder.rungs)
        raise Infeasible(f"no variant keeps {accuracy:.1%} of the accuracy: allow more loss", fastest_s=quickest_s)
    carry = [rung for rung in rungs if rate_hz <= load * rung.capacity_hz]
    if not carry:
        fastest = max(rungs, key=lambda rung: rung.capacity_hz)
        return Fixed("static", fastest, ladder.max_batch, ladder.margin)
    cheapest = min(carry, key=lambda rung: _mean_power(rung, rate_hz))
    return Fixed("static", cheapest, ladder.max_batch, ladder.margin)


def _mean_power(rung: Rung, rate_hz: float) -> float:
    """Return the mean power [W] of serving one at a time at this rate, idling at the same clocks in between.

    Where no energy is known, the share of time that the device is busy.
    """
    busy = min(1.0, rate_hz * rung.latency_s[0])
    return busy if rung.energy_j is None else busy * rung.energy_j[0] / rung.latency_s[0] + (1.0 - busy) * rung.idle_w
