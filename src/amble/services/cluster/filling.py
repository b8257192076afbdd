"""A power budget over many devices -> a rung for each: water-filling on the lower convex hulls of their frontiers.

Device ``i`` on rung ``k`` draws at most ``power_w[i, k]`` and meets ``rate_hz[i, k]`` deadlines a second; rung 0 is
parked: lowest clocks, no work. Two problems have the same answer up to where it stops::

    max sum rate  subject to  sum power <= budget          (more is asked than the budget can serve)
    min sum power subject to  sum rate  >= demand          (the budget is wider than the demand)

Relaxed to mixtures of rungs, only the lower convex hull of each frontier (power over rate) counts. Its edges have a
price, joules for one more met deadline, that rises along each hull: so all edges of all devices, sorted by price, are
bought in that order until the budget is spent or the demand is met. The order never changes, so that it is sorted once
(n log n) and each decision is two running sums (n). Whole rungs lose at most the edge at which buying stops; what it
leaves of the budget is spent on the best single moves, also to rungs off the hulls. `exact` is for small fleets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from amble.core.ports import FloatArray

__all__ = ["BoolArray", "Edges", "Filling", "Frontiers", "IntArray", "exact", "fill", "relaxed"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_MOVES = 8  # single moves tried with what is left of the budget
_SAME = 1e-9


class Edges(NamedTuple):
    """The edges of all hulls by rising price: whose, to which rung, for how much more power [W] and rate [1/s]."""

    device: IntArray
    rung: IntArray
    power_w: FloatArray
    rate_hz: FloatArray


class Filling(NamedTuple):
    """A rung for each device, and what they come to."""

    rung: IntArray
    power_w: float
    rate_hz: float


@dataclass(frozen=True)
class Frontiers:
    """What each kind of device draws and meets on each rung: [kind, rung], rung 0 parked; the kind of each device.

    Rows may end early: repeat the last rung, which costs nothing. Power and rate rise, or stay, from rung to rung.
    """

    power_w: FloatArray
    rate_hz: FloatArray
    kind: IntArray

    def __post_init__(self) -> None:
        """Refuse what no frontier can be."""
        if self.power_w.ndim != 2 or self.power_w.shape != self.rate_hz.shape or not self.power_w.size:
            raise ValueError("a frontier needs a power and a rate for every kind and rung")
        if not np.isfinite(self.power_w).all() or not np.isfinite(self.rate_hz).all() or (self.power_w < 0).any():
            raise ValueError("powers and rates must be finite, and powers not negative")
        if (self.rate_hz[:, 0] != 0).any():
            raise ValueError("rung 0 is parked: its rate must be 0")
        if (np.diff(self.power_w) < 0).any() or (np.diff(self.rate_hz) < 0).any():
            raise ValueError("power and rate must not fall from rung to rung")
        if self.kind.ndim != 1 or not self.kind.size or self.kind.min() < 0 or self.kind.max() >= len(self.power_w):
            raise ValueError("every device needs a kind that has a frontier")

    @property
    def num_devices(self) -> int:
        """Return how many devices there are."""
        return len(self.kind)

    @cached_property
    def parked_w(self) -> FloatArray:
        """Return what each device draws when parked [W]."""
        return np.asarray(self.power_w[self.kind, 0])

    @cached_property
    def top_w(self) -> FloatArray:
        """Return the most that each device can draw [W]."""
        return np.asarray(self.power_w[self.kind, -1])

    def watts(self, rung: IntArray) -> FloatArray:
        """Return what each device draws at most on its rung [W]."""
        return np.asarray(self.power_w[self.kind, rung])

    def rates(self, rung: IntArray) -> FloatArray:
        """Return what each device meets on its rung [1/s]."""
        return np.asarray(self.rate_hz[self.kind, rung])

    @cached_property
    def hulls(self) -> tuple[tuple[int, ...], ...]:
        """Return the rungs of each kind that lie on its lower convex hull."""
        return tuple(_hull(power, rate) for power, rate in zip(self.power_w, self.rate_hz, strict=True))

    @cached_property
    def edges(self) -> Edges:
        """Return the edges of all devices' hulls by rising price; those of one price device by device."""
        own = [(np.asarray(hull[:-1]), np.asarray(hull[1:])) for hull in self.hulls]
        device: list[IntArray] = []
        rung: list[IntArray] = []
        power: list[FloatArray] = []
        rate: list[FloatArray] = []
        price: list[FloatArray] = []
        for kind, (before, after) in enumerate(own):
            mine = np.flatnonzero(self.kind == kind)
            if not len(after) or not len(mine):
                continue
            more_w = self.power_w[kind, after] - self.power_w[kind, before]
            more_hz = self.rate_hz[kind, after] - self.rate_hz[kind, before]
            device.append(np.repeat(mine, len(after)))
            rung.append(np.tile(after, len(mine)))
            power.append(np.tile(more_w, len(mine)))
            rate.append(np.tile(more_hz, len(mine)))
            price.append(np.tile(more_w / more_hz, len(mine)))
        if not device:
            none = np.empty(0, dtype=np.int64)
            return Edges(none, none, np.empty(0), np.empty(0))
        whose, to = np.concatenate(device), np.concatenate(rung)
        order = np.lexsort((to, whose, np.concatenate(price)))
        return Edges(whose[order], to[order], np.concatenate(power)[order], np.concatenate(rate)[order])


