"""Widths of any pruning method → the same moved to stair edges; and the choices that know no stairs, to compare with.

The rules follow Yu et al. (arXiv 2011.03897, 2020; IEEE TCAD 2024): latency is a staircase in width, so a width inside
a stair pays for channels that it does not have. Downwards that saves time; upwards it costs none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from amble.levers.widths.choosing import Pricing
from amble.levers.widths.network import Group, Network, Widths

__all__ = ["blind", "filled", "fit", "rounded", "scaled", "traded", "trimmed"]

Edges = Mapping[str, tuple[int, ...]]
"""The widths worth using of each group, ascending."""


def trimmed(pricing: Pricing, widths: Widths, edges: Edges, budget: float) -> dict[str, int]:
    """Latency mode: move groups down to an edge, the least importance lost for the time saved first, to the budget.

    A group goes on to its next edge when all others have gone; ends above the budget where nothing is left to move.
    """
    now = {**pricing.network.today, **widths}
    while pricing.total(now) > budget:
        moves = [(each, down) for each in pricing.network.groups if (down := _down(each, now, edges)) is not None]
        rated = [(_rate(pricing, now, each, down), each.name, down) for each, down in moves]
        useful = [each for each in rated if np.isfinite(each[0])]
        if not useful:
            return now
        _, name, down = min(useful)
        now[name] = down
    return now


def filled(pricing: Pricing, widths: Widths, edges: Edges) -> dict[str, int]:
    """Accuracy mode: move every group up to the end of its stair, where that takes no more time within the noise."""
    now = {**pricing.network.today, **widths}
    for group in sorted(pricing.network.groups, key=lambda each: -sum(each.importance)):
        allowed = pricing.around(group, now[group.name], now) * (1.0 + pricing.tolerance(group))
        free = [each for each in _above(group, now, edges) if pricing.around(group, each, now) <= allowed]
        now[group.name] = max(free, default=now[group.name])
    return now


def traded(pricing: Pricing, widths: Widths, edges: Edges, budget: float) -> dict[str, int]:
    """Go on after ``filled``: one group down, another up, as long as less importance is lost within the budget."""
    now = dict(widths)
    while (better := _best_trade(pricing, now, edges, budget)) is not None:
        now = better
    return now


def _best_trade(pricing: Pricing, now: dict[str, int], edges: Edges, budget: float) -> dict[str, int] | None:
    ups = [{**now, g.name: up} for g in pricing.network.groups for up in _above(g, now, edges)[:1]]
    found = [each for each in ups if pricing.total(each) <= budget]
    for up in ups:
        lower = ((g, _down(g, up, edges)) for g in pricing.network.groups if up[g.name] <= now[g.name])
        both = [{**up, g.name: down} for g, down in lower if down is not None]
        found += [each for each in both if pricing.network.lost(each) < pricing.network.lost(now)]
    affordable = [each for each in found if pricing.total(each) <= budget]
    return min(affordable, key=pricing.network.lost, default=None)


def blind(network: Network, keep: float) -> dict[str, int]:
    """Prune by importance alone: remove the least important channels of all groups to a share of the operations.

    Importance counts relative to its group's mean, so that groups of different scale can be compared.
    """
    shares = {
        each.name: np.array(each.importance) / max(float(np.mean(each.importance)), 1e-30) for each in network.groups
    }

    def at(threshold: float) -> dict[str, int]:
        left = {each.name: each.width - int(np.searchsorted(shares[each.name], threshold)) for each in network.groups}
        return {each.name: _allowed(each, left[each.name]) for each in network.groups}

    levels = np.unique(np.concatenate([*shares.values(), [np.inf]]))
    return _first(lambda i: at(float(levels[i])), len(levels), lambda w: network.flops(w) <= keep * network.flops())


def scaled(network: Network, keep: float) -> dict[str, int]:
    """Make every group narrower by one factor, to a share of the operations."""

    def at(step: int) -> dict[str, int]:
        return {each.name: _allowed(each, round(each.width * (1.0 - step / 1000.0))) for each in network.groups}

    return _first(at, 1000, lambda widths: network.flops(widths) <= keep * network.flops())


def rounded(network: Network, widths: Widths, to: int) -> dict[str, int]:
    """Round every width up to a multiple, as pruners do that know vectors and no stairs."""
    return {each.name: min(each.width, -(-widths[each.name] // to) * to) for each in network.groups}


def fit(at: Callable[[float], dict[str, int]], within: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    """Return the widest of the widths ``at`` a share (0 to 1) that are within a budget, to a thousandth."""
    return _first(lambda i: at(1.0 - i / 1000.0), 1000, within)


def _first(at: Callable[[int], dict[str, int]], count: int, within: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    """Bisect for the first that is within; the last where none is."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if within(at(middle)) else (middle + 1, high)
    return at(low)


def _allowed(group: Group, width: int) -> int:
    """Return the nearest allowed width that is not above, or the narrowest."""
    return max((each for each in group.allowed if each <= width), default=group.allowed[0])


def _down(group: Group, now: Widths, edges: Edges) -> int | None:
    return max((each for each in edges[group.name] if each < now[group.name]), default=None)


def _above(group: Group, now: Widths, edges: Edges) -> list[int]:
    return [each for each in edges[group.name] if each > now[group.name]]


def _rate(pricing: Pricing, now: dict[str, int], group: Group, down: int) -> float:
    """Return the importance lost for the time saved by a move; infinite where it saves none."""
    saved = pricing.around(group, now[group.name], now) - pricing.around(group, down, now)
    lost = pricing.network.lost({**now, group.name: down}) - pricing.network.lost(now)
    return lost / saved if saved > 0 else float("inf")
