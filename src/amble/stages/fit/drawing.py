"""A generator of random numbers → few draws that stand for many: systematic resampling, mirrored normal numbers.

Shape letter: s sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["evenly", "mirrored"]

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]


def evenly(odds: Floats, num_samples: int, rng: np.random.Generator) -> Indices:
    """Draw indices in proportion to their odds, each as often as it should be within one (systematic resampling)."""
    at = (np.arange(num_samples) + rng.random()) / num_samples
    found: Indices = np.minimum(np.searchsorted(np.cumsum(odds), at), len(odds) - 1)
    return found


def mirrored(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Draw normal numbers [s, ...], every second one the first one's opposite, so that means hold in few samples."""
    half = rng.standard_normal((-(-shape[0] // 2), *shape[1:]))
    found: Floats = np.stack([half, -half], axis=1).reshape(-1, *shape[1:])[: shape[0]]
    return found
