"""Costs of operators, settling time → where in the network clocks may be asked for.

A clock must settle before the next one is asked for, so two requests must lie that far apart even at the fastest
clocks. Where to put so few changes is itself a shortest path: over the operators, a segment for each edge, priced at
the best single point for that segment and at a price of time that makes the whole meet the budget. Each is asked for a
settling time ahead. The segments are then cut further where there is room, which lets the solver move a change.
Letters: A atoms (operators merged until there are few), S points.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from amble.core.ports import FloatArray
from amble.stages.plan.trellis import Ints

__all__ = ["blocks"]

_MOST_ATOMS = 120
_HALVINGS = 24


def blocks(
    latency_s: FloatArray, energy_j: FloatArray, *, settle_s: float, budget_s: float, idle_w: float = 0.0
) -> Ints:
    """Return the first operator of each block, before which clocks may be asked for: [block].

    latency_s, energy_j: [operator, point]. Every block takes at least ``settle_s`` [s] at any point, unless the whole
    network is over sooner; where nothing settles every operator is a block. ``idle_w`` [W] is what idling would draw.
    """
    if settle_s <= 0:
        return np.arange(len(latency_s))
    least_s = np.concatenate([[0.0], np.cumsum(latency_s.min(axis=1))])
    edges = _atoms(least_s)
    time_s, spent_j = (_cumulated(each, edges) for each in (latency_s, energy_j))
    far = least_s[edges]
    changes = _changes(time_s, spent_j - idle_w * time_s, _apart(far, settle_s), budget_s)
    pace = max(1.0, budget_s / far[-1]) if far[-1] > 0 else 1.0
    return edges[_filled(_asked(changes, far, settle_s / pace, settle_s), far, settle_s)]


def _atoms(least_s: FloatArray) -> Ints:
    """Return at most A + 1 operator indices between which the network takes about equal times; all where few."""
    num_operators = len(least_s) - 1
    if num_operators <= _MOST_ATOMS:
        return np.arange(num_operators + 1)
    even_s = np.linspace(0.0, least_s[-1], _MOST_ATOMS + 1)
    return np.unique(np.append(np.searchsorted(least_s, even_s[:-1]), num_operators))


def _cumulated(values: FloatArray, edges: Ints) -> FloatArray:
    """Sum from the start to each edge: [edge, point]."""
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return np.asarray(total[edges])


def _apart(far: FloatArray, dwell_s: float) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Tell which pairs of edges may be the ends of a segment: [from, to]."""
    apart = far[None, :] - far[:, None] >= dwell_s
    apart[0, -1] = True
    return apart


def _changes(
    time_s: FloatArray, cost_j: FloatArray, apart: np.ndarray[tuple[int, int], np.dtype[np.bool_]], budget_s: float
) -> list[int]:
    """Return the edges of the cheapest segmentation whose time keeps the budget, by bisection of the price of time."""
    low, high = 0.0, 1.0
    best = [0, len(time_s) - 1]
    for _ in range(_HALVINGS):
        path, taken_s = _shortest(time_s, cost_j + high * time_s, apart)
        if taken_s <= budget_s:
            best = path
            break
        low, high = high, high * 4
    for _ in range(_HALVINGS // 2):
        middle = (low + high) / 2
        path, taken_s = _shortest(time_s, cost_j + middle * time_s, apart)
        if taken_s <= budget_s:
            best, high = path, middle
        else:
            low = middle
    return best


def _shortest(
    time_s: FloatArray, priced: FloatArray, apart: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
) -> tuple[list[int], float]:
    """Return the edges of the cheapest segmentation, each segment at its best point, and its time [s]."""
    num_edges = len(priced)
    value, taken_s = np.full(num_edges, np.inf), np.zeros(num_edges)
    value[0], before = 0.0, np.zeros(num_edges, dtype=np.int64)
    for to in range(1, num_edges):
        sources = np.flatnonzero(apart[:, to] & np.isfinite(value))
        if not len(sources):
            continue
        segment = priced[to] - priced[sources]
        point = segment.argmin(axis=1)
        totals = value[sources] + segment[np.arange(len(sources)), point]
        at = int(totals.argmin())
        source = int(sources[at])
        value[to], before[to] = totals[at], source
        taken_s[to] = taken_s[source] + time_s[to, point[at]] - time_s[source, point[at]]
    path = [num_edges - 1]
    while path[-1]:
        path.append(int(before[path[-1]]))
    return path[::-1], float(taken_s[-1])


def _asked(changes: list[int], far: FloatArray, ahead_s: float, dwell_s: float) -> list[int]:
    """Move changes ahead, to the nearest edge, and drop those that come too close to others or to the ends."""
    asked = [0]
    for change in changes[1:-1]:
        edge = int(np.abs(far - (far[change] - ahead_s)).argmin())
        if far[edge] - far[asked[-1]] >= dwell_s and far[-1] - far[edge] >= dwell_s:
            asked.append(edge)
    return [*asked, changes[-1]]


def _filled(changes: list[int], far: FloatArray, dwell_s: float) -> Ints:
    """Cut segments further while every piece stays long enough; return the first edge of each block."""
    starts: list[int] = []
    for begin, end in pairwise(changes):
        starts.append(begin)
        last = begin
        for edge in range(begin + 1, end):
            if far[edge] - far[last] >= dwell_s and far[end] - far[edge] >= dwell_s:
                starts.append(edge)
                last = edge
    return np.array(starts, dtype=np.int64)
