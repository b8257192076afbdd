"""A recorded table → how much longer work takes at each setting, by phase, before the server has been seen.

The prompt phase (kernels ``phase:prefill…``) says so for the time to the first token, the generating phase
(``phase:decode…``) for the time between tokens, all of it together for whole latencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.table import Table, read_table

__all__ = ["from_table"]

_PHASE = {"ttft": "phase:prefill", "queue": "phase:prefill", "itl": "phase:decode", "latency": ""}


def from_table(
    path: Path | str, settings: Sequence[Clocks], kinds: Sequence[str], workload: str | None = None
) -> tuple[tuple[float, ...], ...]:
    """Return slowness: [setting][objective], by the recorded latencies at each setting or the nearest faster one.

    Refused when the table has another knob than the device, or no such workload.
    """
    table = read_table(path)
    if workload is not None:
        table = table.rows(table.workload == workload)
    if table.num_rows == 0:
        raise Refused(f"{path} has no rows of workload {workload!r}")
    columns = [_of_kind(table, settings, kind, str(path)) for kind in kinds]
    return tuple(zip(*columns, strict=True))


def _of_kind(table: Table, settings: Sequence[Clocks], kind: str, source: str) -> tuple[float, ...]:
    rows = table.rows(np.char.startswith(table.kernel, _PHASE[kind]))
    rows = rows if rows.num_rows else table
    name = "power_limit_w" if settings[0].power_limit_w is not None else "core_hz"
    knob = rows.knob(name)
    wanted = [getattr(each, name) for each in settings]
    usable = ~np.isnan(knob) & ~np.isnan(rows.latency_s)
    if not usable.any() or any(each is None for each in wanted):
        raise Refused(f"{source} does not vary {name}, which is what this device sets; leave --table out")
    levels = np.unique(knob[usable])
    ratios = [_ratio(rows, knob, level, levels[-1]) for level in levels]
    ratios = list(np.maximum.accumulate(ratios[::-1])[::-1])  # no setting is faster than a higher one
    found = [ratios[min(int(np.searchsorted(levels, each * (1 - 1e-6))), len(levels) - 1)] for each in wanted]
    return tuple(float(max(1.0, each / found[0])) for each in found)


def _ratio(rows: Table, knob: np.ndarray, level: float, top: float) -> float:
    """Return the geometric mean, over what ran at both levels, of the ratio of their latencies."""
    logs: dict[tuple[str, ...], dict[float, list[float]]] = {}
    for key, at, latency_s in zip(rows.workloads(), knob.tolist(), rows.latency_s.tolist(), strict=True):
        if at in (level, top) and latency_s == latency_s:
            logs.setdefault(key, {}).setdefault(at, []).append(float(np.log(latency_s)))
    both = [np.mean(each[level]) - np.mean(each[top]) for each in logs.values() if level in each and top in each]
    return float(np.exp(np.mean(both))) if both else 1.0
