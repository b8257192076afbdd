"""A recorded table → how much longer work takes at each setting, by phase, and what each draws, before it was seen.

The prompt phase (kernels ``phase:prefill…``) says so for the time to the first token, the generating phase
(``phase:decode…``) for the time between tokens, all of it together for whole latencies. Power is that of generation
where a table has phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.core.table import Table, read_table

__all__ = ["draws_of_table", "from_table"]

_PHASE = {"ttft": "phase:prefill", "queue": "phase:prefill", "itl": "phase:decode", "latency": ""}


def from_table(
    path: Path | str, settings: Sequence[Clocks], kinds: Sequence[str], workload: str | None = None
) -> tuple[tuple[float, ...], ...]:
    """Return slowness: [setting][objective], by the recorded latencies at each setting or the nearest faster one.

    Refused when the table has another knob than the device, or no such workload.
    """
    table = _read(path, workload)
    columns = [_of_kind(table, settings, kind, str(path)) for kind in kinds]
    return tuple(zip(*columns, strict=True))


def draws_of_table(
    path: Path | str, settings: Sequence[Clocks], workload: str | None = None
) -> tuple[float, ...] | None:
    """Return what each setting draws while busy, over the fastest; None where the table has no power.

    Refused when the table has another knob than the device, or no such workload.
    """
    rows = _phase(_read(path, workload), "itl")
    if np.isnan(rows.power_w).all():
        return None
    levels, ratios = _levels(rows, rows.power_w, settings, str(path))
    found = _at(levels, ratios, settings)
    return tuple(float(each / found[0]) for each in found)


def _read(path: Path | str, workload: str | None) -> Table:
    """Return the rows of a workload; Refused when there are none."""
    table = read_table(path)
    if workload is not None:
        table = table.rows(table.workload == workload)
    if table.num_rows == 0:
        raise Refused(f"{path} has no rows of workload {workload!r}")
    return table


def _of_kind(table: Table, settings: Sequence[Clocks], kind: str, source: str) -> tuple[float, ...]:
    rows = _phase(table, kind)
    levels, ratios = _levels(rows, rows.latency_s, settings, source)
    ratios = list(np.maximum.accumulate(ratios[::-1])[::-1])  # no setting is faster than a higher one
    found = _at(levels, ratios, settings)
    return tuple(float(max(1.0, each / found[0])) for each in found)


def _phase(table: Table, kind: str) -> Table:
    rows = table.rows(np.char.startswith(table.kernel, _PHASE[kind]))
    return rows if rows.num_rows else table


def _levels(rows: Table, values: FloatArray, settings: Sequence[Clocks], source: str) -> tuple[FloatArray, list[float]]:
    """Return the levels of the knob in a table, and the ratio of a column at each over that at the highest."""
    name = _knob(settings)
    knob = rows.knob(name)
    usable = ~np.isnan(knob) & ~np.isnan(values)
    if not usable.any() or any(getattr(each, name) is None for each in settings):
        raise Refused(f"{source} does not vary {name}, which is what this device sets; leave --table out")
    levels = np.unique(knob[usable])
    return levels, [_ratio(rows, values, knob, (level, levels[-1])) for level in levels]


def _knob(settings: Sequence[Clocks]) -> str:
    return "power_limit_w" if settings[0].power_limit_w is not None else "core_hz"


def _at(levels: FloatArray, ratios: Sequence[float], settings: Sequence[Clocks]) -> list[float]:
    """Return the ratio at each setting, or at the nearest faster level."""
    wanted = [getattr(each, _knob(settings)) for each in settings]
    return [ratios[min(int(np.searchsorted(levels, each * (1 - 1e-6))), len(levels) - 1)] for each in wanted]


def _ratio(rows: Table, values: FloatArray, knob: FloatArray, pair: tuple[float, float]) -> float:
    """Return the geometric mean, over what ran at both levels, of the ratio of their values."""
    level, top = pair
    logs: dict[tuple[str, ...], dict[float, list[float]]] = {}
    for key, at, value in zip(rows.workloads(), knob.tolist(), values.tolist(), strict=True):
        if at in pair and value == value:
            logs.setdefault(key, {}).setdefault(at, []).append(float(np.log(value)))
    both = [np.mean(each[level]) - np.mean(each[top]) for each in logs.values() if level in each and top in each]
    return float(np.exp(np.mean(both))) if both else 1.0
