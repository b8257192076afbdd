"""A profile over every setting of the clocks → a table in the recorded schema: whole runs, and the idle device.

One row is one setting: the median time of a run and its mean power. What was asked of the core clock and what ran are
two columns; the other knobs tell what was asked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from amble.core.address import Address
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.profile import IdlePower, Profile, Sample
from amble.core.table import KNOBS, NUMBERS, TEXTS, Table

__all__ = ["tabulated"]

_UNKNOWN = math.nan


def tabulated(profile: Profile) -> Table:
    """Return the whole runs of a profile as a table, sorted by their clocks; Refused where there are none."""
    if not profile.totals:
        raise Refused(f"nothing was measured of {profile.subject.network}; measure at one setting at least")
    address = Address.parse(profile.where.device)
    device = address.name or address.scheme
    runs = sorted(profile.totals, key=lambda total: _sorted(total.point.clocks))
    rows = [_run(profile, device, total) for total in runs]
    rows += [_idle(device, each) for each in sorted(profile.idle, key=lambda each: _sorted(each.clocks))]
    columns: dict[str, Any] = {name: np.array([str(row[name]) for row in rows], dtype=np.str_) for name in TEXTS}
    columns |= {name: np.array([float(row[name]) for row in rows], dtype=np.float64) for name in NUMBERS}
    return Table(source=profile.subject.network, line=np.arange(2, len(rows) + 2, dtype=np.int64), **columns)


def _run(profile: Profile, device: str, total: Sample) -> dict[str, str | float]:
    asked, ran = total.point.clocks, total.ran_at
    power_w = _UNKNOWN if total.energy_j is None else total.energy_j / total.latency_s
    row = _row(device, profile.subject.network, asked) | {
        "precision": total.point.precision,
        "batch": str(profile.subject.batch),
        "latency_s": total.latency_s,
        "power_w": power_w,
    }
    if ran.core_hz is not None and asked.core_hz is not None:
        row |= {"core_hz": ran.core_hz, "requested_core_hz": asked.core_hz}
    return row


def _idle(device: str, idle: IdlePower) -> dict[str, str | float]:
    return _row(device, "idle", idle.clocks) | {"power_w": idle.power_w}


def _row(device: str, workload: str, clocks: Clocks) -> dict[str, str | float]:
    empty: dict[str, str | float] = dict.fromkeys(TEXTS, "") | dict.fromkeys(NUMBERS, _UNKNOWN)
    knobs = ((name, getattr(clocks, name)) for name in KNOBS)
    return empty | {"device": device, "workload": workload} | {name: each for name, each in knobs if each is not None}


def _sorted(clocks: Clocks) -> tuple[float, ...]:
    return tuple(each or 0.0 for each in (clocks.memory_hz, clocks.cpu_hz, clocks.power_limit_w, clocks.core_hz))
