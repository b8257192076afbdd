"""Measured points of all workloads of one device → time and power of each at any other point, with what is uncertain.

The default model. The family of `response` is fitted to all workloads together (`hierarchy`), averaged over its
samples and, with the smaller weight, over a plain law; what is left over at the measured points is carried to their
neighbours by a Gaussian process, so that a device that follows no law is interpolated. Where other workloads of the
device were measured at points that one was not, they correct it (`siblings`).

Shape letters: w workload, p measured point, q asked point, s sample, k knob, n point used in the fit of one workload.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.stages.fit import siblings
from amble.stages.fit.ceiling import implied_limit
from amble.stages.fit.hierarchy import sampled, smooth_share
from amble.stages.fit.laws import Law, interpolation, knee_power, linear_power, overlap, power_law
from amble.stages.fit.parameters import DEVICE, Geometry, flags_of, geometry_of
from amble.stages.fit.posterior import Observations, Posterior, Settings, trusted
from amble.stages.fit.response import respond, respond_time
from amble.stages.fit.sweep import farthest_points, outside

__all__ = ["Estimate", "Pooled", "fit_pooled"]

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

TIME, POWER = 0, 1
_MOST_POINTS = (4, 8, 12, 16, 16)  # of one workload, by number of knobs, that enter the family; all are interpolated
_CHUNK = 4_000_000  # numbers evaluated at once
_ROBUST_POINTS = 8
_LOAN_SAMPLES, _LOAN_WORKLOADS = 16, 12  # what is behind a correction may be rough: what it misses is corrected
_PLAIN: dict[tuple[int, str], tuple[tuple[Law, ...], float]] = {  # output, sweep -> laws averaged, their share
    (TIME, "one clock"): ((overlap, interpolation), 0.5),
    (TIME, "clocks"): ((overlap,), 0.6),
    (TIME, "limit"): ((overlap, power_law, interpolation), 0.6),
    (TIME, "limit and clocks"): ((overlap, interpolation), 0.5),
    (POWER, "one clock"): ((knee_power,), 0.15),
    (POWER, "one clock, perhaps not run"): ((linear_power, interpolation), 0.5),
    (POWER, "clocks"): ((knee_power,), 0.15),
    (POWER, "limit"): ((interpolation,), 0.35),
    (POWER, "limit and clocks"): ((interpolation,), 0.35),
}
_DOUBT = 0.25  # probability that a device follows no law and straight lines between its points are right
_LOW_CLOCK = 0.25  # share of the highest clock below which drivers may run another clock than was asked
_FLOOR = (0.004, 0.006)  # relative error of time and power that no prediction is believed to beat


@dataclass(frozen=True, slots=True)
class Estimate:
    """Logarithm of a value and its standard deviation, [w, q]; NaN where a workload never showed that value."""

    mean: Floats
    sd: Floats


@dataclass(frozen=True, slots=True)
class _Half:
    """The fit behind one output."""

    output: int
    posterior: Posterior
    observed: Observations

    @property
    def sigma(self) -> float:
        """Typical size of misfit and noise of this output."""
        place = -1 if self.output == POWER else 0
        return float(np.sqrt(np.mean(self.posterior.sigma[:, place] ** 2)))


@dataclass(frozen=True, slots=True)
class _Loan:
    """Workloads that were measured at few points, fitted with their siblings as if those were measured no more."""

    workloads: NDArray[np.int64]
    partial: Pooled  # the workloads, then the siblings
    corrections: tuple[tuple[int, siblings.Correction], ...]  # by output


@dataclass(frozen=True, slots=True)
class Pooled:
    """A fitted device; `predict` gives time and power at asked points."""

    knobs: tuple[str, ...]
    points: Floats  # [p, k]
    values: tuple[Floats, Floats]  # log time and log power [w, p]
    levels: tuple[Floats, Floats]  # [w]
    halves: tuple[_Half, ...]
    loans: tuple[_Loan, ...]
    limit: float | None = None  # logarithm of a power limit that shows though none was written down

    def predict(self, points: Floats, rows: NDArray[np.int64] | None = None) -> tuple[Estimate, Estimate]:
        """Estimate log time and log power [w, q] at points [q, k]; other workloads than rows, if given, stay NaN."""
        shape = (len(self.values[TIME]), len(points))
        rows = np.arange(shape[0]) if rows is None else rows
        found = [Estimate(np.full(shape, np.nan), np.full(shape, np.nan)) for _ in (TIME, POWER)]
        for half in self.halves:
            found[half.output] = _estimated(self, half, points, rows)
        for loan in self.loans:
            _borrow(self, loan, points, rows, found)
        return found[TIME], found[POWER]

    def parameters(self) -> dict[str, tuple[float, float]]:
        """Mean and deviation of the device parameters that the table can show, on their unbounded scale."""
        half = self.halves[-1]
        return {
            parameter.name: (float(column.mean()), float(column.std()))
            for parameter, column in zip(DEVICE, half.posterior.device.T, strict=True)
            if parameter.needs <= half.observed.flags
        }


def fit_pooled(
    knobs: tuple[str, ...], points: Floats, latency_s: Floats, power_w: Floats, *, settings: Settings | None = None
) -> Pooled:
    """Fit points [p, k] > 0, times and powers [w, p] > 0 (NaN where not measured); at least one value must be known."""
    settings = settings or Settings()
    values = (np.log(latency_s), np.log(power_w))
    loans = tuple(_loan(knobs, points, values, pattern, settings) for pattern in siblings.patterns(values))
    return replace(_alone(knobs, points, values, settings), loans=loans)


def _alone(knobs: tuple[str, ...], points: Floats, values: tuple[Floats, Floats], settings: Settings) -> Pooled:
    """Fit without corrections from other workloads."""
    limit = implied_limit(knobs, points, *values)
    levels = _levels(knobs, points, values, limit)
    outputs = tuple(output for output in (TIME, POWER) if not np.isnan(values[output]).all())
    halves = []
    capped = limit is not None or "power_limit_w" in knobs
    if TIME in outputs and not capped:
        observed = _observations(knobs, points, values, levels, (TIME,))
        more = replace(settings, pooled_workloads=8 * settings.pooled_workloads)
        halves.append(_Half(TIME, sampled(observed, more), observed))
    if POWER in outputs or capped:
        observed = _observations(knobs, points, values, levels, outputs)
        observed = observed if limit is None else _limited(observed)
        posterior = sampled(observed, settings)
        halves += [_Half(output, posterior, observed) for output in outputs if output == POWER or capped]
    return Pooled(knobs, points, values, levels, tuple(halves), (), limit)


def _loan(
    knobs: tuple[str, ...],
    points: Floats,
    values: tuple[Floats, Floats],
    pattern: siblings.Pattern,
    settings: Settings,
) -> _Loan:
    """Predict the siblings from the points of the pattern alone, and learn from what that missed."""
    rows = np.concatenate([pattern.workloads, pattern.siblings])
    masked = [np.where(pattern.points, one[rows], np.nan) for one in values]
    rough = replace(settings, num_samples=_LOAN_SAMPLES, fewer_samples=_LOAN_SAMPLES, most_workloads=_LOAN_WORKLOADS)
    partial = _alone(knobs, points, (masked[TIME], masked[POWER]), rough)
    base = partial.predict(points)
    corrections = tuple(
        (output, siblings.correction(values, base[output].mean, output, pattern))
        for output in (TIME, POWER)
        if not np.isnan(values[output][pattern.siblings]).all()
    )
    return _Loan(pattern.workloads, partial, corrections)


def _borrow(model: Pooled, loan: _Loan, points: Floats, rows: NDArray[np.int64], found: list[Estimate]) -> None:
    """Put the corrected estimates of a loan's workloads in place of their own."""
    wanted = np.flatnonzero(np.isin(loan.workloads, rows))
    if not len(wanted):
        return
    base = loan.partial.predict(points, wanted)
    reach = _reach(model.points)
    across = siblings.likeness(points, model.points, model.points, reach)
    own = siblings.likeness(model.points, model.points, model.points, reach)
    for output, correction in loan.corrections:
        shift, sd = correction.at(across, own)
        at = loan.workloads[wanted]
        found[output].mean[at] = base[output].mean[wanted] + shift[wanted]
        corrected = np.hypot(sd[wanted], _FLOOR[output])
        found[output].sd[at] = np.where(np.isnan(sd[wanted]), base[output].sd[wanted], corrected)


