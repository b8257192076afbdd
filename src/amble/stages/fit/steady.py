"""A measured table → the same table without measurements that plainly went wrong, and notes that name them.

Four things go wrong where people measure: the card ran far below the clock that was asked for; the first run of a
setting was cold; one of several repeats was disturbed; all repeats of a setting were, so that a faster clock is slower
or a slower one needs more power. Each is seen against the rest of its workload (`bounds`), left out and said: what is
left predicts the other settings. Where nothing tells which of two repeats is right, the faster is taken.

Shape letters: w workload, p point (setting of the knobs), n row of the table.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.core.table import Table
from amble.stages.fit.bounds import POWER, TIME, breaking, broken, noise_allowed
from amble.stages.fit.sweep import asked_of, knobs_of, numbered

__all__ = ["Maybe", "Steady", "steady"]

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]
Rows = list[int]

_COLUMNS = ("latency_s", "power_w")
_WHAT = ("time", "power")
_APART = np.log(1.3)  # a gap between repeats from which they are two groups
_FAR_BELOW, _SLOWER = 0.9, 0.95  # of the clock asked for; of a clock that ran when less was asked for
_COLD, _COLD_SHARE, _COLD_SETTINGS = 1.1, 0.75, 3
_NOTABLE, _COMPARED = 0.05, 128  # of a logarithm of time, from which it is said; settings compared
_NAMED = 3  # settings or lines named in a note
_DOUBTED = 2.0  # times the share of settings left out: what intervals are wider by
_HARDLY = 2.0  # times the noise allowed, up to which a value left out may be right
_EVEN = 0.02  # of a logarithm


@dataclass(frozen=True, slots=True)
class _Cells:
    """Rows of a table by workload and point."""

    table: Table
    knobs: tuple[str, ...]
    points: Floats  # [p, k]
    workloads: tuple[tuple[str, ...], ...]
    rows: dict[tuple[int, int], Rows]

    def named(self, workload: int, point: int) -> str:
        """Name a setting of a workload and its lines."""
        name = " ".join(part for part in self.workloads[workload][1:] if part) or "the workload"
        lines = [str(self.table.line[row]) for row in self.rows[workload, point]]
        some = ", ".join(lines[:_NAMED]) + (", …" if len(lines) > _NAMED else "")
        return f"{name} at {self.setting(point)} (line{'s' if len(lines) > 1 else ''} {some})"

    def setting(self, point: int) -> str:
        """Write the knobs of a point."""
        words = []
        for name, value in zip(self.knobs, self.points[point].tolist(), strict=True):
            limit = name == "power_limit_w"
            words.append(f"limit {value:g} W" if limit else f"{name.removesuffix('_hz')} {value / 1e6:g} MHz")
        return ", ".join(words) or "its setting"


@dataclass(frozen=True, slots=True)
class Maybe:
    """A value left out that may well be right: it is hardly beyond what the others of its workload allow."""

    workload: tuple[str, ...]  # (device, workload, kernel, precision, batch)
    point: tuple[float, ...]  # as asked of the knobs that vary
    latency_s: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Steady:
    """What is left of a table, notes on what is not, and by how much each workload is to be doubted.

    doubt: by (device, workload, kernel, precision, batch) the factor on the intervals of time and of power, where some
    of its settings were left out: which of them are right is a guess. maybe: those left out that may well be right.
    """

    table: Table
    notes: tuple[str, ...]
    doubt: dict[tuple[str, ...], tuple[float, float]]
    maybe: tuple[Maybe, ...] = ()


def steady(table: Table) -> Steady:
    """Leave out what went wrong; see the module's text. A table of which nothing can be told stays as it is."""
    table, notes = _kept_clocks(table)
    cells = _cells(table)
    values = np.stack([table.latency_s, table.power_w])
    cold = _cold(cells, values[TIME])
    if len(cold):
        ratio = _cold_ratio(cells, values[TIME])
        notes = (*notes, f"first runs are cold: left out {len(cold)}, which took {ratio:.2g} times as long as the next")
        values[:, cold] = np.nan
    chosen: dict[tuple[int, int], Rows] = {}
    maybe: list[Maybe] = []
    for output in (TIME, POWER):
        notes = (*notes, *_settled(cells, values, output, chosen))
        more, found = _left_out(cells, values, output)
        notes, maybe = (*notes, *more), [*maybe, *found]
    doubt = _doubt(cells, values)
    if np.array_equal(values, np.stack([table.latency_s, table.power_w]), equal_nan=True):
        return Steady(table, notes, doubt)
    table = table.with_values(latency_s=values[TIME], power_w=values[POWER])
    return Steady(table.rows(np.flatnonzero(~np.isnan(values).all(axis=0))), notes, doubt, tuple(maybe))


