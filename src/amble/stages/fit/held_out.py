"""A sweep of a measured table → how the model does on points left out of it, and what they ask for.

Shape letters: w workload, p measured point, n value left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.stages.fit.models import DEFAULT, Measured, predict
from amble.stages.fit.sweep import Sweep, farthest_points, points_needed

__all__ = ["HeldOut", "held_out", "interpolation_share"]

Floats = NDArray[np.floating[Any]]

_HELD_OUT_WORKLOADS = 16
_FEWEST_TO_STRETCH, _MOST_STRETCH = 20, 4.0  # values left out from which, and how far, intervals are stretched
_SHARES, _CLEARLY = (0.0, 0.25, 0.5, 0.75, 1.0), 0.9  # of interpolation; of the error it must be below to get any


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Relative errors at measured points left out of the fit in turn, and how often the interval held them."""

    time_median: float | None
    time_p95: float | None
    time_covered: float | None
    power_median: float | None
    power_p95: float | None
    power_covered: float | None
    time_wider: float = 1.0  # what intervals (in logarithms) had to be stretched by to hold 90 % of the left out
    power_wider: float = 1.0
    time_lines: float = 0.0  # share of plain interpolation that predicted what was left out best
    power_lines: float = 0.0


def held_out(model: str, sweep: Sweep, points: Floats, folds: int) -> HeldOut | None:
    """Leave out every folds-th point in turn; the highest and lowest stay in. Of many workloads some stand for all."""
    order = farthest_points(points, len(points))
    rest = order[2:] if len(order) > 3 else order
    if len(points) < 3:
        return None
    some = np.arange(0, sweep.num_workloads, -(-sweep.num_workloads // _HELD_OUT_WORKLOADS))
    latency_s, power_w = sweep.latency_s[some], sweep.power_w[some]
    parts: dict[int, list[_LeftOut]] = {0: [], 1: []}
    for fold in range(min(folds, len(rest))):
        out = rest[fold::folds]
        kept = np.setdiff1d(np.arange(len(points)), out)
        measured = Measured(sweep.knobs, points[kept], latency_s[:, kept], power_w[:, kept])
        found, lines = (predict(name, measured, at=points[out]) for name in (model, "interpolate"))
        for output, (centre, high, line, true) in enumerate(
            (
                (found.latency_s, found.latency_hi_s, lines.latency_s, latency_s),
                (found.power_w, found.power_hi_w, lines.power_w, power_w),
            )
        ):
            known = ~np.isnan(true[:, out]) & ~np.isnan(centre)
            log = np.log(true[:, out][known])
            left = (np.log(centre[known]) - log, np.log(line[known]) - log, np.log(high[known] / centre[known]))
            parts[output].append(_LeftOut(*left))
    enough = len(points) >= 2 * points_needed(sweep.knobs)  # of fewer, the rest is not like what is to be predicted
    time, power = (_summary(parts[output], stack=model == DEFAULT and enough) for output in (0, 1))
    return HeldOut(*time[:3], *power[:3], time[3], power[3], time[4], power[4])


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """Logarithms at points left out [n]: errors of the model and of interpolation, and half the interval."""

    model: Floats
    lines: Floats
    half: Floats


def _summary(
    parts: Sequence[_LeftOut], *, stack: bool
) -> tuple[float | None, float | None, float | None, float, float]:
    """Median and 95th percentile of the error, share inside the interval, its stretch, interpolation's share."""
    own, lines, half = (np.concatenate([getattr(part, name) for part in parts]) for name in ("model", "lines", "half"))
    if not len(own):
        return None, None, None, 1.0, 0.0
    share = interpolation_share(own, lines) if stack and len(own) >= _FEWEST_TO_STRETCH else 0.0
    left = np.abs((1 - share) * own + share * lines)
    wider = 1.0
    if len(left) >= _FEWEST_TO_STRETCH and not np.isnan(half).any():
        rank = min(1.0, 0.9 * (len(left) + 1) / len(left))
        wider = float(np.clip(np.quantile(left / half, rank, method="higher"), 1.0, _MOST_STRETCH))
    error = np.expm1(left)
    covered = float(np.mean(left <= wider * half))
    return float(np.median(error)), float(np.percentile(error, 95)), covered, wider, share


def interpolation_share(own: Floats, lines: Floats) -> float:
    """Share of interpolation of least mean error, 0 unless the model alone is clearly worse (Wolpert 1992)."""
    errors = [float(np.mean(np.abs((1 - share) * own + share * lines))) for share in _SHARES]
    best = int(np.argmin(errors))
    return _SHARES[best] if errors[best] < _CLEARLY * errors[0] else 0.0
