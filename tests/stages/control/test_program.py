"""A schedule is one program: a server asks for the same clocks at the same times as the loop of a check."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from amble.core.cost import Cost
from amble.core.graph import Graph, Operator
from amble.core.ladder import Rung
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Actuator, Device
from amble.core.schedule import Choice, Deadline, Rest, Schedule, Step
from amble.devices import simulated
from amble.stages.control import loop
from amble.stages.control.engine import Engine, Lane
from amble.stages.control.governors import Planned
from amble.stages.control.program import along, at_rung, hands_off
from amble.stages.control.source import Replay
from tests.fakes import LEVELS, FakeDevice
from tests.stages.control.ladders import Notes
from tests.stages.control.test_loop import FAST, GRAPH, SLOW, schedule
from tests.stages.control.test_punctual import REST

HEAVY = Graph("heavy", tuple(Operator(f"op{i}", "MatMul", 4e9, 1e6, 1e6) for i in range(3)), 1, "heavy")
PUNCTUAL = replace(schedule(0, 0, 0), rest=REST, predicted=Cost(0.030))


@dataclass
class Watched:
    """An actuator that remembers when what was asked for."""

    device: Device
    asked: list[tuple[float, Clocks]] = field(default_factory=list)

    def available(self) -> tuple[Clocks, ...]:
        return self.device.actuator.available()

    def current(self) -> Clocks:
        return self.device.actuator.current()

    def apply(self, clocks: Clocks) -> None:
        self.asked.append((self.device.clock.now_s(), clocks))
        self.device.actuator.apply(clocks)


def watched(device: Device) -> tuple[Device, Watched]:
    watch = Watched(device)
    actuator: Actuator = watch
    return replace(device, actuator=actuator), watch


def serve_by_engine(device: Device, graph: Graph, plan: Schedule, arrivals_s: tuple[float, ...]) -> Notes:
    """Serve as a server does, from the same moment on as `loop.serve`, where the device waits already."""
    rung = Rung("fp32", plan.steps[0].point.clocks, (plan.predicted.latency_s,), None, schedule=plan)
    notes = Notes()
    engine = Engine(device, [Lane("", Planned(rung), lambda variant, rows: graph)], notes)
    engine.run(Replay(np.array(arrivals_s), device.clock, deadline_s=plan.deadline.latency_s))
    return notes


def punctual_on_chip() -> tuple[Schedule, float]:
    """A plan of three equal operators on a simulated chip that looks at the clock, and its planned time [s]."""
    device = simulated.open("jetson-tx2")
    settings = device.actuator.available()
    slow, fast = settings[len(settings) // 2], settings[-1]
    each_s = {}
    for clocks in (slow, fast):
        with device.held(clocks):
            device.clock.sleep(0.1)
            begin_s = device.clock.now_s()
            device.runner.run(HEAVY, OperatingPoint(clocks), {})
            each_s[clocks] = (device.clock.now_s() - begin_s) / 3
    choices = tuple(
        Choice(start, held, ((3 - start) * each_s[fast], (3 - start) * each_s[slow] * 1.05), (1, 0))
        for start in range(3)
        for held in (0, 1)
        if start or not held
    )
    steps = tuple(Step(each.name, OperatingPoint(slow), Cost(each_s[slow])) for each in HEAVY.operators)
    whole_s = 3 * each_s[slow]
    plan = Schedule(
        HEAVY.subject, device.where, Deadline(1.3 * whole_s), 2 * whole_s, "period",
        1.0, steps, slow, Cost(whole_s), None, rest=Rest((slow, fast), choices),
    )  # fmt: skip
    return plan, whole_s


def test_a_server_asks_a_simulated_chip_for_the_same_clocks_at_the_same_times_as_a_check() -> None:
    plan, whole_s = punctual_on_chip()
    arrivals_s = tuple(whole_s * at for at in (1.0, 1.6, 4.0, 4.5, 9.0))
    checked, by_check = watched(simulated.open("jetson-tx2"))
    requests = loop.Requests(np.array(arrivals_s), plan.deadline.latency_s, plan.period_s, "by hand")
    log = loop.serve(checked, HEAVY, requests, schedule=plan)
    served, by_server = watched(simulated.open("jetson-tx2"))
    came_s = tuple(log.start_s + each for each in arrivals_s)
    notes = serve_by_engine(served, HEAVY, plan, came_s)
    changes = [clocks for _, clocks in by_check.asked]
    assert len(set(changes)) == 2, "the plan looked at the clock"
    assert notes.num_answered == len(arrivals_s)
    begun, expected = ([each for each in who.asked if each[0] >= came_s[0]] for who in (by_server, by_check))
    assert begun[:-1] == expected[:-1], "the last ones put back what was found"
    assert [batch.finish_s for batch in notes.batches] == [each.finish_s for each in log.served]


def test_an_engine_enters_a_punctual_plan_where_the_plan_waits() -> None:
    fake = FakeDevice()  # which is at the fast clock, from where the plan does not know how to begin
    serve_by_engine(fake.device(), GRAPH, PUNCTUAL, (0.0,))
    assert [clocks for _, _, clocks in fake.ran] == [SLOW, SLOW, SLOW]
    assert fake.applied[:2] == [FAST, SLOW]


def test_an_engine_makes_up_for_time_that_was_spent_in_the_queue() -> None:
    fake = FakeDevice()
    notes = serve_by_engine(fake.device(), GRAPH, PUNCTUAL, (0.0, 0.016))
    assert [clocks for _, _, clocks in fake.ran[3:]] == [FAST, FAST, FAST]
    assert notes.num_answered == 2
    assert notes.num_late == 0


def test_a_newcomer_is_promised_the_fastest_way_through_a_plan_that_looks_at_the_clock() -> None:
    rung = Rung("fp32", SLOW, (0.030,), None, schedule=PUNCTUAL)
    assert Planned(rung).pace(None).quick.latency_s == (0.0149,)
    fixed = replace(rung, schedule=replace(PUNCTUAL, rest=None))
    assert Planned(fixed).pace(None).quick.latency_s == (0.030,)


def test_between_requests_a_server_waits_where_the_plan_does_and_also_after_a_failure() -> None:
    fake = FakeDevice()
    plan = replace(schedule(1, 1, 1, wait=0), predicted=Cost(0.015))
    serve_by_engine(fake.device(), GRAPH, plan, (0.0, 0.1))
    assert fake.applied[1:-1] == [FAST, SLOW, FAST, SLOW]
    broken = FakeDevice(fail_at=1)
    notes = serve_by_engine(broken.device(), GRAPH, plan, (0.0,))
    assert [refusal.cause for _, refusal in notes.refusals] == ["failed"]
    assert broken.applied[-2:] == [SLOW, FAST], "back to where it waits, then to what was found"


def test_a_program_cuts_where_choices_are_and_where_points_change() -> None:
    assert along(PUNCTUAL).cuts == (0, 1, 2, 3)
    assert along(schedule(0, 0, 1)).cuts == (0, 2, 3)
    assert [(part.offset, len(part.operators)) for part, _ in along(schedule(0, 0, 1)).parts(GRAPH)] == [(0, 2), (2, 1)]


@pytest.mark.parametrize(("held", "asked"), [(SLOW, None), (FAST, SLOW), (None, SLOW)])
def test_what_to_ask_for_before_the_first_choice(held: Clocks | None, asked: Clocks | None) -> None:
    assert along(PUNCTUAL).enter(held) == asked
    assert along(schedule(0, 0, 1)).enter(held) is None


def test_a_rung_without_a_schedule_is_one_segment_at_its_clocks() -> None:
    program = at_rung(Rung("int8", LEVELS[1], (1.0,), None), GRAPH)
    assert program.cuts == (0, 3)
    assert program.pick(0, None, 0.0) == LEVELS[1]
    assert program.parts(GRAPH)[0][1] == OperatingPoint(LEVELS[1], "int8")
    assert program.wait is None


def test_hands_off_asks_for_nothing() -> None:
    program = hands_off(GRAPH)
    assert (program.wait, program.pick(0, SLOW, 0.0), program.enter(None)) == (None, None, None)
