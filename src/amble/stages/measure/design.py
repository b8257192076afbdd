"""Points a device allows → the few worth measuring, in order: the farthest from all that were measured before.

Once these are known, what is left goes where plans would run (`where_plans_run`), as often as plans name a setting that
nobody measured: predictions matter there.

The highest point comes first and the lowest second (`core.spacing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from amble.core.point import OperatingPoint
from amble.core.ports import FloatArray
from amble.core.profile import Profile
from amble.core.schedule import Schedule
from amble.core.spacing import scaled, spread_out

__all__ = ["Size", "enough", "farthest", "sized", "where_plans_run"]

_RUNS = 600  # of the whole network, for the margin of a percentile
_MOST_REPEATS = 50  # at one setting, for their sake

_ENOUGH = {0: 1, 1: 6, 2: 16, 3: 24}
"""Points to measure of every operator for so many knobs (clocks, power limit) with more than one level."""


def enough(points: tuple[OperatingPoint, ...]) -> int:
    """Return how many points a fit over these needs: more for every knob, never more than there are."""
    num_domains = int((np.ptp(_places(points), axis=0) > 0).sum())
    precisions = len({point.precision for point in points})
    return min(len(points), _ENOUGH[min(num_domains, 3)] * precisions)


@dataclass(frozen=True, slots=True)
class Size:
    """Points to spread over the clocks, the most with those where plans run, and runs at each."""

    spread: int
    most: int
    repeats: int


def sized(points: tuple[OperatingPoint, ...], most: int | None, repeats: int) -> Size:
    """Return how much to measure of these points: at most so many of them, at least so many runs at each.

    Where points are few each is run more often, up to 50 times: a percentile's margin takes some hundred runs.
    """
    spread = min(most or enough(points), len(points))
    all_ = min(most or 2 * spread, len(points))
    return Size(spread, all_, max(repeats, min(_MOST_REPEATS, -(-_RUNS // all_))))


def farthest(num_points: int) -> Callable[[Profile], OperatingPoint | None]:
    """Return a chooser that stops after so many points."""

    def next_point(profile: Profile) -> OperatingPoint | None:
        measured = {total.point for total in profile.totals}
        if len(measured) >= min(num_points, len(profile.points)):
            return None
        return _farthest(profile.points, measured)

    return next_point


def where_plans_run(
    plans: Callable[[Profile], Iterable[Schedule]], num_points: int
) -> Callable[[Profile], OperatingPoint | None]:
    """Return a chooser of the first setting that a plan with what is known so far uses and nobody measured.

    It stops where there is none, or after so many points in all. Plans are asked for one after another.
    """

    def next_point(profile: Profile) -> OperatingPoint | None:
        measured = {total.point for total in profile.totals}
        if len(measured) >= num_points:
            return None
        used = (step.point for plan in plans(profile) for step in plan.steps)
        return next((point for point in used if point not in measured), None)

    return next_point


def _farthest(points: tuple[OperatingPoint, ...], measured: set[OperatingPoint]) -> OperatingPoint:
    done = [at for at, point in enumerate(points) if point in measured]
    return points[next(spread_out(_places(points), done))]


def _places(points: tuple[OperatingPoint, ...]) -> FloatArray:
    """Return [point, knob] in 0…1: logarithms of the knobs, and one column that keeps precisions apart."""
    precisions = sorted({point.precision for point in points})
    raw = np.array(
        [
            [*(np.log(setting or 1.0) for setting in point.clocks.knobs()), float(precisions.index(point.precision))]
            for point in points
        ]
    )
    return np.asarray(scaled(raw), np.float64)
