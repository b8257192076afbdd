"""Costs of operators, cuts → for each cut an energy that no clocks undercut, without searching for any.

Theory of operation
-------------------
Give every second a price λ and forget the budget: what is left is a sum over operators, so a device that runs the set S
within the time B in a period P, and idles at no less than w, takes at least

    sum over i in S of min over n of (E_in + (λ - w) T_in)  -  λ B  +  w P        for every λ >= 0,

n being the points. Changes of clocks only add to it: while they settle, operators run at a mixture of points, which is
no cheaper than the cheapest, and what a change takes itself, less what idling would have taken, is added where that is
negative, as if each operator changed every clock. All cuts and prices are one product of matrices. What this leaves out
(that changing costs, that the clocks of waiting do) is a percent or two: enough to see that most cuts cannot be best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.ports import FloatArray
from amble.core.profile import SwitchCost
from amble.levers.split.cuts import Cut

__all__ = ["Floors"]

_PRICES = 49
_DECADES = 3.0  # of the price of a second to both sides of the power of the device


@dataclass(frozen=True, slots=True, eq=False)
class Floors:
    """Least priced energy of each cut, and least time. prices_w: [price]; priced_j: [cut, price]; fastest_s: [cut]."""

    prices_w: FloatArray
    priced_j: FloatArray
    fastest_s: FloatArray

    @classmethod
    def of(
        cls,
        cuts: Sequence[Cut],
        latency_s: FloatArray,
        energy_j: FloatArray,
        switches: Sequence[SwitchCost],
        *,
        idle_w: float,
        period_s: float,
    ) -> Floors:
        """Lay the sums out; latency_s, energy_j: [operator, point]."""
        powers_w = float(energy_j.sum() / latency_s.sum()) * np.logspace(-_DECADES, _DECADES, _PRICES - 1)
        prices_w = np.concatenate([[0.0], powers_w])
        each_j = np.stack([(energy_j + (price - idle_w) * latency_s).min(axis=1) for price in prices_w], axis=1)
        here = np.zeros((len(cuts), len(latency_s)))
        for row, cut in enumerate(cuts):
            here[row, list(cut.local)] = 1.0
        changes = here.sum(axis=1, keepdims=True) + 1.0  # into the first, between all, and into the wait
        changed_j = sum((_changed(each, prices_w - idle_w) for each in switches), np.zeros(len(prices_w)))
        priced_j = here @ each_j + changes * changed_j + idle_w * period_s
        return cls(prices_w, priced_j, here @ latency_s.min(axis=1))

    def energy_j(self, index: int, left_s: float) -> float:
        """Return an energy [J] that a cut takes at least, where it has so much time [s]; infinite where it has not."""
        if self.fastest_s[index] > left_s * (1 + 1e-9):
            return np.inf
        return float((self.priced_j[index] - self.prices_w * left_s).max()) * (1 - 1e-12)


def _changed(switch: SwitchCost, prices_w: FloatArray) -> FloatArray:
    """Return what a change adds at least [J] at each price of time less idling: 0, or less than nothing."""
    return np.minimum(max(0.0, switch.cost.energy_j or 0.0) + prices_w * switch.cost.latency_s, 0.0)
