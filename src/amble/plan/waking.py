"""Costs, settling times → what starting from, and going back to, the clocks of waiting costs.

Within a request the loop asks for clocks ahead of time; when a request arrives nothing could be asked for. Its first
operators then run at the clocks of waiting until each domain has settled, which takes time and changes the energy.
Letters: S points, O operators, D domains.
"""

from __future__ import annotations

import numpy as np

from amble.core.ports import FloatArray
from amble.plan.trellis import Ints

__all__ = ["parking", "waking"]


def waking(
    latency_s: FloatArray, energy_j: FloatArray, levels: Ints, settle_s: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the extra time [s] and energy [J], each [from, to], of a request that starts at other clocks than its own.

    latency_s, energy_j: [operator, point]; levels: [point, domain]; settle_s: [domain]. Both may be negative: who waits
    at faster clocks is ahead when they settle.
    """
    run = _Progress(latency_s, energy_j)
    now_s = 0.0
    for until_s in np.unique(settle_s[settle_s > 0]):
        run.go(_mixed(levels, settled=settle_s <= now_s), until_s - now_s)
        now_s = float(until_s)
    return run.excess()


def parking(idle_w: FloatArray, settle_s: FloatArray) -> FloatArray:
    """Return the extra energy [J], [from, to], of settling into the clocks of waiting: until then the old ones idle."""
    longest_s = float(settle_s.max(initial=0.0))
    return np.asarray(longest_s * np.maximum(idle_w[:, None] - idle_w[None, :], 0.0))


class _Progress:
    """How far each pair (from, to) has come, at what time and energy, while the clocks change under it."""

    def __init__(self, latency_s: FloatArray, energy_j: FloatArray) -> None:
        num_operators, num_points = latency_s.shape
        start = np.zeros((1, num_points))
        self._time_s = np.concatenate([start, np.cumsum(latency_s, axis=0)])  # [operator + 1, point]
        self._energy_j = np.concatenate([start, np.cumsum(energy_j, axis=0)])
        self._index = np.arange(num_operators + 1.0)
        self._at, self._spent_s, self._spent_j = np.zeros((3, num_points, num_points))  # [from, to]

    def go(self, points: Ints, duration_s: float) -> None:
        """Run each pair at the point ``points`` [from, to] for a while, or to its end."""
        for point in np.unique(points):
            pairs = points == point
            time_s, energy_j = self._time_s[:, point], self._energy_j[:, point]
            begun_s = np.interp(self._at[pairs], self._index, time_s)
            begun_j = np.interp(self._at[pairs], self._index, energy_j)
            done_s = np.minimum(begun_s + duration_s, time_s[-1])
            self._at[pairs] = np.interp(done_s, time_s, self._index)
            self._spent_s[pairs] += done_s - begun_s
            self._spent_j[pairs] += np.interp(self._at[pairs], self._index, energy_j) - begun_j

    def excess(self) -> tuple[FloatArray, FloatArray]:
        """Return time and energy spent beyond what the same work takes at the point of ``to``: [from, to]."""
        over_s, over_j = np.empty((2, *self._at.shape))
        for to in range(self._at.shape[1]):
            over_s[:, to] = self._spent_s[:, to] - np.interp(self._at[:, to], self._index, self._time_s[:, to])
            over_j[:, to] = self._spent_j[:, to] - np.interp(self._at[:, to], self._index, self._energy_j[:, to])
        return over_s, over_j


def _mixed(levels: Ints, settled: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Ints:
    """Return the point that runs, [from, to]: settled domains at the level of ``to``, the others still at ``from``'s.

    Where no point has these levels the old one stands for it.
    """
    num_points = len(levels)
    wanted = np.where(settled, levels[None, :, :], levels[:, None, :]).reshape(num_points**2, -1)
    base = levels.max(axis=0) + 1
    key_of = np.ravel_multi_index(tuple(levels.T), tuple(base))
    keys = np.ravel_multi_index(tuple(wanted.T), tuple(base)).reshape(num_points, num_points)
    order = np.argsort(key_of)
    found = order[np.clip(np.searchsorted(key_of[order], keys), 0, num_points - 1)]
    missing = key_of[found] != keys
    return np.where(missing, np.arange(num_points)[:, None], found)
