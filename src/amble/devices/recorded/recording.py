"""A table in the recorded schema → what was recorded, by operator, precision and setting of the clocks.

A workload's kernel is an operator, named ``workload/kernel`` (``workload`` where the rows describe the whole of it),
with ``@batch`` behind it where it was recorded at several batch sizes. Rows without a time describe nothing that could
be run: they are left out, but for the workload ``idle``, which gives idle power.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from statistics import median

import numpy as np
from scipy.interpolate import LinearNDInterpolator

from amble.core.errors import Refused
from amble.core.graph import Graph, Operator
from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.core.table import KNOBS, NUMBERS, Table, read_table

__all__ = ["Key", "Recording", "Row", "interpolated", "nearest", "read"]

Key = tuple[str, str]
"""Operator's name, precision."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured execution: time [s], average power [W] (None where it was not recorded), and the clocks that ran."""

    latency_s: float
    power_w: float | None
    ran_at: Clocks

    @property
    def energy_j(self) -> float | None:
        """Return the gross energy [J] of the execution."""
        return None if self.power_w is None else self.latency_s * self.power_w


@dataclass(frozen=True, slots=True)
class Recording:
    """All of a table. ``rows``: the executions of an operator at a setting that was asked for, in the table's order;
    ``idle_w``: power [W] of doing nothing at a setting, where it was recorded; ``batches``: batch size of an operator;
    ``powered`` tells whether any power was recorded with a time.
    """

    path: Path
    name: str
    rows: Mapping[Key, Mapping[Clocks, tuple[Row, ...]]]
    idle_w: Mapping[Clocks, float]
    batches: Mapping[str, int]
    powered: bool

    @property
    def operators(self) -> tuple[str, ...]:
        """Return the names of all operators, in the table's order."""
        return tuple(dict.fromkeys(operator for operator, _ in self.rows))

    @property
    def precisions(self) -> tuple[str, ...]:
        """Return the precisions, ``fp32`` first."""
        return tuple(sorted({precision for _, precision in self.rows}, key=lambda each: (each != "fp32", each)))

    def chosen(self, workload: str) -> tuple[str, ...]:
        """Return the operators of a workload: itself, its kernels (``workload/*`` where both were recorded), or
        ``all``. Refused, with the nearest name, when there is no such workload.
        """
        if workload == "all":
            return self.operators
        if workload in self.operators:
            return (workload,)
        prefix = workload.removesuffix("/*") + "/"
        kernels = tuple(name for name in self.operators if name.startswith(prefix) and "@" not in name)
        if kernels:
            return kernels
        raise Refused(f"{self.name} has no workload {workload!r}{self._instead(workload)}")

    def graph(self, workload: str, precision: str | None = None) -> Graph:
        """Return a workload as a graph: one operator each for itself, or for its kernels in the table's order.

        Without a ``precision`` it is ``fp32`` where that was recorded. Refused when not all of it was recorded in one.
        """
        names = self.chosen(workload)
        operators = tuple(Operator(name, "recorded", 0.0, 0.0, 0.0) for name in names)
        batches = {self.batches[name] for name in names}
        batch = batches.pop() if len(batches) == 1 else 1
        chosen = self._precision(workload, names, precision)
        return Graph(workload, operators, batch, self._digest(names), precision=chosen)

    def settings(self, workload: str) -> tuple[Clocks, ...]:
        """Return the settings at which all operators of a workload were recorded, slowest first."""
        names = set(self.chosen(workload))
        recorded = [set(cells) for (name, _), cells in self.rows.items() if name in names]
        return tuple(sorted(set.intersection(*recorded), key=_order))

    def _precision(self, workload: str, names: Iterable[str], asked: str | None) -> str:
        """Return the precision asked for, or the first in which everything was recorded."""
        shared = [each for each in self.precisions if all((name, each) in self.rows for name in names)]
        if asked in shared or (asked is None and shared):
            return asked or shared[0]
        wanted = asked or "one precision"
        raise Refused(f"{workload} was not all recorded in {wanted} (all of it: {', '.join(shared) or 'none'})")

    def _instead(self, workload: str) -> str:
        sizes = [name for name in self.operators if name.startswith(f"{workload}@")]
        near = sizes or get_close_matches(workload, self.operators, 3, 0.4) or list(self.operators[:3])
        return f"; name one of its {len(self.operators)} (such as {', '.join(near[:3])}), or all"

    def _digest(self, names: Iterable[str]) -> str:
        digest = hashlib.sha256()
        wanted = set(names)
        for key, cells in self.rows.items():
            if key[0] in wanted:
                digest.update(repr((key, sorted(cells.items(), key=lambda cell: _order(cell[0])))).encode())
        return digest.hexdigest()


def read(path: Path, name: str) -> Recording:
    """Read a table; Refused when it is not one, or when nothing in it has a time."""
    table = read_table(path)
    _refuse_doubtful(table)
    operators = _operator_names(table)
    rows: dict[Key, dict[Clocks, list[Row]]] = defaultdict(lambda: defaultdict(list))
    idle: dict[Clocks, list[float]] = defaultdict(list)
    batches: dict[str, int] = {}
    for line in _lines(table, operators):
        if line.workload == "idle":
            idle[line.asked].append(line.power_w)
        elif line.latency_s > 0:
            power_w = None if math.isnan(line.power_w) else line.power_w
            rows[line.key][line.asked].append(Row(line.latency_s, power_w, line.ran_at))
            batches[line.key[0]] = int(line.batch) if line.batch.isdigit() else 1
    if not rows:
        raise Refused(f"{path} holds no times (latency_s is empty), so there is nothing to replay")
    frozen = {key: {asked: tuple(cell) for asked, cell in cells.items()} for key, cells in rows.items()}
    idle_w = {asked: median(powers) for asked, powers in idle.items() if not any(map(math.isnan, powers))}
    powered = any(row.power_w is not None for cells in rows.values() for cell in cells.values() for row in cell)
    return Recording(path, name, frozen, idle_w, batches, powered)


