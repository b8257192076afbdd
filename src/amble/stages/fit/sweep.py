"""Table → arrays over (workload, point): one row of numbers a workload, one column a setting of the knobs.

Shape letters: w workload, p point (one setting of all knobs), k knob.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.core.errors import Refused
from amble.core.spacing import scaled, spread_out
from amble.core.table import KNOBS, Table

__all__ = [
    "Sweep",
    "asked_of",
    "farthest_points",
    "knobs_of",
    "numbered",
    "outside",
    "points_needed",
    "refuse_unplaced",
    "sweep_of",
]

Floats = NDArray[np.floating[Any]]

_SAME = 1e-6  # relative difference of two knobs that are one setting
_NUM_POINTS = {1: 3, 2: 5, 3: 12}  # settings to measure for so many clock domains


@dataclass(frozen=True, slots=True)
class Sweep:
    """Measured times and powers over settings of the knobs; NaN where a workload was not measured."""

    workloads: tuple[tuple[str, ...], ...]  # (device, workload, kernel, precision, batch) [w]
    knobs: tuple[str, ...]  # names of the knobs that vary [k]
    points: Floats  # [p, k] what was asked, Hz or W
    ran_core_hz: Floats  # [p] the core clock that ran (median over workloads); NaN where only the request is known
    latency_s: Floats  # [w, p] median over repeats
    power_w: Floats  # [w, p] median over repeats
    latency_spread: Floats  # [w, p] standard deviation of log time over repeats; NaN for one
    power_spread: Floats  # [w, p]

    @property
    def num_workloads(self) -> int:
        """Number of workloads."""
        return len(self.workloads)


def knobs_of(table: Table) -> tuple[str, ...]:
    """Return the knobs that take more than one value in the table."""
    return tuple(name for name in KNOBS if len(np.unique(_known(table.knob(name)))) > 1)


def points_needed(knobs: tuple[str, ...]) -> int:
    """How many settings of whole workloads to measure: 3 for one clock, 4 with a power limit, 5 for two, 12 for three.

    Workloads of one table tell on one another; operators of one network are fitted each for itself, and take more
    (`measure.design.enough`).
    """
    return 4 if "power_limit_w" in knobs else _NUM_POINTS.get(len(knobs), 12 if knobs else 1)


def sweep_of(table: Table, knobs: tuple[str, ...] | None = None) -> Sweep:
    """Group a table's rows by workload and setting of the knobs (by default those that vary); repeats become medians.

    Raises Refused when a row leaves a knob empty that other rows vary.
    """
    knobs = knobs_of(table) if knobs is None else knobs
    refuse_unplaced(table, knobs)
    asked = asked_of(table, knobs)
    points, point_of = np.unique(asked, axis=0, return_inverse=True)
    names, workload_of = numbered(table.workloads())
    cell = workload_of * len(points) + point_of.reshape(-1)
    shape = (len(names), len(points))
    latency_s, latency_spread = _medians(table.latency_s, cell, shape)
    power_w, power_spread = _medians(table.power_w, cell, shape)
    ran = np.where(np.isnan(table.requested_core_hz), np.nan, table.core_hz)
    ran_core_hz, _ = _medians(ran, point_of.reshape(-1), (1, len(points)))
    return Sweep(names, knobs, points, ran_core_hz[0], latency_s, power_w, latency_spread, power_spread)


def farthest_points(points: Floats, num_points: int) -> NDArray[np.int64]:
    """Choose points [p, k] to measure: the highest, the lowest, then always the farthest from those chosen.

    By distance in the logarithms of the knobs (`core.spacing`). Returns indices [n].
    """
    order = spread_out(scaled(np.log(points)))
    return np.fromiter(islice(order, max(0, min(num_points, len(points)))), np.int64)


def outside(points: Floats, measured: Floats) -> NDArray[np.bool_]:
    """Which points [q] lie outside the ranges of the measured ones, knobs being [., k]."""
    low, high = measured.min(axis=0) * (1 - _SAME), measured.max(axis=0) * (1 + _SAME)
    found: NDArray[np.bool_] = ((points < low) | (points > high)).any(axis=1)
    return found


def _known(values: Floats) -> Floats:
    return values[~np.isnan(values)]


def asked_of(table: Table, knobs: tuple[str, ...]) -> Floats:
    """Return what was asked of the knobs, [row, k]."""
    return np.stack([table.knob(name) for name in knobs], axis=1) if knobs else np.zeros((table.num_rows, 0))


def refuse_unplaced(
    table: Table, knobs: tuple[str, ...], *, why: str = "while other rows vary it; fill it in or drop it"
) -> None:
    """Refuse a table with a row that leaves one of these knobs empty."""
    for name in knobs:
        empty = np.isnan(table.knob(name))
        if empty.any():
            line = int(table.line[np.argmax(empty)])
            raise Refused(f"{table.source}: line {line}, column {name} is empty {why}")


def numbered(keys: tuple[tuple[str, ...], ...]) -> tuple[tuple[tuple[str, ...], ...], NDArray[np.int64]]:
    """Return the distinct keys in order of appearance, and the number of each row's key."""
    order: dict[tuple[str, ...], int] = {}
    numbers = np.array([order.setdefault(key, len(order)) for key in keys], dtype=np.int64)
    return tuple(order), numbers


def _medians(values: Floats, cell: NDArray[np.int64], shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Median and spread (of the logarithm) of the known values of each cell."""
    known = ~np.isnan(values)
    order = np.lexsort((values[known], cell[known]))
    ordered, cells = values[known][order], cell[known][order]
    present, first, count = np.unique(cells, return_index=True, return_counts=True)
    median = (ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2
    middle, spread = np.full(shape[0] * shape[1], np.nan), np.full(shape[0] * shape[1], np.nan)
    middle[present] = median
    for at in np.flatnonzero(count > 1):
        group = ordered[first[at] : first[at] + count[at]]
        spread[present[at]] = float(np.std(np.log(group), ddof=1)) if (group > 0).all() else np.nan
    return middle.reshape(shape), spread.reshape(shape)
