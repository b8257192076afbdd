"""Groups of channels and the time of each layer → widths: what pruners choose that know of time, and that do not.

The rules follow F. Yu et al., "Towards Latency-aware DNN Optimization with GPU Runtime Analysis and Tail Effect
Elimination", 2020: after any pruner, widths move to edges of stairs. All rules rank channels by the same importance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from amble.core.staircase import worth
from amble.core.widths import Group, Layer, Network, Widths

__all__ = ["Edges", "LayerTime", "blind", "edges", "latency_s", "moved", "planned", "rounded", "uniform"]

LayerTime = Callable[[Layer, int, int], float]
"""(layer, inputs, outputs) → time [s]."""
Edges = Mapping[str, Sequence[int]]
"""Group → the widths worth using, ascending, today's among them."""

TOLERANCE = 0.02
_MOST_CUT = 0.9  # no layer loses more than this share to the blind pruner


def latency_s(network: Network, widths: Widths, time_s: LayerTime) -> float:
    """Sum over the layers [s]."""
    return sum(
        time_s(each, network.num_inputs(each, widths), network.num_outputs(each, widths)) for each in network.layers
    )


def edges(network: Network, time_s: LayerTime, *, step: int) -> dict[str, tuple[int, ...]]:
    """Return the edges of each group's staircase: all layers it touches, the other groups as they are today."""
    found = {}
    for group in network.groups:
        widths = [each for each in group.allowed if each % step == 0 or each == group.width]
        touched = dict.fromkeys((*network.writers(group.name), *network.readers(group.name)))
        times_s = [_sum(network, tuple(touched), {group.name: each}, time_s) for each in widths]
        found[group.name] = worth(widths, times_s, TOLERANCE)
    return found


def blind(network: Network, ratio: float) -> dict[str, int]:
    """Remove this share of all channels, the least important first, wherever they are."""
    ranked = sorted((value, group.name) for group in network.groups for value in group.importance)
    left, to_go = network.today.copy(), round(ratio * len(ranked))
    for _, name in ranked:
        if to_go and left[name] > (1.0 - _MOST_CUT) * network.today[name] and left[name] > 1:
            left[name] -= 1
            to_go -= 1
    return {group.name: _allowed(group, left[group.name]) for group in network.groups}


def rounded(network: Network, widths: Widths, to: int) -> dict[str, int]:
    """Round down to a multiple as torch-pruning's `round_to` does, but to one block at least."""
    return {
        name: _allowed(network.by_name[name], max(width // to * to, min(to, network.today[name])))
        for name, width in widths.items()
    }


def uniform(network: Network, factor: float) -> dict[str, int]:
    """Return the same share of every group."""
    return {group.name: _allowed(group, round(factor * group.width)) for group in network.groups}


def moved(network: Network, widths: Widths, time_s: LayerTime, at: Edges, budget_s: float) -> dict[str, int]:
    """Move each width to the next edge, up where that is free, else down; then down and up to the budget.

    Down where the least importance is lost for the time saved, up where most is won for the time spent (and the widths
    that others made room for). Latency mode is a budget below what the pruner reached, accuracy mode the same budget.
    """
    now = dict(widths)
    for name, width in widths.items():
        up = min(each for each in at[name] if each >= width)
        down = max((each for each in at[name] if each <= width), default=up)
        free = latency_s(network, {**now, name: up}, time_s) <= latency_s(network, now, time_s) * (1.0 + TOLERANCE)
        now[name] = up if free else down
    return _filled(network, _cut(network, now, time_s, at, budget_s), time_s, at, budget_s)


def planned(network: Network, time_s: LayerTime, at: Edges, budget_s: float) -> dict[str, int]:
    """Choose all widths at once: cut today's network to the budget, then exchange steps while that keeps more."""
    best = _filled(network, _cut(network, network.today, time_s, at, budget_s), time_s, at, budget_s)
    improved = True
    while improved:
        improved = False
        for start in _exchanges(network, best, at):
            tried = _filled(network, _cut(network, start, time_s, at, budget_s), time_s, at, budget_s)
            fits = latency_s(network, tried, time_s) <= budget_s
            if fits and network.lost(tried) < network.lost(best) - 1e-9:
                best, improved = tried, True
    return best


def _exchanges(network: Network, widths: Widths, at: Edges) -> Iterator[dict[str, int]]:
    """One group up, and perhaps another one down."""
    ups = [(group.name, _next(at[group.name], widths[group.name], 1)) for group in network.groups]
    downs = [(group.name, _next(at[group.name], widths[group.name], -1)) for group in network.groups]
    for name, up in ups:
        if up is None:
            continue
        yield {**widths, name: up}
        yield from ({**widths, name: up, other: down} for other, down in downs if down is not None and other != name)


def _cut(network: Network, widths: Widths, time_s: LayerTime, at: Edges, budget_s: float) -> dict[str, int]:
    now = dict(widths)
    while latency_s(network, now, time_s) > budget_s:
        best = min(_steps(network, now, time_s, at, -1), default=None)
        if best is None:
            break
        now[best[1]] = best[2]
    return now


def _filled(network: Network, widths: Widths, time_s: LayerTime, at: Edges, budget_s: float) -> dict[str, int]:
    now = dict(widths)
    while True:
        spent = latency_s(network, now, time_s)
        fitting = [each for each in _steps(network, now, time_s, at, 1) if spent + each[3] <= budget_s]
        if not fitting:
            return now
        _, name, width, _ = max(fitting)
        now[name] = width


def _steps(
    network: Network, widths: Widths, time_s: LayerTime, at: Edges, direction: int
) -> list[tuple[float, str, int, float]]:
    """(importance per second, group, width, more time [s]) of every step to a next edge, downwards only faster ones."""
    found = []
    spent = latency_s(network, widths, time_s)
    for name, width in widths.items():
        to = _next(at[name], width, direction)
        if to is None:
            continue
        changed = {**widths, name: to}
        more = latency_s(network, changed, time_s) - spent
        value = abs(network.lost(changed) - network.lost(widths))
        if direction > 0 or more < 0.0:
            found.append((value / max(abs(more), 1e-9) if more * direction > 0 else float("inf"), name, to, more))
    return found


def _next(widths: Sequence[int], width: int, direction: int) -> int | None:
    if direction > 0:
        return min((each for each in widths if each > width), default=None)
    return max((each for each in widths if each < width), default=None)


def _allowed(group: Group, width: int) -> int:
    return max((each for each in group.allowed if each <= width), default=group.allowed[0])


def _sum(network: Network, layers: Sequence[Layer], widths: Widths, time_s: LayerTime) -> float:
    return sum(time_s(each, network.num_inputs(each, widths), network.num_outputs(each, widths)) for each in layers)
