"""A ladder and an accuracy budget → gears: for each price of device time, the cheapest rung of every level.

Energy at a fixed period is ``Σ objective``; what makes it go up is that device time is scarce. Give time a price of ν
watts and the best rung of each level is ``argmin objective + ν × time``, independent of all others: that is the
Lagrangian of "least energy, so much utilisation, so much accuracy". Over all prices only a few combinations come out;
they are the gears, from frugal to fast. A load needs the first gear that carries it, a pressed queue a higher one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amble.control.governors.budget import Budget
from amble.core.ladder import Ladder, Level, Rung

__all__ = ["Gear", "gears"]


@dataclass(frozen=True, slots=True)
class Gear:
    """One rung for each level of the ladder, what they cost, and what they carry.

    objective_j: [level][batch size − 1], the energy a choice can change. ``capacity_hz`` is the most rows a second
    with the levels mixed as far as the accuracy budget allows; ``price_w`` the lowest price of time it is chosen at.
    """

    rungs: tuple[Rung, ...]
    objective_j: tuple[tuple[float, ...], ...]
    capacity_hz: float
    price_w: float


def gears(ladder: Ladder, budget: Budget) -> tuple[Gear, ...]:
    """Return the gears of a ladder, from frugal to fast, at the batch size that serves most."""
    found: list[Gear] = []
    for price_w in _prices_w(ladder):
        rungs = tuple(_best(ladder, level, price_w) for level in ladder.levels)
        if not found or rungs != found[-1].rungs:
            energies = tuple(tuple(_objective_j(ladder, rung).tolist()) for rung in rungs)
            found.append(Gear(rungs, energies, _capacity_hz(ladder, rungs, budget), price_w))
    return tuple(found)


def _prices_w(ladder: Ladder) -> list[float]:
    """Return every price at which some level's choice changes, with 0 and one above all."""
    prices = {0.0}
    for level in ladder.levels:
        for slow in level.rungs:
            for quick in level.rungs:
                gain_s = slow.latency_s[0] - quick.latency_s[0]
                if gain_s > 0:
                    more_j = _objective_j(ladder, quick)[0] - _objective_j(ladder, slow)[0]
                    prices.add(max(0.0, float(more_j / gain_s)) * (1 + 1e-9))
    return [*sorted(prices), 2.0 * max(prices) + 1.0]


def _best(ladder: Ladder, level: Level, price_w: float) -> Rung:
    return min(level.rungs, key=lambda rung: (_objective_j(ladder, rung)[0] + price_w * rung.latency_s[0], rung.index))


def _objective_j(ladder: Ladder, rung: Rung) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    idle_w = 0.0 if ladder.accounting == "gross" else ladder.park_w
    return np.asarray(rung.energy_j) - idle_w * np.asarray(rung.latency_s)


def _capacity_hz(ladder: Ladder, rungs: tuple[Rung, ...], budget: Budget) -> float:
    """Mix the two levels that carry most: as much of the quick one as the budget allows in the long run."""
    size = ladder.max_batch
    steady_s = rungs[0].latency_s[size - 1] / size
    best_s = steady_s
    for level, rung in zip(ladder.levels[1:], rungs[1:], strict=True):
        share = budget.share(1.0 - level.accuracy)
        best_s = min(best_s, (1.0 - share) * steady_s + share * rung.latency_s[size - 1] / size)
    return 1.0 / best_s
