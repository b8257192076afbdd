"""A fitted table, some of its workloads → Costs of them at the settings that a plan may choose.

A workload is an operator; several run one after another in one request. What a plan may choose are the settings that
were measured and those of a further table. The margin rests on what repeats differ by and on how sure the predictions
are; a workload named ``idle`` is what the device draws where it waits.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import ndtri

from amble.core.errors import Refused
from amble.core.graph import Graph, Operator
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import FloatArray
from amble.core.subject import Subject, Where
from amble.core.table import NUMBERS, TEXTS, Table
from amble.stages.fit.checks import checked_points
from amble.stages.fit.costs import Costs, Error
from amble.stages.fit.models import Z90, Prediction
from amble.stages.fit.sweep import Floats, asked_of, refuse_unplaced
from amble.stages.fit.tables import FittedTable, predict_table

__all__ = ["costs_of_table", "names_of"]

_IDLE = "idle"
_FEWEST_RUNS = 20
_LISTED = 5


def names_of(fitted: FittedTable) -> tuple[str, ...]:
    """Return the name of each workload: ``workload/kernel``, with ``@batch`` and ``:precision`` where there are
    several of either.
    """
    names = [f"{key[1]}/{key[2]}" if key[2] else key[1] for key in fitted.workloads]
    for place, sign in ((4, "@"), (3, ":")):
        kinds = {
            name: {key[place] for key, mine in zip(fitted.workloads, names, strict=True) if mine == name}
            for name in names
        }
        names = [
            f"{name}{sign}{key[place]}" if len(kinds[name]) > 1 else name
            for key, name in zip(fitted.workloads, names, strict=True)
        ]
    return tuple(names)


def costs_of_table(
    fitted: FittedTable, workload: str | None, *, also: Table | None = None, device: str = ""
) -> tuple[Graph, Costs]:
    """Return a workload (``workload/kernel``, ``workload`` for all its kernels, or ``all``) as a graph, with its costs.

    Without a name it is the only one there is. ``also`` is a table of settings that may be chosen beside the measured
    ones. Refused where the name, or the device of several, is none of the table.
    """
    mine = fitted.of(device) if fitted.others else fitted
    rows = _chosen(mine, workload)
    names = [names_of(mine)[row] for row in rows]
    asked = _settings(mine, also)
    found = _predicted(mine, rows, asked)
    latency_s, power_w = (each.reshape(len(rows), len(asked)) for each in (found.latency_s, found.power_w))
    if np.isnan(latency_s).any():
        raise Refused(f"{fitted.source} has no times of {names[0]}; measure latency_s to plan")
    shown = np.array([[any(value is not None for value in mine.power_w[row])] for row in rows])
    power_w = np.where(shown, power_w, np.nan)
    points = tuple(OperatingPoint(clocks, mine.workloads[rows[0]][3] or "fp32") for clocks in _clocks(mine, asked))
    label = names[0] if len(names) == 1 else workload or "all"
    sure = _deviation(mine, found)
    graph = _graph(mine, label, names, rows)
    costs = Costs(
        Subject(label, digest=graph.digest, batch=graph.batch),
        Where(f"recorded:{fitted.source}", f"measured: {fitted.source}, fitted by the model {mine.model}"),
        model=mine.model,
        error=_error(mine),
        operators=tuple(names),
        points=points,
        latency_s=_rows(latency_s),
        energy_j=() if np.isnan(power_w).any() else _rows(latency_s * power_w),
        idle_power_w=_idle(mine, asked),
        residuals=_residuals(sure),
        runs=max(_FEWEST_RUNS, mine.num_rows),
        notes=_notes(mine, names, sure, also is not None),
    )
    return graph, costs


def _error(fitted: FittedTable) -> Error:
    out = fitted.held_out
    return Error() if out is None else Error(out.time_median, out.time_p95, out.power_median, out.power_p95)


def _chosen(fitted: FittedTable, workload: str | None) -> list[int]:
    names = names_of(fitted)
    timed = [row for row, key in enumerate(fitted.workloads) if key[1] != _IDLE]
    alike = [row for row in timed if fitted.workloads[row][1] == workload]
    exact = [row for row in timed if names[row] == workload]
    found = timed if workload == "all" or (workload is None and len(timed) == 1) else exact or alike
    precisions = {fitted.workloads[row][3] for row in found}
    if found and len(precisions) == 1:
        return found
    some = ", ".join(names[row] for row in timed[:_LISTED]) + (", …" if len(timed) > _LISTED else "")
    if found:
        raise Refused(f"{workload} was measured in several precisions; name one of: {some}")
    what = f"no workload {workload!r}" if workload else f"{len(timed)} workloads"
    raise Refused(f"{fitted.source} has {what}; name one with --workload ({some}), or --workload all")


def _settings(fitted: FittedTable, also: Table | None) -> FloatArray:
    """Return the settings that may be chosen [p, k], each once."""
    asked = np.array(fitted.points, dtype=float).reshape(len(fitted.points), len(fitted.knobs))
    if also is None:
        return asked
    checked_points(also)
    refuse_unplaced(also, fitted.knobs, why="although it varied where the fit was measured; fill it in")
    return np.unique(np.concatenate([asked, asked_of(also, fitted.knobs)]), axis=0)


def _clocks(fitted: FittedTable, asked: FloatArray) -> list[Clocks]:
    return [Clocks(**{**fitted.fixed, **dict(zip(fitted.knobs, row, strict=True))}) for row in asked.tolist()]


def _predicted(fitted: FittedTable, rows: list[int], asked: FloatArray) -> Prediction:
    """Predict workloads at settings, workload after workload."""
    keys = [fitted.workloads[row] for row in rows for _ in asked]
    count = len(keys)
    arrays: dict[str, Any] = {
        name: np.array([key[place] for key in keys], dtype=np.str_) for place, name in enumerate(TEXTS)
    }
    arrays |= {name: np.full(count, math.nan) for name in NUMBERS}
    for place, name in enumerate(fitted.knobs):
        arrays[name] = np.tile(asked[:, place], len(rows))
    table = Table(source=fitted.source, line=np.arange(count), **arrays)
    return predict_table(replace(fitted, others=()), table)[0]


def _deviation(fitted: FittedTable, found: Prediction) -> float:
    """Return the deviation of the logarithm of a time from what is predicted: repeats, and predictions."""
    wide = np.log(found.latency_hi_s / found.latency_lo_s) / (2 * Z90)
    predicted = float(np.nanmedian(wide)) if np.isfinite(wide).any() else 0.0
    return math.hypot(fitted.noise, predicted)


def _residuals(deviation: float) -> tuple[float, ...]:
    if deviation == 0:
        return ()
    levels = (np.arange(1001) + 0.5) / 1001
    return tuple(np.exp(deviation * ndtri(levels)).round(6).tolist())


def _idle(fitted: FittedTable, asked: FloatArray) -> tuple[float, ...]:
    """Return the power of doing nothing at each setting [p]; empty where it was not measured."""
    row = next((row for row, key in enumerate(fitted.workloads) if key[1] == _IDLE), None)
    if row is None or all(value is None for value in fitted.power_w[row]):
        return ()
    return tuple(_predicted(fitted, [row], asked).power_w.tolist())


def _graph(fitted: FittedTable, label: str, names: list[str], rows: list[int]) -> Graph:
    content = repr(
        [(names[at], fitted.points, fitted.latency_s[row], fitted.power_w[row]) for at, row in enumerate(rows)]
    )
    sizes = {fitted.workloads[row][4] for row in rows}
    size = sizes.pop() if len(sizes) == 1 else ""
    operators = tuple(Operator(name, "recorded", 0.0, 0.0, 0.0) for name in names)
    batch = int(size) if size.isdigit() else 1
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Graph(label, operators, batch, digest, precision=fitted.workloads[rows[0]][3] or "fp32")


def _notes(fitted: FittedTable, names: list[str], deviation: float, further: bool) -> tuple[str, ...]:
    where = "measured settings and those of --at" if further else "measured settings alone; --at TABLE allows others"
    notes = [f"chosen from {where}"]
    if not fitted.noise:
        notes.append("no setting was measured twice, so the margin knows nothing of how repeats differ; measure some")
    else:
        notes.append(
            f"the margin is for times that differ by {deviation:.1%} (deviation) from what is predicted; single runs "
            "differ more where the table holds averages"
        )
    if len(names) > 1:
        notes.append("what a change of clocks costs is not in the table, and counts as nothing")
    return tuple(notes)


def _rows(values: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, values.tolist()))
