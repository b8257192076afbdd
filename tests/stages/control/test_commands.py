"""Clocks are asked for where the plan says so, which foresaw how late they run."""

from dataclasses import replace

from amble.core.cost import Cost
from amble.core.point import Clocks, OperatingPoint
from amble.core.schedule import Deadline, Schedule, Step
from amble.core.subject import Subject, Where
from amble.stages.control.commands import Command, commands, cuts

A, B = Clocks(1e9, 4e8), Clocks(2e9, 8e8)


def schedule(*clocks: Clocks) -> Schedule:
    steps = tuple(Step(f"op{i}", OperatingPoint(each), Cost(0.010, 1.0)) for i, each in enumerate(clocks))
    return Schedule(
        Subject("g", digest="d"),
        Where("fake", "uncalibrated"),
        Deadline(1.0),
        1.0,
        "period",
        1.0,
        steps,
        clocks[0],
        Cost(),
        None,
    )


def test_the_first_command_is_at_the_first_operator() -> None:
    assert commands(schedule(A, A)) == (Command(0, A),)


def test_clocks_are_asked_for_where_their_segment_begins() -> None:
    assert commands(schedule(A, A, B, B, A)) == (Command(0, A), Command(2, B), Command(4, A))


def test_a_change_of_one_domain_is_a_complete_setting() -> None:
    faster_memory = replace(A, memory_hz=8e8)
    assert commands(schedule(A, faster_memory, A)) == (Command(0, A), Command(1, faster_memory), Command(2, A))


def test_a_change_of_precision_pauses_but_asks_for_nothing() -> None:
    plan = schedule(A, A, B, B)
    assert cuts(plan) == (0, 2, 4)
    steps = (*plan.steps[:3], replace(plan.steps[3], point=OperatingPoint(B, "fp16")))
    assert cuts(replace(plan, steps=steps)) == (0, 2, 3, 4)
    assert commands(replace(plan, steps=steps)) == (Command(0, A), Command(2, B))