def _levels(
    knobs: tuple[str, ...], points: Floats, values: tuple[Floats, Floats], limit: float | None
) -> tuple[Floats, Floats]:
    """Level of each workload's logarithms; powers under a limit keep their size relative to the highest limit."""
    time = _row_means(values[TIME])
    if "power_limit_w" in knobs:
        top = np.log(points[:, knobs.index("power_limit_w")].max())
        return time, np.full(len(time), top)
    if limit is not None:
        return time, np.full(len(time), limit)
    return time, _row_means(values[POWER])


def _row_means(values: Floats) -> Floats:
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=1)
    found: Floats = total / np.maximum(known.sum(axis=1), 1)
    return found


def _fit_points(points: Floats, known: Bools) -> NDArray[np.int64]:
    """Indices [w, n] of the points of each workload that enter the fit; short rows repeat their first point."""
    chosen = []
    for row in known:
        at = np.flatnonzero(row)
        chosen.append(_thinned(points, at))
    width = max(len(at) for at in chosen)
    filled = [np.concatenate([at, np.full(width - len(at), at[0] if len(at) else 0)]) for at in chosen]
    return np.array(filled, dtype=np.int64)


def _thinned(points: Floats, at: NDArray[np.int64]) -> NDArray[np.int64]:
    most = _MOST_POINTS[points.shape[1]]
    return at if len(at) <= most else np.sort(at[farthest_points(points[at], most)])


