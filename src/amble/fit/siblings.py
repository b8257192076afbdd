"""Workloads measured at many points → what a workload measured at few of them will show at the rest.

The siblings are predicted from the few points alone, exactly as the workload in question is; what that missed at the other
points is regressed on how the siblings answered at the few (a Gaussian process over workloads, with a common offset), and
the regression is read off at the workload's own answers. Leaving one sibling out at a time tells how good that is.

Shape letters: w workload, x sibling, p point, f feature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Correction", "Pattern", "correction", "likeness", "patterns"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]

_FEWEST_SIBLINGS = 3
_MOST_PATTERNS = 8
_NOISE = 0.05  # share of the siblings' misses that their answers do not explain


@dataclass(frozen=True, slots=True)
class Pattern:
    """Workloads measured at the same few points, and the siblings measured at most of the others."""

    points: Bools  # [p] where those workloads were measured
    workloads: Indices
    siblings: Indices


@dataclass(frozen=True, slots=True)
class Correction:
    """What to add to the logarithm of each workload of a pattern at the measured points, and the deviation left."""

    workloads: Indices  # [w]
    shift: Floats  # [w, p]
    sd: Floats  # [p]
    likeness: Floats  # [p, p] kernel between the measured points

    def at(self, likeness: Floats) -> tuple[Floats, Floats]:
        """Carry the correction to points whose likeness to the measured ones is [q, p] → [w, q] and [w, q]."""
        own = self.likeness + 1e-4 * np.eye(len(self.likeness))
        carried = np.linalg.solve(own, likeness.T).T
        near = likeness.max(axis=1) > 0.9  # farther from every measured point the family's own deviation stands
        sd = np.where(near, np.abs(carried @ self.sd), np.nan)
        return self.shift @ carried.T, np.broadcast_to(sd, (len(self.workloads), len(likeness)))


def likeness(left: Floats, right: Floats, span: Floats, reach: float) -> Floats:
    """Matern-3/2 kernel [..., p, r] between points [..., p, k] and [..., r, k] in log knobs scaled to the span [., k]."""
    width = np.log(span).max(axis=0) - np.log(span).min(axis=0)
    width = np.where(width > 0, width, 1.0)
    away = (np.log(left)[..., :, None, :] - np.log(right)[..., None, :, :]) / width
    distance = np.sqrt(3.0) * np.sqrt((away**2).sum(axis=-1)) / reach
    found: Floats = (1 + distance) * np.exp(-distance)
    return found


def patterns(values: tuple[Floats, Floats], output: int) -> list[Pattern]:
    """Find workloads measured at few points while three siblings or more were measured at twice as many and at those."""
    known = ~np.isnan(values[output])
    both = [~np.isnan(one) for one in values if not np.isnan(one).all()]
    everything = np.all(both, axis=0)
    count = known.sum(axis=1)
    found: list[Pattern] = []
    for row in np.unique(known[count > 0], axis=0):
        rich = np.flatnonzero((everything | ~row).all(axis=1) & (count >= 2 * row.sum()) & (count >= 0.8 * count.max()))
        rows = np.flatnonzero((known == row).all(axis=1))
        if len(rich) >= _FEWEST_SIBLINGS and len(found) < _MOST_PATTERNS:
            found.append(Pattern(row, rows, rich))
    return found


def correction(values: tuple[Floats, Floats], predicted: Floats, output: int, pattern: Pattern) -> Correction:
    """Learn what predictions [x, p] of the siblings from the pattern's points alone missed, and apply it."""
    missed = values[output][pattern.siblings] - predicted
    missed = np.where(np.isnan(missed), np.nanmean(missed, axis=0), missed)
    features = _features(values, pattern.points)
    scale = features[pattern.siblings].std(axis=0)
    features = features / np.where(scale > 1e-9, scale, 1.0) / np.sqrt(max(features.shape[1], 1))
    own = _kernel(features[pattern.siblings], features[pattern.siblings])
    own = own + _NOISE * np.eye(len(own))
    inverse = np.linalg.inv(own)
    shift = _kernel(features[pattern.workloads], features[pattern.siblings]) @ inverse @ missed
    left_out = (inverse @ missed) / np.diag(inverse)[:, None]
    sd = np.sqrt(np.mean(left_out**2, axis=0))
    return Correction(pattern.workloads, shift, sd, np.eye(len(sd)))


def _features(values: tuple[Floats, Floats], points: Bools) -> Floats:
    """How a workload answered at the points [w, f]: its slopes in time, its slopes and level in power; unknowns are mean."""
    time, power = (one[:, points] for one in values)
    columns = [time[:, 1:] - time[:, :1], power]
    features = np.concatenate([one for one in columns if not np.isnan(one).all()] or [np.zeros((len(time), 1))], axis=1)
    mean = np.nanmean(np.where(np.isnan(features).all(axis=0), 0.0, features), axis=0)
    return np.where(np.isnan(features), mean, features)


def _kernel(left: Floats, right: Floats) -> Floats:
    """A common offset plus likeness of the answers."""
    away = ((left[:, None, :] - right[None, :, :]) ** 2).sum(axis=-1)
    found: Floats = 1.0 + np.exp(-0.5 * away) + 0.5 * np.exp(-2.0 * away)
    return found
