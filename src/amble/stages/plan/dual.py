"""One trellis with its ends and budgets -> the best prices of time and loss, and the bound they prove.

The Lagrangian dual is concave and piecewise linear, each path a piece: E + lambda (T - budget) + mu (L - max_loss).
Every pass evaluates several prices and adds the paths that answer them; the next prices come from the paths known
(Kelley's cutting planes: the lower hull of the points (T, E), or its linear programme where loss counts as well).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from amble.stages.plan.sweep import FORBIDDEN, Lattice, Prices
from amble.stages.plan.trellis import Floats, Ints

__all__ = ["SLACK", "Dual", "End", "Found", "Primal", "climb"]

SLACK = 1e-12  # rounding that a budget forgives, relative to it
_TIGHT = 1e-4  # the climb stops when its bound is this near to the best it can be, relative
_PASSES = 16  # more are never needed in one dimension


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """What it costs to start from, or to leave, each cell: added to the first or the last column."""

    time_s: Floats  # [cell]
    energy_j: Floats  # [cell]
    never: Floats  # [cell]: 0 or FORBIDDEN


@dataclass(frozen=True, slots=True, eq=False)
class Primal:
    """Minimise energy less `idle_w` times time, within the budgets. `offset_j` makes it the energy asked for."""

    lattice: Lattice
    budget_s: float
    max_loss: float  # infinite: not limited
    start: End
    end: End
    idle_w: float = 0.0
    offset_j: float = 0.0

    @property
    def limits_loss(self) -> bool:
        """Whether a second budget counts."""
        return math.isfinite(self.max_loss)

    @property
    def latest_s(self) -> float:
        """The budget and the rounding that it forgives."""
        return self.budget_s + SLACK * abs(self.budget_s)

    @property
    def worst_loss(self) -> float:
        """The greatest loss and the rounding that it forgives."""
        return self.max_loss + SLACK * abs(self.max_loss) if self.limits_loss else self.max_loss

    def prices(self, energy: Floats, time: Floats, loss: Floats) -> Prices:
        """Weights [lane] of the objective, the time and the loss, with the ends priced."""
        busy = time - energy * self.idle_w
        ends = [
            side.energy_j[:, None] * energy + side.time_s[:, None] * busy + side.never[:, None]
            for side in (self.start, self.end)
        ]
        return Prices(energy, busy, loss, ends[0], ends[1])

    def spent(self, time: Floats, loss: Floats) -> Floats:
        """What the whole budgets cost at prices [lane] of time and loss."""
        return time * self.budget_s + (loss * self.max_loss if self.limits_loss else 0.0)

    def fits(self, time_s: Floats, loss: Floats) -> NDArray[np.bool_]:
        """Whether both budgets are kept."""
        return (time_s <= self.latest_s) & (loss <= self.worst_loss)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Paths known so far and what they cost in a primal."""

    cells: Ints  # [path, column]
    time_s: Floats  # [path], as the budget counts it
    cost_j: Floats  # [path]: the objective, without the offset
    loss: Floats  # [path]

    @classmethod
    def of(cls, primal: Primal, cells: Ints) -> Found:
        """Cost the paths; those with a forbidden step or end are left out."""
        first, last = cells[:, 0], cells[:, -1]
        allowed = (primal.start.never[first] == 0) & (primal.end.never[last] == 0)
        cells, first, last = cells[allowed], first[allowed], last[allowed]
        time_s, energy_j, loss = primal.lattice.sums(cells)
        time_s += primal.start.time_s[first] + primal.end.time_s[last]
        energy_j += primal.start.energy_j[first] + primal.end.energy_j[last]
        return cls(cells, time_s, energy_j - primal.idle_w * time_s, loss)

    def some(self, which: NDArray[np.bool_] | slice) -> Found:
        """Some of them."""
        return Found(self.cells[which], self.time_s[which], self.cost_j[which], self.loss[which])

    def joined(self, other: Found) -> Found:
        """Both."""
        names = ("cells", "time_s", "cost_j", "loss")
        return Found(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

    def best(self, primal: Primal) -> int | None:
        """Index of the cheapest path that keeps the budgets; None where none does."""
        costs = np.where(primal.fits(self.time_s, self.loss), self.cost_j, np.inf)
        return int(costs.argmin()) if len(costs) and costs.min() < np.inf else None


@dataclass(frozen=True, slots=True, eq=False)
class Dual:
    """The best prices found, the bound that they prove (infinite: no path keeps the budgets), and the paths met."""

    time: float  # price of a second [W]
    loss: float  # price of a unit of loss [J]
    bound_j: float  # of the objective, without the offset
    found: Found
    too_low: float  # price of a second whose path was late, the nearest known
    too_high: float  # price of a second whose path was in time
    beside: Ints  # cells of the paths at `too_high` and at `too_low`: [2, column]; [0, column] where not both are known


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Prices of one pass: [lane] each."""

    energy: Floats
    time: Floats
    loss: Floats


@dataclass(slots=True)
class _Known:
    """What the passes have shown so far."""

    found: Found
    time: float = 0.0
    loss: float = 0.0
    bound_j: float = -np.inf
    too_low: float = 0.0  # greatest price of time whose path was too slow
    too_high: float = np.inf  # least price of time whose path was in time
    late: Ints | None = None  # cells of the path at `too_low`
    timely: Ints | None = None  # cells of the path at `too_high`

    @property
    def dual(self) -> Dual:
        both = self.late is not None and self.timely is not None
        beside = np.stack([self.timely, self.late]) if both else self.found.cells[:0]  # type: ignore[list-item]
        too_high = min(self.too_high, 2 * self.time)
        return Dual(self.time, self.loss, self.bound_j, self.found, self.too_low, too_high, beside)

    def narrow(self, times: Floats, found: Found, latest_s: float) -> None:
        """Note on which side of the budget the paths at some prices of time fell."""
        for price, time_s, cells in zip(times.tolist(), found.time_s.tolist(), found.cells, strict=True):
            if time_s > latest_s and price >= self.too_low:
                self.too_low, self.late = price, cells
            elif time_s <= latest_s and price < self.too_high:
                self.too_high, self.timely = price, cells


def climb(primal: Primal, seeds: Ints | None = None) -> Dual:
    """Find the best prices; `seeds` are cells [path, column] of paths known from a similar primal."""
    nothing = np.empty((0, primal.lattice.num_columns), np.int64)
    known = _Known(Found.of(primal, nothing if seeds is None else seeds))
    asked = _opening(primal) if seeds is None else _next(primal, known)
    for _ in range(_PASSES):
        if asked is None:
            break
        _ask(primal, known, asked)
        if _hopeless(primal, known, asked):
            return replace(known.dual, bound_j=np.inf)
        asked = _next(primal, known)
    return known.dual


def _ask(primal: Primal, known: _Known, asked: _Asked) -> None:
    """Run one pass, and note its paths, bounds and on which side of the budget they fell."""
    value, cells = primal.lattice.paths(primal.prices(asked.energy, asked.time, asked.loss))
    exists = value < FORBIDDEN / 2
    new = Found.of(primal, cells[exists])
    known.found = known.found.joined(new)
    weighs, spent = exists & (asked.energy == 1.0), primal.spent(asked.time, asked.loss)
    for lane in np.flatnonzero(weighs):
        bound_j = float(value[lane] - spent[lane])
        if bound_j > known.bound_j:
            known.bound_j, known.time, known.loss = bound_j, float(asked.time[lane]), float(asked.loss[lane])
    known.narrow(asked.time[weighs], new.some(weighs[exists]), primal.latest_s)


def _hopeless(primal: Primal, known: _Known, asked: _Asked) -> bool:
    """Whether the pass asked for the fastest path, or the one of least loss, and even that is over its budget."""
    found, extreme = known.found, asked.energy == 0.0
    if not len(found.cells):
        return True
    late = (extreme & (asked.time > 0)).any() and found.time_s.min() > primal.latest_s
    return bool(late or ((extreme & (asked.loss > 0)).any() and found.loss.min() > primal.worst_loss))


def _opening(primal: Primal) -> _Asked:
    """Extremes, and prices around those at which the operators, each for itself, would just keep the budget."""
    guess = _guess(primal)
    if primal.limits_loss:
        worth = guess * primal.budget_s / max(primal.max_loss, 1e-12)
        triples = [(0, 1, 0), (0, 0, 1), (1, 0, 0), (1, guess, 0), (1, 0, worth), (1, guess, worth)]
    else:
        spread = np.geomspace(0.5, 2.0, max(primal.lattice.lanes - 2, 1)) if primal.lattice.lanes > 3 else [1.0]
        triples = [(0, 1, 0), (1, 0, 0), *((1, guess * factor, 0) for factor in spread)]
    return _Asked(*np.array(triples, np.float64).T.copy())


def _guess(primal: Primal) -> float:
    """Price of time [W] at which a sample of the operators, switching aside, spends their share of the budget."""
    lattice = primal.lattice
    rows = np.unique(np.linspace(0, lattice.num_columns - 1, 64).astype(np.int64))
    barred = lattice.forbidden[rows]
    time_s, cost_j = lattice.time_s[rows], lattice.energy_j[rows] - primal.idle_w * lattice.time_s[rows]
    fast = np.take_along_axis(cost_j, (time_s + barred).argmin(1, keepdims=True), 1).sum()
    slow = np.take_along_axis(time_s, (cost_j + barred).argmin(1, keepdims=True), 1).sum()
    least_s, least_j = (time_s + barred).min(1).sum(), (cost_j + barred).min(1).sum()
    if slow <= least_s or fast <= least_j:
        return float(abs(least_j) / max(abs(least_s), 1e-12)) or 1.0
    prices = (fast - least_j) / (slow - least_s) * np.geomspace(1e-2, 1e3, 26)
    chosen = (cost_j + barred + prices[:, None, None] * time_s).argmin(axis=2)  # [price, row]
    spent = time_s[np.arange(len(rows)), chosen].sum(axis=1)
    share = primal.budget_s * len(rows) / lattice.num_columns
    return float(prices[np.abs(spent - share).argmin()])


def _next(primal: Primal, known: _Known) -> _Asked | None:
    """Prices worth asking for, None where the bound is as good as the paths known allow."""
    return _next_both(primal, known) if primal.limits_loss else _next_time(primal, known)


def _next_time(primal: Primal, known: _Known) -> _Asked | None:
    found = known.found
    late = found.time_s > primal.latest_s
    if late.all():
        return _Asked(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.zeros(2))
    fast, slow = _bracket(found.time_s, found.cost_j, primal.budget_s)
    price = 0.0  # where the cheapest path of all is in time
    if slow is not None:
        price = float((found.cost_j[fast] - found.cost_j[slow]) / (found.time_s[slow] - found.time_s[fast]))
    best_j = float(found.cost_j[fast] + price * (found.time_s[fast] - primal.budget_s))
    if best_j - known.bound_j <= _TIGHT * abs(best_j + primal.offset_j):
        return None
    times = np.array([price, *(_around(price, known, primal.lattice.lanes - 1) if price else [])])
    return _Asked(np.ones(len(times)), times, np.zeros(len(times)))


def _bracket(time_s: Floats, cost_j: Floats, budget_s: float) -> tuple[int, int | None]:
    """Neighbours on the lower hull of the points (time, cost), in time and late; None: cost falls no more there."""
    hull: list[int] = []
    for point in np.lexsort((cost_j, time_s)):
        if hull and cost_j[point] >= cost_j[hull[-1]]:
            continue
        while len(hull) > 1 and _above(time_s, cost_j, hull[-2], hull[-1], int(point)):
            hull.pop()
        hull.append(int(point))
    times = time_s[hull]
    after = int(np.searchsorted(times, budget_s * (1 + SLACK), side="right"))
    return hull[after - 1], hull[after] if after < len(hull) else None


def _above(time_s: Floats, cost_j: Floats, left: int, middle: int, right: int) -> bool:
    """Whether the middle point lies on or above the line between the others."""
    rise = (cost_j[middle] - cost_j[left]) * (time_s[right] - time_s[left])
    return bool(rise >= (cost_j[right] - cost_j[left]) * (time_s[middle] - time_s[left]))


def _around(price: float, known: _Known, count: int) -> list[float]:
    """Prices on both sides of `price`, denser near it, within what is known to be too low and too high."""
    low = known.too_low if 0 < known.too_low < price else price / 3
    high = known.too_high if price < known.too_high < np.inf else price * 3
    steps = (np.arange(1, (count + 1) // 2 + 1) / ((count + 1) // 2 + 1)) ** 2
    both = [price + (edge - price) * step for step in steps for edge in (low, high)]
    return both[:count]


def _next_both(primal: Primal, known: _Known) -> _Asked | None:
    """As `_next_time`, with the linear programme over the paths known in the place of their hull."""
    found = known.found
    time, loss, best_j = _master(primal, found)
    if best_j - known.bound_j <= _TIGHT * abs(best_j + primal.offset_j):
        return None
    between = [(time + (known.time - time) * part, loss + (known.loss - loss) * part) for part in (0.25, 0.5, 0.75)]
    beside = [(time * 1.1, loss), (time * 0.9, loss), (time, loss * 1.1), (time, loss * 0.9)]
    pairs = np.array([(time, loss), *between, *beside][: max(primal.lattice.lanes, 4)])
    return _Asked(np.ones(len(pairs)), pairs[:, 0].copy(), pairs[:, 1].copy())


def _master(primal: Primal, found: Found) -> tuple[float, float, float]:
    """Prices of time and loss, and the greatest bound, that the paths known allow; what is over budget costs dearly."""
    scale_j = max(float(np.abs(found.cost_j).max()), 1e-300)
    scale_s = max(abs(primal.budget_s), float(np.ptp(found.time_s)), 1e-300)
    scale_loss = max(abs(primal.max_loss), float(np.ptp(found.loss)), 1e-300)
    dear = 1e4
    solved = linprog(
        np.append(found.cost_j / scale_j, [dear, dear]),
        A_ub=np.stack(
            [np.append(found.time_s / scale_s, [-1.0, 0.0]), np.append(found.loss / scale_loss, [0.0, -1.0])]
        ),
        b_ub=[primal.budget_s / scale_s, primal.max_loss / scale_loss],
        A_eq=np.append(np.ones(len(found.cost_j)), [0.0, 0.0])[None],
        b_eq=[1.0],
        method="highs",
    )
    price_s, price_loss = np.maximum(-solved.ineqlin.marginals, 0.0)
    return float(price_s * scale_j / scale_s), float(price_loss * scale_j / scale_loss), float(solved.fun * scale_j)
