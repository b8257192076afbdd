"""Prices around the best -> the cheapest prefix and suffix at every column and cell, for each of these prices.

A prefix and a suffix that meet are a path through that cell. So one pass says what every cell can be part of: `splice`
looks there for paths in time, and `close` for cells that no better path goes through.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amble.stages.plan.dual import Dual, Primal
from amble.stages.plan.sweep import Prices
from amble.stages.plan.trellis import Floats, Ints

__all__ = ["Through", "look"]

_STEP = 1e-6  # relative distance of two prices whose difference is a slope
_FACTORS = (0.6, 1.7, 0.3, 3.0)  # of the best price of time, where bounds are taken as well
_BOTH = (1.0, 0.85, 1.18, 0.6, 1.7, 0.3, 3.0)  # of the best prices of time and loss


@dataclass(frozen=True, slots=True, eq=False)
class Through:
    """Prefixes and suffixes, node included in both. Bounding lanes come first, then the extremes, then slopes."""

    primal: Primal
    prices: Prices
    table: Floats  # [step, cell, 2 lane], as a sweep leaves it
    time: Floats  # [lane] price of a second, for the bounding lanes
    loss: Floats  # [lane] price of loss, likewise
    beside: Ints  # cells of the paths at the first two prices: [2, column]; empty where one is not known
    step: float  # between each of the first two lanes and its slope lane [W]

    @property
    def num_bounds(self) -> int:
        """Lanes that bound the cost; one (two, where loss is limited) for the extremes follow them."""
        return len(self.time)

    @property
    def num_lanes(self) -> int:
        """Lanes without those for slopes."""
        return self.num_bounds + (2 if self.primal.limits_loss else 1)

    def heads(self, lane: int, cells: Ints | slice = slice(None)) -> Floats:
        """Priced cost of the cheapest prefixes that end at each cell: [column, cell]."""
        return self.table[:, cells, lane]

    def tails(self, lane: int, cells: Ints | slice = slice(None)) -> Floats:
        """Priced cost of the cheapest suffixes that begin at each cell: [column, cell]."""
        return self.table[::-1, cells, self.prices.num_lanes + lane]


def look(primal: Primal, dual: Dual) -> Through:
    """Sweep at the prices next to the best, at others around, and at the extremes.

    For a budget of time alone the first two lanes are the least price known to be high enough and the greatest known
    to be too low.
    """
    step = _STEP * (dual.time + abs(dual.bound_j) / float(dual.found.time_s.max()))
    if primal.limits_loss:
        pairs = [(dual.time * factor, dual.loss * factor) for factor in _BOTH]
        pairs += [(dual.time * factor, dual.loss / factor) for factor in _BOTH[1:]]
        pairs += [(dual.time * factor, dual.loss) for factor in _BOTH[1:]]
        others = [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    else:
        near = [dual.too_high, dual.too_low]
        further = _FACTORS if primal.lattice.lanes >= len(_FACTORS) else ()
        pairs = [(price, 0.0) for price in [*near, *(dual.time * factor for factor in further)]]
        others = [(0.0, 1.0, 0.0), (1.0, near[0] + step, 0.0), (1.0, near[1] - step, 0.0)]
    energy, time, loss = np.array([*((1.0, *pair) for pair in pairs), *others]).T.copy()
    prices, count = primal.prices(energy, time, loss), len(pairs)
    table = primal.lattice.sweep(prices, primal.lattice.num_columns)
    return Through(primal, prices, table, time[:count], loss[:count], dual.beside, step)
