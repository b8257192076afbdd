"""A ladder and an accuracy budget → gears: the ladder's clocks with every accuracy level, from frugal to fast.

Inside a gear the levels are mixed as far as the accuracy budget allows, so a gear has one mean time and one mean energy
for each batch size, and comparing gears is comparing two numbers. The levels of a gear share their clocks: going to
and fro between two precisions must not cost a change of clocks every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amble.core.ladder import Ladder, Level, Rung
from amble.stages.control.governors.budget import Budget

__all__ = ["Gear", "gears"]


@dataclass(frozen=True, slots=True)
class Gear:
    """One rung for each level of the ladder, and their long-run mix.

    latency_s, objective: [batch size − 1], means over the mix; the objective is the energy [J] that a choice can
    change, or time [s] where none is known (`Ladder.objective`).
    cheaper: [level], objective of one request at each level.
    """

    rungs: tuple[Rung, ...]
    latency_s: tuple[float, ...]
    objective: tuple[float, ...]
    cheaper: tuple[float, ...]

    @property
    def capacity_hz(self) -> float:
        """Return the most rows a second in the long run, at the best batch size."""
        return max(size / time_s for size, time_s in enumerate(self.latency_s, start=1))


def gears(ladder: Ladder, budget: Budget) -> tuple[Gear, ...]:
    """Return the gears worth having, from frugal to fast; the last one is the fastest rung of every level."""
    by_level = [{rung.clocks: rung for rung in level.rungs} for level in ladder.levels]
    shared = [clocks for clocks in by_level[0] if all(clocks in level for level in by_level)]
    found = [_gear(ladder, budget, tuple(level[clocks] for level in by_level)) for clocks in shared]
    found.append(_gear(ladder, budget, tuple(level.rungs[0] for level in ladder.levels)))
    kept: list[Gear] = []
    for gear in sorted(found, key=lambda each: (each.latency_s[0], each.objective[0])):
        if not kept or np.less(gear.objective, kept[-1].objective).any():
            kept.append(gear)
    return tuple(reversed(kept))


def _gear(ladder: Ladder, budget: Budget, rungs: tuple[Rung, ...]) -> Gear:
    shares = _shares(ladder.levels, rungs, budget)
    size = ladder.max_batch
    latency_s = sum(share * np.asarray(rung.latency_s[:size]) for share, rung in zip(shares, rungs, strict=True))
    objectives = [np.asarray(ladder.objective(rung)[:size]) for rung in rungs]
    objective = sum(share * each for share, each in zip(shares, objectives, strict=True))
    cheaper = tuple(float(each[0]) for each in objectives)
    return Gear(rungs, tuple(np.asarray(latency_s).tolist()), tuple(np.asarray(objective).tolist()), cheaper)


def _shares(levels: tuple[Level, ...], rungs: tuple[Rung, ...], budget: Budget) -> list[float]:
    """Mix the most accurate level with the one that saves most for the accuracy it may lose."""
    shares = [1.0] + [0.0] * (len(levels) - 1)
    gains = [
        budget.share(1.0 - level.accuracy) * (rungs[0].objective(0.0)[0] - rung.objective(0.0)[0])
        for level, rung in zip(levels, rungs, strict=True)
    ]
    best = int(np.argmax(gains))
    if best > 0 and gains[best] > 0:
        share = budget.share(1.0 - levels[best].accuracy)
        shares[best], shares[0] = share, 1.0 - share
    return shares
