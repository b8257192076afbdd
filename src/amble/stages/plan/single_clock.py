"""One clock for a whole network: measured or predicted time and power over its levels → the best level of three
problems.

Han, Nan, Zhou, Niu (ICC 2025): least energy under a deadline (LOCAL-D), least time under an energy budget (LOCAL-E),
and a weighted sum (LOCAL-W); here with static power as well, P(f) = P0 + κ f^3. `choose_…` scans legal levels, which
is exact for any curve; `deadline_clock_hz`, `energy_clock_hz` and `budget_clock_hz` are the continuous solutions for
t(f) = a f^-b + c, in closed form where there is one. Clocks are in Hz, but coefficients a and κ are for clocks in
GHz, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from amble.core.errors import Infeasible

__all__ = [
    "PowerLaw",
    "TimeLaw",
    "budget_clock_hz",
    "choose_by_budget",
    "choose_by_deadline",
    "choose_by_risk",
    "choose_by_weight",
    "deadline_clock_hz",
    "energy_clock_hz",
]

Floats = NDArray[np.floating[Any]]

_GHZ = 1e9


@dataclass(frozen=True, slots=True)
class TimeLaw:
    """t(f) = a f^-b + c, f in GHz, t in s; a, b > 0 and c >= 0 (b = 1, c = 0 is CPU-DVFS)."""

    a: float
    b: float
    c: float

    def at(self, clock_hz: float) -> float:
        """Time [s] at a clock."""
        return float(self.a * (clock_hz / _GHZ) ** -self.b + self.c)


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """P(f) = P0 + κ f^3, f in GHz, P in W; the paper's energy has P0 = 0."""

    static_w: float
    kappa: float

    def at(self, clock_hz: float) -> float:
        """Power [W] at a clock."""
        return self.static_w + self.kappa * (clock_hz / _GHZ) ** 3


def deadline_clock_hz(time: TimeLaw, deadline_s: float) -> float:
    """Return the lowest clock [Hz] that meets a deadline, [a / (D - c)]^(1/b); Infeasible when no clock does."""
    if deadline_s <= time.c:
        raise Infeasible(
            f"no clock meets {deadline_s:g} s: {time.c:g} s do not depend on the clock; allow more", fastest_s=time.c
        )
    return float((time.a / (deadline_s - time.c)) ** (1 / time.b) * _GHZ)


def energy_clock_hz(time: TimeLaw, power: PowerLaw) -> float:
    """Return the clock [Hz] of least energy P(f) t(f); 0 where energy falls all the way down (P0 = 0 and b <= 3).

    Energy is a posynomial in f, so that it has one minimum: the root of 3 κ f^3 t = (P0 + κ f^3) a b f^-b. Closed
    form for c = 0: f^3 = P0 b / (κ (3 - b)).
    """
    if power.static_w == 0 and time.b <= 3:
        return 0.0
    if time.c == 0:
        if time.b >= 3:
            return float("inf")
        return float((power.static_w * time.b / (power.kappa * (3 - time.b))) ** (1 / 3) * _GHZ)

    def slope(log_clock: float) -> float:
        clock = np.exp(log_clock)
        dynamic, moving = power.kappa * clock**3, time.a * clock**-time.b
        return float(3 * dynamic * (moving + time.c) - (power.static_w + dynamic) * time.b * moving)

    return float(np.exp(_bisected(slope, np.log(1e-4), np.log(1e4))) * _GHZ)


def budget_clock_hz(time: TimeLaw, power: PowerLaw, budget_j: float) -> float:
    """Return the highest clock [Hz] whose energy keeps a budget; Infeasible when the least energy is above it."""
    best_hz = energy_clock_hz(time, power)
    lowest = max(best_hz / _GHZ, 1e-6)
    if not np.isfinite(lowest):
        raise ValueError("energy falls with the clock without end (b >= 3 and c = 0): no budget binds")

    def over(log_clock: float) -> float:
        clock_hz = float(np.exp(log_clock) * _GHZ)
        return power.at(clock_hz) * time.at(clock_hz) - budget_j

    if over(float(np.log(lowest))) > 0:
        raise Infeasible(
            f"no clock needs as little as {budget_j:g} J; the least is {over(float(np.log(lowest))) + budget_j:g} J",
            fastest_s=float("nan"),
        )
    return float(np.exp(_bisected(over, float(np.log(lowest)), np.log(1e4))) * _GHZ)


def choose_by_deadline(latency_s: Floats, energy_j: Floats, deadline_s: float) -> int:
    """LOCAL-D: index of the level [p] of least energy that meets the deadline; Infeasible when none does."""
    meets = latency_s <= deadline_s
    if not meets.any():
        fastest = float(latency_s.min())
        raise Infeasible(f"no level meets {deadline_s:g} s; the fastest takes {fastest:g} s", fastest_s=fastest)
    return int(np.argmin(np.where(meets, energy_j, np.inf)))


def choose_by_risk(latency_s: Floats, deviation: Floats, energy_j: Floats, deadline_s: float, *, price: float) -> int:
    """Index of the level [p] of least energy when a probable miss has a price.

    deviation [p] is the standard deviation of the logarithm of a predicted time. A level costs its energy times 1 +
    price x (probability of a miss), so that a level on the edge is taken only where it saves enough; levels more
    likely to miss than not are never taken while there are others. Where none is likely to meet the deadline the
    fastest is taken.
    """
    slack = np.log(deadline_s / latency_s)
    miss = np.where(deviation > 1e-9, ndtr(-slack / np.maximum(deviation, 1e-9)), (slack < 0).astype(float))
    if (miss > 0.5).all():
        return int(np.argmin(latency_s))
    return int(np.argmin(np.where(miss > 0.5, np.inf, energy_j * (1 + price * miss))))


def choose_by_budget(latency_s: Floats, energy_j: Floats, budget_j: float) -> int:
    """LOCAL-E: index of the fastest level [p] within the energy budget; Infeasible when none is."""
    within = energy_j <= budget_j
    if not within.any():
        raise Infeasible(
            f"no level needs as little as {budget_j:g} J; the least is {energy_j.min():g} J",
            fastest_s=float(latency_s.min()),
        )
    return int(np.argmin(np.where(within, latency_s, np.inf)))


def choose_by_weight(latency_s: Floats, energy_j: Floats, weight: float) -> int:
    """LOCAL-W: index of the level [p] of least w t / t_min + (1 - w) e / e_min; w means nothing without the minima."""
    if not 0 <= weight <= 1:
        raise ValueError(f"a weight lies between 0 and 1, not {weight}")
    score = weight * latency_s / latency_s.min() + (1 - weight) * energy_j / energy_j.min()
    return int(np.argmin(score))


def _bisected(rising: Callable[[float], float], low: float, high: float) -> float:
    """Root of a function that is negative at low and positive at high; high where it never is positive."""
    if rising(high) <= 0:
        return high
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) <= 0 else (low, middle)
    return (low + high) / 2
