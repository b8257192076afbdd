"""A measured table or a fit → how much longer work takes at each setting, by phase, and what each draws, before any was
seen.

The prompt phase (kernels ``phase:prefill…``) says so for the time to the first token, the generating phase
(``phase:decode…``) for the time between tokens, all of it together for whole latencies. Power is that of generation
where a table has phases. A fit of such a table keeps its phases; the costs of a network are its whole time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amble.core import files
from amble.core.delimited import is_delimited
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.core.table import KNOBS, NUMBERS, TEXTS, Table, read_table
from amble.stages.fit.costs import COSTS, Costs
from amble.stages.fit.tables import FITTED, FittedTable, predict_table

__all__ = ["draws_of_table", "from_table", "known"]

_PHASE = {"ttft": "phase:prefill", "queue": "phase:prefill", "itl": "phase:decode", "latency": ""}


def known(path: Path | str, settings: Sequence[Clocks], workload: str | None = None) -> Table:
    """Return what is known of a server's work before it is seen: the rows of a measured table, or what ``costs.json``
    of ``amble fit`` predicts at the settings.

    Refused when the file is neither, when it has no such workload, and when its fit has another knob than the device.
    """
    if is_delimited(path):
        table = read_table(path)
    else:
        match files.kind_of(path):
            case COSTS.kind:
                table = _of_costs(files.load(path, COSTS), str(path))
            case FITTED.kind:
                table = _of_fit(files.load(path, FITTED), settings, str(path))
            case other:
                raise Refused(f"{path} is a {other}; give a measured table, or costs.json as amble fit writes it")
    if workload is not None:
        table = table.rows(table.workload == workload)
    if table.num_rows == 0:
        raise Refused(f"{path} has no rows of workload {workload!r}")
    return table


def from_table(table: Table, settings: Sequence[Clocks], kinds: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """Return slowness: [setting][objective], by the latencies at each setting or the nearest faster one.

    Refused when the table has another knob than the device.
    """
    columns = [_of_kind(table, settings, kind) for kind in kinds]
    return tuple(zip(*columns, strict=True))


def draws_of_table(table: Table, settings: Sequence[Clocks]) -> tuple[float, ...] | None:
    """Return what each setting draws while busy, over the fastest; None where the table has no power.

    Refused when the table has another knob than the device.
    """
    rows = _phase(table, "itl")
    if np.isnan(rows.power_w).all():
        return None
    levels, ratios = _levels(rows, rows.power_w, settings)
    found = _at(levels, ratios, settings)
    return tuple(float(each / found[0]) for each in found)


def _of_costs(costs: Costs, source: str) -> Table:
    """Return a network's whole time and power at every point of its costs, as rows of a table."""
    arrays = costs.arrays()
    latency_s: FloatArray = arrays.latency_s.sum(axis=0)
    power_w: FloatArray = arrays.energy_j.sum(axis=0) / latency_s
    names = [("", costs.subject.network, "", point.precision, "") for point in costs.points]
    table = _table(names, [point.clocks for point in costs.points], source)
    return table.with_values(latency_s=latency_s, power_w=power_w)


def _of_fit(fitted: FittedTable, settings: Sequence[Clocks], source: str) -> Table:
    """Return what a fitted table predicts of each of its workloads at the settings; other knobs at their highest."""
    name = _knob(settings)
    if name not in fitted.knobs:
        raise Refused(_does_not_vary(source, name))
    highest = dict(zip(fitted.knobs, np.max(fitted.points, axis=0).tolist(), strict=True))
    asked = [
        Clocks(**{knob: most if getattr(each, knob) is None else getattr(each, knob) for knob, most in highest.items()})
        for each in settings
    ]
    keys = [key for each in (fitted, *fitted.others) for key in each.workloads]
    table = _table([key for key in keys for _ in asked], [each for _ in keys for each in asked], source)
    found, _ = predict_table(fitted, table)
    return table.with_values(
        latency_s=np.array(found.latency_s, np.float64), power_w=np.array(found.power_w, np.float64)
    )


def _table(names: Sequence[tuple[str, ...]], clocks: Sequence[Clocks], source: str) -> Table:
    """Return rows with these names and knobs, without any times yet."""
    columns: dict[str, Any] = {each: np.array([name[at] for name in names]) for at, each in enumerate(TEXTS)}
    columns |= {each: np.full(len(names), np.nan) for each in NUMBERS}
    columns |= {each: np.array([getattr(one, each) for one in clocks], dtype=np.float64) for each in KNOBS}
    return Table(source=source, line=np.arange(len(names), dtype=np.int64), **columns)


def _of_kind(table: Table, settings: Sequence[Clocks], kind: str) -> tuple[float, ...]:
    rows = _phase(table, kind)
    levels, ratios = _levels(rows, rows.latency_s, settings)
    ratios = list(np.maximum.accumulate(ratios[::-1])[::-1])  # no setting is faster than a higher one
    found = _at(levels, ratios, settings)
    return tuple(float(max(1.0, each / found[0])) for each in found)


def _phase(table: Table, kind: str) -> Table:
    rows = table.rows(np.char.startswith(table.kernel, _PHASE[kind]))
    return rows if rows.num_rows else table


def _levels(rows: Table, values: FloatArray, settings: Sequence[Clocks]) -> tuple[FloatArray, list[float]]:
    """Return the levels of the knob in a table, and the ratio of a column at each over that at the highest."""
    name = _knob(settings)
    knob = rows.knob(name)
    usable = ~np.isnan(knob) & ~np.isnan(values)
    if not usable.any() or any(getattr(each, name) is None for each in settings):
        raise Refused(_does_not_vary(rows.source, name))
    levels = np.unique(knob[usable])
    return levels, [_ratio(rows, values, knob, (level, levels[-1])) for level in levels]


def _does_not_vary(source: str, knob: str) -> str:
    return f"{source} does not vary {knob}, which is what this device sets; leave --costs out"


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
