"""A measured table → the same table without what is plainly wrong, and what was said about it; or Refused, in one line.

Refused: times, powers or knobs that are not positive numbers; values that look a thousand times too large or too
small, with the unit suspected; contradictory measurements of one setting. Dropped, and said: rows that repeat another
word for word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.core.errors import Refused
from amble.core.table import KNOBS, Table

__all__ = ["checked", "checked_points"]

Floats = NDArray[np.floating[Any]]

_CLOCKS = ("core_hz", "memory_hz", "cpu_hz", "requested_core_hz")
_MOST_HZ, _LEAST_HZ, _LEAST_KHZ = 1e11, 2e7, 2e4
_MOST_W, _MOST_S = 5e3, 1e7
_DISTURBED = 100.0  # times the typical power, up to which one is a bad measurement and no other unit
_JUMP = 300.0  # a gap of this factor within one workload, beyond what its knobs explain, is taken for a wrong unit
_ENOUGH = 3  # measurements of a setting of which most can outvote one
_CONTRADICTION = 1.5  # two measurements of one setting that differ by more contradict each other


def checked(table: Table) -> tuple[Table, tuple[str, ...]]:
    """Check a table to be fitted; return it without repeated rows, and notes for the report."""
    checked_points(table)
    _refuse_meant(table, ("latency_s", "power_w"))
    for column in ("latency_s", "power_w"):
        _refuse_not_positive(table, column)
    _refuse_units(table)
    if np.all(np.isnan(table.latency_s) & np.isnan(table.power_w)):
        raise Refused(f"{table.source} has neither a time nor a power in any row; fill in latency_s or power_w")
    return _without_repeats(table)


def checked_points(table: Table) -> None:
    """Check the knobs of a table; Refused when one is not positive or looks like MHz, kHz or mW."""
    _refuse_meant(table, (*KNOBS, "requested_core_hz"))
    for column in (*KNOBS, "requested_core_hz"):
        _refuse_not_positive(table, column)
    for column in _CLOCKS:
        values = table.number(column)
        _refuse_where(table, column, values < _LEAST_KHZ, "looks like MHz; write Hz (x 1000000)")
        _refuse_where(table, column, values < _LEAST_HZ, "looks like kHz; write Hz (x 1000)")
        _refuse_where(table, column, values > _MOST_HZ, "looks a thousand times too large; write Hz")
    _refuse_where(table, "power_limit_w", table.power_limit_w > _MOST_W, "looks like mW; write W (/ 1000)")


def _refuse_meant(table: Table, columns: Sequence[str]) -> None:
    """Refuse a column that is plainly one of these but for its unit, where the table has no other."""
    for each in table.unread:
        if each.claim.meant and each.claim.column in columns and table.lacks(each.claim.column):
            raise Refused(f"{table.source}: column {each.claim.name}: {each.claim.advice}")


def _refuse_where(table: Table, column: str, wrong: NDArray[np.bool_], why: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        value = table.number(column)[row]
        raise Refused(f"{table.source}: line {table.line[row]}, column {column}: {value:g} {why}")


def _refuse_not_positive(table: Table, column: str) -> None:
    values = table.number(column)
    wrong = ~np.isnan(values) & ~((values > 0) & np.isfinite(values))
    _refuse_where(table, column, wrong, "is not a positive number; measure it again or leave it empty")


def _refuse_units(table: Table) -> None:
    known = table.power_w[~np.isnan(table.power_w)]
    typical = float(np.median(known)) if len(known) else 0.0
    most = max(_MOST_W, _DISTURBED * typical) if typical <= _MOST_W else _MOST_W
    _refuse_where(table, "power_w", table.power_w > most, "looks like mW; write W (/ 1000)")
    _refuse_where(table, "latency_s", table.latency_s > _MOST_S, "looks like ms or µs; write s")
    over = table.power_w / table.power_limit_w
    _refuse_where(
        table, "power_w", over > _DISTURBED, "is far above the limit of its row and looks like mW; write W (/ 1000)"
    )
    _refuse_where(
        table, "power_w", over < 5e-4, "is far below the limit of its row and looks like kW; write W (x 1000)"
    )
    names = np.unique(np.array(["\t".join(key) for key in table.workloads()]), return_inverse=True)[1]
    reach = _knob_reach(table)
    for column, power in (("latency_s", 1.0), ("power_w", 0.5)):
        for workload in range(names.max() + 1):
            _refuse_jump(table, column, np.flatnonzero(names == workload), max(reach**power, 4.0))


def _knob_reach(table: Table) -> float:
    """Product of highest over lowest setting of all knobs: no time varies by much more than that."""
    reach = 1.0
    for name in KNOBS:
        values = table.knob(name)
        known = values[~np.isnan(values)]
        reach *= float(known.max() / known.min()) if len(known) else 1.0
    return reach


def _refuse_jump(table: Table, column: str, rows: NDArray[np.int64], reach: float) -> None:
    """Refuse values of one workload that fall into two groups about a thousand apart."""
    values = table.number(column)[rows]
    rows, values = rows[~np.isnan(values)], values[~np.isnan(values)]
    if len(values) < 2 or values.max() / values.min() < max(_JUMP, 3 * reach):
        return
    order = np.argsort(values)
    steps = values[order][1:] / values[order][:-1]
    gap = int(np.argmax(steps))
    if steps[gap] < _JUMP:
        return
    few = order[gap + 1 :] if len(order) - gap - 1 <= gap + 1 else order[: gap + 1]
    row = int(rows[few].min())
    size, unit = ("large", "milli") if few[0] == order[gap + 1 :][0] else ("small", "kilo")
    value = table.number(column)[row]
    raise Refused(
        f"{table.source}: line {table.line[row]}, column {column}: {value:g} is {steps[gap]:.0f} times too {size} "
        f"beside the other rows of the workload, which looks like another unit ({unit}); write SI units everywhere"
    )


def _without_repeats(table: Table) -> tuple[Table, tuple[str, ...]]:
    settings = np.stack([table.number(name) for name in (*KNOBS, "requested_core_hz", "repeat")], axis=1)
    keys = [
        (*key, *row) for key, row in zip(table.workloads(), np.nan_to_num(settings, nan=-1.0).tolist(), strict=True)
    ]
    count = Counter(keys)
    repeated = float(np.median(list(count.values()))) >= 2  # then nobody meant one measurement a setting
    first: dict[tuple[object, ...], int] = {}
    keep = np.ones(table.num_rows, dtype=bool)
    odd: dict[tuple[object, ...], int] = {}
    for row, key in enumerate(keys):
        before = first.setdefault(key, row)
        if before != row:
            keep[row] = not _equal(table, before, row)
            if _contradicts(table, before, row):
                odd.setdefault(key, row)
                if not repeated and count[key] < _ENOUGH:
                    _refuse_contradiction(table, before, row)
    if 2 * len(odd) > sum(number > 1 for number in count.values()) > 1:
        _refuse_told_apart(table, [(first[key], row) for key, row in odd.items()])
    again = int(keep.sum()) - len(first)
    notes = []
    if not keep.all():
        notes.append(f"dropped {int((~keep).sum())} rows that repeat another word for word")
    if again:
        notes.append(f"took {again} further measurements of settings already measured as repeats")
    return (table.rows(keep) if not keep.all() else table), tuple(notes)


def _equal(table: Table, before: int, row: int) -> bool:
    pairs = ((table.number(column)[before], table.number(column)[row]) for column in ("latency_s", "power_w"))
    return all(old == new or (np.isnan(old) and np.isnan(new)) for old, new in pairs)


def _contradicts(table: Table, before: int, row: int) -> str:
    """Return the column in which two measurements of one setting differ by far; "" for none."""
    for column in ("latency_s", "power_w"):
        old, new = float(table.number(column)[before]), float(table.number(column)[row])
        if not (np.isnan(old) or np.isnan(new)) and max(old, new) > _CONTRADICTION * min(old, new):
            return column
    return ""


def _refuse_contradiction(table: Table, before: int, row: int) -> None:
    _refuse_told_apart(table, [(before, row)])
    column = _contradicts(table, before, row)
    old, new = table.number(column)[[before, row]].tolist()
    raise Refused(
        f"{table.source}: lines {table.line[before]} and {table.line[row]}, column {column}: {old:g} and {new:g} for "
        "the same workload and setting contradict each other; keep one, or number them as repeats"
    )


def _refuse_told_apart(table: Table, pairs: Sequence[tuple[int, int]]) -> None:
    """Refuse measurements of one setting that differ by far, where a column that is not read tells them apart."""
    for each in table.unread:
        shared = len(set(each.cells.tolist())) <= max(2, table.num_rows // 2)
        if shared and all(each.cells[before] != each.cells[row] for before, row in pairs):
            (before, row), name = pairs[0], each.claim.name
            advice = each.claim.advice or "write it into workload or kernel"
            raise Refused(
                f"{table.source}: lines {table.line[before]} and {table.line[row]} measure one setting and differ by "
                f"far; they differ in {name}, which is not read: {advice}"
            )
