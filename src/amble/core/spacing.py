"""Settings of knobs → in which order to measure them: the highest, the lowest, then always the farthest from the rest.

Distance is Euclidean over columns that are each scaled to 0…1; of the logarithms of clocks, so that they spread evenly
in ratio. With the ends measured first every prediction is an interpolation. Shape letters: p point, k knob.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["scaled", "spread_out"]

Floats = NDArray[np.floating[Any]]


def scaled(values: Floats, over: Floats | None = None) -> Floats:
    """Scale each column of values [p, k] so that its range in ``over`` [q, k], or its own, is 0…1."""
    within = values if over is None else over
    low, high = within.min(axis=0), within.max(axis=0)
    found: Floats = (values - low) / np.where(high > low, high - low, 1.0)
    return found


def spread_out(places: Floats, measured: Iterable[int] = ()) -> Iterator[int]:
    """Go through the points of places [p, k] that are not measured yet, best first. Ties go to the first point.

    >>> list(spread_out(np.array([[0.0], [0.4], [0.5], [1.0]])))
    [3, 0, 2, 1]
    """
    total, away, taken = places.sum(axis=1), np.full(len(places), np.inf), np.zeros(len(places), bool)

    def take(point: int) -> None:
        taken[point] = True
        np.minimum(away, np.linalg.norm(places - places[point], axis=1), out=away)

    for point in measured:
        take(point)
    for end in (int(np.argmax(total)), int(np.argmin(total))):
        if not taken[end]:
            yield end
            take(end)
    while not taken.all():
        point = int(np.argmax(np.where(taken, -1.0, away)))
        yield point
        take(point)