def _doubt(cells: _Cells, values: Floats) -> dict[tuple[str, ...], tuple[float, float]]:
    """Return by how much to doubt each workload of which settings were left out."""
    lost = []
    for column, left in zip(_COLUMNS, values, strict=True):
        before, after = (~np.isnan(_medians(cells, each)) for each in (cells.table.number(column), left))
        lost.append(1 + _DOUBTED * (before & ~after).sum(axis=1) / np.maximum(before.sum(axis=1), 1))
    pairs = zip(cells.workloads, *(each.tolist() for each in lost), strict=True)
    return {key: (time, power) for key, time, power in pairs if max(time, power) > 1}


def _cells(table: Table) -> _Cells:
    knobs = tuple(name for name in knobs_of(table) if not np.isnan(table.knob(name)).any())
    points, point_of = np.unique(asked_of(table, knobs), axis=0, return_inverse=True)
    workloads, workload_of = numbered(table.workloads())
    rows: dict[tuple[int, int], Rows] = defaultdict(list)
    for row, place in enumerate(zip(workload_of.tolist(), point_of.reshape(-1).tolist(), strict=True)):
        rows[place].append(row)
    return _Cells(table, knobs, points, workloads, dict(rows))


def _kept_clocks(table: Table) -> tuple[Table, tuple[str, ...]]:
    """Leave out rows that ran below a clock that the device kept when as much or less was asked of it, or whose share
    of the clock asked for is far below what it kept when more was asked: a limit bites from above.
    """
    asked, ran = table.requested_core_hz, table.core_hz
    known = np.flatnonzero(~np.isnan(asked) & ~np.isnan(ran))
    if len(known) < 2:
        return table, ()
    levels, at = np.unique(asked[known], return_inverse=True)
    kept = np.array([np.quantile(ran[known][at == level], 0.9) for level in range(len(levels))])  # [level]
    best_below = np.maximum.accumulate(kept)[at]
    best_share = np.maximum.accumulate((kept / levels)[::-1])[::-1][at]
    slow = ran[known] < _FAR_BELOW * asked[known]
    odd = (ran[known] < _SLOWER * best_below) | (ran[known] < _FAR_BELOW * best_share * asked[known])
    low = np.zeros(table.num_rows, dtype=bool)
    low[known] = slow & odd
    if not low.any() or low.sum() > 0.5 * len(known):
        return table, ()
    first = int(np.argmax(low))
    note = (
        f"left out {int(low.sum())} rows that ran far below the clock asked for (first: line {table.line[first]}, "
        f"{ran[first] / 1e6:g} of {asked[first] / 1e6:g} MHz); measure them again"
    )
    return table.rows(~low), (note,)


def _cold(cells: _Cells, time_s: Floats) -> Indices:
    """Return the first rows of all settings with repeats, where most are slower than those after them."""
    ratios = _first_ratios(cells, time_s)
    slower = sum(ratio > _COLD for ratio in ratios.values())
    if len(ratios) < _COLD_SETTINGS or slower < _COLD_SHARE * len(ratios):
        return np.zeros(0, dtype=np.int64)
    return np.array(sorted(ratios), dtype=np.int64)


def _cold_ratio(cells: _Cells, time_s: Floats) -> float:
    return float(np.median(list(_first_ratios(cells, time_s).values())))


