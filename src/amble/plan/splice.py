"""Best prices -> a path that keeps the budget: the best of the near-optimal paths that go through one given cell.

At the best price of time two paths tie, one in time and one late, and the truth lies between. A pass in both directions
knows, for every column and cell, the cheapest prefix that ends and the cheapest suffix that begins there, just above
and just below that price. Any of these prefixes with any of these suffixes is a path: 4 N C candidates without another
pass. What they cost needs no tracing: time is the slope of the priced cost in the price.
"""

from __future__ import annotations

import numpy as np

from amble.plan.dual import Dual, Found, Problem
from amble.plan.sweep import FORBIDDEN, Prices
from amble.plan.trellis import Floats, Ints

__all__ = ["splice"]

_STEP = 1e-6  # relative distance of the prices whose difference is the slope
_TRACED = 6  # candidates of each kind that are traced, as the slope is not exact at a breakpoint


def splice(problem: Problem, dual: Dual) -> Found:
    """Return the most promising spliced paths, costed exactly; for a budget of time alone."""
    step = _STEP * (dual.time + abs(dual.bound_j) / float(dual.found.time_s.max()))
    times = dual.time + step * np.array([1.0, 2.0, -1.0, -2.0])
    prices = problem.prices(np.ones(4), times, np.zeros(4))
    table = problem.lattice.sweep(prices, problem.lattice.num_columns)
    _, tied = problem.lattice.paths(prices, table)
    busy_w = prices.time[[0, 2]]
    heads = _slopes(table[:, :, :4], step, busy_w)
    tails = _slopes(table[::-1, :, 4:], step, busy_w)
    found = [tied]
    for head in range(2):
        for tail in range(2):
            columns, cells = _candidates(problem, heads[head], tails[tail])
            each = zip(columns.tolist(), cells.tolist(), strict=True)
            found += [_trace(problem, prices, table, at, (2 * head, 2 * tail), tied)[None] for at in each]
    return Found.of(problem, np.concatenate(found))


def _slopes(values: Floats, step: float, busy_w: Floats) -> list[tuple[Floats, Floats]]:
    """Time and energy [column, cell] of the cheapest prefixes (or suffixes), above the best price and below it."""
    above_s = (values[:, :, 1] - values[:, :, 0]) / step
    below_s = (values[:, :, 2] - values[:, :, 3]) / step
    return [(above_s, values[:, :, 0] - busy_w[0] * above_s), (below_s, values[:, :, 2] - busy_w[1] * below_s)]


def _candidates(problem: Problem, head: tuple[Floats, Floats], tail: tuple[Floats, Floats]) -> tuple[Ints, Ints]:
    """Columns and cells of the cheapest paths in time, prefix and suffix joined there."""
    lattice = problem.lattice
    time_s = head[0] + tail[0] - lattice.time_s
    cost_j = head[1] + tail[1] - lattice.energy_j
    cost_j -= problem.idle_w * time_s
    cost_j[(time_s > problem.budget_s) | (head[1] > FORBIDDEN / 2) | (tail[1] > FORBIDDEN / 2)] = np.inf
    flat = cost_j.ravel()
    count = min(_TRACED, flat.size)
    best = np.argpartition(flat, count - 1)[:count]
    columns, cells = np.divmod(best[np.isfinite(flat[best])], lattice.num_cells)
    return columns, cells


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
