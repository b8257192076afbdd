"""Points a device allows → the few worth measuring, in order: the farthest from all that were measured before.

Distance is Euclidean over the logarithms of the knobs, each scaled to 0…1, so that clocks spread evenly in ratio. The
highest point comes first and the lowest second: every prediction is then an interpolation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from amble.core.point import OperatingPoint
from amble.core.ports import FloatArray
from amble.core.profile import Profile

__all__ = ["enough", "farthest"]

_ENOUGH = {0: 1, 1: 6, 2: 16, 3: 24}
"""Points to measure for so many knobs (clocks, power limit) with more than one level."""


def enough(points: tuple[OperatingPoint, ...]) -> int:
    """Return how many points a fit over these needs: more for every knob, never more than there are."""
    num_domains = int((np.ptp(_places(points), axis=0) > 0).sum())
    precisions = len({point.precision for point in points})
    return min(len(points), _ENOUGH[min(num_domains, 3)] * precisions)


def farthest(num_points: int) -> Callable[[Profile], OperatingPoint | None]:
    """Return a chooser that stops after so many points."""

    def next_point(profile: Profile) -> OperatingPoint | None:
        measured = {total.point for total in profile.totals}
        if len(measured) >= min(num_points, len(profile.points)):
            return None
        return _farthest(profile.points, measured)

    return next_point


def _farthest(points: tuple[OperatingPoint, ...], measured: set[OperatingPoint]) -> OperatingPoint:
    place = _places(points)
    chosen = np.array([point in measured for point in points])
    total = place.sum(axis=1)
    for extreme in (int(np.argmax(total)), int(np.argmin(total))):
        if not chosen[extreme]:
            return points[extreme]
    gaps = np.linalg.norm(place[:, None, :] - place[None, chosen, :], axis=2).min(axis=1)
    return points[int(np.argmax(np.where(chosen, -1.0, gaps)))]


def _places(points: tuple[OperatingPoint, ...]) -> FloatArray:
    """Return [point, knob] in 0…1: logarithms of the knobs, and one column that keeps precisions apart."""
    precisions = sorted({point.precision for point in points})
    raw = np.array(
        [
            [*(np.log(setting or 1.0) for setting in point.clocks.knobs()), float(precisions.index(point.precision))]
            for point in points
        ]
    )
    span = np.ptp(raw, axis=0)
    return np.asarray((raw - raw.min(axis=0)) / np.where(span > 0, span, 1.0))
