"""Trellis -> tables from which a running device reads the rest of its plan, for whatever time it has left.

For a few prices of time the cheapest continuation from every operator and every node is kept with its time. A look-up
takes the cheapest one that still fits: microseconds, where a new search would take as long as the inference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amble.stages.plan.sweep import Lattice, Prices
from amble.stages.plan.trellis import Floats, Ints, Trellis, Wait

__all__ = ["Continuation", "CostToGo", "cost_to_go"]


@dataclass(frozen=True, slots=True)
class Continuation:
    """The rest of a plan, as far as the next operator needs it."""

    node: int  # of the next operator
    lane: int  # whose continuation this is: `CostToGo.path` follows it to the end
    time_s: float  # of all that is left, switches included
    energy_j: float
    in_time: bool  # False: even the fastest continuation is late, and this is it


@dataclass(frozen=True, slots=True, eq=False)
class CostToGo:
    """What is left to pay before each operator, by the node held; lanes from the fastest to the cheapest.

    With a wait, energy counts above the idle power of the node waited at, and the step to that node is in it.
    """

    time_s: Floats  # [operator, node held, lane], not falling along lanes
    energy_j: Floats  # [operator, node held, lane]
    follow: Ints  # [operator, node held, lane]: node of that operator

    def look_up(self, operator: int, held: int, remaining_s: float) -> Continuation:
        """Find the cheapest continuation from before `operator` that takes no longer than `remaining_s`.

        Nodes that cannot be left for any path to the end have infinite times.
        """
        times = self.time_s[operator, held]
        fitting = int(times.searchsorted(remaining_s, side="right"))
        lane = max(fitting - 1, 0)
        return Continuation(
            node=int(self.follow[operator, held, lane]),
            lane=lane,
            time_s=float(times[lane]),
            energy_j=float(self.energy_j[operator, held, lane]),
            in_time=fitting > 0,
        )

    def path(self, operator: int, held: int, lane: int) -> Ints:
        """Follow a continuation from before `operator`: the nodes of it and of all that come after it."""
        nodes = []
        for column in range(operator, len(self.follow)):
            held = int(self.follow[column, held, lane])
            nodes.append(held)
        return np.array(nodes, np.int64)


def cost_to_go(
    trellis: Trellis, *, wait: Wait | None = None, wait_node: int | None = None, lanes: int = 24
) -> CostToGo:
    """Make the tables for `lanes` prices of time, from none to any price (the fastest continuation).

    Loss is not limited here: forbid the nodes that the plan's precision rules out. ValueError for fewer than 2 lanes
    or a wait without its node.
    """
    if lanes < 2 or (wait is None) != (wait_node is None):
        raise ValueError("cost_to_go needs two lanes or more, and a wait and its node together")
    lattice = Lattice(trellis)
    idle_w = 0.0 if wait is None or wait_node is None else float(wait.idle_w[wait_node])
    prices, park = _prices(lattice, idle_w, lanes), np.zeros((3, lattice.num_cells))
    if wait_node is not None:
        park_s, park_j, never = (t[:, lattice.cell_of_node[wait_node]] for t in lattice.into(lattice.num_columns))
        park = np.stack([np.zeros_like(park_s), park_j - idle_w * park_s, never])
    end = prices.energy * park[1][:, None] + park[2][:, None]
    suffix = lattice.suffixes(Prices(prices.energy, prices.time, prices.loss, prices.start, end), (park[0], park[1]))
    nodes = lattice.cell_of_node
    lost = suffix.value[:-1, nodes] > 1e20
    time_s = np.where(lost, np.inf, suffix.time_s[:-1, nodes])
    energy_j = np.where(lost, np.inf, suffix.energy_j[:-1, nodes] - idle_w * suffix.time_s[:-1, nodes])
    follow = lattice.node_of_cell[suffix.follow[:, nodes]]
    return CostToGo(np.maximum.accumulate(time_s, axis=2), energy_j, follow)


def _prices(lattice: Lattice, idle_w: float, lanes: int) -> Prices:
    """From the fastest (energy is free) down to time for free; in between, prices at which operators change node."""
    barred = lattice.forbidden
    cost_j = lattice.energy_j - idle_w * lattice.time_s
    fast_s, least_j = (lattice.time_s + barred).min(axis=1), (cost_j + barred).min(axis=1)
    slow_s = np.take_along_axis(lattice.time_s, (cost_j + barred).argmin(axis=1)[:, None], 1)[:, 0]
    fast_j = np.take_along_axis(cost_j, (lattice.time_s + barred).argmin(axis=1)[:, None], 1)[:, 0]
    saved_j, lost_s = float((fast_j - least_j).sum()), float((slow_s - fast_s).sum())
    typical_w = saved_j / lost_s if lost_s > 0 and saved_j > 0 else 1.0
    energy = np.append(0.0, np.ones(lanes - 1))
    time = np.concatenate([[1.0], typical_w * np.geomspace(100.0, 0.02, lanes - 2), [0.0]])
    free = np.zeros((lattice.num_cells, lanes))
    return Prices(energy, time - energy * idle_w, np.zeros(lanes), free, free)
