"""Prices on time and loss -> cheapest paths and cost-to-go tables of a trellis: the Viterbi passes of the search.

A pass runs from both ends at once and for many prices at once, because numpy is paid by the call. Costs are kept by
*cell*: nodes laid out on the grid of their domain levels, where the cheapest predecessor is found one axis after
another (a sum over domains separates): O(S D) per column instead of O(S^2). Other switching costs keep one cell a node.
Letters: N columns, C cells, K prices (lanes), 2 K stands for forward lanes, then backward lanes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from amble.stages.plan.trellis import DenseSwitch, DomainSwitch, Floats, Ints, Trellis

__all__ = ["FORBIDDEN", "Lattice", "Prices", "Suffix"]

FORBIDDEN = 1e30  # stands for infinity, with which differences would be undefined
_CHUNK = 32  # columns priced at once, so that they stay in the cache
_SPARSE = 4  # a grid with more than this many cells a node costs more than a table


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """K ways to weigh a path: price of its energy, time and loss, and of where it starts and ends."""

    energy: Floats  # [lane]
    time: Floats  # [lane]
    loss: Floats  # [lane]
    start: Floats  # [cell, lane], already priced
    end: Floats  # [cell, lane], already priced

    @property
    def num_lanes(self) -> int:
        """K."""
        return len(self.energy)

    def some(self, lanes: slice) -> Prices:
        """Some of them."""
        ends = (self.start[:, lanes], self.end[:, lanes])
        return Prices(self.energy[lanes], self.time[lanes], self.loss[lanes], *ends)


@dataclass(frozen=True, slots=True, eq=False)
class Suffix:
    """Cheapest continuation at each price, from before column i holding a cell; row N is the end."""

    value: Floats  # [column + 1, cell, lane]: priced, ends included
    time_s: Floats  # [column + 1, cell, lane]
    energy_j: Floats  # [column + 1, cell, lane]
    loss: Floats  # [column + 1, cell, lane]
    follow: Ints  # [column, cell, lane]: cell of the next operator


class _Grid:
    """Switching on the grid of levels: one pass over each axis finds the cheapest neighbour."""

    def __init__(self, levels: tuple[int, ...], time_s: Floats, energy_j: Floats) -> None:
        self._shape = levels
        self._time, self._energy, self._never = _split(time_s, energy_j)

    def price(self, prices: Prices) -> list[Floats]:
        """Cost of a change, one [2 lane] per domain."""
        each = zip(self._energy, self._time, self._never, strict=True)
        once = [prices.energy * energy + prices.time * time + never for energy, time, never in each]
        return [np.concatenate([cost, cost]) for cost in once]

    def run(self, table: Floats, values: Floats, costs: list[Floats], into: tuple[int, int]) -> None:
        """Add to each row of the priced `table` [step, cell, 2 lane] the cheapest way to be there, from `values` on."""
        del into  # every step costs the same
        rows, grid = (array.reshape(*array.shape[:-2], *self._shape, array.shape[-1]) for array in (table, values))
        changing = [axis for axis, size in enumerate(self._shape) if size > 1]
        least = {axis: np.empty_like(np.take(grid, [0], axis)) for axis in changing}
        spare = np.empty(grid.shape)
        for row in rows:
            for axis in changing:
                np.minimum.reduce(grid, axis=axis, keepdims=True, out=least[axis])
                np.add(least[axis], costs[axis], out=least[axis])
                grid = np.minimum(grid, least[axis], out=spare)
            grid = np.add(grid, row, out=row)

    def choose(self, values: Floats, costs: list[Floats], into: int) -> Ints:
        """Cheapest cell to go to from each cell, where `values` [cell, lane] are what follows there."""
        del into
        grid = values.reshape(*self._shape, values.shape[-1])
        chosen = np.broadcast_to(np.arange(len(values)).reshape(*self._shape, 1), grid.shape)
        for axis, cost in enumerate(costs):
            at = grid.argmin(axis=axis, keepdims=True)
            least = np.take_along_axis(grid, at, axis) + cost[: values.shape[-1]]
            change = least < grid
            chosen = np.where(change, np.take_along_axis(chosen, at, axis), chosen)
            grid = np.where(change, least, grid)
        return chosen.reshape(values.shape)


class _Tables:
    """Switching by tables [from, to], shared by all steps or one per step: every pair is tried."""

    def __init__(self, time_s: Floats, energy_j: Floats) -> None:
        self._differs = time_s.ndim == 3
        self._time, self._energy, self._never = _split(time_s, energy_j)

    def price(self, prices: Prices) -> list[Floats]:
        """The priced tables [lane, from, to] where all steps share one, else the prices."""
        weights = [prices.energy[:, None, None], prices.time[:, None, None]]
        return [self._priced(0, *weights)] if not self._differs else weights

    def run(self, table: Floats, values: Floats, costs: list[Floats], into: tuple[int, int]) -> None:
        """Add to each row of the priced `table` [step, cell, 2 lane] the cheapest way to be there, from `values` on.

        `into` tells the steps of row 0: the one into its forward column, and the one out of its backward column.
        """
        lanes = values.shape[1] // 2
        before = np.ascontiguousarray(values.T)
        after, sums = np.empty_like(before), np.empty((values.shape[0], values.shape[0]))
        ahead = behind = costs[0]
        for step, row in enumerate(table):
            if self._differs:
                ahead, behind = self._priced(into[0] + step, *costs), self._priced(into[1] - step, *costs)
            for lane in range(lanes):
                np.add(ahead[lane], before[lane, :, None], out=sums)
                np.minimum.reduce(sums, axis=0, out=after[lane])
                np.add(behind[lane], before[lanes + lane], out=sums)
                np.minimum.reduce(sums, axis=1, out=after[lanes + lane])
            row += after.T
            before[:] = row.T

    def choose(self, values: Floats, costs: list[Floats], into: int) -> Ints:
        """Cheapest cell to go to from each cell, where `values` [cell, lane] are what follows there."""
        tables = costs[0] if not self._differs else self._priced(into, *costs)
        return np.stack([(table + follow).argmin(axis=1) for table, follow in zip(tables, values.T, strict=True)], 1)

    def _priced(self, step: int, energy: Floats, time: Floats) -> Floats:
        """[lane, from, to]."""
        at = step if self._differs else slice(None)
        return self._energy[at] * energy + self._time[at] * time + self._never[at]


class Lattice:
    """A trellis laid out by cells, ready for passes."""

    def __init__(self, trellis: Trellis) -> None:
        self._switch, self._grid, self.cell_of_node = _layout(trellis)
        self._table: _Tables | None = None
        self.num_cells = self._switch.num_nodes
        self.num_columns = trellis.num_operators
        self.node_of_cell = np.zeros(self.num_cells, np.int64)
        self.node_of_cell[self.cell_of_node] = np.arange(trellis.num_nodes)
        allowed = trellis.allowed
        barred = not allowed.all() or self.num_cells > trellis.num_nodes
        time_s, energy_j, loss = (
            None if costs is None else self.by_cell(np.where(allowed, costs, 0.0) if barred else costs)
            for costs in (trellis.latency_s, trellis.energy_j, trellis.loss)
        )
        assert time_s is not None
        assert energy_j is not None
        self.time_s, self.energy_j, self.loss = time_s, energy_j, loss
        self.forbidden = np.zeros(time_s.shape)
        if barred:
            self.forbidden = self.by_cell(np.where(allowed, 0.0, FORBIDDEN), fill=FORBIDDEN)
        kinds = [self.energy_j, self.time_s, self.loss, self.forbidden if barred else None]
        self._kept = [kind is not None for kind in kinds]
        self._both = np.empty((*time_s.shape, 2, sum(self._kept)))  # [step, cell, direction, resource]
        for resource, costs in enumerate(kind for kind in kinds if kind is not None):
            self._both[:, :, 0, resource], self._both[:, :, 1, resource] = costs, costs[::-1]
        self._into: dict[int, tuple[Floats, Floats, Floats]] = {}

    @property
    def differs(self) -> bool:
        """Whether switching costs differ from step to step."""
        return isinstance(self._switch, DenseSwitch) and self._switch.time_s.ndim == 3

    @property
    def lanes(self) -> int:
        """How many prices are worth a pass: many where a pass is paid by the call, few where by the cell."""
        return 3 if self._grid is None else min(max(1200 // self.num_cells, 8), 24)

    def by_cell(self, by_node: Floats, *, fill: float = 0.0) -> Floats:
        """Spread values [..., node] over the cells; cells that are no node get `fill`."""
        found = np.full((*by_node.shape[:-1], self.num_cells), fill)
        found[..., self.cell_of_node] = by_node
        return found

    def into(self, step: int) -> tuple[Floats, Floats, Floats]:
        """Time [s], energy [J] and FORBIDDEN marks of a step, each [from, to] over cells, 0 where forbidden."""
        if self.differs:  # too many to keep
            return _split(*self._switch.into(step, self.num_columns))
        key = self._key(step)
        if key not in self._into:
            self._into[key] = _split(*self._switch.into(key, self.num_columns))
        return self._into[key]

    def toward(self, step: int, cell: int) -> tuple[Floats, Floats, Floats]:
        """As `into`, to one cell: [from]."""
        time_s, energy_j, never = (table[:, cell] for table in self.into(step))
        return time_s, energy_j, never

    def sums(self, cells: Ints) -> tuple[Floats, Floats, Floats]:
        """Time, energy and loss of paths [path, column], each [path], switches between the columns included."""
        columns = np.arange(self.num_columns)
        time_s, energy_j = self.time_s[columns, cells].sum(axis=1), self.energy_j[columns, cells].sum(axis=1)
        loss = np.zeros(len(cells)) if self.loss is None else self.loss[columns, cells].sum(axis=1)
        switch_s, switch_j = self._switch.along(cells, 1, self.num_columns)
        time_s += switch_s.sum(axis=-1)
        energy_j += switch_j.sum(axis=-1)
        return time_s, energy_j, loss

    def sweep(self, prices: Prices, steps: int) -> Floats:
        """Run `steps` columns from both ends: table [step, cell, 2 lane].

        Row j holds the cheapest prefix that ends with column j (its node included) in the forward lanes, and the
        cheapest suffix that begins with column N - 1 - j in the backward lanes.
        """
        table = np.empty((steps, self.num_cells, 2 * prices.num_lanes))
        edges, weights = self._edges(prices), self._weights(prices)
        costs = edges.price(prices)
        values = np.concatenate([prices.start, prices.end], axis=1)
        for begin in range(0, steps, _CHUNK):
            chunk = table[begin : begin + _CHUNK]
            rows = self._both[begin : begin + len(chunk)].reshape(-1, len(weights))
            np.dot(rows, weights, out=chunk.reshape(len(rows), -1))
            if begin:
                edges.run(chunk, values, costs, (begin, self.num_columns - begin))
            else:
                chunk[0] += values
                edges.run(chunk[1:], chunk[0], costs, (1, self.num_columns - 1))
            values = chunk[-1]
        return table

    def weigh(self, prices: Prices, column: int | slice, cells: Ints | slice = slice(None)) -> Floats:
        """Priced node costs: [cell, lane] of a column, [column, cell, lane] of several; of all cells or some."""
        return np.asarray(self._both[column, cells, 0] @ self._weights(prices), np.float64)

    def paths(self, prices: Prices, table: Floats | None = None) -> tuple[Floats, Ints]:
        """Cheapest path of each lane: its value [lane] (FORBIDDEN or more: none exists) and cells [lane, column]."""
        middle, lanes = self.num_columns // 2, prices.num_lanes
        table = self.sweep(prices, middle) if table is None else table
        value, at = self._meet(prices, table)
        found = np.empty((lanes, self.num_columns + 1), np.int64)
        found[:, middle] = at
        held, beside = np.concatenate([at, at]), self._beside(prices)
        for away in range(1, middle + 1):
            left, right = middle - away, middle + away  # for even N the last right is past the end and not kept
            cost = beside(held, left + 1, right)
            cost[:lanes] += table[left, :, :lanes].T
            cost[lanes:] += table[self.num_columns - 1 - right, :, lanes:].T
            held = cost.argmin(axis=1)
            found[:, left], found[:, right] = held[:lanes], held[lanes:]
        return value, found[:, :-1]

    def _beside(self, prices: Prices) -> Callable[[Ints, int, int], Floats]:
        """Priced steps between held cells [2 lane] and every cell, into the held or out of it: -> [2 lane, cell]."""
        lanes, energy, time = np.arange(prices.num_lanes), prices.energy[:, None, None], prices.time[:, None, None]

        def priced(step: int) -> Floats:
            time_s, energy_j, never = self.into(step)
            return energy_j * energy + time_s * time + never

        def differing(held: Ints, ahead: int, behind: int) -> Floats:
            into, out_of = priced(ahead), priced(behind)
            return np.concatenate([into[lanes, :, held[: len(lanes)]], out_of[lanes, held[len(lanes) :]]])

        if self.differs:
            return differing
        shared = priced(-1)
        both = np.concatenate([shared.transpose(0, 2, 1), shared])  # [2 lane, held, other]
        each = np.arange(2 * len(lanes))
        return lambda held, ahead, behind: both[each, held]

    def suffixes(self, prices: Prices, end: tuple[Floats, Floats]) -> Suffix:
        """Follow the cheapest continuations back from `end`, the time and energy [cell] of the step into the wait."""
        shape = (self.num_columns + 1, self.num_cells, prices.num_lanes)
        value, time_s, energy_j, loss = (np.zeros(shape) for _ in range(4))
        follow = np.zeros((self.num_columns, *shape[1:]), np.int64)
        value[-1], time_s[-1], energy_j[-1] = prices.end, end[0][:, None], end[1][:, None]
        edges = self._edges(prices)
        costs, held, lane = edges.price(prices), np.arange(self.num_cells)[:, None], np.arange(shape[2])
        for column in range(self.num_columns - 1, -1, -1):
            after = value[column + 1] + self.weigh(prices, column)
            chosen = edges.choose(after, costs, column) if column else self._choose_first(after, prices)
            follow[column] = chosen
            step_s, step_j, never = (table[held, chosen] for table in self.into(column))
            value[column] = after[chosen, lane] + prices.energy * step_j + prices.time * step_s + never
            time_s[column] = time_s[column + 1][chosen, lane] + step_s + self.time_s[column][chosen]
            energy_j[column] = energy_j[column + 1][chosen, lane] + step_j + self.energy_j[column][chosen]
            if self.loss is not None:
                loss[column] = loss[column + 1][chosen, lane] + self.loss[column][chosen]
        return Suffix(value, time_s, energy_j, loss, follow)

    def _choose_first(self, after: Floats, prices: Prices) -> Ints:
        """As `choose` of the edges, for the step into column 0, which may cost otherwise than the later ones."""
        time_s, energy_j, never = self.into(0)
        each = zip(prices.energy, prices.time, after.T, strict=True)
        return np.stack(
            [(energy_j * price + time_s * second + never + row).argmin(1) for price, second, row in each], 1
        )

    def _meet(self, prices: Prices, table: Floats) -> tuple[Floats, Ints]:
        middle, lanes = self.num_columns // 2, prices.num_lanes
        right = self.num_columns - 2 - middle  # row of the backward lanes for the column after the middle
        ahead = table[middle - 1, :, :lanes] if middle else prices.start
        behind = table[right, :, lanes:] if right >= 0 else prices.end
        before = np.concatenate([ahead, behind], axis=1)
        met = np.zeros((1, *before.shape))
        edges = self._edges(prices)
        edges.run(met, before, edges.price(prices), (middle, middle + 1))
        met = met[0]
        into = met[:, :lanes] if middle else prices.start
        out_of = met[:, lanes:] if right >= 0 else prices.end
        total = into + self.weigh(prices, middle) + out_of
        at = total.argmin(axis=0)
        return total[at, np.arange(lanes)], at

    def _edges(self, prices: Prices) -> _Grid | _Tables:
        """The grid, except where a change would earn something: there it would also credit a change not made."""
        if self._grid is not None and all((cost >= 0).all() for cost in self._grid.price(prices)):
            return self._grid
        if self._table is None:
            dense = isinstance(self._switch, DenseSwitch)
            tables = (self._switch.time_s, self._switch.energy_j) if dense else self._switch.into(1, 3)
            self._table = _Tables(*tables)
        return self._table

    def _weights(self, prices: Prices) -> Floats:
        """[resource, lane]."""
        weights = np.stack([prices.energy, prices.time, prices.loss, np.ones(prices.num_lanes)])
        return np.ascontiguousarray(weights[self._kept])

    def _key(self, step: int) -> int:
        """Steps of one key have the same tables: those between operators, and each of the ends."""
        return step if step in (0, self.num_columns) else -1


def _layout(trellis: Trellis) -> tuple[DomainSwitch | DenseSwitch, _Grid | None, Ints]:
    """The switch over cells, its grid if it has one, and the cell of each node."""
    switch, nodes = trellis.switch, np.arange(trellis.num_nodes)
    if switch is None:
        switch = DomainSwitch(nodes[:, None], np.zeros(1), np.zeros(1))
    if isinstance(switch, DenseSwitch):
        return switch, None, nodes
    ranks, shape = _ranks(switch.levels)
    if math.prod(shape) > _SPARSE * len(nodes):
        return switch, None, nodes
    costs = [np.append(cost, 0.0) for cost in (switch.time_s, switch.energy_j)]
    at_ends = np.append(np.asarray(switch.at_ends), False)
    cells = np.stack(np.unravel_index(np.arange(math.prod(shape)), shape), axis=1)
    cell_of_node = np.asarray(np.ravel_multi_index(tuple(ranks.T), shape), np.int64)
    ends = [_spread(end, cell_of_node, len(cells)) for end in (switch.first, switch.last)]
    laid = DomainSwitch(cells, costs[0], costs[1], at_ends, *ends)
    return laid, _Grid(shape, costs[0], costs[1]), cell_of_node


def _spread(end: tuple[Floats, Floats] | None, cell_of_node: Ints, num_cells: int) -> tuple[Floats, Floats] | None:
    """Lay tables over nodes out over cells; cells without a node cannot be reached."""
    if end is None:
        return None
    laid = np.full((2, num_cells, num_cells), np.inf)
    laid[:, cell_of_node[:, None], cell_of_node[None, :]] = end
    return laid[0], laid[1]


def _ranks(levels: Ints) -> tuple[Ints, tuple[int, ...]]:
    """Levels counted from 0 per domain, and a last, free domain that tells nodes of equal levels apart."""
    ranks = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in levels.T]
    seen: dict[bytes, int] = {}
    twin: list[int] = []
    for row in np.ascontiguousarray(levels):
        key = row.tobytes()
        twin.append(seen.get(key, 0))
        seen[key] = twin[-1] + 1
    found = np.stack([*ranks, np.array(twin, np.int64)], axis=1)
    return found, tuple(int(size) for size in found.max(axis=0) + 1)


def _split(time_s: Floats, energy_j: Floats) -> tuple[Floats, Floats, Floats]:
    """Finite time and energy, and FORBIDDEN where either is infinite."""
    never = ~(np.isfinite(time_s) & np.isfinite(energy_j))
    return np.where(never, 0.0, time_s), np.where(never, 0.0, energy_j), np.where(never, FORBIDDEN, 0.0)