def _first_ratios(cells: _Cells, time_s: Floats) -> dict[int, float]:
    """Return how much longer the first row of each setting took than the next ones."""
    found = {}
    for rows in cells.rows.values():
        timed = [row for row in rows if not np.isnan(time_s[row])]
        order = sorted(timed, key=lambda row: (np.nan_to_num(cells.table.repeat[row], nan=0.0), row))
        if len(order) > 1:
            found[order[0]] = float(time_s[order[0]] / np.median(time_s[order[1:]]))
    return found


def _settled(cells: _Cells, values: Floats, output: int, chosen: dict[tuple[int, int], Rows]) -> list[str]:
    """Choose among repeats that disagree, in values [2, n]."""
    open_cells: dict[tuple[int, int], list[Rows]] = {}
    notes = []
    outvoted: list[int] = []
    for place, rows in cells.rows.items():
        groups = _groups([row for row in rows if not np.isnan(values[output, row])], values[output])
        if len(groups) < 2:
            continue
        largest = max(groups, key=len)
        if 2 * len(largest) > sum(map(len, groups)):
            outvoted += [row for group in groups if group is not largest for row in group]
        else:
            open_cells[place] = groups
    far = _farthest(cells, values[output], outvoted)
    values[output, outvoted] = np.nan
    notes += _repeats_note(cells, output, outvoted, far, "disagree with the others of their setting")
    undecided = _decided(cells, values, output, open_cells, chosen)
    far = _farthest(cells, values[output], undecided)
    values[output, undecided] = np.nan
    return notes + _repeats_note(cells, output, undecided, far, "disagree with as many others and fit the rest less")


def _groups(rows: Rows, values: Floats) -> list[Rows]:
    """Cut repeats into groups where there is a gap."""
    order = sorted(rows, key=lambda row: values[row])
    groups: list[Rows] = []
    for row in order:
        if groups and np.log(values[row] / values[groups[-1][-1]]) < _APART:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _decided(
    cells: _Cells,
    values: Floats,
    output: int,
    open_cells: dict[tuple[int, int], list[Rows]],
    chosen: dict[tuple[int, int], Rows],
) -> Rows:
    """Return the rows left out of settings whose repeats fall into groups none of which outvotes the rest."""
    left_out: Rows = []
    grid = _medians(cells, values[output])
    for place in open_cells:
        grid[place] = np.nan
    for place, groups in open_cells.items():
        if output == POWER and place in chosen:
            same = [[row for row in group if row in chosen[place]] for group in groups]
            best = max(range(len(groups)), key=lambda at: len(same[at]))
        else:
            costs = [_misfit(cells, grid, place, float(np.median(values[output, group])), output) for group in groups]
            best = int(np.argmin([cost > min(costs) + _EVEN for cost in costs]))
        if output == TIME:
            chosen[place] = groups[best]
        grid[place] = np.log(np.median(values[output, groups[best]]))
        left_out += [row for at, group in enumerate(groups) if at != best for row in group]
    return left_out


def _misfit(cells: _Cells, grid: Floats, place: tuple[int, int], value: float, output: int) -> float:
    """How much a value would break beside the settled settings of its workload; for power also how far off the line
    between them it is.
    """
    workload, point = place
    row = grid[workload].copy()
    row[point] = np.log(value)
    known = np.flatnonzero(~np.isnan(row))
    if len(known) < 2:
        return 0.0
    excess = broken(row[known], cells.points[known], cells.knobs, output)
    at = int(np.flatnonzero(known == point)[0])
    found = float(excess[at].sum() + excess[:, at].sum())
    if output == POWER and found == 0.0:
        others = row[known[known != point]]
        found = max(0.0, float(row[point] - others.max()), float(others.min() - row[point]))
    return found


def _medians(cells: _Cells, values: Floats) -> Floats:
    """Logarithm of the median of each workload and point, [w, p]; NaN where nothing is known."""
    grid = np.full((len(cells.workloads), len(cells.points)), np.nan)
    for place, rows in cells.rows.items():
        known = [values[row] for row in rows if not np.isnan(values[row])]
        grid[place] = np.log(np.median(known)) if known else np.nan
    return grid