def _refuse_doubtful(table: Table) -> None:
    """Refuse a table of several devices, and one whose column is likely one of the schema but for its name."""
    names = dict.fromkeys(name for name in table.device.tolist() if name)
    if len(names) > 1:
        raise Refused(f"{table.source} holds several devices ({', '.join(names)}); replay one: keep its rows alone")
    for each in table.unread:
        column = each.claim.column
        if each.claim.advice and column in NUMBERS and table.lacks(column):
            raise Refused(f"{table.source}: column {each.claim.name}: {each.claim.advice}, or drop it")


def nearest(asked: Clocks, recorded: Iterable[Clocks], count: int = 3) -> tuple[Clocks, ...]:
    """Return the recorded settings nearest to the one asked for, by the logarithm of each knob."""
    return tuple(sorted(recorded, key=lambda each: (_distance(asked, each), _order(each)))[:count])


def interpolated(cells: Mapping[Clocks, tuple[Row, ...]], at: Clocks) -> Row:
    """Interpolate time, power and observed clock at a setting: piecewise linear in logarithms, over the knobs that
    were varied. Refused outside the recorded range.
    """
    settings = sorted(cells, key=_order)
    knobs = [knob for knob in KNOBS if len({getattr(each, knob) for each in settings}) > 1]
    places = np.log([[getattr(each, knob) for knob in knobs] for each in settings])
    values = np.log([_middle(cells[each]) for each in settings])
    fixed = {knob: getattr(settings[0], knob) for knob in KNOBS if knob not in knobs}
    inside = all(getattr(at, knob) == value for knob, value in fixed.items())
    found = _linear(places, values, np.log([getattr(at, knob) for knob in knobs])) if inside and knobs else None
    if found is None or math.isnan(found[0]):
        close = "; ".join(str(each) for each in nearest(at, settings))
        raise Refused(f"{at} lies outside what was recorded; nearest: {close}")
    latency_s, power_w, core_hz = np.exp(found).tolist()
    ran_at = Clocks(None if math.isnan(core_hz) else core_hz, at.memory_hz, at.cpu_hz, at.power_limit_w)
    return Row(latency_s, None if math.isnan(power_w) else power_w, ran_at)


def _linear(places: FloatArray, values: FloatArray, at: FloatArray) -> FloatArray | None:
    """Interpolate values [setting, value] given at places [setting, knob]; None or NaN outside them."""
    if places.shape[1] == 1:
        line = places[:, 0]
        if not line[0] - 1e-12 <= at[0] <= line[-1] + 1e-12:
            return None
        return np.array([np.interp(at[0], line, column) for column in values.T])
    found: FloatArray = LinearNDInterpolator(places, values, rescale=True)(at)[0]
    return found


def _middle(rows: tuple[Row, ...]) -> tuple[float, float, float]:
    """Return median time, power and observed core clock; NaN where unknown."""
    powers = [row.power_w for row in rows if row.power_w is not None]
    clocks = [row.ran_at.core_hz for row in rows if row.ran_at.core_hz is not None]
    return (
        median(row.latency_s for row in rows),
        median(powers) if len(powers) == len(rows) else math.nan,
        median(clocks) if clocks else math.nan,
    )


@dataclass(frozen=True, slots=True)
class _Line:
    key: Key
    workload: str
    batch: str
    asked: Clocks
    ran_at: Clocks
    latency_s: float
    power_w: float


def _lines(table: Table, operators: list[str]) -> Iterator[_Line]:
    asked = [_clocks(values) for values in zip(*(table.knob(knob).tolist() for knob in KNOBS), strict=True)]
    ran_at = [_clocks(values) for values in zip(*(table.number(knob).tolist() for knob in KNOBS), strict=True)]
    precisions = [precision or "fp32" for precision in table.precision.tolist()]
    keys = list(zip(operators, precisions, strict=True))
    texts = (table.workload.tolist(), table.batch.tolist())
    for line in zip(keys, *texts, asked, ran_at, table.latency_s.tolist(), table.power_w.tolist(), strict=True):
        yield _Line(*line)


def _operator_names(table: Table) -> list[str]:
    """Return the operator's name of each row."""
    pairs = list(zip(table.workload.tolist(), table.kernel.tolist(), strict=True))
    names = [f"{workload}/{kernel}" if kernel else workload for workload, kernel in pairs]
    sizes: dict[str, set[str]] = defaultdict(set)
    for name, batch in zip(names, table.batch.tolist(), strict=True):
        sizes[name].add(batch)
    return [
        f"{name}@{batch}" if len(sizes[name]) > 1 else name
        for name, batch in zip(names, table.batch.tolist(), strict=True)
    ]


def _clocks(values: tuple[float, ...]) -> Clocks:
    return Clocks(*(None if math.isnan(value) else value for value in values))


def _order(clocks: Clocks) -> tuple[float, ...]:
    return tuple(-1.0 if value is None else value for value in clocks.knobs())


def _distance(one: Clocks, other: Clocks) -> float:
    pairs = zip(_order(one), _order(other), strict=True)
    return sum(0.0 if a == b else 100.0 if min(a, b) <= 0 else math.log(a / b) ** 2 for a, b in pairs)
