"""The settings to measure: ends first, then the farthest; every knob counts, and none is measured twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from amble.core.cost import Cost
from amble.core.point import Clocks, OperatingPoint
from amble.core.profile import Profile, Sample
from amble.core.schedule import Deadline, Schedule, Step
from amble.core.subject import Subject, Where
from amble.stages.measure.design import Size, enough, farthest, sized, where_plans_run

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


def plan(*points: OperatingPoint) -> Schedule:
    steps = tuple(Step(f"op{number}", point) for number, point in enumerate(points))
    wait = points[0].clocks
    return Schedule(
        Subject("net"), Where("chip", ""), Deadline(1.0), 1.0, "period", 1.0, steps, wait, Cost(), lower_bound_j=None
    )


def test_what_a_plan_uses_and_nobody_measured_is_next_and_plans_after_it_are_not_made() -> None:
    def plans(known: Profile) -> Iterator[Schedule]:
        yield plan(CLOCKS[0], CLOCKS[1])
        yield plan(CLOCKS[2])
        raise AssertionError("a third plan")

    next_point = where_plans_run(plans, num_points=5)
    assert next_point(profile(CLOCKS, [CLOCKS[0]])) == CLOCKS[1]
    assert next_point(profile(CLOCKS, [CLOCKS[0], CLOCKS[1]])) == CLOCKS[2]


def test_nothing_is_next_where_plans_use_what_was_measured_or_enough_was() -> None:
    next_point = where_plans_run(lambda known: [plan(CLOCKS[0]), plan(CLOCKS[1])], num_points=2)
    assert next_point(profile(CLOCKS, [CLOCKS[0]])) == CLOCKS[1]
    assert next_point(profile(CLOCKS, [CLOCKS[0], CLOCKS[1]])) is None
    assert next_point(profile(CLOCKS, [CLOCKS[3], CLOCKS[4]])) is None


@pytest.mark.parametrize(
    ("points", "most", "repeats", "expected"),
    [
        (CLOCKS * 4, None, 20, Size(6, 12, 50)),  # as many again for the plans
        (LIMITS, None, 20, Size(5, 5, 50)),  # no more than there are
        (CLOCKS, 3, 20, Size(3, 3, 50)),
        (CLOCKS, 3, 70, Size(3, 3, 70)),
        (CLOCKS * 8, 20, 20, Size(20, 20, 30)),  # some hundred runs in all
        (CLOCKS * 20, 100, 20, Size(100, 100, 20)),
    ],
)
def test_few_points_are_run_more_often(
    points: tuple[OperatingPoint, ...], most: int | None, repeats: int, expected: Size
) -> None:
    assert sized(points, most, repeats) == expected
