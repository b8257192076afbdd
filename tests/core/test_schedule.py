"""Deadlines, schedules and the costs in them."""

import pytest

from amble.core.cost import Cost, Reading
from amble.core.graph import Graph, Operator
from amble.core.point import Clocks, OperatingPoint
from amble.core.schedule import Baseline, Deadline, Schedule, Segment, Step
from amble.core.subject import Subject, Where

SLOW, FAST = OperatingPoint(Clocks(core_hz=1e9)), OperatingPoint(Clocks(core_hz=2e9))


def schedule(*points: OperatingPoint, energy_j: float | None = 2.0, bound_j: float | None = 1.9) -> Schedule:
    steps = tuple(Step(f"op{i}", point, Cost(0.01, 1.0)) for i, point in enumerate(points))
    return Schedule(
        subject=Subject(network="g", source="", digest="d", batch=1),
        where=Where(device="fake", calibration="uncalibrated"),
        deadline=Deadline(0.1),
        period_s=0.1,
        accounting="period",
        margin=1.25,
        steps=steps,
        wait=points[0].clocks,
        predicted=Cost(0.02, energy_j),
        lower_bound_j=bound_j,
        baselines=(Baseline("max", Cost(0.01, 4.0), True),),
    )


def test_a_deadline_without_percentile_means_p99() -> None:
    assert Deadline.parse("30ms") == Deadline(0.030, 0.99)


@pytest.mark.parametrize("text", ["30ms@p99.9", "1.5s@p50", "30ms@p99"])
def test_a_deadline_is_written_as_it_is_read(text: str) -> None:
    assert Deadline.parse(str(Deadline.parse(text))) == Deadline.parse(text)


@pytest.mark.parametrize(
    "text", ["30", "30ms@", "30ms@99", "30ms@p100", "30ms@p0", "30ms@p0.99", "0ms", "ms@p99", "30ms@pp"]
)
def test_a_deadline_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"30ms|percentile|positive"):
        Deadline.parse(text)


def test_segments_are_runs_of_one_point() -> None:
    assert schedule(SLOW, SLOW, FAST, SLOW).segments == (Segment(0, 2, SLOW), Segment(2, 3, FAST), Segment(3, 4, SLOW))


def test_a_schedule_is_printed_in_a_few_lines() -> None:
    lines = str(schedule(SLOW, SLOW, FAST)).splitlines()
    assert lines == [
        "g on fake, 100ms@p99: 20 ms, 2 J (period), at most 5.00% from the optimum",
        "  operators 0-1: core 1000 MHz",
        "  operators 2-2: core 2000 MHz",
        "  50.0% less energy than max",
    ]
    assert str(schedule(SLOW, energy_j=None, bound_j=None)).splitlines() == [
        "g on fake, 100ms@p99: 20 ms, unknown (period)",
        "  operators 0-0: core 1000 MHz",
    ]


def test_the_budget_leaves_the_margin() -> None:
    assert schedule(FAST).budget_s == pytest.approx(0.08)


def test_the_gap_is_relative_to_the_plan_and_never_negative() -> None:
    assert schedule(FAST).gap == pytest.approx(0.05)
    assert schedule(FAST, bound_j=2.1).gap == 0.0


def test_an_unknown_energy_has_no_gap() -> None:
    assert schedule(FAST, energy_j=None).gap is None


def test_a_baseline_is_found_by_name_only() -> None:
    assert schedule(FAST).baseline("max").predicted.energy_j == 4.0
    with pytest.raises(KeyError):
        schedule(FAST).baseline("min")


def test_costs_add_and_an_unknown_energy_stays_unknown() -> None:
    assert Cost(1.0, 2.0) + Cost(0.5, 1.0) == Cost(1.5, 3.0)
    assert (Cost(1.0, 2.0) + Cost(1.0, None)).energy_j is None


def test_a_difference_of_readings_is_a_cost() -> None:
    assert Reading(3.0, 10.0) - Reading(1.0, 4.0) == Cost(2.0, 6.0)
    assert (Reading(3.0, None) - Reading(1.0, 4.0)).energy_j is None


def test_a_segment_of_a_segment_keeps_its_place_in_the_whole() -> None:
    operators = tuple(Operator(f"op{i}", "Relu", 1.0, 4.0, 4.0) for i in range(5))
    whole = Graph("g", operators, 1, "d")
    part = whole.segment(1, 5).segment(2, 4)
    assert (part.offset, part.num_operators, part.ends) == (3, 5, True)
    assert not whole.segment(0, 4).ends


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (-1, 2), (0, 3), (2, 1)])
def test_a_segment_outside_its_graph_is_refused(start: int, stop: int) -> None:
    whole = Graph("g", (Operator("a", "Relu", 1, 4, 4), Operator("b", "Relu", 1, 4, 4)), 1, "d")
    with pytest.raises(ValueError, match="no operators"):
        whole.segment(start, stop)


def test_clocks_are_written_in_their_own_units() -> None:
    assert str(Clocks(core_hz=1.3005e9, power_limit_w=15.0)) == "core 1300.5 MHz, limit 15 W"
    assert str(Clocks()) == "fixed clocks"
