"""Profile, points, name of a model → latency and power of every operator there, and the error on points left out.

The operators are the workloads of a sweep over the clocks, so whatever fits measured tables fits profiles. Operators
that take no time (a runtime gives views of tensors for nothing) take none anywhere. Letters: O operators, P points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import FloatArray
from amble.core.profile import Profile
from amble.stages.fit.costs import Error, Surfaces
from amble.stages.fit.models import Measured, predict
from amble.stages.fit.sweep import Floats

__all__ = ["surfaces"]

_KNOBS = ("core_hz", "memory_hz", "cpu_hz", "power_limit_w")
_LEFT_OUT = 4  # every fourth point, the extremes never


@dataclass(frozen=True, slots=True)
class _Samples:
    """A profile as arrays over its measured points."""

    points: tuple[OperatingPoint, ...]
    latency_s: FloatArray  # [operator, point]
    power_w: FloatArray  # [operator, point], NaN without a meter
    idle_w: FloatArray  # [1, point], NaN where not measured

    def at(self, kept: list[int]) -> _Samples:
        """Keep some of the points."""
        points = tuple(self.points[index] for index in kept)
        return _Samples(points, self.latency_s[:, kept], self.power_w[:, kept], self.idle_w[:, kept])


def surfaces(profile: Profile, points: tuple[OperatingPoint, ...], *, model: str, held_out: bool = True) -> Surfaces:
    """Fit a profile and read it off at these points; again without a quarter of them to see the error.

    The last row is the idle device: its power, and no time.
    """
    samples = _samples(profile)
    latency_s, power_w = _fitted(samples, points, model)
    error = _error(samples, model) if held_out and len(samples.points) > _LEFT_OUT else Error()
    return Surfaces(latency_s, power_w, model, error)


def _samples(profile: Profile) -> _Samples:
    points = tuple(total.point for total in profile.totals)
    row = {name: index for index, name in enumerate(profile.operators)}
    column = {point: index for index, point in enumerate(points)}
    latency_s, energy_j = np.full((2, len(row), len(points)), np.nan)
    for sample in profile.samples:
        place = row[sample.operator], column[sample.point]
        latency_s[place] = sample.latency_s
        energy_j[place] = np.nan if sample.energy_j is None else sample.energy_j
    power_w = np.divide(energy_j, latency_s, out=np.zeros_like(energy_j), where=latency_s > 0)
    idle_w: dict[Clocks, float] = {each.clocks: each.power_w for each in profile.idle}
    idle = np.array([[idle_w.get(point.clocks, np.nan) for point in points]])
    return _Samples(points, latency_s, power_w, idle)


def _fitted(samples: _Samples, points: tuple[OperatingPoint, ...], model: str) -> tuple[FloatArray, FloatArray]:
    """Return latency [operator + 1, point] and power [operator + 1, point], the last row of the idle device."""
    everywhere = {point.clocks for point in (*points, *samples.points)}
    knobs = [name for name in _KNOBS if len({getattr(clocks, name) for clocks in everywhere}) > 1]
    measured_at, wanted_at = _places(samples.points, knobs), _places(points, knobs)
    runs = np.asarray((samples.latency_s > 0).all(axis=1))
    latency_s, power_w = np.zeros((2, len(runs) + 1, len(points)))
    if knobs:
        measured = Measured(tuple(knobs), measured_at, samples.latency_s[runs], samples.power_w[runs])
        found = predict(model, measured, at=wanted_at)
        latency_s[:-1][runs], power_w[:-1][runs] = found.latency_s, found.power_w
        idle = Measured(tuple(knobs), measured_at, np.full_like(samples.idle_w, np.nan), samples.idle_w)
        power_w[-1] = predict(model, idle, at=wanted_at).power_w if np.isfinite(samples.idle_w).any() else np.nan
    else:
        latency_s[:-1], power_w[:-1], power_w[-1] = (
            samples.latency_s[:, :1],
            samples.power_w[:, :1],
            samples.idle_w[0, 0],
        )
    return latency_s, power_w


def _places(points: tuple[OperatingPoint, ...], knobs: list[str]) -> Floats:
    return np.array([[float(getattr(point.clocks, name) or np.nan) for name in knobs] for point in points])


def _error(samples: _Samples, model: str) -> Error:
    """Compare whole runs at points left out of the fit with what was measured there."""
    left_out = list(range(2, len(samples.points), _LEFT_OUT))
    kept = [index for index in range(len(samples.points)) if index not in left_out]
    truth = samples.at(left_out)
    latency_s, power_w = _fitted(samples.at(kept), truth.points, model)
    time = np.abs(latency_s[:-1].sum(axis=0) / truth.latency_s.sum(axis=0) - 1)
    if np.isnan(truth.power_w).any():
        return Error(float(np.median(time)), float(np.quantile(time, 0.95)))
    spent_j, truth_j = ((latency_s * power_w)[:-1].sum(axis=0), (truth.latency_s * truth.power_w).sum(axis=0))
    power = np.abs(spent_j / latency_s[:-1].sum(axis=0) / (truth_j / truth.latency_s.sum(axis=0)) - 1)
    return Error(*(float(np.quantile(each, share)) for each in (time, power) for share in (0.5, 0.95)))
