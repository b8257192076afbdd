"""Best prices and an incumbent -> the optimum: labels from the first operator to the last, cut by the dual bounds.

A label is a way to reach a cell: time, cost and loss so far. It is dropped where the cheapest continuation, at any of
several prices, shows that it cannot beat the incumbent by more than the tolerance; where it cannot keep a budget; or
where another label reaches the same cell (or any cell, dearest switch included) no later, no dearer and with no more
loss. The continuations themselves complete labels to full paths and so improve the incumbent on the way. When labels
are too many the least promising are put aside, and the bound proved falls to the least of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amble.stages.plan.dual import Dual, Found, Primal
from amble.stages.plan.sweep import FORBIDDEN, Lattice, Prices
from amble.stages.plan.through import Through
from amble.stages.plan.trellis import Floats, Ints

__all__ = ["Limits", "close"]

_PAIRS = 1 << 19  # labels times next cells that are looked at together
_FEW = 16  # labels for which one bound will do
_MANY = 48  # labels up to which it does not pay to compare them
_RIVALS = 64  # labels that others are compared with, where there are three costs to compare
_TIME_STEP = 1e-14  # times nearer than this, relative to the budget, count as equal among labels
_COST_STEP = 1e-12  # costs likewise, relative to the incumbent's


@dataclass(frozen=True, slots=True)
class Limits:
    """How far to go."""

    tolerance_j: float  # nothing that is better by less is of interest
    max_labels: int  # kept per column
    cutoff_j: float = np.inf  # nor is anything not below this


@dataclass(frozen=True, slots=True, eq=False)
class _Labels:
    """Ways to reach cells of one column. `place` counts within the cells kept."""

    time_s: Floats  # [label]
    cost_j: Floats  # [label]
    loss: Floats  # [label]
    bound_j: Floats  # [label]: no path through it costs less
    place: Ints  # [label]
    parent: Ints  # [label]: in the column before

    def of(self, which: NDArray[np.bool_] | Ints | slice) -> _Labels:
        """Some of them."""
        return _Labels(
            self.time_s[which],
            self.cost_j[which],
            self.loss[which],
            self.bound_j[which],
            self.place[which],
            self.parent[which],
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Guide:
    """The cells that may be on a better path, and what follows them at several prices.

    Lanes are the prices, then the fastest, then the one of least loss. R cells are kept.
    """

    cells: Ints  # [place]
    alive: NDArray[np.bool_]  # [column, place]
    node_s: Floats  # [column, place]
    node_j: Floats  # [column, place]
    node_loss: Floats  # [column, place]
    after: Floats  # [column, place, lane]: least priced cost of what follows
    follow: Ints  # [column, place, lane]: place of the next operator
    time_s: Floats  # [column, place, lane]: of what follows, as `follow` goes
    cost_j: Floats  # [column, place, lane]
    loss: Floats  # [column, place, lane]
    spent: Floats  # [lane] price of the whole budgets [J]; prices only
    time: Floats  # [lane]; prices only
    price: Floats  # [lane] of loss; prices only
    steps: tuple[Floats, Floats] | None  # time and cost [from, to] among the cells, if all steps have the same
    spread: tuple[float, float]  # how much dearer a step can be from one cell than from another: time [s], cost [J]

    @property
    def num_prices(self) -> int:
        """Lanes that bound the cost."""
        return len(self.spent)


def close(through: Through, dual: Dual, incumbent: Found, limits: Limits) -> tuple[Found, float]:
    """Improve the incumbent (one path, or none) until nothing is better by the tolerance, or below the cutoff.

    Returns it with the bound proved: within the tolerance of it or of the cutoff, unless labels had to be put aside.
    """
    primal, search = through.primal, _Search(through.primal, incumbent, limits)
    guide = _guide(through, search.threshold)
    if guide is None:
        return search.best, max(dual.bound_j, search.threshold)
    labels, dropped_j, last = None, np.inf, primal.lattice.num_columns - 1
    for column in range(last + 1):
        labels = _extend(primal, guide, labels, column, search.threshold)
        if column % max(4, last // 64) == 0 or column == last:
            search.complete(guide, labels, column)
            labels = labels.of(labels.bound_j < search.threshold)
        if len(labels.place) > _MANY:
            labels = labels.of(_undominated(primal, guide, labels, column, search.best_j))
        if len(labels.place) > limits.max_labels:
            order = np.argpartition(labels.bound_j, limits.max_labels)
            dropped_j = min(dropped_j, float(labels.bound_j[order[limits.max_labels :]].min()))
            labels = labels.of(order[: limits.max_labels])
        if not len(labels.place):
            break
        search.keep(labels)
    return search.best, max(dual.bound_j, min(search.threshold, dropped_j))


class _Search:
    """The incumbent, and the chain of labels that better ones are read from."""

    def __init__(self, primal: Primal, incumbent: Found, limits: Limits) -> None:
        self.best, self._primal, self._limits = incumbent, primal, limits
        self._kept: list[tuple[Ints, Ints]] = []  # place and parent of the labels of each column

    @property
    def best_j(self) -> float:
        """Cost of the incumbent, infinite where there is none."""
        return float(self.best.cost_j[0]) if len(self.best.cost_j) else np.inf

    @property
    def threshold(self) -> float:
        """Only what is below is of interest."""
        return min(self.best_j, self._limits.cutoff_j) - self._limits.tolerance_j

    def keep(self, labels: _Labels) -> None:
        """Remember where the labels of a column came from."""
        self._kept.append((labels.place, labels.parent))

    def complete(self, guide: _Guide, labels: _Labels, column: int) -> None:
        """Try every continuation of every label, and take the cheapest path if it beats the incumbent."""
        time_s = labels.time_s[:, None] + guide.time_s[column][labels.place]
        loss = labels.loss[:, None] + guide.loss[column][labels.place]
        cost_j = labels.cost_j[:, None] + guide.cost_j[column][labels.place]
        cost_j[~self._primal.fits(time_s, loss)] = np.inf
        if cost_j.size and cost_j.min() < self.best_j:
            label, lane = divmod(int(cost_j.argmin()), cost_j.shape[1])
            places = self._prefix(labels, label) + _follow(guide, column, int(labels.place[label]), lane)
            better = Found.of(self._primal, guide.cells[np.array([places])])
            if better.best(self._primal) == 0 and better.cost_j[0] < self.best_j:
                self.best = better

    def _prefix(self, labels: _Labels, label: int) -> list[int]:
        path = [int(labels.place[label])]
        above = int(labels.parent[label])
        for places, parents in reversed(self._kept):
            path.append(int(places[above]))
            above = int(parents[above])
        return path[::-1]


def _follow(guide: _Guide, column: int, place: int, lane: int) -> list[int]:
    path = []
    for before in range(column, len(guide.follow) - 1):
        place = int(guide.follow[before, place, lane])
        path.append(place)
    return path


def _guide(through: Through, threshold_j: float) -> _Guide | None:
    """Keep the cells that the bounds leave (None: no path), and follow the continuations among them."""
    primal = through.primal
    lattice, spent = primal.lattice, primal.spent(through.time, through.loss)
    alive, cells = _alive(through, [*(threshold_j + spent), primal.latest_s, primal.worst_loss])
    if not alive.any(axis=1).all():
        return None
    prices = through.prices.some(slice(0, through.num_lanes))
    behind = np.stack([through.tails(lane, cells) for lane in range(prices.num_lanes)], axis=-1)
    after = behind - lattice.weigh(prices, slice(None), cells)
    follow, sums = _continuations(primal, prices, cells, behind)
    steps = None if lattice.differs or lattice.num_columns < 2 else _steps(primal, 1, cells)
    spread = (np.inf, np.inf) if steps is None else (float(np.ptp(steps[0])), float(np.ptp(steps[1])))
    nodes = _nodes(primal, slice(None), cells)
    return _Guide(cells, alive, *nodes, after, follow, *sums, spent, through.time, through.loss, steps, spread)


def _alive(through: Through, limits: list[float]) -> tuple[NDArray[np.bool_], Ints]:
    """Which cells may be on a path within the limits [lane]: [column, place], and the cells of the places."""
    alive, cells = np.ones(through.table.shape[:2], bool), np.arange(through.primal.lattice.num_cells)
    for lane in range(through.num_lanes):
        node = through.primal.lattice.weigh(through.prices.some(slice(lane, lane + 1)), slice(None), cells)[:, :, 0]
        alive &= through.heads(lane, cells) + through.tails(lane, cells) - node <= limits[lane]
        kept = alive.any(axis=0)
        cells, alive = cells[kept], np.ascontiguousarray(alive[:, kept])
    return alive, cells


def _continuations(
    primal: Primal, prices: Prices, cells: Ints, behind: Floats
) -> tuple[Ints, tuple[Floats, Floats, Floats]]:
    """Follow the cheapest continuation of each cell at each price: next places, and time, cost and loss of it all."""
    lattice, places, lane = primal.lattice, np.arange(len(cells))[:, None], np.arange(prices.num_lanes)
    follow = np.zeros(behind.shape, np.int64)
    time_s, cost_j, loss = (np.zeros(behind.shape) for _ in range(3))
    end = primal.end
    time_s[-1] = end.time_s[cells, None]
    cost_j[-1] = (end.energy_j - primal.idle_w * end.time_s + end.never)[cells, None]
    chunk = 1 if lattice.differs else max(1, _PAIRS // (behind[0].size * len(cells)))
    for begin in range(0, lattice.num_columns - 1, chunk):
        some = slice(begin, min(begin + chunk, lattice.num_columns - 1))
        after = slice(some.start + 1, some.stop + 1)
        step_s, step_j = _steps(primal, begin + 1, cells)
        priced = step_j[..., None] * prices.energy + step_s[..., None] * (prices.time + primal.idle_w * prices.energy)
        follow[some] = (priced + behind[after, None]).argmin(axis=2)
        node_s, node_j, lost = _nodes(primal, after, cells)  # [column, place]
        column = np.arange(node_s.shape[0])[:, None, None]
        time_s[some] = step_s[places, follow[some]] + node_s[column, follow[some]]
        cost_j[some] = step_j[places, follow[some]] + node_j[column, follow[some]]
        loss[some] = lost[column, follow[some]]
    for column_ in range(lattice.num_columns - 2, -1, -1):
        chosen = follow[column_]
        for total in (time_s, cost_j, loss) if primal.limits_loss else (time_s, cost_j):
            total[column_] += total[column_ + 1][chosen, lane]
    return follow, (time_s, cost_j, loss)


def _within(lattice: Lattice, step: int, cells: Ints) -> tuple[Floats, Floats, Floats]:
    """Time, energy and FORBIDDEN marks of a step among some cells: [from, to]."""
    square = np.ix_(cells, cells)
    time_s, energy_j, never = lattice.into(step)
    return time_s[square], energy_j[square], never[square]


def _extend(primal: Primal, guide: _Guide, labels: _Labels | None, column: int, threshold_j: float) -> _Labels:
    """Take every label to every cell that is alive in the column, as far as bounds allow."""
    places = guide.alive[column].nonzero()[0]
    if labels is None:
        return _start(primal, guide, places, threshold_j)
    step_s, step_j = guide.steps or _steps(primal, column, guide.cells)
    to_s = (step_s + guide.node_s[column])[:, places]  # [place, goal]
    to_j = (step_j + guide.node_j[column])[:, places]
    loss = guide.node_loss[column, places]
    chunk, parts = max(1, _PAIRS // max(1, len(places))), []
    for begin in range(0, len(labels.place), chunk):
        some = labels if chunk >= len(labels.place) else labels.of(slice(begin, begin + chunk))
        cost_j = some.cost_j[:, None] + to_j[some.place]
        time_s = some.time_s[:, None] + to_s[some.place]
        bound_j = cost_j + guide.time[0] * time_s + (guide.after[column, places, 0] - guide.spent[0])
        if primal.limits_loss:
            bound_j += guide.price[0] * (some.loss[:, None] + loss)
        open_ = (bound_j < threshold_j).ravel().nonzero()[0]
        label, goal = np.divmod(open_, len(places))
        bound_j = np.maximum(bound_j.ravel()[open_], some.bound_j[label])
        lost = some.loss[label] + loss[goal]
        to = places[goal]
        extended = _Labels(time_s.ravel()[open_], cost_j.ravel()[open_], lost, bound_j, to, begin + label)
        few = len(open_) <= _FEW and column < len(guide.alive) - 1
        parts.append(extended if few else _bounded(primal, guide, extended, column, threshold_j))
    if len(parts) == 1:
        return parts[0]
    names = ("time_s", "cost_j", "loss", "bound_j", "place", "parent")
    return _Labels(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _steps(primal: Primal, step: int, cells: Ints) -> tuple[Floats, Floats]:
    """Time and cost of a step among some cells: [from, to]."""
    time_s, energy_j, never = _within(primal.lattice, step, cells)
    return time_s, energy_j - primal.idle_w * time_s + never


def _start(primal: Primal, guide: _Guide, places: Ints, threshold_j: float) -> _Labels:
    cells, start = guide.cells[places], primal.start
    time_s, cost_j, loss = guide.node_s[0, places], guide.node_j[0, places], guide.node_loss[0, places]
    start_j = start.energy_j[cells] - primal.idle_w * start.time_s[cells] + start.never[cells]
    nothing = np.zeros(len(cells), np.int64)
    labels = _Labels(
        time_s + start.time_s[cells], cost_j + start_j, loss, np.full(len(cells), -np.inf), places, nothing
    )
    return _bounded(primal, guide, labels, 0, threshold_j)


def _bounded(primal: Primal, guide: _Guide, labels: _Labels, column: int, threshold_j: float) -> _Labels:
    """Bound the labels at all prices, keeping those that may still win and keep the budgets."""
    after, count = guide.after[column][labels.place], guide.num_prices  # [label, lane]
    bounds_j = after[:, :count] + (labels.cost_j[:, None] - guide.spent)
    bounds_j += labels.time_s[:, None] * guide.time
    open_ = labels.time_s + after[:, count] <= primal.latest_s
    if primal.limits_loss:
        bounds_j += labels.loss[:, None] * guide.price
        open_ &= labels.loss + after[:, count + 1] <= primal.worst_loss
    bound_j = np.maximum(bounds_j.max(axis=1), labels.bound_j)
    open_ &= bound_j < threshold_j
    return _Labels(labels.time_s, labels.cost_j, labels.loss, bound_j, labels.place, labels.parent).of(open_)


def _nodes(primal: Primal, columns: slice, cells: Ints) -> tuple[Floats, Floats, Floats]:
    """Time, cost and loss of some cells: [column, place]."""
    lattice = primal.lattice
    time_s, energy_j = lattice.time_s[columns, cells], lattice.energy_j[columns, cells]
    loss = np.zeros(time_s.shape) if lattice.loss is None else lattice.loss[columns, cells]
    return time_s, energy_j - primal.idle_w * time_s + lattice.forbidden[columns, cells], loss


def _undominated(primal: Primal, guide: _Guide, labels: _Labels, column: int, best_j: float) -> NDArray[np.bool_]:
    """Which labels no other makes useless: [label]."""
    if primal.limits_loss:
        return _undominated_by_rivals(labels)
    step_j = _COST_STEP * (abs(best_j) if np.isfinite(best_j) else float(np.abs(labels.cost_j).max(initial=0.0)))
    time = np.round(labels.time_s / ((_TIME_STEP * abs(primal.budget_s)) or 1.0))
    spread_s, spread_j = guide.spread if column + 1 < len(guide.alive) else (np.inf, np.inf)
    group = labels.place if spread_s or spread_j else np.zeros_like(labels.place)
    order = np.lexsort((labels.cost_j, time, group))
    keep = np.ones(len(order), bool)
    keep[order] = _falls(labels.cost_j[order], group[order], step_j)
    if not spread_s + spread_j < FORBIDDEN / 2:
        return keep
    order = np.argsort(labels.time_s)
    least_j = np.append(np.inf, np.minimum.accumulate(labels.cost_j[order]))
    earlier = np.searchsorted(labels.time_s[order], labels.time_s - spread_s, side="right")
    return keep & ~(least_j[earlier] + spread_j < labels.cost_j)


def _falls(cost_j: Floats, group: Ints, step_j: float) -> NDArray[np.bool_]:
    """Whether each cost is below all earlier ones of its group; groups follow one another."""
    first = np.empty(len(group), bool)
    first[:1], first[1:] = True, group[1:] != group[:-1]
    apart = 2.0 * float(cost_j.max() - cost_j.min()) + 1.0 if len(cost_j) else 0.0
    shifted = cost_j - apart * np.cumsum(first)  # so that no group is below the one that follows
    lower = first
    lower[1:] |= shifted[1:] < np.minimum.accumulate(shifted)[:-1] - step_j
    return lower


def _undominated_by_rivals(labels: _Labels) -> NDArray[np.bool_]:
    """Compare with the most promising labels only: enough to keep the numbers down, and never wrong."""
    keep = np.ones(len(labels.place), bool)
    for rival in np.argsort(labels.bound_j)[:_RIVALS]:
        if keep[rival]:
            worse = (labels.place == labels.place[rival]) & (labels.time_s >= labels.time_s[rival])
            worse &= (labels.loss >= labels.loss[rival]) & (labels.cost_j >= labels.cost_j[rival])
            worse[rival] = False
            keep &= ~worse
    return keep
