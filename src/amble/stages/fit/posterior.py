"""What a hierarchical fit starts from, how it is done, and what comes of it (`hierarchy`).

Shape letters: s sample, w workload, n point of one workload, m = outputs x n, d device parameters, z workload
parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.stages.fit.parameters import Geometry

__all__ = ["Observations", "Posterior", "Settings", "trusted"]

Floats = NDArray[np.floating[Any]]

_FREEDOM = 4.0  # degrees of freedom of the noise: its tails are heavier than the normal's
_LEAST_TRUST = 0.02


@dataclass(frozen=True, slots=True)
class Settings:
    """How to fit: typical relative errors of time and power before anything is seen, and how much to pool."""

    pooled_workloads: float = 0.5
    num_samples: int = 32
    fewer_samples: int = 24  # of more than most_workloads workloads
    most_workloads: int = 24  # that the device is learnt from, evenly chosen
    time_sigma: float = 0.01
    power_sigma: float = 0.012
    prior_points: float = 6.0  # weight of the typical errors, in points
    evidence_share: float = 0.2  # tempering of the evidence of a start
    weight_share: float = 0.3  # tempering of the evidence of a sample for one workload
    robust_points: int = 10  # values a workload needs before single ones may be doubted
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Observations:
    """What was measured, as logarithms without their level."""

    flags: frozenset[str]
    geometry: Geometry  # ratios are [w, n]
    outputs: tuple[int, ...]  # 0 time, 1 power
    value: Floats  # [w, m], 0 where unknown
    known: NDArray[np.bool_]  # [w, m]
    likeness: Floats  # [w, n, n] kernel between the points


@dataclass(frozen=True, slots=True)
class Posterior:
    """Samples: parameters that fit best, and ones drawn around them; trust is 1, less for a value doubted."""

    device: Floats  # [s, d]
    workload: Floats  # [s, w, z]
    drawn: Floats  # [s, w, z]
    weight: Floats  # [s, w]
    sigma: Floats  # [s, outputs]
    trust: Floats  # [s, w, m]


def trusted(squares: Floats) -> Floats:
    """Return the weight of values by the squares of their errors over the noise: Student's t, 1 or less if doubted.

    >>> trusted(np.array([1.0, 16.0])).tolist()
    [1.0, 0.25]
    """
    found: Floats = ((_FREEDOM + 1) / (_FREEDOM + squares)).clip(_LEAST_TRUST, 1.0)
    return found