def _hull(power_w: FloatArray, rate_hz: FloatArray) -> tuple[int, ...]:
    """Return the rungs on the lower convex hull of power over rate, from the parked one to the highest rate."""
    hull = [0]
    for rung in range(1, len(power_w)):
        if rate_hz[rung] <= rate_hz[hull[-1]]:
            continue
        while len(hull) > 1 and _price(power_w, rate_hz, hull[-2], hull[-1]) >= _price(
            power_w, rate_hz, hull[-1], rung
        ):
            hull.pop()
        hull.append(rung)
    return tuple(hull)


def _price(power_w: FloatArray, rate_hz: FloatArray, before: int, after: int) -> float:
    return float((power_w[after] - power_w[before]) / (rate_hz[after] - rate_hz[before]))


def relaxed(
    frontiers: Frontiers, budget_w: float, demand_hz: float = np.inf, usable: BoolArray | None = None
) -> tuple[float, float]:
    """Return (power [W], rate [1/s]) of the best mixture of rungs: no choice of whole rungs does better.

    The budget is for all devices; those that are not usable stay parked.
    """
    edges = _of(frontiers.edges, usable)
    left_w = budget_w - float(frontiers.parked_w.sum())
    if left_w < 0:
        raise ValueError(f"a budget of {budget_w} W is below the {budget_w - left_w} W of a parked fleet")
    power, rate = _sums(edges.power_w), _sums(edges.rate_hz)
    most_w = min(left_w, float(np.interp(demand_hz, rate, power)) if demand_hz < rate[-1] else float(power[-1]))
    return budget_w - left_w + most_w, float(np.interp(most_w, power, rate))


def _sums(values: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], np.cumsum(values)])


def _of(edges: Edges, usable: BoolArray | None) -> Edges:
    if usable is None:
        return edges
    keep = usable[edges.device]
    return Edges(edges.device[keep], edges.rung[keep], edges.power_w[keep], edges.rate_hz[keep])


def fill(frontiers: Frontiers, budget_w: float, demand_hz: float = np.inf, usable: BoolArray | None = None) -> Filling:
    """Return whole rungs within the budget [W]: as much rate as it buys, or the demand [1/s] for as little power.

    The budget is for all devices; those that are not usable stay on rung 0, and cost what that costs. It falls short
    of `relaxed` by less than the rate of one edge, or spends more than it by less than the power of one edge.
    """
    edges = _of(frontiers.edges, usable)
    parked_w = float(frontiers.parked_w.sum())
    if parked_w > budget_w * (1 + _SAME):
        raise ValueError(f"a budget of {budget_w} W is below the {parked_w} W of a parked fleet")
    power, rate = _sums(edges.power_w), _sums(edges.rate_hz)
    affordable = int(np.searchsorted(power, budget_w * (1 + _SAME) - parked_w, side="right")) - 1
    enough = int(np.searchsorted(rate, demand_hz * (1 - _SAME), side="left"))
    bought = max(0, min(affordable, enough))
    if enough <= affordable and bought:
        return _least(frontiers, edges, bought, demand_hz - float(rate[bought - 1]))
    found = _rungs(frontiers, edges, bought)
    left_w, lacking_hz = budget_w - parked_w - float(power[bought]), demand_hz - float(rate[bought])
    return _spend(frontiers, found, left_w, lacking_hz, usable)


