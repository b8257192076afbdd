"""Clock changes are asked for early enough to run in time."""

from dataclasses import replace

from amble.control.commands import Command, commands, cuts
from amble.core.cost import Cost
from amble.core.point import Clocks, OperatingPoint
from amble.core.profile import SwitchCost
from amble.core.schedule import Deadline, Schedule, Step

A, B = Clocks(1e9, 4e8), Clocks(2e9, 8e8)


def schedule(*clocks: Clocks, settle_s: tuple[float, float] = (0.0, 0.0)) -> Schedule:
    steps = tuple(Step(f"op{i}", OperatingPoint(each), Cost(0.010, 1.0)) for i, each in enumerate(clocks))
    switches = (SwitchCost("core", Cost(), settle_s[0]), SwitchCost("memory", Cost(), settle_s[1]))
    return Schedule(
        "g", "", "d", "fake", "uncalibrated", 1, Deadline(1.0), 1.0, "period", 1.0, steps, clocks[0], Cost(), None,
        switches=switches,
    )  # fmt: skip


def test_a_change_that_settles_at_once_is_asked_for_at_its_operator() -> None:
    assert commands(schedule(A, A, B, B)) == (Command(0, A), Command(2, B))


def test_a_change_is_asked_for_a_settling_time_ahead_each_domain_by_its_own() -> None:
    found = commands(schedule(A, A, A, A, B, settle_s=(0.005, 0.025)))
    assert found == (Command(0, A), Command(1, Clocks(1e9, 8e8)), Command(3, B))


def test_what_cannot_be_asked_early_enough_is_asked_at_the_start() -> None:
    assert commands(schedule(A, B, settle_s=(0.5, 0.5))) == (Command(0, B),)


def test_only_the_domain_that_changes_is_commanded() -> None:
    faster_memory = replace(A, memory_hz=8e8)
    assert commands(schedule(A, faster_memory, A)) == (Command(0, A), Command(1, faster_memory), Command(2, A))


def test_a_run_pauses_at_commands_and_at_changes_of_precision_only() -> None:
    plan = schedule(A, A, B, B)
    assert cuts(plan) == (0, 2, 4)
    steps = (*plan.steps[:3], replace(plan.steps[3], point=OperatingPoint(B, "fp16")))
    assert cuts(replace(plan, steps=steps)) == (0, 2, 3, 4)
