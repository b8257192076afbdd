"""The models by name: measured times and powers as arrays → the same at asked points, with an interval.

`amble` is the default (`pooled`); the others are the published laws (`laws`), fitted to each workload by itself and
without an interval. Shape letters: w workload, p measured point, q asked point, k knob.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from amble.stages.fit.laws import POWER_LAWS, TIME_LAWS, Law
from amble.stages.fit.pooled import Estimate, fit_pooled

__all__ = ["DEFAULT", "MODELS", "Z90", "Measured", "Prediction", "fields_of", "forms_used", "predict"]

Floats = NDArray[np.floating[Any]]

DEFAULT = "amble"
_PAIRS = {  # name -> law of time, law of power
    "cpu-dvfs": ("cpu-dvfs", "cube"),
    "cpu-dvfs-top": ("cpu-dvfs-top", "cube"),
    "han": ("han", "cube"),
    "sum": ("sum", "linear"),
    "p-norm": ("p-norm", "knee"),
    "roofline": ("roofline", "knee"),
    "linear": ("sum", "linear"),
    "knee": ("p-norm", "knee"),
    "interpolate": ("interpolate", "interpolate"),
}
MODELS = (DEFAULT, *_PAIRS)
Z90 = 1.645
"""Half a 90 % interval of a normal distribution, in standard deviations."""

_WIDE = Z90 * 1.2  # widened by what the files of the design asked for


@dataclass(frozen=True, slots=True)
class Prediction:
    """Times and powers with the ends of their 90 % interval, all of one shape; NaN where nothing can be said.

    notes: on what could hardly be said.
    """

    latency_s: Floats
    latency_lo_s: Floats
    latency_hi_s: Floats
    power_w: Floats
    power_lo_w: Floats
    power_hi_w: Floats
    notes: tuple[str, ...] = field(default=(), kw_only=True)


def fields_of(found: Prediction) -> tuple[Floats, ...]:
    """Return time, its lower and upper end, and the same of power."""
    times = (found.latency_s, found.latency_lo_s, found.latency_hi_s)
    return (*times, found.power_w, found.power_lo_w, found.power_hi_w)


@dataclass(frozen=True, slots=True)
class Measured:
    """Points [p, k] > 0, knobs named as in the recorded schema (each takes several values), and what was measured
    there.

    Times and powers are [w, p] > 0, NaN where not measured.
    """

    knobs: tuple[str, ...]
    points: Floats
    latency_s: Floats
    power_w: Floats


def predict(model: str, measured: Measured, *, at: Floats, rows: NDArray[np.int64] | None = None) -> Prediction:
    """Fit what was measured and predict points at [q, k] → [w, q]; rows, if given, are the workloads that are wanted.

    ValueError for a model that is not one.
    """
    if model not in MODELS:
        raise ValueError(f"there is no model {model!r}; there are {', '.join(MODELS)}")
    with threadpool_limits(limits=1, user_api="blas"):  # the matrices are small: threads would wait for each other
        return _predicted(model, measured, at, rows)


def _predicted(model: str, measured: Measured, at: Floats, rows: NDArray[np.int64] | None) -> Prediction:
    if model == DEFAULT:
        fitted = fit_pooled(measured.knobs, measured.points, measured.latency_s, measured.power_w)
        return _with_intervals(*fitted.predict(at, rows))
    time_law, power_law = _PAIRS[model]
    time = _by_law(TIME_LAWS[time_law], measured, measured.latency_s, at)
    power = _by_law(POWER_LAWS[power_law], measured, measured.power_w, at)
    nothing = np.full_like(time, np.nan)
    return Prediction(time, nothing, nothing, power, nothing, nothing)


def forms_used(model: str, measured: Measured) -> set[str]:
    """Names of the forms that the laws of a model took; simpler ones than asked where points were too few."""
    if model == DEFAULT or not measured.knobs:
        return {model}
    forms = set()
    time_law, power_law = TIME_LAWS[_PAIRS[model][0]], POWER_LAWS[_PAIRS[model][1]]
    for law, values in ((time_law, measured.latency_s), (power_law, measured.power_w)):
        for row in values:
            known = ~np.isnan(row)
            if known.any():
                forms.add(law(measured.points[known], row[known], measured.knobs).form)
    return forms


def _with_intervals(time: Estimate, power: Estimate) -> Prediction:
    return Prediction(
        np.exp(time.mean),
        np.exp(time.mean - _WIDE * time.sd),
        np.exp(time.mean + _WIDE * time.sd),
        np.exp(power.mean),
        np.exp(power.mean - _WIDE * power.sd),
        np.exp(power.mean + _WIDE * power.sd),
    )


def _by_law(law: Law, measured: Measured, values: Floats, at: Floats) -> Floats:
    found = np.full((len(values), len(at)), np.nan)
    for number, row in enumerate(values):
        known = ~np.isnan(row)
        if known.any() and measured.knobs:
            found[number] = law(measured.points[known], row[known], measured.knobs).predict(at)
        elif known.any():
            found[number] = np.median(row[known])
    return found
