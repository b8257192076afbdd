"""Costs, settling times → what it costs that clocks run later than they were asked for.

The operators after a change still run at the clocks before it until each domain has settled, which takes time and
changes the energy. What runs meanwhile depends on the setting left and on the levels that have already arrived, so few
progresses stand for all pairs. Letters: S points, O operators, D domains, K combinations of levels that have arrived.
"""

from __future__ import annotations

import numpy as np

from amble.core.ports import FloatArray
from amble.stages.plan.trellis import Ints

__all__ = ["mixtures", "parking", "waking"]


def waking(
    latency_s: FloatArray, energy_j: FloatArray, levels: Ints, settle_s: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the extra time [s] and energy [J], each [from, to], of work that starts at other clocks than its own.

    latency_s, energy_j: [operator, point]; levels: [point, domain]; settle_s: [domain]. Both may be negative: who comes
    from faster clocks is ahead when they settle.
    """
    run = _Progress(latency_s, energy_j)
    combination, now_s = np.zeros(len(levels), np.int64), 0.0
    for until_s in np.unique(settle_s[settle_s > 0]):
        settled = settle_s <= now_s
        _, typical, arrived = np.unique(levels * settled, axis=0, return_index=True, return_inverse=True)
        run.split(combination[typical])
        run.go(mixtures(levels, levels[typical], settled=settled), float(until_s) - now_s)
        combination, now_s = arrived.reshape(-1), float(until_s)
    return run.excess(combination)


def parking(idle_w: FloatArray, settle_s: FloatArray) -> FloatArray:
    """Return the extra energy [J], [from, to], of settling into the clocks of waiting: until then the old ones idle."""
    longest_s = float(settle_s.max(initial=0.0))
    return np.asarray(longest_s * np.maximum(idle_w[:, None] - idle_w[None, :], 0.0))


def mixtures(levels: Ints, after: Ints, *, settled: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Ints:
    """Return the point that runs, [from, to]: settled domains at the levels ``after`` [to, domain], the others as from.

    Where no point has these levels the old one stands for it.
    """
    num_points = len(levels)
    wanted = np.where(settled, after[None, :, :], levels[:, None, :]).reshape(num_points * len(after), -1)
    base = levels.max(axis=0) + 1
    key_of = np.ravel_multi_index(tuple(levels.T), tuple(base))
    keys = np.ravel_multi_index(tuple(wanted.T), tuple(base)).reshape(num_points, len(after))
    order = np.argsort(key_of)
    found = order[np.clip(np.searchsorted(key_of[order], keys), 0, num_points - 1)]
    missing = key_of[found] != keys
    return np.where(missing, np.arange(num_points)[:, None], found)


class _Progress:
    """How far work has come from each setting, at what time and energy, for each combination of arrived levels."""

    def __init__(self, latency_s: FloatArray, energy_j: FloatArray) -> None:
        num_operators, num_points = latency_s.shape
        start = np.zeros((1, num_points))
        self._time_s = np.concatenate([start, np.cumsum(latency_s, axis=0)])  # [operator + 1, point]
        self._energy_j = np.concatenate([start, np.cumsum(energy_j, axis=0)])
        self._index = np.arange(num_operators + 1.0)
        self._at, self._spent_s, self._spent_j = np.zeros((3, num_points, 1))  # [from, combination]

    def split(self, parents: Ints) -> None:
        """Tell more combinations apart: each goes on from its parent, [combination]."""
        self._at, self._spent_s, self._spent_j = (each[:, parents] for each in (self._at, self._spent_s, self._spent_j))

    def go(self, points: Ints, duration_s: float) -> None:
        """Run at the points [from, combination] for a while, or to the end."""
        for point in np.unique(points):
            here = points == point
            time_s, energy_j = self._time_s[:, point], self._energy_j[:, point]
            begun_s = np.interp(self._at[here], self._index, time_s)
            begun_j = np.interp(self._at[here], self._index, energy_j)
            done_s = np.minimum(begun_s + duration_s, time_s[-1])
            self._at[here] = np.interp(done_s, time_s, self._index)
            self._spent_s[here] += done_s - begun_s
            self._spent_j[here] += np.interp(self._at[here], self._index, energy_j) - begun_j

    def excess(self, combination: Ints) -> tuple[FloatArray, FloatArray]:
        """Return time and energy beyond what the same work takes at the point arrived at: [from, to]."""
        at = self._at[:, combination]
        over_s, over_j = self._spent_s[:, combination], self._spent_j[:, combination]
        for to in range(at.shape[1]):
            over_s[:, to] -= np.interp(at[:, to], self._index, self._time_s[:, to])
            over_j[:, to] -= np.interp(at[:, to], self._index, self._energy_j[:, to])
        return over_s, over_j
