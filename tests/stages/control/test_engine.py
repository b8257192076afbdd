"""The engine serves on time, loses nothing, and shares out every joule."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from amble.core.cost import Cost
from amble.core.errors import Refused
from amble.core.ladder import Rung
from amble.core.point import OperatingPoint
from amble.core.ports import Device
from amble.core.schedule import Deadline, Schedule, Step
from amble.core.subject import Subject, Where
from amble.stages.control.batcher import Request
from amble.stages.control.engine import Engine, Lane
from amble.stages.control.governor import Decision, Observation
from amble.stages.control.governors import Amble, Dvfs, Fixed, Pit, Tuning, int8_max, max_clocks
from amble.stages.control.source import Doorbell, Replay
from tests.fakes import FakeDevice, graph
from tests.stages.control.ladders import (
    FAST,
    MIDDLE,
    SLOW,
    Notes,
    every_rung,
    ladder,
    lane,
    open_device,
    poisson,
    serve,
)

GOVERNORS = {
    "max": lambda steps: max_clocks(steps),
    "int8-max": lambda steps: int8_max(steps),
    "dvfs": lambda steps: Dvfs(steps),
    "pit": lambda steps: Pit(steps),
    "amble": lambda steps: Amble(steps, Deadline(0.1), tuning=Tuning(grid=6, clumps=(1,))),
}


@pytest.mark.parametrize("name", GOVERNORS)
@pytest.mark.parametrize("max_batch", [1, 4])
def test_every_request_is_answered_or_refused_exactly_once(name: str, max_batch: int) -> None:
    rungs = every_rung(max_batch=max_batch)
    arrivals_s = poisson(150.0, 2000)
    notes, totals = serve(open_device(rungs, noise=0.02), GOVERNORS[name](ladder(rungs)), arrivals_s, 0.1)
    seen = [request.arrival_s for batch in notes.batches for request in batch.requests]
    seen += [request.arrival_s for request, _ in notes.refusals]
    assert sorted(seen) == arrivals_s.tolist()
    assert totals.answered + sum(totals.refused.values()) == 2000


@pytest.mark.parametrize("name", GOVERNORS)
def test_active_and_idle_energy_are_the_meter(name: str) -> None:
    device = open_device(stall_s=0.001, settle_s=0.005, noise=0.02)
    notes, totals = serve(device, GOVERNORS[name](ladder(stall_s=0.001, settle_s=0.005)), poisson(50.0, 500), 0.1)
    counted_j = device.meter.read().energy_j
    assert counted_j is not None
    assert totals.active_j is not None
    assert totals.idle_j is not None
    assert totals.active_j + totals.idle_j == pytest.approx(counted_j, rel=1e-12)
    shares_j = [batch.share_j(request) or 0.0 for batch in notes.batches for request in batch.requests]
    assert sum(shares_j) == pytest.approx(totals.active_j)
    assert sum(batch.idle_j or 0.0 for batch in notes.batches) <= totals.idle_j + 1e-9


def test_a_batch_is_shared_out_by_rows() -> None:
    rungs = every_rung(max_batch=4, int8=False)
    device, notes = open_device(rungs), Notes()
    engine = Engine(device, [lane(max_clocks(ladder(rungs)))], notes)
    for rows in (1, 3):
        engine.offer(Request(0.0, 1.0, rows=rows))
    closed = Replay(np.array([]), device.clock, deadline_s=1.0)
    engine.run(closed)
    (batch,) = notes.batches
    shares_j = [batch.share_j(request) for request in batch.requests]
    assert shares_j[1] == pytest.approx(3.0 * (shares_j[0] or 0.0))


def test_a_device_without_a_meter_gives_no_energy_rather_than_zero() -> None:
    fake = FakeDevice(metered=False)
    rung = Rung("fp32", fake.settings[-1], (1.0,), (1.0,))
    steps = ladder((rung,))
    notes = Notes()
    one = Lane("", max_clocks(steps), lambda variant, batch: graph(2e9))
    totals = Engine(fake.device(), [one], notes).run(Replay(np.array([0.0]), fake, deadline_s=9.0))
    assert totals.active_j is None
    assert totals.idle_j is None
    assert notes.batches[0].share_j(notes.batches[0].requests[0]) is None
    assert notes.batches[0].idle_j is None


def test_a_batch_names_the_clocks_that_ran_and_not_those_asked_for() -> None:
    fake = FakeDevice(settle_s=100.0)
    slow = Rung("fp32", fake.settings[0], (2.0,), (20.0,))
    notes = Notes()
    one = Lane("", Fixed("slow", slow, 1), lambda variant, batch: graph(2e9))
    Engine(fake.device(), [one], notes).run(Replay(np.array([0.0]), fake, deadline_s=99.0))
    assert fake.settings[0] in fake.applied
    assert notes.batches[0].ran_at == fake.settings[-1]


@pytest.mark.parametrize("name", ["max", "int8-max", "amble"])
@pytest.mark.parametrize("max_batch", [1, 4])
def test_without_noise_no_accepted_request_is_late(name: str, max_batch: int) -> None:
    rungs = every_rung(max_batch=max_batch)
    device = open_device(rungs, stall_s=0.0005, settle_s=0.004)
    steps = ladder(rungs, stall_s=0.0005, settle_s=0.004)
    notes, totals = serve(device, GOVERNORS[name](steps), poisson(120.0, 3000), 0.1)
    assert notes.num_late == totals.late == 0


def test_under_twice_the_capacity_goodput_stays() -> None:
    arrivals_s = poisson(200.0, 4000)
    notes, _ = serve(open_device(noise=0.02), max_clocks(ladder(every_rung(int8=False))), arrivals_s, 0.1)
    on_time = notes.num_answered - notes.num_late
    assert on_time / arrivals_s[-1] > 0.95 / 0.010


def test_the_queue_is_bounded_under_overload() -> None:
    device, notes = open_device(), Notes()
    engine = Engine(device, [lane(max_clocks(ladder()), queue_limit=5)], notes)
    engine.run(Replay(np.zeros(100), device.clock, deadline_s=float("inf")))
    assert notes.num_answered == 5
    assert {refusal.cause for _, refusal in notes.refusals} == {"full"}


def test_the_clocks_found_are_put_back_at_the_end() -> None:
    device = open_device()
    device.actuator.apply(MIDDLE)
    serve(device, max_clocks(ladder()), poisson(50.0, 20), 0.1)
    assert device.actuator.current() == MIDDLE


def test_the_clocks_found_are_put_back_after_an_error() -> None:
    fake = FakeDevice(fail_at=0)
    engine = Engine(fake.device(), [_on_fake(fake)], Broken())
    with pytest.raises(KeyError):
        engine.run(Replay(np.array([0.0]), fake, deadline_s=9.0))
    assert fake.applied[-1] == fake.settings[-1]


class Broken(Notes):
    """A sink that fails."""

    def refused(self, request: Request, refusal: Any) -> None:
        raise KeyError("the sink broke")


def _on_fake(fake: FakeDevice) -> Lane:
    rung = Rung("fp32", fake.settings[0], (2.0,), (2.0,))
    return Lane("", Fixed("one", rung, 1), lambda variant, batch: graph(2e9))


def test_a_batch_that_fails_is_refused_with_the_reason_and_serving_goes_on() -> None:
    device, notes = open_device(), Notes()
    fails = {"left": 1}

    def graph_of(variant: str, batch: int) -> Any:
        if fails["left"]:
            fails["left"] -= 1
            raise Refused("the file is gone; load the model again")
        return lane(None).graph(variant, batch)

    one = Lane("", max_clocks(ladder()), graph_of)
    Engine(device, [one], notes).run(Replay(np.array([0.0, 1.0]), device.clock, deadline_s=0.5))
    assert notes.num_answered == 1
    ((_, refusal),) = notes.refusals
    assert refusal.cause == "failed"
    assert "load the model again" in refusal.text


def test_one_bad_request_does_not_harm_its_batch() -> None:
    rungs = every_rung(max_batch=2, int8=False)
    device, notes = open_device(rungs), Notes()
    engine = Engine(device, [lane(max_clocks(ladder(rungs)))], notes)
    engine.offer(Request(0.0, 1.0, inputs={"x": np.zeros((1, 2))}, ticket="good"))
    engine.offer(Request(0.0, 1.0, inputs={"y": np.zeros((1, 2))}, ticket="other names"))
    engine.run(Replay(np.array([]), device.clock, deadline_s=1.0))
    assert [batch.requests[0].ticket for batch in notes.batches] == ["good", "other names"]


def test_outputs_come_back_to_who_sent_the_inputs() -> None:
    rungs = every_rung(max_batch=4, int8=False)
    device, notes = open_device(rungs), Notes()
    engine = Engine(device, [lane(max_clocks(ladder(rungs)))], notes)
    for value, rows in ((1.0, 1), (2.0, 3)):
        engine.offer(Request(0.0, 1.0, rows=rows, inputs={"x": np.full((rows, 2), value)}))
    engine.run(Replay(np.array([]), device.clock, deadline_s=1.0))
    (batch,) = notes.batches
    assert [output["x"].tolist() for output in batch.outputs] == [[[1.0, 1.0]], [[2.0, 2.0]] * 3]


def test_the_earliest_deadline_goes_first_across_models() -> None:
    device, notes = open_device(), Notes()
    engine = Engine(device, [lane(max_clocks(ladder()), model=name) for name in ("a", "b")], notes)
    for model, due_s in (("a", 0.5), ("b", 0.1), ("a", 0.2)):
        engine.offer(Request(0.0, due_s, model=model))
    engine.run(Replay(np.array([]), device.clock, deadline_s=1.0))
    assert [batch.requests[0].due_s for batch in notes.batches] == [0.1, 0.2, 0.5]


def test_what_other_models_wait_for_counts_at_the_door() -> None:
    device = open_device()
    engine = Engine(device, [lane(max_clocks(ladder()), model=name) for name in ("a", "b")], Notes())
    for _ in range(5):
        engine.offer(Request(0.0, 1.0, model="a"))
    refusal = engine.offer(Request(0.0, 0.055, model="b"))
    assert refusal is not None
    assert refusal.cause == "deadline"


def test_an_unknown_model_is_refused() -> None:
    refusal = Engine(open_device(), [], Notes()).offer(Request(0.0, model="nobody"))
    assert refusal is not None
    assert refusal.cause == "unloaded"


def test_unloading_refuses_what_waits() -> None:
    notes = Notes()
    engine = Engine(open_device(), [lane(max_clocks(ladder()), model="a")], notes)
    engine.offer(Request(0.0, 1.0, model="a"))
    engine.unload("a")
    assert [refusal.cause for _, refusal in notes.refusals] == ["unloaded"]


def test_stopping_refuses_what_waits_and_what_comes() -> None:
    device, notes = open_device(), Notes()
    engine = Engine(device, [lane(max_clocks(ladder()))], notes)
    engine.offer(Request(0.0, 1.0))
    engine.stop()
    engine.run(Replay(np.array([0.0]), device.clock, deadline_s=1.0))
    assert [refusal.cause for _, refusal in notes.refusals] == ["stopping", "stopping"]


def test_a_clock_that_is_refused_while_serving_is_counted_and_serving_goes_on() -> None:
    fake = FakeDevice()
    rung = Rung("fp32", SLOW, (1.0,), (1.0,))
    one = Lane("", Fixed("one", rung, 1), lambda variant, batch: graph(1e9))
    totals = Engine(fake.device(), [one], Notes()).run(Replay(np.array([0.0, 5.0]), fake, deadline_s=4.0))
    assert totals.answered == 2
    assert totals.unchanged == 1


class Waits:
    """A governor that holds the first request until a second has come or 50 ms have passed."""

    name = "waits"

    def __init__(self, rung: Rung) -> None:
        self.fixed = Fixed("one", rung, 2)
        self.seen: list[Observation] = []

    def init(self, now_s: float) -> None:
        pass

    def pace(self, state: None) -> Any:
        return self.fixed.pace(None)

    def step(self, state: None, seen: Observation) -> tuple[None, Decision]:
        self.seen.append(seen)
        if len(seen.due_s) == 1 and seen.now_s < 0.050 - 1e-9:
            return None, Decision(self.pace(None), wake_s=0.050)
        return self.fixed.step(None, seen)


def test_a_governor_may_hold_a_request_for_a_larger_batch() -> None:
    rungs = every_rung(max_batch=2, int8=False)
    notes, _ = serve(open_device(rungs), Waits(rungs[-1]), np.array([0.0, 0.020]), 0.2)
    assert [batch.rows for batch in notes.batches] == [2]
    assert notes.batches[0].start_s == pytest.approx(0.020)


def test_a_held_request_is_not_held_for_ever() -> None:
    rungs = every_rung(max_batch=2, int8=False)
    notes, _ = serve(open_device(rungs), Waits(rungs[-1]), np.array([0.0]), 0.2)
    assert notes.batches[0].start_s == pytest.approx(0.050)


def test_the_governor_is_told_what_ran_and_what_came() -> None:
    rungs = every_rung(int8=False)
    governor = Waits(ladder(rungs).levels[0].rungs[0])
    serve(open_device(rungs), governor, np.array([0.060, 0.061, 0.062]), 0.2)
    done = [seen.done for seen in governor.seen if seen.done is not None]
    assert len(done) == 2, "the source is closed when the third has finished"
    assert done[0].took_s == pytest.approx(0.010)
    assert sum(seen.num_arrived for seen in governor.seen) == 3


def test_a_run_along_clocks_that_changed_is_not_taken_for_a_slow_one() -> None:
    rungs = every_rung(int8=False)
    device = open_device(rungs, settle_s=0.05)
    device.actuator.apply(SLOW)
    device.clock.sleep(1.0)
    governor = Waits(ladder(rungs).levels[0].rungs[0])
    serve(device, governor, np.array([1.0, 1.5]), 0.4)
    assert [seen.done.settled for seen in governor.seen if seen.done is not None] == [False]


def test_other_threads_are_served_in_real_time_order_and_drained() -> None:
    device, notes = open_device(), Notes()
    engine = Engine(device, [lane(max_clocks(ladder()))], notes)
    bell = Doorbell(device.clock.now_s)
    thread = threading.Thread(target=engine.run, args=(bell,))
    thread.start()
    for _ in range(50):
        engine.offer(Request(device.clock.now_s(), float("inf")))
        bell.ring()
    bell.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert notes.num_answered == 50


def test_thirty_thousand_requests_leave_nothing_behind() -> None:
    class Counts:
        answers = refusals = 0

        def answered(self, batch: Any) -> None:
            self.answers += len(batch.requests)

        def refused(self, request: Any, refusal: Any) -> None:
            self.refusals += 1

    device, counts = open_device(noise=0.02), Counts()
    one = lane(max_clocks(ladder()))
    Engine(device, [one], counts).run(Replay(poisson(110.0, 30_000), device.clock, deadline_s=0.1))
    assert counts.answers + counts.refusals == 30_000
    assert len(one.queue) == 0
    assert len(one.programs) == 1
    assert FAST in device.actuator.available()


def test_equal_runs_are_equal() -> None:
    def once(device: Device) -> list[float]:
        notes, _ = serve(
            device, Amble(ladder(), Deadline(0.1), tuning=Tuning(grid=6, clumps=(1,))), poisson(60.0, 500), 0.1
        )
        return [batch.finish_s for batch in notes.batches]

    assert once(open_device(noise=0.05, seed=3)) == once(open_device(noise=0.05, seed=3))


def test_a_rung_with_a_schedule_changes_clocks_between_operators() -> None:
    fake = FakeDevice()
    slow, fast = fake.settings
    steps = (Step("op0", OperatingPoint(fast)), Step("op1", OperatingPoint(slow)))
    plan = Schedule(
        subject=Subject(network="fake", source="", digest="", batch=1),
        where=Where(device="fake", calibration=""),
        deadline=Deadline(9.0),
        period_s=9.0,
        accounting="period",
        margin=1.0,
        steps=steps,
        wait=slow,
        predicted=Cost(3.0, 30.0),
        lower_bound_j=None,
    )
    rung = Rung("fp32", fast, (3.0,), (30.0,), schedule=plan)
    one = Lane("", Fixed("one", rung, 1), lambda variant, batch: graph(2e9, 2e9))
    notes = Notes()
    totals = Engine(fake.device(), [one], notes).run(Replay(np.array([0.0]), fake, deadline_s=9.0))
    assert [(start, stop, ran) for start, stop, ran in fake.ran] == [(0, 1, fast), (1, 2, slow)]
    assert notes.batches[0].finish_s == pytest.approx(1.0 + 2.0)
    assert totals.changes == 2
