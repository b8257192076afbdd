"""A measured table or a fit → how much longer work takes at each setting, by phase, and what each draws, before any was
seen.

The prompt phase (kernels ``phase:prefill…``) says so for the time to the first token, the generating phase
(``phase:decode…``) for the time between tokens, all of it together for whole latencies. Power is that of generation
where a table has phases. A fit of such a table keeps its phases; the costs of a network are its whole time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from amble.core import files
from amble.core.delimited import is_delimited
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.core.table import KNOBS, NUMBERS, TEXTS, Table, read_table
from amble.stages.fit.checks import checked
from amble.stages.fit.costs import COSTS, Costs
from amble.stages.fit.tables import FITTED, FittedTable, predict_table

__all__ = ["draws_of_table", "from_table", "known", "measured"]

_PHASE = {"ttft": "phase:prefill", "queue": "phase:prefill", "itl": "phase:decode", "latency": ""}
_KNOBS = ("power_limit_w", "core_hz", "cpu_hz", "memory_hz", "cpu_share")
_SOME = 8  # names of workloads that a refusal gives


def known(path: Path | str, settings: Sequence[Clocks], workload: str | None = None) -> Table:
    """Return what is known of a server's work before it is seen: the rows of a measured table, or what ``costs.json``
    of ``amble fit`` predicts at the settings.

    Refused when the file is neither, or cannot be right, when it has no such workload, and when its fit has another
    knob than the device, or only levels of it that the device never sets.
    """
    if is_delimited(path):
        return measured(path, workload)
    try:
        match files.kind_of(path):
            case COSTS.kind:
                table = _of_costs(files.load(path, COSTS), str(path), workload)
            case FITTED.kind:
                table = _of_fit(files.load(path, FITTED), settings, str(path), workload)
            case other:
                raise Refused(f"{path} is a {other}; give a measured table, or costs.json as amble fit writes it")
    except Refused as reason:
        raise Refused(f"--costs: {reason}") from reason
    except (ValueError, IndexError) as error:
        raise Refused(f"--costs: {path} is damaged, its parts do not fit together; fit it again") from error
    if not all(_positive(each) for each in (table.latency_s, table.power_w)):
        raise Refused(f"--costs: {path} has a time or a power that is not above 0; measure and fit it again")
    return table


def measured(path: Path | str, workload: str | None = None) -> Table:
    """Return the rows of a measured table; Refused when they cannot be right, or are none of this workload."""
    try:
        table = read_table(path)
        _refuse_unknown(str(path), workload, table.workload.tolist())
        return checked(table if workload is None else table.rows(table.workload == workload))[0]
    except Refused as reason:
        raise Refused(f"--costs: {reason}") from reason


def from_table(table: Table, settings: Sequence[Clocks], kinds: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """Return slowness: [setting][objective], by the latencies at each setting or the nearest faster one.

    Refused when the table has another knob than the device, or no two levels that the device can tell apart.
    """
    columns = [_of_kind(table, settings, kind) for kind in kinds]
    return tuple(zip(*columns, strict=True))


def draws_of_table(table: Table, settings: Sequence[Clocks]) -> tuple[float, ...] | None:
    """Return what each setting draws while busy, over the fastest; None where the table does not tell their power
    apart."""
    rows = _phase(table, "itl")
    levels, ratios = _levels(rows, rows.power_w, settings)
    if not _apart(levels, settings):
        return None
    found = _at(levels, ratios, settings)
    return tuple(float(each / found[0]) for each in found)


def _positive(values: FloatArray) -> bool:
    return bool((np.isnan(values) | ((values > 0.0) & np.isfinite(values))).all())


def _refuse_unknown(source: str, workload: str | None, names: Sequence[str]) -> None:
    """Refuse a workload that is not among the names, with some of those that are."""
    if workload is not None and workload not in names:
        some = ", ".join(sorted({*names} - {""})[:_SOME]) or "none"
        raise Refused(f"{source} has no rows of workload {workload!r}; its workloads: {some}; see --workload")


def _of_costs(costs: Costs, source: str, workload: str | None) -> Table:
    """Return a network's whole time and power at every point of its costs, as rows of a table."""
    _refuse_unknown(source, workload, [costs.subject.network])
    arrays = costs.arrays()
    latency_s: FloatArray = arrays.latency_s.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        power_w: FloatArray = arrays.energy_j.sum(axis=0) / latency_s
    names = [("", costs.subject.network, "", point.precision, "") for point in costs.points]
    table = _table(names, [point.clocks for point in costs.points], source)
    return table.with_values(latency_s=latency_s, power_w=power_w)


def _of_fit(fitted: FittedTable, settings: Sequence[Clocks], source: str, workload: str | None) -> Table:
    """Return what a fitted table predicts of its workloads at the settings, by those of its devices that have the
    knob."""
    fits = (fitted, *fitted.others)
    _refuse_unknown(source, workload, [key[1] for each in fits for key in each.workloads])
    name = _knob(settings)
    wanted = [getattr(each, name) or np.nan for each in settings]
    found = []
    for each in fits:
        keys = [key for key in each.workloads if workload in (None, key[1])]
        levels = [point[each.knobs.index(name)] for point in each.points] if name in each.knobs else []
        if keys and levels and max(levels) > min(wanted) and min(levels) < max(wanted):
            found.append(_predicted(replace(each, others=()), keys, settings, source))
    if not found:
        raise Refused(_does_not_vary(source, settings))
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in found]) for name in ("line", *TEXTS, *NUMBERS)
    }
    return replace(found[0], **columns)


