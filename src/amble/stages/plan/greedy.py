"""Trellis, budget -> a path by giving slack away where it saves most: NeuroBalancer's multiple-choice knapsack.

Bin et al., "NeuroBalancer", IEEE Trans. Mobile Computing 24(5), 2025 (DOI 10.1109/TMC.2024.3524628) states the problem:
minimise sum_i r_i E_i(s_i) subject to sum_i r_i T_i(s_i) <= D over groups i of r_i equal operators. The paper's own
procedure is not public; the one here is that of a public re-implementation in its spirit. Known flaws, kept in
`greedy` because it is a baseline: switches are not in the objective, and a poor intermediate point blocks the good one
behind it. `hull_greedy` goes along the lower convex hull, so nothing is blocked, and it solves the linear relaxation on
the way, so it has a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amble.stages.plan.dual import SLACK
from amble.stages.plan.trellis import Floats, Ints, Solution, Trellis, Wait, totals

__all__ = ["greedy", "hull_greedy"]


@dataclass(frozen=True, slots=True)
class _Move:
    """The next step of one group to a slower, cheaper node."""

    group: int
    rank: int  # place on the list of the group
    time_s: float
    saved_j: float

    @property
    def ratio_w(self) -> float:
        """Energy saved per time lost."""
        return self.saved_j / self.time_s if self.time_s else np.inf


def greedy(trellis: Trellis, budget_s: float, *, groups: Ints | None = None, wait: Wait | None = None) -> Solution:
    """Start at the fastest points; take the Pareto step that saves most energy per time lost and fits, until none does.

    `groups` [operator] numbers those that share one node, each its own group by default. Switching is not foreseen, but
    charged in the solution, which is infeasible where it breaks the budget. With `wait` the energy is that of a period,
    waiting at the last node. There is no bound: it is minus infinity.
    """
    latency_s, energy_j, of_group = _grouped(trellis, groups)
    lists = [_pareto(*costs) for costs in zip(latency_s, energy_j, strict=True)]
    ranks = _spend(latency_s, energy_j, lists, budget_s)
    nodes = np.array([points[rank] for points, rank in zip(lists, ranks, strict=True)])
    return _solution(trellis, nodes[of_group], budget_s, wait, -np.inf)


def hull_greedy(trellis: Trellis, budget_s: float, *, groups: Ints | None = None, wait: Wait | None = None) -> Solution:
    """As `greedy` along the lower convex hulls, then spend what is left on single steps to any point that fits.

    Without `wait` the bound is that of the linear relaxation; it holds with switches too, as they only cost.
    """
    latency_s, energy_j, of_group = _grouped(trellis, groups)
    pareto = [_pareto(*costs) for costs in zip(latency_s, energy_j, strict=True)]
    hulls = [_hull(time, energy, points) for time, energy, points in zip(latency_s, energy_j, pareto, strict=True)]
    ranks = _spend(latency_s, energy_j, hulls, budget_s)
    nodes = np.array([points[rank] for points, rank in zip(hulls, ranks, strict=True)])
    nodes = _fill(latency_s, energy_j, nodes, budget_s)
    bound_j = _relaxed(latency_s, energy_j, hulls, budget_s) if wait is None else -np.inf
    return _solution(trellis, nodes[of_group], budget_s, wait, bound_j)


def _grouped(trellis: Trellis, groups: Ints | None) -> tuple[Floats, Floats, Ints]:
    """Sum the costs of the operators of each group: [group, node] twice, and the group of each operator."""
    names = np.arange(trellis.num_operators) if groups is None else np.asarray(groups)
    _, of_group = np.unique(names, return_inverse=True)
    sums = np.zeros((2, of_group.max() + 1, trellis.num_nodes))
    for total, costs in zip(sums, (trellis.latency_s, trellis.energy_j), strict=True):
        np.add.at(total, of_group, np.where(trellis.allowed, costs, np.inf))
    if np.isinf(sums[0]).all(axis=1).any():
        raise ValueError("the operators of a group must have a node that all of them may use")
    return sums[0], sums[1], of_group


def _pareto(latency_s: Floats, energy_j: Floats) -> list[int]:
    """Nodes by rising latency and strictly falling energy."""
    kept: list[int] = []
    for node in np.lexsort((energy_j, latency_s)):
        if np.isfinite(latency_s[node]) and (not kept or energy_j[node] < energy_j[kept[-1]]):
            kept.append(int(node))
    return kept


def _hull(latency_s: Floats, energy_j: Floats, pareto: list[int]) -> list[int]:
    """Those Pareto points that no line between two others passes below."""
    hull: list[int] = []
    for node in pareto:
        while len(hull) > 1:
            (left_s, mid_s), (left_j, mid_j) = latency_s[hull[-2:]], energy_j[hull[-2:]]
            if (mid_j - left_j) * (latency_s[node] - left_s) < (energy_j[node] - left_j) * (mid_s - left_s):
                break
            hull.pop()
        hull.append(node)
    return hull


def _spend(latency_s: Floats, energy_j: Floats, lists: list[list[int]], budget_s: float) -> list[int]:
    """Walk down the lists while slack lasts; how far each group went."""
    ranks = [0] * len(lists)
    slack_s = budget_s * (1 + SLACK) - sum(latency_s[group, points[0]] for group, points in enumerate(lists))
    while True:
        moves = [_move(latency_s, energy_j, lists, group, rank + 1) for group, rank in enumerate(ranks)]
        fitting = [move for move in moves if move is not None and move.time_s <= slack_s]
        if not fitting:
            return ranks
        best = max(fitting, key=lambda move: move.ratio_w)
        ranks[best.group] = best.rank
        slack_s -= best.time_s


def _move(latency_s: Floats, energy_j: Floats, lists: list[list[int]], group: int, rank: int) -> _Move | None:
    if rank >= len(lists[group]):
        return None
    before, after = lists[group][rank - 1], lists[group][rank]
    time_s = float(latency_s[group, after] - latency_s[group, before])
    return _Move(group, rank, time_s, float(energy_j[group, before] - energy_j[group, after]))


def _fill(latency_s: Floats, energy_j: Floats, nodes: Ints, budget_s: float) -> Ints:
    """Take the single change of largest saving that fits, over and over."""
    nodes, rows = nodes.copy(), np.arange(len(nodes))
    while True:
        slack_s = budget_s * (1 + SLACK) - latency_s[rows, nodes].sum()
        slower_s = latency_s - latency_s[rows, nodes][:, None]
        saved_j = np.where(slower_s <= slack_s, energy_j[rows, nodes][:, None] - energy_j, -np.inf)
        group, node = divmod(int(saved_j.argmax()), saved_j.shape[1])
        if slack_s < 0 or saved_j[group, node] <= 1e-15 * abs(energy_j[group, nodes[group]]):
            return nodes
        nodes[group] = node


def _relaxed(latency_s: Floats, energy_j: Floats, hulls: list[list[int]], budget_s: float) -> float:
    """Optimum of the linear relaxation: all hull steps by falling ratio, the last one in part."""
    least_j = float(sum(energy_j[group, points[0]] for group, points in enumerate(hulls)))
    slack_s = budget_s - float(sum(latency_s[group, points[0]] for group, points in enumerate(hulls)))
    steps = [(group, rank) for group, points in enumerate(hulls) for rank in range(1, len(points))]
    moves = [_move(latency_s, energy_j, hulls, group, rank) for group, rank in steps]
    for move in sorted((move for move in moves if move is not None), key=lambda move: -move.ratio_w):
        part = 1.0 if move.time_s <= slack_s else max(slack_s, 0.0) / move.time_s
        least_j -= part * move.saved_j
        slack_s -= part * move.time_s
    return float(least_j)


def _solution(trellis: Trellis, path: Ints, budget_s: float, wait: Wait | None, bound_j: float) -> Solution:
    wait_node = None if wait is None else int(path[-1])
    cost = totals(trellis, path, wait, wait_node)
    feasible = bool(cost.latency_s <= budget_s * (1 + SLACK))
    gap = (cost.energy_j - bound_j) / abs(cost.energy_j) if feasible and cost.energy_j else np.inf
    return Solution(path, wait_node, cost.latency_s, cost.energy_j, cost.loss, bound_j, max(float(gap), 0.0), feasible)
