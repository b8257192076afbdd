"""Best prices -> a path that keeps the budget: the best of the near-optimal paths that go through one given cell.

Around the best price of time, the path of a higher price is in time, that of a lower one late, and the truth lies
between. A pass in both directions knows, for every column and cell, the cheapest prefix that ends and the cheapest
suffix that begins there, at either price. Any of these prefixes with any of these suffixes is a path: 4 N C candidates
from one pass. What they cost needs no tracing: time is the slope of the priced cost in the price.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from amble.stages.plan.dual import Found, Primal
from amble.stages.plan.sweep import FORBIDDEN
from amble.stages.plan.through import Through
from amble.stages.plan.trellis import Floats, Ints

__all__ = ["splice"]

_TRACED = 4  # candidates that are traced at most, as the slope is not exact at a breakpoint
_SAFE = 1e-8  # part of the budget kept free, as the slope is rounded


def splice(through: Through) -> Found:
    """Return the most promising spliced paths, costed exactly; for a budget of time alone."""
    primal = through.primal
    tied = through.beside if len(through.beside) else primal.lattice.paths(through.prices, through.table)[1][:2]
    heads, tails = (_slopes(through, cheapest) for cheapest in (through.heads, through.tails))
    best: list[tuple[float, int, int, tuple[int, int]]] = []
    for head, tail in itertools.product(range(2), repeat=2):
        best += [(*each, (head, tail)) for each in _candidates(primal, heads[head], tails[tail])]
    found = Found.of(primal, tied)
    for cost_j, column, cell, lanes in sorted(best)[:_TRACED]:
        index = found.best(primal)
        if index is not None and found.cost_j[index] <= cost_j:
            break
        path = _trace(through, (column, cell), lanes, tied)
        found = found.joined(Found.of(primal, path[None]))
    return found


def _slopes(through: Through, cheapest: Callable[[int], Floats]) -> list[tuple[Floats, Floats]]:
    """Time and energy [column, cell] of the cheapest prefixes (or suffixes), at the higher and at the lower price."""
    found = []
    for lane, sign in ((0, 1.0), (1, -1.0)):
        values = np.ascontiguousarray(cheapest(lane))
        time_s = (cheapest(through.num_lanes + lane) - values) / (sign * through.step)
        values -= float(through.prices.time[lane]) * time_s
        found.append((time_s, values))
    return found


def _candidates(
    primal: Primal, head: tuple[Floats, Floats], tail: tuple[Floats, Floats]
) -> list[tuple[float, int, int]]:
    """Cost, column and cell of the cheapest paths in time, prefix and suffix joined there."""
    lattice = primal.lattice
    time_s = head[0] + tail[0]
    time_s -= lattice.time_s
    cost_j = head[1] + tail[1]
    cost_j -= lattice.energy_j
    if primal.idle_w:
        cost_j -= primal.idle_w * time_s
    cost_j[time_s > primal.budget_s * (1 - _SAFE)] = np.inf
    flat = cost_j.ravel()
    count = min(_TRACED // 4, flat.size)
    best = np.argpartition(flat, count - 1)[:count]
    best = best[flat[best] < FORBIDDEN / 2]
    columns, cells = np.divmod(best, lattice.num_cells)
    return list(zip(flat[best].tolist(), columns.tolist(), cells.tolist(), strict=True))


def _trace(through: Through, at: tuple[int, int], lanes: tuple[int, int], tied: Ints) -> Ints:
    """Follow the prefix and the suffix from a column and cell, each until it runs into the path of its lane."""
    lattice, (column, cell), (head, tail) = through.primal.lattice, at, lanes
    heads, tails, prices = through.heads(head), through.tails(tail), through.prices.time
    cells = np.concatenate([tied[head, :column], [cell], tied[tail, column + 1 :]])
    held = cell
    for before in range(column - 1, -1, -1):
        time_s, energy_j, never = lattice.toward(before + 1, held)
        held = int((heads[before] + energy_j + prices[head] * time_s + never).argmin())
        if held == cells[before]:
            break
        cells[before] = held
    held = cell
    for after in range(column + 1, lattice.num_columns):
        time_s, energy_j, never = (costs[held] for costs in lattice.into(after))
        held = int((tails[after] + energy_j + prices[tail] * time_s + never).argmin())
        if held == cells[after]:
            break
        cells[after] = held
    return cells