def _left_out(cells: _Cells, values: Floats, output: int) -> tuple[list[str], list[Maybe]]:
    """Leave out settings that cannot be beside the others of their workload; return notes and those in doubt."""
    grid = _medians(cells, values[output])
    if not cells.knobs:
        return [], []
    kinds = [key[2] for key in cells.workloads]
    places = [
        (workload, point)
        for workload, points in enumerate(breaking(grid, cells.points, cells.knobs, output, kinds))
        for point in points.tolist()
    ]
    was = grid.copy()
    for place in places:
        values[output, cells.rows[place]] = np.nan
        grid[place] = np.nan
    maybe = [_maybe(cells, place, was[place], output) for place in places if _hardly(cells, grid, place, was, output)]
    kept = _slower_though_faster(cells, grid) if output == TIME else []
    if not places:
        return kept, []
    named = "; ".join(cells.named(*place) for place in places[:_NAMED])
    more = f"; and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    why = "a faster setting is never that much slower" if output == TIME else "power does not change like that"
    return [
        f"left out the {_WHAT[output]} of {len(places)} settings that cannot be beside the others ({why}): "
        f"{named}{more}; measure them again",
        *kept,
    ], maybe


def _hardly(cells: _Cells, grid: Floats, place: tuple[int, int], was: Floats, output: int) -> bool:
    """Whether a value left out is hardly beyond what those that are left of its workload allow."""
    workload, point = place
    known = np.flatnonzero(~np.isnan(grid[workload]))
    beside = np.append(known[:: -(-max(1, len(known)) // _COMPARED)], point)
    excess = broken(was[workload, beside], cells.points[beside], cells.knobs, output)
    most = max(float(excess[-1].max()), float(excess[:, -1].max()))
    return most <= _HARDLY * noise_allowed(len(cells.knobs))


def _maybe(cells: _Cells, place: tuple[int, int], value: float, output: int) -> Maybe:
    workload, point = place
    return Maybe(
        cells.workloads[workload], tuple(cells.points[point].tolist()), **{_COLUMNS[output]: float(np.exp(value))}
    )


def _slower_though_faster(cells: _Cells, grid: Floats) -> list[str]:
    """Say where a setting that is higher in every knob takes somewhat longer, which is kept: boards do that."""
    found = []
    for workload, row in enumerate(grid):
        known = np.flatnonzero(~np.isnan(row))[:_COMPARED]
        place = cells.points[known]
        higher = (place[:, None] >= place[None]).all(axis=-1)
        longer = np.where(higher, row[known][:, None] - row[known][None, :], 0.0)
        if len(known) and longer.max() > _NOTABLE:
            slow, fast = divmod(int(np.argmax(longer)), len(known))
            found.append((float(np.expm1(longer.max())), workload, int(known[slow]), int(known[fast])))
    if not found:
        return []
    by, workload, slower, faster = max(found)
    return [
        f"{len(found)} workloads take longer at a faster setting, which is kept; most of all "
        f"{cells.named(workload, slower)}, {by:.0%} more than at {cells.setting(faster)}: a limit of power or heat?"
    ]


def _farthest(cells: _Cells, values: Floats, rows: Rows) -> float:
    """By which factor rows are off the others of their setting, at most."""
    factor = 1.0
    gone = set(rows)
    for group in cells.rows.values():
        kept = [values[row] for row in group if row not in gone and not np.isnan(values[row])]
        for row in group:
            if row in gone and kept:
                factor = max(factor, float(np.exp(abs(np.log(values[row] / np.median(kept))))))
    return factor


def _repeats_note(cells: _Cells, output: int, rows: Rows, far: float, why: str) -> list[str]:
    if not rows:
        return []
    lines = sorted(cells.table.line[rows].tolist())
    some = ", ".join(map(str, lines[:_NAMED])) + (", …" if len(lines) > _NAMED else "")
    return [f"left out the {_WHAT[output]} of {len(rows)} repeats that {why}, by up to {far:.3g} times: lines {some}"]
