"""A ladder, a rate and a share of refusals -> the least mean power of whoever knows the rate but not the future.

Poisson arrivals, the state is how many wait and which clocks run (the decision process of `amble`'s own policy, here
with a free choice of the level too, its loss priced so that the budget is kept on the mean). It stands between the
clairvoyant bound and what a governor reaches: the first difference is what not knowing the future costs, the second
what the governor loses.
"""

from __future__ import annotations

import numpy as np

from amble.control.governors import Budget
from amble.control.governors.gears import Gear, gears
from amble.control.governors.policy import Load, solve
from amble.core.ladder import Ladder

__all__ = ["least_w"]

PRICES = np.geomspace(4.0, 250.0, 7)  # of a whole unit of accuracy, in energies of one request in the fastest gear


def least_w(ladder: Ladder, load: Load, *, allowed: float, refused: float) -> float:
    """Return the mean power [W], idling included; the dual optimum over a few prices, so at most the true least."""
    budget = Budget(allowed=allowed)
    unit_j = gears(ladder, budget)[-1].objective_j[0]
    found = []
    for price_j in unit_j * PRICES:
        policy = solve(_single(ladder, budget, price_j), ladder, load, goal=refused)
        if policy.refused <= 1.02 * refused + 1e-5:
            found.append(policy.power_w - price_j * load.rate_hz * allowed)
    return max(found, default=float("nan")) + ladder.park_w


def _single(ladder: Ladder, budget: Budget, price_j: float) -> tuple[Gear, ...]:
    """Return a gear for each level of each gear, its loss paid for."""
    idle_w = 0.0 if ladder.accounting == "gross" else ladder.park_w
    size = np.arange(1, ladder.max_batch + 1)
    found = []
    for gear in gears(ladder, budget):
        for rung in gear.rungs:
            latency_s = np.array(rung.latency_s[: ladder.max_batch])
            paid_j = np.array(rung.energy_j[: ladder.max_batch]) - idle_w * latency_s
            paid_j += price_j * (1.0 - rung.accuracy) * size
            found.append(Gear((rung,) * len(gear.rungs), tuple(latency_s), tuple(paid_j), gear.cheaper))
    return tuple(sorted(found, key=lambda gear: -gear.latency_s[0]))
