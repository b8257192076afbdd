"""Published laws of time and power → the same few lines each: fit a law to one workload's points, predict others.

Every law is fitted with weights 1/value² (relative error), coefficients not negative, and keeps its faithful form; none
pools workloads or gives intervals. Knobs enter relative to their highest measured value, so that coefficients read as
shares of the time or power there. Shape letters: p point, k knob.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.optimize import nnls
from scipy.spatial import QhullError

__all__ = ["POWER_LAWS", "TIME_LAWS", "Curve", "Law", "primary_knob"]

Floats = NDArray[np.floating[Any]]

_EXPONENTS = np.linspace(0.1, 3.0, 30)
_NORMS = np.array([1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0])
_KNEES = np.linspace(0.3, 0.95, 27)
_BALANCES = (1.0, 0.25, 0.5, 2.0, 4.0)  # of the terms of a roofline, where its fit starts
_PRIMARY = ("core_hz", "cpu_hz", "power_limit_w", "memory_hz")


@dataclass(frozen=True, slots=True)
class Curve:
    """A fitted law: its form (the simpler one where points were too few), its coefficients, and the prediction."""

    form: str
    coefficients: tuple[float, ...]
    predict: Callable[[Floats], Floats]  # points [p, k] -> values [p]


class Law(Protocol):
    """Points [p, k] (all knobs > 0) and values [p] (> 0) of one workload, knobs by name -> a curve."""

    def __call__(self, points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
        """Fit the law."""


def primary_knob(knobs: tuple[str, ...]) -> int:
    """Index of the clock that a one-clock law means: core, else CPU, else the power limit, else memory."""
    return knobs.index(next(name for name in _PRIMARY if name in knobs))


def cycles(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
    """CPU-DVFS, t = w / (g f), g by least squares over all points."""
    return _cycles(points, values, knobs, np.ones(len(values), dtype=bool))


def cycles_at_top(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
    """CPU-DVFS, t = w / (g f), g calibrated at the highest clock measured."""
    clock = points[:, primary_knob(knobs)]
    return _cycles(points, values, knobs, clock == clock.max())


def power_law(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
    """Han et al. (ICC 2025): t = a f^-b + c with a, c >= 0 and 0 < b <= 3; b = 1 where the clocks span less than 2x.

    With fewer than three clocks b = 1 (form "han-b1"); with one, CPU-DVFS.
    """
    knob = primary_knob(knobs)
    top = float(points[:, knob].max())
    clock = points[:, knob] / top
    num_clocks = len(np.unique(clock))
    if num_clocks == 1:
        return cycles(points, values, knobs)

    def fitted(b: float) -> tuple[Floats, float]:
        return _nonnegative(np.stack([clock**-b, np.ones_like(clock)], axis=1), values)

    free = num_clocks >= 3 and clock.min() <= 0.5
    b = _golden(lambda b: fitted(b)[1], _EXPONENTS) if free else 1.0
    a, c = fitted(b)[0]
    form = "han" if num_clocks >= 3 else "han-b1"
    return Curve(form, (float(a), float(b), float(c)), lambda at: a * (at[:, knob] / top) ** -b + c)


def sum_of_clocks(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
    """Terms that run one after another: t = a + b/fc + c/fm (+ d/fcpu)."""
    top = points.max(axis=0)
    return _linear(lambda at: top / at, points, values, "sum")


def overlap(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
    """Terms that overlap in part: t = (a^p + (b/fc)^p + (c/fm)^p)^(1/p), 1 <= p <= 20."""
    top = points.max(axis=0)

    def fitted(norm: float) -> tuple[Floats, float]:
        weights, _ = _nonnegative(_with_one((top / points) ** norm), values**norm)
        found = (_with_one((top / points) ** norm) @ weights) ** (1 / norm)
        return weights, float(np.sum((found / values - 1) ** 2))

    enough = len(values) > points.shape[1] + 1
    norm = float(min(_NORMS, key=lambda norm: fitted(norm)[1])) if enough else 2.0
    weights = fitted(norm)[0]
    form = "p-norm" if enough else "p-norm-2"
    return Curve(form, (norm, *weights.tolist()), lambda at: (_with_one((top / at) ** norm) @ weights) ** (1 / norm))


def roofline(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
    """Perfect overlap: t = max(a, b/f) for one clock, t = a + max(b/fc, c/fm, ...) for several."""
    top = points.max(axis=0)
    alone = points.shape[1] == 1
    slow = _with_one(top / points) if alone else top / points
    first = _nonnegative(slow, values)[0] + 1e-3 * values.min()
    starts = [first * balance ** np.arange(len(first)) for balance in _BALANCES]
    _, constant, weights = min(
        (_alternated(slow, values, start, alone) for start in starts), key=lambda found: found[0]
    )
    return Curve(
        "roofline",
        (constant, *weights.tolist()),
        lambda at: constant + np.max((_with_one(top / at) if alone else top / at) * weights, axis=1),
    )


def _alternated(slow: Floats, values: Floats, weights: Floats, alone: bool) -> tuple[float, float, Floats]:
    """Assign each point to its slowest term and fit the terms, in turn; return misfit, constant and weights."""
    best, kept = np.inf, (0.0, weights)
    for _ in range(15):
        term = np.argmax(slow * weights, axis=1)
        columns = np.where(np.arange(slow.shape[1]) == term[:, None], slow, 0.0)
        solved, _ = _nonnegative(columns if alone else _with_one(columns), values)
        constant = 0.0 if alone else float(solved[-1])
        weights = np.where(np.isin(np.arange(slow.shape[1]), term), solved[: slow.shape[1]], weights)
        misfit = float(np.sum(((constant + np.max(slow * weights, axis=1)) / values - 1) ** 2))
        if misfit < best:
            best, kept = misfit, (constant, weights)
    return best, *kept


def cube(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
    """Power as in Han et al.: P = kappa f^3 (dynamic power alone)."""
    knob = primary_knob(knobs)
    top = float(points[:, knob].max())
    (kappa,), _ = _nonnegative((points[:, [knob]] / top) ** 3, values)
    return Curve("cube", (float(kappa),), lambda at: kappa * (at[:, knob] / top) ** 3)


def linear_power(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
    """P = p0 + sum of k f over the knobs."""
    top = points.max(axis=0)
    return _linear(lambda at: at / top, points, values, "linear")


def knee_power(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
    """P = p0 + k f V(f)^2 + sum over the other knobs; V constant below a knee and proportional to f above it."""
    top = points.max(axis=0)
    knob = primary_knob(knobs)

    def basis(at: Floats, knee: float) -> Floats:
        share = at / top
        rise = share[:, knob] * np.maximum(1.0, share[:, knob] / knee) ** 2
        return np.column_stack([rise, np.delete(share, knob, axis=1)])

    def misfit(knee: float) -> float:
        return _nonnegative(_with_one(basis(points, knee)), values)[1]

    enough = len(np.unique(points[:, knob])) >= 3
    knee = float(min(_KNEES, key=misfit)) if enough else 0.7
    curve = _linear(lambda at: basis(at, knee), points, values, "knee" if enough else "knee-0.7")
    return Curve(curve.form, (knee, *curve.coefficients), curve.predict)


def interpolation(points: Floats, values: Floats, knobs: tuple[str, ...]) -> Curve:
    """Piecewise linear in the logarithm of knobs and values; outside the measured points the nearest one."""
    low, high = np.log(points).min(axis=0), np.log(points).max(axis=0)

    def place(at: Floats) -> Floats:
        scaled: Floats = (np.log(at) - low) / np.where(high > low, high - low, 1.0)
        return scaled

    if points.shape[1] == 1:
        order = np.argsort(points[:, 0])
        x, y = place(points)[order, 0], np.log(values)[order]
        return Curve("interpolate", (), lambda at: np.exp(np.interp(place(at)[:, 0], x, y)))
    nearest = NearestNDInterpolator(place(points), np.log(values))
    try:
        inside = LinearNDInterpolator(place(points), np.log(values))
    except (QhullError, ValueError):
        return Curve("nearest", (), lambda at: np.exp(nearest(place(at))))

    def predict(at: Floats) -> Floats:
        found = inside(place(at))
        value: Floats = np.exp(np.where(np.isnan(found), nearest(place(at)), found))
        return value

    return Curve("interpolate", (), predict)


TIME_LAWS: dict[str, Law] = {
    "cpu-dvfs": cycles,
    "cpu-dvfs-top": cycles_at_top,
    "han": power_law,
    "sum": sum_of_clocks,
    "p-norm": overlap,
    "roofline": roofline,
    "interpolate": interpolation,
}
POWER_LAWS: dict[str, Law] = {
    "cube": cube,
    "linear": linear_power,
    "knee": knee_power,
    "interpolate": interpolation,
}


def _cycles(points: Floats, values: Floats, knobs: tuple[str, ...], chosen: NDArray[np.bool_]) -> Curve:
    knob = primary_knob(knobs)
    (work,), _ = _nonnegative(1 / points[chosen][:, [knob]], values[chosen])
    return Curve("cpu-dvfs", (float(work),), lambda at: work / at[:, knob])


def _linear(basis: Callable[[Floats], Floats], points: Floats, values: Floats, form: str) -> Curve:
    """Fit a constant and the columns of a basis; with too few points the constant is left out, and the form says so."""
    enough = len(values) > basis(points).shape[1]
    weights, _ = _nonnegative(_with_one(basis(points)) if enough else basis(points), values)
    weights = weights if enough else np.append(weights, 0.0)
    name = form if enough else f"{form}-no-constant"
    return Curve(name, tuple(weights.tolist()), lambda at: _with_one(basis(at)) @ weights)


def _with_one(columns: Floats) -> Floats:
    return np.column_stack([columns, np.ones(len(columns))])


def _nonnegative(columns: Floats, values: Floats) -> tuple[Floats, float]:
    """Coefficients >= 0 and the sum of squared relative errors."""
    weights, norm = nnls(columns / values[:, None], np.ones(len(values)))
    return weights, float(norm) ** 2


def _golden(misfit: Callable[[float], float], grid: Floats) -> float:
    """Minimise over a grid, then by golden section between the neighbours of its best value."""
    best = int(np.argmin([misfit(float(value)) for value in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    ratio = (5**0.5 - 1) / 2
    for _ in range(25):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if misfit(left) < misfit(right) else (left, high)
    return (low + high) / 2