def _rungs(frontiers: Frontiers, edges: Edges, bought: int) -> IntArray:
    rung = np.zeros(frontiers.num_devices, dtype=np.int64)
    rung[edges.device[:bought]] = edges.rung[:bought]  # of several edges of a device the last, which is the highest
    return rung


def _filling(frontiers: Frontiers, rung: IntArray) -> Filling:
    return Filling(rung, float(frontiers.watts(rung).sum()), float(frontiers.rates(rung).sum()))


def _least(frontiers: Frontiers, edges: Edges, bought: int, lacking_hz: float) -> Filling:
    """Meet the demand: the last edge that was bought is replaced by the cheapest of the others that suffice."""
    rung = _rungs(frontiers, edges, bought - 1)
    rest = slice(bought - 1, None)
    follows = _first(edges.device[rest]) & (edges.rate_hz[rest] >= lacking_hz * (1 - _SAME))
    costs = np.where(follows, edges.power_w[rest], np.inf)
    best = bought - 1 + int(np.argmin(costs))
    if not follows.any():
        return _filling(frontiers, _rungs(frontiers, edges, bought))
    rung[edges.device[best]] = edges.rung[best]
    return _filling(frontiers, rung)


def _first(devices: IntArray) -> BoolArray:
    """Tell for each edge whether it is the first of its device's."""
    first = np.zeros(len(devices), dtype=np.bool_)
    first[np.unique(devices, return_index=True)[1]] = True
    return first


def _spend(frontiers: Frontiers, rung: IntArray, left_w: float, lacking_hz: float, usable: BoolArray | None) -> Filling:
    """Spend what is left on single moves, the one that gains most first."""
    power, rate = frontiers.power_w[frontiers.kind], frontiers.rate_hz[frontiers.kind]
    able = np.ones(len(rung), dtype=np.bool_) if usable is None else usable
    rows = np.arange(len(rung))
    for _ in range(_MOVES):
        more_w = power - power[rows, rung][:, None]
        gain = np.minimum(rate - rate[rows, rung][:, None], lacking_hz)
        gain[(more_w > left_w) | ~able[:, None]] = 0.0
        device, to = divmod(int(np.argmax(gain)), power.shape[1])
        if gain[device, to] <= 0.0:
            break
        left_w -= float(more_w[device, to])
        lacking_hz -= float(gain[device, to])
        rung = rung.copy()
        rung[device] = to
    return _filling(frontiers, rung)


def exact(frontiers: Frontiers, budget_w: float, demand_hz: float = np.inf) -> Filling:
    """Return the best whole rungs by dynamic programming over (power, rate): for small fleets.

    The most rate, up to the demand, that the budget buys; of those the least power.
    """
    states: list[tuple[float, float, tuple[int, ...]]] = [(0.0, 0.0, ())]
    for kind in frontiers.kind:
        more = [
            (power + float(frontiers.power_w[kind, rung]), rate + float(frontiers.rate_hz[kind, rung]), (*path, rung))
            for power, rate, path in states
            for rung in range(frontiers.power_w.shape[1])
        ]
        states, best = [], -1.0
        for state in sorted(more, key=lambda each: (each[0], -each[1])):
            if state[1] > best:
                states.append(state)
                best = state[1]
    within = [each for each in states if each[0] <= budget_w * (1 + _SAME)]
    if not within:
        raise ValueError(f"a budget of {budget_w} W is below the {states[0][0]} W of a parked fleet")
    power, rate, path = max(within, key=lambda each: (min(each[1], demand_hz * (1 - _SAME)), -each[0]))
    return Filling(np.array(path, dtype=np.int64), power, rate)
