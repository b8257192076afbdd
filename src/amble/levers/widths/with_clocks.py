"""Staircases at several clocks → clocks and widths together: least energy within a latency and a loss of importance.

A narrower network has time to spare, and may run at lower clocks. At each clock the prices of time and energy are mixed
in a few proportions; for each mixture the tightest budget that still loses no more than allowed is bisected, and what
keeps the latency is compared by its energy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from amble.core.errors import Infeasible
from amble.core.point import Clocks
from amble.core.quantity import format_time
from amble.levers.widths.choosing import Knapsack, Pricing, candidates, choose, knapsack

__all__ = ["Setting", "Together", "choose_together"]

_SHARES = (0.0, 0.5, 1.0)  # of time in the mixed price
_STEPS = 12


@dataclass(frozen=True, slots=True)
class Setting:
    """What a network costs at some clocks: seconds, and joules."""

    clocks: Clocks
    latency: Pricing
    energy: Pricing


@dataclass(frozen=True, slots=True)
class Together:
    """Clocks and widths, what they cost and the importance that goes."""

    clocks: Clocks
    widths: dict[str, int]
    latency_s: float
    energy_j: float
    lost: float


def choose_together(settings: Sequence[Setting], latency_s: float, most_lost: float) -> Together:
    """Return the clocks and widths of least energy within a latency [s] and a loss of importance.

    Infeasible with the fastest there is, at the loss that is allowed.
    """
    every = [each for setting in settings for each in _found(setting, most_lost)]
    within = [each for each in every if each.latency_s <= latency_s]
    if not within:
        fastest_s = min((each.latency_s for each in every), default=float("inf"))
        raise Infeasible(
            f"no clocks and widths keep {format_time(latency_s)} at this loss: the fastest found takes "
            f"{format_time(fastest_s)}; allow more loss or more time",
            fastest_s=fastest_s,
        )
    return min(within, key=lambda each: each.energy_j)


def _found(setting: Setting, most_lost: float) -> Iterator[Together]:
    """Return the widths that lose no more than allowed, each the cheapest by one mixture of time and energy."""
    edges = candidates(setting.latency)
    time, energy = (knapsack(each, edges) for each in (setting.latency, setting.energy))
    for share in _SHARES:
        widths, lost = _narrowest(_mixed(time, energy, share, setting), most_lost)
        yield Together(setting.clocks, widths, setting.latency.total(widths), setting.energy.total(widths), lost)


def _mixed(time: Knapsack, energy: Knapsack, share: float, setting: Setting) -> Knapsack:
    """Return one problem whose costs are shares of today's time and energy."""
    by_time, by_energy = share / setting.latency.total({}), (1.0 - share) / setting.energy.total({})
    costs = tuple(by_time * t + by_energy * e for t, e in zip(time.costs, energy.costs, strict=True))
    return replace(time, costs=costs, fixed=by_time * time.fixed + by_energy * energy.fixed)


def _narrowest(asked: Knapsack, most_lost: float) -> tuple[dict[str, int], float]:
    """Bisect the budget, a share of today's, down to where the loss is still allowed."""
    low, high = 0.0, 1.0
    best = choose(asked, 1.0 + 1e-9)
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        try:
            found = choose(asked, middle)
        except Infeasible:
            low = middle
            continue
        if found.lost <= most_lost:
            best, high = found, middle
        else:
            low = middle
    return best.widths, best.lost
