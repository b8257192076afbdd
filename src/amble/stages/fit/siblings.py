"""Workloads measured at many points → what a workload measured at few of them will show at the rest.

The siblings are predicted from the few points alone, exactly as the workload in question is; what that missed at the
other points is regressed on how the siblings answered at the few (a Gaussian process over workloads, with a common
offset), and the regression is read off at the workload's own answers. Leaving one sibling out at a time tells how
good that is.

Shape letters: w workload, x sibling, p point, f feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Correction", "Pattern", "correction", "likeness", "patterns"]

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]

_FEWEST_SIBLINGS = 3
_MOST_SIBLINGS = 32
_MOST_PATTERNS = 3  # those with the fewest points
_NEAR = 0.9  # likeness to a measured point from which its deviation holds
_REACHES = (0.3, 0.7, 1.5, 4.0)  # in deviations of the siblings' answers
_NOISES = (0.03, 0.1, 0.3, 1.0)  # variance that the answers do not explain, in units of the kernel


@dataclass(frozen=True, slots=True)
class Pattern:
    """Workloads measured at the same few points, and the siblings measured at most of the others."""

    points: Bools  # [p] where those workloads were measured
    workloads: Indices
    siblings: Indices


@dataclass(frozen=True, slots=True)
class Correction:
    """What to add to the logarithm of each workload of a pattern at the measured points, and the deviation left."""

    shift: Floats  # [w, p]
    sd: Floats  # [p]

    def at(self, likeness: Floats, own: Floats) -> tuple[Floats, Floats]:
        """Carry the correction to asked points, given their likeness to the measured ones and that of those, [q, p],
        [p, p].

        Returns the shift and the deviation, [w, q]; the deviation is NaN far from every measured point.
        """
        carried = np.linalg.solve(own + 1e-4 * np.eye(len(own)), likeness.T).T
        near = likeness.max(axis=1) > _NEAR
        sd = np.where(near, self.sd[np.argmax(likeness, axis=1)], np.nan)
        return self.shift @ carried.T, np.broadcast_to(sd, (len(self.shift), len(likeness)))


def likeness(left: Floats, right: Floats, span: Floats, reach: float) -> Floats:
    """Matern-3/2 kernel [..., p, r] of points [..., p, k] and [..., r, k], in log knobs scaled to the span [., k]."""
    width = np.log(span).max(axis=0) - np.log(span).min(axis=0)
    width = np.where(width > 0, width, 1.0)
    away = (np.log(left)[..., :, None, :] - np.log(right)[..., None, :, :]) / width
    distance = np.sqrt(3.0) * np.sqrt((away**2).sum(axis=-1)) / reach
    found: Floats = (1 + distance) * np.exp(-distance)
    return found


def patterns(values: tuple[Floats, Floats]) -> list[Pattern]:
    """Find workloads measured at few points, with three siblings or more measured at those and as many again."""
    shown = [~np.isnan(one) for one in values if not np.isnan(one).all()]
    some, every = np.any(shown, axis=0), np.all(shown, axis=0)
    count = some.sum(axis=1)
    found: list[Pattern] = []
    rows = np.unique(some[count > 0], axis=0)
    for row in rows[np.argsort(rows.sum(axis=1), kind="stable")]:
        rich = (every | ~row).all(axis=1) & (count >= 2 * row.sum()) & (count >= 0.8 * count.max())
        chosen = np.flatnonzero(rich)
        if len(chosen) >= _FEWEST_SIBLINGS and len(found) < _MOST_PATTERNS:
            step = max(1, -(-len(chosen) // _MOST_SIBLINGS))
            found.append(Pattern(row, np.flatnonzero((some == row).all(axis=1)), chosen[::step]))
    return found


def correction(values: tuple[Floats, Floats], base: Floats, output: int, pattern: Pattern) -> Correction:
    """Learn what predictions from the pattern's points alone missed, and apply it.

    base: logarithms [w + x, p] predicted for the pattern's workloads and then its siblings. How far answers carry and
    how much is noise are chosen by leaving one sibling out; no correction at all is one of the choices.
    """
    num_poor = len(pattern.workloads)
    missed = values[output][pattern.siblings] - base[num_poor:]
    missed = np.where(np.isnan(missed), 0.0, missed)
    features = _features(values, pattern)
    poor, rich = features[:num_poor], features[num_poor:]
    best = Correction(np.zeros_like(base[:num_poor]), np.sqrt(np.mean(missed**2, axis=0)))
    least = float(np.mean(best.sd))
    for reach in _REACHES:
        for noise in _NOISES:
            inverse = np.linalg.inv(_kernel(rich, rich, reach) + noise * np.eye(len(rich)))
            left_out = (inverse @ missed) / np.diag(inverse)[:, None]
            sd = np.sqrt(np.mean(left_out**2, axis=0))
            if float(np.mean(sd)) < least:
                least = float(np.mean(sd))
                best = Correction(_kernel(poor, rich, reach) @ inverse @ missed, sd)
    return best


def _features(values: tuple[Floats, Floats], pattern: Pattern) -> Floats:
    """How workloads and siblings answered at the points [w + x, f]: slopes in time, powers; unknowns are the mean."""
    rows = np.concatenate([pattern.workloads, pattern.siblings])
    time, power = (one[rows][:, pattern.points] for one in values)
    columns = [time[:, 1:] - time[:, :1], power]
    columns = [one for one in columns if one.size and not np.isnan(one).all()]
    if not columns:
        return np.zeros((len(rows), 1))
    features = np.concatenate(columns, axis=1)
    known = np.where(np.isnan(features), 0.0, features)
    mean = known.sum(axis=0) / np.maximum((~np.isnan(features)).sum(axis=0), 1)
    features = np.where(np.isnan(features), mean, features) - mean
    scale = features[len(pattern.workloads) :].std(axis=0)
    scaled: Floats = features / np.where(scale > 1e-9, scale, 1.0)
    return scaled


def _kernel(left: Floats, right: Floats, reach: float) -> Floats:
    """A common offset, a straight line and likeness of the answers."""
    away = ((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=-1)
    found: Floats = 1.0 + 0.3 * left @ right.T + np.exp(-0.5 * away / reach**2)
    return found
