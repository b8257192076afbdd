"""Best prices -> a path that keeps the budget: the best of the near-optimal paths that go through one given cell.

Around the best price of time, the path of a higher price is in time, that of a lower one late, and the truth lies
between. A pass in both directions knows, for every column and cell, the cheapest prefix that ends and the cheapest
suffix that begins there, at either price. Any of these prefixes with any of these suffixes is a path: 4 N C candidates
from one pass. What they cost needs no tracing: time is the slope of the priced cost in the price.
"""

from __future__ import annotations

import numpy as np

from amble.plan.dual import Dual, Found, Problem
from amble.plan.sweep import FORBIDDEN, Prices
from amble.plan.trellis import Floats, Ints

__all__ = ["splice"]

_STEP = 1e-6  # relative distance of the prices whose difference is the slope
_TRACED = 12  # candidates that are traced at most, as the slope is not exact at a breakpoint
_SAFE = 1e-8  # part of the budget kept free, as the slope is rounded


def splice(problem: Problem, dual: Dual) -> Found:
    """Return the most promising spliced paths, costed exactly; for a budget of time alone."""
    step = _STEP * (dual.time + abs(dual.bound_j) / float(dual.found.time_s.max()))
    times = np.array([dual.too_high, dual.too_high + step, dual.too_low, dual.too_low - step])
    prices = problem.prices(np.ones(4), times, np.zeros(4))
    table = problem.lattice.sweep(prices, problem.lattice.num_columns)
    _, tied = problem.lattice.paths(prices, table)
    busy_w = prices.time[[0, 2]]
    heads = _slopes(table[:, :, :4], step, busy_w)
    tails = _slopes(table[::-1, :, 4:], step, busy_w)
    kinds = [(head, tail) for head in range(2) for tail in range(2)]
    best: list[tuple[float, int, int, tuple[int, int]]] = []
    for head, tail in kinds:
        best += [(*each, (2 * head, 2 * tail)) for each in _candidates(problem, heads[head], tails[tail])]
    found = Found.of(problem, tied)
    for cost_j, column, cell, lanes in sorted(best)[:_TRACED]:
        index = found.best(problem)
        if index is not None and found.cost_j[index] <= cost_j:
            break
        path = _trace(problem, prices, table, (column, cell), lanes, tied)
        found = found.joined(Found.of(problem, path[None]))
    return found


def _slopes(values: Floats, step: float, busy_w: Floats) -> list[tuple[Floats, Floats]]:
    """Time and energy [column, cell] of the cheapest prefixes (or suffixes), at the higher and at the lower price."""
    high_s = (values[:, :, 1] - values[:, :, 0]) / step
    low_s = (values[:, :, 2] - values[:, :, 3]) / step
    return [(high_s, values[:, :, 0] - busy_w[0] * high_s), (low_s, values[:, :, 2] - busy_w[1] * low_s)]


def _candidates(
    problem: Problem, head: tuple[Floats, Floats], tail: tuple[Floats, Floats]
) -> list[tuple[float, int, int]]:
    """Cost, column and cell of the cheapest paths in time, prefix and suffix joined there."""
    lattice = problem.lattice
    time_s = head[0] + tail[0] - lattice.time_s
    cost_j = head[1] + tail[1] - lattice.energy_j
    cost_j -= problem.idle_w * time_s
    cost_j[(time_s > problem.budget_s * (1 - _SAFE)) | (head[1] > FORBIDDEN / 2) | (tail[1] > FORBIDDEN / 2)] = np.inf
    flat = cost_j.ravel()
    count = min(_TRACED // 4, flat.size)
    best = np.argpartition(flat, count - 1)[:count]
    best = best[np.isfinite(flat[best])]
    columns, cells = np.divmod(best, lattice.num_cells)
    return list(zip(flat[best].tolist(), columns.tolist(), cells.tolist(), strict=True))


def _trace(
    problem: Problem, prices: Prices, table: Floats, at: tuple[int, int], lanes: tuple[int, int], tied: Ints
) -> Ints:
    """Follow the prefix and the suffix from a column and cell, each until it runs into the path of its lane."""
    lattice, (column, cell), (head, tail) = problem.lattice, at, lanes
    cells = np.concatenate([tied[head, :column], [cell], tied[tail, column + 1 :]])
    held = cell
    for before in range(column - 1, -1, -1):
        time_s, energy_j, never = lattice.toward(before + 1, held)
        held = int((table[before, :, head] + energy_j + prices.time[head] * time_s + never).argmin())
        if held == cells[before]:
            break
        cells[before] = held
    held = cell
    for after in range(column + 1, lattice.num_columns):
        time_s, energy_j, never = (costs[held] for costs in lattice.into(after))
        follow = table[lattice.num_columns - 1 - after, :, 4 + tail]
        held = int((follow + energy_j + prices.time[tail] * time_s + never).argmin())
        if held == cells[after]:
            break
        cells[after] = held
    return cells