def _observations(
    knobs: tuple[str, ...],
    points: Floats,
    values: tuple[Floats, Floats],
    levels: tuple[Floats, Floats],
    outputs: tuple[int, ...],
) -> Observations:
    known = np.any([~np.isnan(values[output]) for output in outputs], axis=0)
    chosen = _fit_points(points, known)
    repeated = np.zeros(chosen.shape, dtype=bool)
    repeated[:, 1:] = chosen[:, 1:] <= chosen[:, :-1]
    picked = [np.take_along_axis(values[output], chosen, axis=1) - levels[output][:, None] for output in outputs]
    value = np.concatenate(picked, axis=1)
    believed = ~np.isnan(value) & ~np.tile(repeated, (1, len(outputs)))
    at = points[chosen]
    flags = flags_of(knobs, time=TIME in outputs, power=POWER in outputs)
    return Observations(
        flags=flags,
        geometry=geometry_of(at, knobs, top=points.max(axis=0), low=points.min(axis=0)),
        outputs=outputs,
        value=np.where(believed, value, 0.0),
        known=believed,
        likeness=siblings.likeness(at, at, points, _reach(points)),
    )


def _limited(observed: Observations) -> Observations:
    """Return the observations under a power limit that is the same everywhere."""
    geometry = replace(observed.geometry, cap=np.ones(observed.likeness.shape[:2]))
    return replace(observed, flags=observed.flags | {"cap", "power"}, geometry=geometry)


def _reach(points: Floats) -> float:
    """Distance over which a misfit carries: half the range of a knob, less where points are dense."""
    num_points, num_knobs = points.shape
    return float(np.clip(1.5 * num_points ** (-1 / max(num_knobs, 1)), 0.15, 0.5))


