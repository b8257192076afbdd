"""A measured table → a fitted table (an artefact) → predictions for the rows of another table.

A fitted table is its measured points: predicting conditions the model on them again, which takes seconds and is
exact, so that the file stays small, readable and free of anything that could disagree with what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.core.errors import Refused
from amble.core.files import Format
from amble.core.table import KNOBS, Table, write_table
from amble.stages.fit.advice import fit_notes
from amble.stages.fit.checks import checked, checked_points
from amble.stages.fit.clocks import AskedToRan, learn
from amble.stages.fit.held_out import HeldOut, held_out, interpolation_share
from amble.stages.fit.models import DEFAULT, MODELS, Measured, Prediction, fields_of, predict
from amble.stages.fit.steady import Maybe, steady
from amble.stages.fit.strangers import completed, elsewhere
from amble.stages.fit.sweep import Sweep, asked_of, numbered, refuse_unplaced, sweep_of

__all__ = [
    "FITTED",
    "FittedTable",
    "HeldOut",
    "fit_table",
    "interpolation_share",
    "predict_table",
    "write_predictions",
]

Floats = NDArray[np.floating[Any]]

_FOLDS = 5
_SAME = 1e-3  # relative difference up to which a fixed knob is the one that was measured


@dataclass(frozen=True, slots=True)
class FittedTable:
    """What was measured, by workload and setting, and how the model did on points held out; plain numbers only.

    latency_s, power_w: [workload][point], None where not measured. points: [point][knob] as asked, Hz or W.
    """

    model: str
    source: str
    workloads: tuple[tuple[str, ...], ...]  # (device, workload, kernel, precision, batch)
    knobs: tuple[str, ...]
    fixed: dict[str, float]  # knobs that never varied
    points: tuple[tuple[float, ...], ...]
    latency_s: tuple[tuple[float | None, ...], ...]
    power_w: tuple[tuple[float | None, ...], ...]
    clocks: AskedToRan
    held_out: HeldOut | None
    notes: tuple[str, ...]
    num_rows: int = 0  # measurements behind it
    noise: float = 0.0  # deviation of the logarithm of a time between repeats; 0 where nothing was repeated
    doubt: tuple[
        tuple[float, float], ...
    ] = ()  # factors on the intervals of time and power, where settings were left out
    maybe: tuple[Maybe, ...] = ()  # values left out that may be right: intervals hold what they would predict, too
    others: tuple[FittedTable, ...] = ()  # fits of the table's further devices, each by itself

    @property
    def device(self) -> str:
        """Return the name of the device that was measured; empty where the table names none."""
        return self.workloads[0][0]

    def of(self, device: str) -> FittedTable:
        """Return the fit of one device; Refused, with those there are, when it was not measured."""
        for each in (self, *self.others):
            if each.device == device:
                return replace(each, others=())
        known = ", ".join(each.device or "(no name)" for each in (self, *self.others))
        what = f"has no device {device!r}; it has" if device else "has several devices; with --device name one of"
        raise Refused(f"{self.source} {what} {known}")

    def summary(self) -> tuple[tuple[str, str], ...]:
        """Return the fit in words: what was fitted, and the errors on points that were left out, device by device."""
        if not self.others:
            return self._summary()
        parts = [(("device", each.device or "(no name)"), *each._summary()) for each in (self, *self.others)]
        return tuple(line for part in parts for line in part)

    def _summary(self) -> tuple[tuple[str, str], ...]:
        left_out = self.held_out
        lines = [
            ("model", self.model),
            ("workloads", str(len(self.workloads))),
            ("settings", f"{len(self.points)} of {', '.join(self.knobs) or 'nothing that varies'}"),
        ]
        if left_out is None:
            return (*lines, ("error on points left out", "unknown: too few points to leave any out"))
        for what, middle, high, wider, share in (
            ("time", left_out.time_median, left_out.time_p95, left_out.time_wider, left_out.time_lines),
            ("power", left_out.power_median, left_out.power_p95, left_out.power_wider, left_out.power_lines),
        ):
            if middle is not None and high is not None:
                lines.append((f"error of {what} on points left out", f"median {middle:.2%}, p95 {high:.2%}"))
            if wider > 1 or share > 0:
                lines.append((f"{what}, as they asked for", f"interval x {wider:.2f}, {share:.0%} straight lines"))
        return tuple(lines)

    def measured(self) -> Measured:
        """Return what was measured as arrays, with the core clock that ran in place of the one asked for."""
        points = np.array(self.points, dtype=float).reshape(len(self.points), len(self.knobs))
        ran = _ran(points, self.knobs, self.clocks)
        return Measured(self.knobs, ran, _numbers(self.latency_s), _numbers(self.power_w))


FITTED = Format("fitted table", 1, FittedTable)


def fit_table(table: Table, *, model: str = DEFAULT, hold_out: int = _FOLDS) -> FittedTable:
    """Fit every workload of a table, and again with a fifth of the points left out in turn (hold_out folds, 0 for
    none).

    Raises Refused for a table that cannot be right, ValueError for a model that is not one.
    """
    if model not in MODELS:
        raise ValueError(f"there is no model {model!r}; there are {', '.join(MODELS)}")
    names = list(dict.fromkeys(table.device.tolist()))
    if len(names) == 1:
        fitted = _fit_device(table, model, hold_out)
        return replace(fitted, notes=(*table.notes, *fitted.notes))
    first, *others = (_fit_device(table.rows(table.device == name), model, hold_out) for name in names)
    said = (
        f"{name or 'without a device'}: {note}"
        for name, each in zip(names, (first, *others), strict=True)
        for note in each.notes
    )
    notes = (*table.notes, f"{len(names)} devices, each fitted by itself: {', '.join(filter(None, names))}", *said)
    return replace(first, notes=notes, others=tuple(others))


def _fit_device(table: Table, model: str, hold_out: int) -> FittedTable:
    table, notes = checked(table)
    kept = steady(table)
    table, notes = kept.table, (*notes, *kept.notes)
    sweep = sweep_of(table)
    clocks = AskedToRan()
    if "core_hz" in sweep.knobs:
        clocks = learn(sweep.points[:, sweep.knobs.index("core_hz")], sweep.ran_core_hz)
    points = _ran(sweep.points, sweep.knobs, clocks)
    return FittedTable(
        model=model,
        source=table.source,
        workloads=sweep.workloads,
        knobs=sweep.knobs,
        fixed=_fixed(table, sweep.knobs),
        points=tuple(map(tuple, sweep.points.tolist())),
        latency_s=_plain(sweep.latency_s),
        power_w=_plain(sweep.power_w),
        clocks=clocks,
        held_out=held_out(model, sweep, points, hold_out) if hold_out else None,
        notes=(*notes, *fit_notes(model, sweep, points, clocks)),
        num_rows=table.num_rows,
        doubt=tuple(kept.doubt.get(key, (1.0, 1.0)) for key in sweep.workloads) if kept.doubt else (),
        noise=_noise(sweep),
        maybe=tuple(each for each in kept.maybe if len(each.point) == len(sweep.knobs)),
    )


def predict_table(fitted: FittedTable, table: Table) -> tuple[Prediction, tuple[str, ...]]:
    """Predict the rows of a table → one number a row, and notes on what could hardly be said.

    Of a workload that was not fitted the middle of those most like it is given, and of a knob that never varied and is
    set elsewhere the middle between all and nothing, each within a wide interval. What no workload has is NaN. Times
    and powers of the table are not looked at, nor is the clock that ran where a request is given. Refused where a row
    leaves a knob empty that varied.
    """
    checked_points(table)
    table = _filled(fitted, table)
    if not fitted.others:
        found, notes = _predict_device(fitted, table)
        return found, (*table.notes, *notes)
    fields = np.full((6, table.num_rows), np.nan)
    said: list[str] = list(table.notes)
    for name in dict.fromkeys(table.device.tolist()):
        rows = table.device == name
        found, notes = _predict_device(fitted.of(name), table.rows(rows))
        fields[:, rows] = np.stack(fields_of(found))
        said += [f"{name}: {note}" for note in notes]
    return Prediction(*fields), tuple(said)


def _filled(fitted: FittedTable, table: Table) -> Table:
    """Return the table with empty names filled in where only one fitted workload has all those that are given."""
    known = [key for each in (fitted, *fitted.others) for key in each.workloads]
    meant: dict[tuple[str, ...], tuple[str, ...]] = {}
    for key in dict.fromkeys(table.workloads()):
        close = [other for other in known if all(mine in ("", theirs) for mine, theirs in zip(key, other, strict=True))]
        devices = {other[0] for other in known}
        whole = (devices.copy().pop(), *key[1:]) if len(devices) == 1 and not key[0] else key
        meant[key] = close[0] if len(close) == 1 else whole
    if all(key == other for key, other in meant.items()):
        return table
    columns = zip(*(meant[key] for key in table.workloads()), strict=True)
    device, workload, kernel, precision, batch = (np.array(column, dtype=np.str_) for column in columns)
    return replace(table, device=device, workload=workload, kernel=kernel, precision=precision, batch=batch)


def _predict_device(fitted: FittedTable, table: Table) -> tuple[Prediction, tuple[str, ...]]:
    refuse_unplaced(table, fitted.knobs, why="although it varied where the fit was measured; fill it in")
    names, row_of = numbered((*fitted.workloads, *table.workloads()))
    workload, strangers = row_of[len(fitted.workloads) :], names[len(fitted.workloads) :]
    asked = asked_of(table, fitted.knobs)
    ratio = _fixed_ratio(fitted, table)
    notes = _said(fitted, asked, workload, ratio)
    at, which = np.unique(asked, axis=0, return_inverse=True)
    ran = _ran(at, fitted.knobs, fitted.clocks)
    lacking = bool(strangers) or _lacks(fitted.latency_s, workload) or _lacks(fitted.power_w, workload)
    wanted = np.arange(len(fitted.workloads)) if lacking else np.unique(workload)
    found = _united(predict(fitted.model, fitted.measured(), at=ran, rows=wanted), fitted, ran, wanted)
    found = _stretched(_stacked(found, fitted, ran), fitted, at)
    if lacking:
        found = completed(found, fitted.workloads, strangers)
    chosen = (workload, which.reshape(-1))
    return elsewhere(Prediction(*(values[chosen] for values in fields_of(found))), ratio), notes


def _lacks(values: tuple[tuple[float | None, ...], ...], wanted: NDArray[np.int64]) -> bool:
    """Whether one of the wanted workloads never showed what others did."""
    shown = np.array([any(value is not None for value in row) for row in values])
    return bool(shown.any() and not shown[wanted].all())


def _united(found: Prediction, fitted: FittedTable, at: Floats, wanted: NDArray[np.int64]) -> Prediction:
    """Stretch intervals [w, q] so that they hold those of a fit to what was left out and may be right, too."""
    if not fitted.maybe:
        return found
    other = predict(fitted.model, _with_maybe(fitted).measured(), at=at, rows=wanted)
    return replace(
        found,
        latency_lo_s=np.fmin(found.latency_lo_s, other.latency_lo_s),
        latency_hi_s=np.fmax(found.latency_hi_s, other.latency_hi_s),
        power_lo_w=np.fmin(found.power_lo_w, other.power_lo_w),
        power_hi_w=np.fmax(found.power_hi_w, other.power_hi_w),
    )


def _with_maybe(fitted: FittedTable) -> FittedTable:
    """Return the fit with the values in doubt among the measured ones."""
    points = tuple(dict.fromkeys((*fitted.points, *(each.point for each in fitted.maybe))))
    column = {point: number for number, point in enumerate(points)}
    row = {key: number for number, key in enumerate(fitted.workloads)}
    grids = []
    for name in ("latency_s", "power_w"):
        grid = np.full((len(row), len(points)), np.nan)
        grid[:, : len(fitted.points)] = _numbers(getattr(fitted, name))
        for each in fitted.maybe:
            value = getattr(each, name)
            if value is not None and each.workload in row:
                grid[row[each.workload], column[each.point]] = value
        grids.append(_plain(grid))
    return replace(fitted, points=points, latency_s=grids[0], power_w=grids[1], maybe=())


def _stacked(found: Prediction, fitted: FittedTable, at: Floats) -> Prediction:
    """Average the logarithms with those of plain interpolation in the shares that points left out asked for."""
    left_out = fitted.held_out
    if left_out is None or left_out.time_lines == left_out.power_lines == 0:
        return found
    lines = predict("interpolate", fitted.measured(), at=at)
    time = (lines.latency_s / found.latency_s) ** left_out.time_lines
    power = (lines.power_w / found.power_w) ** left_out.power_lines
    return Prediction(*(one * by for one, by in zip(fields_of(found), (time,) * 3 + (power,) * 3, strict=True)))


def _stretched(found: Prediction, fitted: FittedTable, asked: Floats) -> Prediction:
    """Stretch intervals [w, q] by what points left out asked for (split conformal, Lei et al. 2018), and by the doubt
    about workloads of which settings were left out; but for measured points.
    """
    if fitted.held_out is None and not fitted.doubt:
        return found
    left_out = fitted.held_out
    wider = (1.0, 1.0) if left_out is None else (left_out.time_wider, left_out.power_wider)
    doubt = np.array(fitted.doubt or ((1.0, 1.0),)).T[..., None]  # [2, w or 1, 1]
    place = {point: column for column, point in enumerate(fitted.points)}
    column = np.array([place.get(tuple(point), -1) for point in asked.tolist()], dtype=np.int64)
    fields = []
    for centre, low, high, values, by in (
        (found.latency_s, found.latency_lo_s, found.latency_hi_s, fitted.latency_s, wider[0] * doubt[0]),
        (found.power_w, found.power_lo_w, found.power_hi_w, fitted.power_w, wider[1] * doubt[1]),
    ):
        measured = ~np.isnan(_numbers(values))[:, column] & (column >= 0)
        by = np.where(measured, 1.0, by)
        fields += [centre, centre * (low / centre) ** by, centre * (high / centre) ** by]
    return Prediction(*fields)


def write_predictions(table: Table, prediction: Prediction, path: Path | str) -> None:
    """Write the same rows with predicted times and powers, and the ends of the intervals as further columns."""
    names = ("latency_s", "latency_lo_s", "latency_hi_s", "power_w", "power_lo_w", "power_hi_w")
    columns = {name: values.astype(np.float64) for name, values in zip(names, fields_of(prediction), strict=True)}
    filled = table.with_values(latency_s=columns.pop("latency_s"), power_w=columns.pop("power_w"))
    write_table(filled, path, extra=list(columns.items()))


def _noise(sweep: Sweep) -> float:
    known = sweep.latency_spread[~np.isnan(sweep.latency_spread)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else 0.0


def _ran(points: Floats, knobs: tuple[str, ...], clocks: AskedToRan) -> Floats:
    """Points with the core clock that runs in place of the one asked for."""
    if "core_hz" not in knobs:
        return points
    index = knobs.index("core_hz")
    ran = points.copy()
    ran[:, index] = clocks.at(points[:, index])
    return ran


def _fixed(table: Table, knobs: tuple[str, ...]) -> dict[str, float]:
    known = {name: table.knob(name) for name in KNOBS if name not in knobs}
    return {name: float(np.nanmax(values)) for name, values in known.items() if not np.isnan(values).all()}


def _fixed_ratio(fitted: FittedTable, table: Table) -> Floats:
    """Product [row] of what knobs that never varied are set to, over what they were; 1 where as measured or empty."""
    found = np.ones(table.num_rows)
    for name, value in fitted.fixed.items():
        ratio = table.knob(name) / value
        found *= np.where(np.isnan(ratio) | (np.abs(ratio - 1) <= _SAME), 1.0, ratio)
    return found


def _said(fitted: FittedTable, asked: Floats, workload: NDArray[np.int64], ratio: Floats) -> tuple[str, ...]:
    notes = []
    unknown = int((workload >= len(fitted.workloads)).sum())
    if unknown:
        notes.append(
            f"{unknown} rows are of workloads that were not fitted: the middle of others; measure each at two points"
        )
    if (ratio != 1).any():
        fixed = ", ".join(sorted(fitted.fixed))
        notes.append(f"{int((ratio != 1).sum())} rows set {fixed} to what was never measured; measure one point there")
    if fitted.knobs:
        measured = np.array(fitted.points)
        outside = ((asked > measured.max(axis=0) * (1 + _SAME)) | (asked < measured.min(axis=0) * (1 - _SAME))).any(
            axis=1
        )
        if outside.any():
            notes.append(
                f"{int(outside.sum())} rows lie outside the measured clocks; measure the ends before trusting them"
            )
    return tuple(notes)


def _plain(values: Floats) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(None if np.isnan(value) else value for value in row) for row in values.tolist())


def _numbers(values: tuple[tuple[float | None, ...], ...]) -> Floats:
    return np.array([[np.nan if value is None else value for value in row] for row in values], dtype=float)