def _predicted(fitted: FittedTable, keys: Sequence[tuple[str, ...]], settings: Sequence[Clocks], source: str) -> Table:
    """Return what the fit of one device predicts of some workloads at the settings; other knobs at their highest."""
    highest = dict(zip(fitted.knobs, np.max(fitted.points, axis=0).tolist(), strict=True))
    asked = [
        Clocks(**{knob: most if getattr(each, knob) is None else getattr(each, knob) for knob, most in highest.items()})
        for each in settings
    ]
    table = _table([key for key in keys for _ in asked], [each for _ in keys for each in asked], source)
    found, _ = predict_table(fitted, table)
    return table.with_values(
        latency_s=np.array(found.latency_s, np.float64), power_w=np.array(found.power_w, np.float64)
    )


def _table(names: Sequence[tuple[str, ...]], clocks: Sequence[Clocks], source: str) -> Table:
    """Return rows with these names and knobs, without any times yet."""
    columns: dict[str, Any] = {each: np.array([name[at] for name in names], np.str_) for at, each in enumerate(TEXTS)}
    columns |= {each: np.full(len(names), np.nan) for each in NUMBERS}
    columns |= {each: np.array([getattr(one, each) for one in clocks], dtype=np.float64) for each in KNOBS}
    return Table(source=source, line=np.arange(len(names), dtype=np.int64), **columns)


def _of_kind(table: Table, settings: Sequence[Clocks], kind: str) -> tuple[float, ...]:
    rows = _phase(table, kind)
    levels, ratios = _levels(rows, rows.latency_s, settings)
    if not _apart(levels, settings):
        raise Refused(f"--costs: {_does_not_vary(rows.source, settings)}")
    ratios = list(np.maximum.accumulate(ratios[::-1])[::-1])  # no setting is faster than a higher one
    found = _at(levels, ratios, settings)
    return tuple(float(max(1.0, each / found[0])) for each in found)


def _phase(table: Table, kind: str) -> Table:
    rows = table.rows(np.char.startswith(table.kernel, _PHASE[kind]))
    return rows if rows.num_rows else table


def _levels(rows: Table, values: FloatArray, settings: Sequence[Clocks]) -> tuple[FloatArray, list[float]]:
    """Return the levels of the knob at which something ran that ran at the highest as well, and the ratio of a column
    at each over that at the highest."""
    name = _knob(settings)
    if name not in KNOBS or any(getattr(each, name) is None for each in settings):
        return np.zeros(0), []
    knob = rows.knob(name)
    levels = np.unique(knob[~np.isnan(knob) & ~np.isnan(values)])
    ratios = [_ratio(rows, values, knob, (level, levels[-1])) for level in levels]
    known = [ratio for ratio in ratios if ratio is not None]
    return levels[[ratio is not None for ratio in ratios]], known


def _does_not_vary(source: str, settings: Sequence[Clocks]) -> str:
    name = _knob(settings)
    asked = [getattr(each, name) for each in settings if getattr(each, name) is not None]
    within = f" from {min(asked):g} to {max(asked):g}" if asked else ""
    return f"{source} does not vary {name}{within}, which is what this device sets; leave --costs out"


def _knob(settings: Sequence[Clocks]) -> str:
    """Return what differs between settings, as a column of a table is named."""
    differ = [name for name in _KNOBS if len({getattr(each, name) for each in settings}) > 1]
    return differ[0] if differ else "core_hz"


def _apart(levels: FloatArray, settings: Sequence[Clocks]) -> bool:
    """Tell whether two settings are at different levels."""
    return len(levels) > 0 and len({*_places(levels, settings)}) > 1


def _places(levels: FloatArray, settings: Sequence[Clocks]) -> list[int]:
    """Return the level of each setting, or the nearest faster one."""
    wanted = [getattr(each, _knob(settings)) for each in settings]
    return [min(int(np.searchsorted(levels, each * (1 - 1e-6))), len(levels) - 1) for each in wanted]


def _at(levels: FloatArray, ratios: Sequence[float], settings: Sequence[Clocks]) -> list[float]:
    """Return the ratio at each setting, or at the nearest faster level."""
    return [ratios[place] for place in _places(levels, settings)]


def _ratio(rows: Table, values: FloatArray, knob: FloatArray, pair: tuple[float, float]) -> float | None:
    """Return the geometric mean, over what ran at both levels, of the ratio of their values; None of nothing."""
    level, top = pair
    logs: dict[tuple[str, ...], dict[float, list[float]]] = {}
    for key, at, value in zip(rows.workloads(), knob.tolist(), values.tolist(), strict=True):
        if at in pair and value == value:
            logs.setdefault(key, {}).setdefault(at, []).append(float(np.log(value)))
    both = [np.mean(each[level]) - np.mean(each[top]) for each in logs.values() if level in each and top in each]
    return float(np.exp(np.mean(both))) if both else None