def _estimated(model: Pooled, half: _Half, points: Floats, rows: NDArray[np.int64]) -> Estimate:
    """Estimate one output at points [q, k], in chunks of workloads."""
    output, values = half.output, model.values[half.output]
    shape = (len(values), len(points))
    mean, sd = np.full(shape, np.nan), np.full(shape, np.nan)
    samples = len(half.posterior.device)
    size = max(1, _CHUNK // (samples * (len(points) + len(model.points))))
    measured = rows[~np.isnan(values[rows]).all(axis=1)]
    for first in range(0, len(measured), size):
        some = measured[first : first + size]
        mean[some], sd[some] = _estimated_rows(model, half, points, some)
    return _as_measured(model, half, points, Estimate(mean, np.hypot(sd, _FLOOR[output])))


def _as_measured(model: Pooled, half: _Half, points: Floats, found: Estimate) -> Estimate:
    """Return the measurement where an asked point was measured: nothing tells more, and its noise alone is left."""
    row, column = _matches(points, model.points)
    values = model.values[half.output][:, column]
    noise = np.hypot(np.sqrt(1 - smooth_share()) * half.sigma, _FLOOR[half.output])
    mean, sd = found.mean.copy(), found.sd.copy()
    known = ~np.isnan(values) & ~np.isnan(mean[:, row])
    mean[:, row] = np.where(known, values, mean[:, row])
    sd[:, row] = np.where(known, np.minimum(sd[:, row], noise), sd[:, row])
    return Estimate(mean, sd)


def _matches(asked: Floats, measured: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of asked points [q, k] and of the measured ones [p, k] that they equal."""
    place = {point: index for index, point in enumerate(map(tuple, measured.tolist()))}
    pairs = [(row, place[point]) for row, point in enumerate(map(tuple, asked.tolist())) if point in place]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return rows, columns


def _estimated_rows(model: Pooled, half: _Half, points: Floats, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
    everywhere, place_of = _distinct(np.concatenate([points, model.points]))
    top, low = model.points.max(axis=0), model.points.min(axis=0)
    geometry = geometry_of(everywhere, model.knobs, top=top, low=low)
    geometry = geometry if model.limit is None else replace(geometry, cap=np.ones(len(everywhere)))
    posterior, level = half.posterior, model.levels[half.output][rows, None]
    device, weight = posterior.device[:, None, :], posterior.weight[:, rows]
    best, drawn = (
        _answers(half.output, device, workload, geometry)[..., place_of] + level
        for workload in (posterior.workload[:, rows], posterior.drawn[:, rows])
    )
    centre = np.einsum("sw,swq->wq", weight, best)
    variance = half.sigma**2
    mean, sd = np.empty((len(rows), len(points))), np.empty((len(rows), len(points)))
    for place, row in enumerate(rows.tolist()):
        values = model.values[half.output][row]
        plain, share = _plain(model, half.output, row, everywhere)
        plain, share = plain[place_of], share[place_of]
        curve = (1 - share) * centre[place] + share * plain
        left, carried = _carried(model, half, points, values, curve[len(points) :])
        mean[place] = curve[: len(points)] + carried @ left
        known = ~np.isnan(values)
        split = _uncarried(drawn[:, place] - centre[place], carried, known)
        between = (share * (1 - share))[: len(points)] * _uncarried(centre[place] - plain, carried, known) ** 2
        doubt = _DOUBT * _uncarried(curve - _interpolated(model, values, everywhere)[place_of], carried, known) ** 2
        spread = np.einsum("s,sq->q", weight[:, place], split**2) + between + doubt
        unknown = 1 - smooth_share() * np.einsum("qp,qp->q", carried, _like(model, points, known))
        sd[place] = np.sqrt(spread + variance * unknown.clip(1 - smooth_share(), 1.0))
    return mean, sd


def _distinct(points: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the distinct points, and the place of each point among them."""
    found, place = np.unique(points, axis=0, return_inverse=True)
    return found, place.reshape(-1)


def _answers(output: int, device: Floats, workload: Floats, geometry: Geometry) -> Floats:
    if output == TIME:
        return respond_time(device, workload, geometry)
    return respond(device, workload, geometry)[POWER]


def _uncarried(differences: Floats, carried: Floats, known: Bools) -> Floats:
    """Differences [..., q] of curves at the asked points once each is carried through the measured ones.

    differences: [..., q + p], at the asked points and then at all measured ones.
    """
    num_asked = len(carried)
    found: Floats = differences[..., :num_asked] - differences[..., num_asked:][..., known] @ carried.T
    return found


def _interpolated(model: Pooled, values: Floats, points: Floats) -> Floats:
    """Logarithm [q] at points [q, k] between the measured ones, by no law at all."""
    known = ~np.isnan(values)
    if not model.knobs:
        return np.full(len(points), float(np.mean(values[known])))
    return np.log(interpolation(model.points[known], np.exp(values[known]), model.knobs).predict(points))


def _like(model: Pooled, points: Floats, known: Bools) -> Floats:
    return siblings.likeness(points, model.points[known], model.points, _reach(model.points))


def _carried(model: Pooled, half: _Half, points: Floats, values: Floats, curve: Floats) -> tuple[Floats, Floats]:
    """What the curve misses at the measured points [p'], and how much of each is carried to asked ones [q, p']."""
    variance = half.sigma**2
    known = ~np.isnan(values)
    left = values[known] - curve[known]
    trust: Floats = np.ones(len(left))
    if len(left) >= _ROBUST_POINTS:
        trust = trusted(left**2 / variance)
    own = smooth_share() * _like(model, model.points[known], known) + np.diag(1 / trust - smooth_share())
    across = smooth_share() * _like(model, points, known)
    return left, np.linalg.solve(own, across.T).T


def _sweep(model: Pooled, output: int) -> str:
    """Kind of sweep; without times nothing shows whether very low clocks that were asked for ran."""
    knobs = model.knobs
    if "power_limit_w" in knobs:
        return "limit" if len(knobs) == 1 else "limit and clocks"
    if len(knobs) > 1:
        return "clocks"
    deep = model.points.min() < _LOW_CLOCK * model.points.max()
    unseen = output == POWER and deep and bool(np.isnan(model.values[TIME]).all())
    return "one clock, perhaps not run" if unseen else "one clock"


def _plain(model: Pooled, output: int, row: int, points: Floats) -> tuple[Floats, Floats]:
    """Logarithm [q] that plain laws predict for one workload, and their share in the average [q]."""
    if not model.knobs:
        return np.full(len(points), model.levels[output][row]), np.zeros(len(points))
    values = model.values[output][row]
    known = _thinned(model.points, np.flatnonzero(~np.isnan(values)))
    at, seen = model.points[known], np.exp(values[known])
    laws, share = _PLAIN[output, _sweep(model, output)]
    curves = {law: np.log(np.maximum(law(at, seen, model.knobs).predict(points), 1e-3 * seen.min())) for law in laws}
    plain: Floats = np.mean(list(curves.values()), axis=0)
    if interpolation not in curves:
        return plain, np.full(len(points), share)
    beyond = outside(points, at)  # there straight lines end, and only laws go on
    going_on = [curve for law, curve in curves.items() if law is not interpolation]
    plain = np.where(beyond, np.mean(going_on, axis=0) if going_on else plain, plain)
    return plain, np.where(beyond, share * len(going_on) / len(laws), share)
