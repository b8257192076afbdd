"""The settings to measure: ends first, then the farthest; every knob counts, and none is measured twice."""

from __future__ import annotations

import pytest

from amble.core.point import Clocks, OperatingPoint
from amble.core.profile import Profile, Sample
from amble.core.subject import Subject, Where
from amble.stages.measure.design import enough, farthest

CLOCKS = tuple(OperatingPoint(Clocks(core_hz=hz)) for hz in (3e8, 5e8, 8e8, 1.2e9, 1.5e9))
LIMITS = tuple(OperatingPoint(Clocks(power_limit_w=watts)) for watts in (100.0, 130.0, 160.0, 190.0, 250.0))
BOTH = tuple(
    OperatingPoint(Clocks(core_hz=hz, power_limit_w=watts)) for hz in (5e8, 1e9) for watts in (100.0, 150.0, 250.0)
)
ALIKE = tuple(OperatingPoint(Clocks(core_hz=1e9), place=place) for place in ("device", "edge", "cloud"))


def profile(points: tuple[OperatingPoint, ...], measured: list[OperatingPoint]) -> Profile:
    totals = tuple(Sample("", point, point.clocks, 1.0, None, repeats=3) for point in measured)
    return Profile(Subject("net"), Where("chip", ""), (), (), totals=totals, points=points)


def chosen(points: tuple[OperatingPoint, ...], most: int) -> list[OperatingPoint]:
    """Follow the chooser to its end, as measuring does; one call more than there are points is one too many."""
    next_point, measured = farthest(most), list[OperatingPoint]()
    for _ in range(len(points) + 1):
        point = next_point(profile(points, measured))
        if point is None:
            return measured
        measured.append(point)
    raise AssertionError("the chooser does not end")


@pytest.mark.parametrize("points", [CLOCKS, LIMITS, BOTH, ALIKE], ids=["clocks", "limits", "both", "places alone"])
def test_every_setting_is_chosen_once(points: tuple[OperatingPoint, ...]) -> None:
    found = chosen(points, len(points))
    assert sorted(map(str, found)) == sorted(map(str, points))


@pytest.mark.parametrize("points", [CLOCKS, LIMITS], ids=["clocks", "limits"])
def test_the_highest_comes_first_then_the_lowest_then_the_middle_in_ratio(points: tuple[OperatingPoint, ...]) -> None:
    assert chosen(points, 3) == [points[-1], points[0], points[2]]


def test_a_power_limit_counts_as_a_knob() -> None:
    assert (enough(LIMITS * 4), enough(CLOCKS * 4), enough(BOTH * 5), enough(LIMITS[:1])) == (6, 6, 16, 1)
