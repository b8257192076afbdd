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

from amble.plan.dual import Dual, Found, Problem
from amble.plan.sweep import FORBIDDEN, Lattice, Suffix
from amble.plan.trellis import Floats, Ints

__all__ = ["Limits", "close"]

_PAIRS = 1 << 19  # labels times next cells that are looked at together
_RIVALS = 64  # labels that others are compared with, where there are three costs to compare
_TIME_STEP = 1e-14  # times nearer than this, relative to the budget, count as equal among labels
_COST_STEP = 1e-12  # costs likewise, relative to the incumbent's
_FACTORS = (1.0, 0.85, 1.18, 0.6, 1.7, 0.3, 3.0)  # of the best prices, where bounds are taken


@dataclass(frozen=True, slots=True)
class Limits:
    """How far to go."""

    tolerance_j: float  # nothing that is better by less is of interest
    max_labels: int  # kept per column
    cutoff_j: float = np.inf  # nor is anything not below this


@dataclass(frozen=True, slots=True, eq=False)
class _Labels:
    """Ways to reach cells of one column."""

    time_s: Floats  # [label]
    cost_j: Floats  # [label]
    loss: Floats  # [label]
    cell: Ints  # [label]
    parent: Ints  # [label]: in the column before
    bound_j: Floats  # [label]: no path through it costs less

    def of(self, which: NDArray[np.bool_] | Ints) -> _Labels:
        """Some of them."""
        return _Labels(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    def with_(self, other: _Labels) -> _Labels:
        """Both."""
        names = self.__dataclass_fields__
        return _Labels(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


@dataclass(frozen=True, slots=True, eq=False)
class _Guide:
    """What is known about continuations: cheapest at several prices, fastest, and of least loss."""

    suffix: Suffix  # lanes: the prices, then the fastest, then the one of least loss
    alive: NDArray[np.bool_]  # [column, cell]: may be on a path that beats the incumbent
    spent: Floats  # [lane] price of the whole budgets [J]
    time: Floats  # [lane]
    loss: Floats  # [lane]

    @property
    def num_prices(self) -> int:
        """Lanes that bound the cost."""
        return len(self.spent)


def close(problem: Problem, dual: Dual, incumbent: Found, limits: Limits) -> tuple[Found, float]:
    """Improve the incumbent (one path, or none) until nothing is better by the tolerance, or below the cutoff.

    Returns it with the bound proved: within the tolerance of it or of the cutoff, unless labels had to be put aside.
    """
    search = _Search(problem, incumbent, limits)
    guide = _guide(problem, dual, search.threshold)
    labels = _first(problem, guide, search.threshold)
    dropped_j = np.inf
    for column in range(problem.lattice.num_columns):
        if column:
            labels = _extend(problem, guide, labels, column, search.threshold)
        search.complete(guide, labels, column)
        labels = labels.of(labels.bound_j < search.threshold)
        labels = labels.of(_undominated(problem, labels, column, search.best_j))
        if len(labels.cell) > limits.max_labels:
            order = np.argpartition(labels.bound_j, limits.max_labels)
            dropped_j = min(dropped_j, float(labels.bound_j[order[limits.max_labels :]].min()))
            labels = labels.of(order[: limits.max_labels])
        if not len(labels.cell):
            break
        search.keep(labels)
    return search.best, max(dual.bound_j, min(search.threshold, dropped_j))


class _Search:
    """The incumbent, and the chain of labels that better ones are read from."""

    def __init__(self, problem: Problem, incumbent: Found, limits: Limits) -> None:
        self.best, self._problem, self._limits = incumbent, problem, limits
        self._kept: list[tuple[Ints, Ints]] = []  # cell and parent of the labels of each column

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
        self._kept.append((labels.cell, labels.parent))

    def complete(self, guide: _Guide, labels: _Labels, column: int) -> None:
        """Try every continuation of every label, and take the cheapest path if it beats the incumbent."""
        suffix, after = guide.suffix, column + 1
        time_s = labels.time_s[:, None] + suffix.time_s[after][labels.cell]
        loss = labels.loss[:, None] + suffix.loss[after][labels.cell]
        cost_j = labels.cost_j[:, None] + suffix.energy_j[after][labels.cell]
        cost_j -= self._problem.idle_w * suffix.time_s[after][labels.cell]
        barred = suffix.value[after][labels.cell] > FORBIDDEN / 2
        cost_j[barred | ~self._problem.fits(time_s, loss)] = np.inf
        if cost_j.size and cost_j.min() < self.best_j:
            label, lane = divmod(int(cost_j.argmin()), cost_j.shape[1])
            path = self._prefix(labels, label) + _follow(suffix, column, int(labels.cell[label]), lane)
            better = Found.of(self._problem, np.array([path]))
            if better.best(self._problem) == 0 and better.cost_j[0] < self.best_j:
                self.best = better

    def _prefix(self, labels: _Labels, label: int) -> list[int]:
        path = [int(labels.cell[label])]
        above = int(labels.parent[label])
        for cells, parents in reversed(self._kept):
            path.append(int(cells[above]))
            above = int(parents[above])
        return path[::-1]


def _follow(suffix: Suffix, column: int, cell: int, lane: int) -> list[int]:
    path = []
    for after in range(column + 1, len(suffix.follow)):
        cell = int(suffix.follow[after, cell, lane])
        path.append(cell)
    return path


def _guide(problem: Problem, dual: Dual, threshold_j: float) -> _Guide:
    pairs = [(dual.time * factor, dual.loss * factor) for factor in _FACTORS]
    if problem.limits_loss:
        pairs += [(dual.time * factor, dual.loss / factor) for factor in _FACTORS[1:]]
        pairs += [(dual.time * factor, dual.loss) for factor in _FACTORS[1:]]
    extremes = [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0)] if problem.limits_loss else [(0.0, 1.0, 0.0)]
    lanes = np.array([*((1.0, *pair) for pair in pairs), *extremes])
    energy, time, loss = lanes.T.copy()
    prices = problem.prices(energy, time, loss)
    suffix = problem.lattice.suffixes(prices, (problem.end.time_s, problem.end.energy_j))
    ahead = problem.lattice.sweep(prices, problem.lattice.num_columns)[:, :, : len(lanes)]
    through = ahead + suffix.value[1:]
    count = len(pairs)
    spent = problem.spent(time[:count], loss[:count])
    alive = (through[:, :, :count] - spent).max(axis=2) < threshold_j
    alive &= through[:, :, count] <= problem.latest_s
    if problem.limits_loss:
        alive &= through[:, :, count + 1] <= problem.worst_loss
    return _Guide(suffix, alive, spent, time[:count], loss[:count])


def _first(problem: Problem, guide: _Guide, threshold_j: float) -> _Labels:
    cells = np.flatnonzero(guide.alive[0])
    time_s, cost_j, loss = _nodes(problem, 0, cells)
    time_s = time_s + problem.start.time_s[cells]
    cost_j = cost_j + problem.start.energy_j[cells] - problem.idle_w * problem.start.time_s[cells]
    labels = _Labels(time_s, cost_j, loss, cells, np.zeros(len(cells), np.int64), np.full(len(cells), -np.inf))
    return _bounded(problem, guide, labels, 0, threshold_j)


def _extend(problem: Problem, guide: _Guide, labels: _Labels, column: int, threshold_j: float) -> _Labels:
    """Take every label to every cell that is alive in the column, as far as bounds allow."""
    cells = np.flatnonzero(guide.alive[column])
    step_s, step_j, never = problem.lattice.into(column)
    time_s, cost_j, loss = _nodes(problem, column, cells)
    parts = []
    for begin in range(0, len(labels.cell), max(1, _PAIRS // max(1, len(cells)))):
        some = np.arange(begin, min(len(labels.cell), begin + max(1, _PAIRS // max(1, len(cells)))))
        steps = np.ix_(labels.cell[some], cells)
        shape = (len(some), len(cells))
        extended = _Labels(
            (labels.time_s[some, None] + step_s[steps] + time_s).ravel(),
            (
                labels.cost_j[some, None] + step_j[steps] - problem.idle_w * step_s[steps] + never[steps] + cost_j
            ).ravel(),
            (labels.loss[some, None] + loss).ravel() + np.zeros(shape).ravel(),
            np.broadcast_to(cells, shape).ravel(),
            np.broadcast_to(some[:, None], shape).ravel(),
            np.broadcast_to(labels.bound_j[some, None], shape).ravel(),
        )
        parts.append(_bounded(problem, guide, extended, column, threshold_j))
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.with_(part)
    return joined


def _bounded(problem: Problem, guide: _Guide, labels: _Labels, column: int, threshold_j: float) -> _Labels:
    """Bound the labels at one price after another, keeping only those that may still win."""
    after, count = guide.suffix.value[column + 1], guide.num_prices
    labels = labels.of(labels.time_s + after[labels.cell, count] <= problem.latest_s)
    if problem.limits_loss:
        labels = labels.of(labels.loss + after[labels.cell, count + 1] <= problem.worst_loss)
    for lane in range(count):
        bound_j = labels.cost_j + guide.time[lane] * labels.time_s + guide.loss[lane] * labels.loss
        bound_j += after[labels.cell, lane] - guide.spent[lane]
        np.maximum(bound_j, labels.bound_j, out=bound_j)
        labels = _Labels(labels.time_s, labels.cost_j, labels.loss, labels.cell, labels.parent, bound_j)
        labels = labels.of(bound_j < threshold_j)
    return labels


def _nodes(problem: Problem, column: int, cells: Ints) -> tuple[Floats, Floats, Floats]:
    lattice: Lattice = problem.lattice
    time_s, energy_j = lattice.time_s[column, cells], lattice.energy_j[column, cells]
    loss = np.zeros(len(cells)) if lattice.loss is None else lattice.loss[column, cells]
    return time_s, energy_j - problem.idle_w * time_s, loss


def _undominated(problem: Problem, labels: _Labels, column: int, best_j: float) -> NDArray[np.bool_]:
    """Which labels no other makes useless: [label]."""
    if problem.limits_loss:
        return _undominated_by_rivals(labels)
    step_j = _COST_STEP * (abs(best_j) if np.isfinite(best_j) else float(np.abs(labels.cost_j).max(initial=0.0)))
    time = np.round(labels.time_s / ((_TIME_STEP * abs(problem.budget_s)) or 1.0))
    spread_s, spread_j = _spread(problem, column)
    group = labels.cell if spread_s or spread_j else np.zeros_like(labels.cell)
    order = np.lexsort((labels.cost_j, time, group))
    keep = np.ones(len(order), bool)
    keep[order] = _falls(labels.cost_j[order], group[order], step_j)
    if not spread_s + spread_j < np.inf or not len(order):
        return keep
    order = np.argsort(labels.time_s)
    least_j = np.append(np.inf, np.minimum.accumulate(labels.cost_j[order]))
    earlier = np.searchsorted(labels.time_s[order], labels.time_s - spread_s, side="right")
    return keep & ~(least_j[earlier] + spread_j < labels.cost_j)


def _spread(problem: Problem, column: int) -> tuple[float, float]:
    """How much dearer the next step can be from one cell than from another: time [s] and cost [J]."""
    if column + 1 >= problem.lattice.num_columns:
        return np.inf, np.inf
    time_s, energy_j, never = problem.lattice.into(column + 1)
    if never.any():
        return np.inf, np.inf
    return float(np.ptp(time_s)), float(np.ptp(energy_j - problem.idle_w * time_s))


def _falls(cost_j: Floats, group: Ints, step_j: float) -> NDArray[np.bool_]:
    """Whether each cost is below all earlier ones of its group; groups follow one another."""
    if not len(cost_j):
        return np.ones(0, bool)
    apart = 2 * float(np.ptp(cost_j)) + 1.0 * (np.ptp(cost_j) == 0)
    shifted = cost_j - apart * np.cumsum(np.diff(group, prepend=group[0]) != 0)
    least = np.minimum.accumulate(shifted)
    first = np.diff(group, prepend=group[0] - 1) != 0
    lower = np.append(True, shifted[1:] < least[:-1] - step_j)
    return np.asarray(first | lower)


def _undominated_by_rivals(labels: _Labels) -> NDArray[np.bool_]:
    """Compare with the most promising labels only: enough to keep the numbers down, and never wrong."""
    keep = np.ones(len(labels.cell), bool)
    for rival in np.argsort(labels.bound_j)[:_RIVALS]:
        if keep[rival]:
            worse = (labels.cell == labels.cell[rival]) & (labels.time_s >= labels.time_s[rival])
            worse &= (labels.loss >= labels.loss[rival]) & (labels.cost_j >= labels.cost_j[rival])
            worse[rival] = False
            keep &= ~worse
    return keep
