"""The loop serves every request in order, at the clocks of the schedule, and puts the clocks back."""

from dataclasses import replace

import numpy as np
import pytest

from amble.core.cost import Cost
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors
from amble.core.schedule import Deadline, Schedule, Step
from amble.core.subject import Subject, Where
from amble.stages.control.loop import Requests, serve
from tests.fakes import LEVELS, FakeDevice, graph

SLOW, FAST = LEVELS
GRAPH = graph(1e7, 1e7, 1e7)  # 10 ms each at the slow clock, 5 ms at the fast one


def schedule(*points: int, wait: int = 0) -> Schedule:
    steps = tuple(
        Step(op.name, OperatingPoint(LEVELS[i]), Cost(op.flops / (LEVELS[i].core_hz or 1)))
        for op, i in zip(GRAPH.operators, points, strict=True)
    )
    return Schedule(
        Subject("fake", digest=GRAPH.digest), Where("fake:device", ""), Deadline(0.03), 0.1, "period", 1.0, steps,
        LEVELS[wait], Cost(), None,
    )  # fmt: skip


def requests(*arrivals_s: float, deadline_s: float = 0.03) -> Requests:
    return Requests(np.array(arrivals_s), deadline_s, 0.1, "test")


def test_each_request_runs_at_the_clocks_of_the_schedule() -> None:
    fake = FakeDevice()
    log = serve(fake.device(), GRAPH, requests(0.0, 0.1), schedule=schedule(0, 0, 1))
    assert fake.ran == [(0, 2, SLOW), (2, 3, FAST)] * 2
    assert [served.latency_s for served in log.served] == pytest.approx([0.025, 0.025])


def test_the_device_waits_at_the_clocks_of_the_schedule_and_they_are_put_back() -> None:
    fake = FakeDevice()
    log = serve(fake.device(), GRAPH, requests(0.0), schedule=schedule(1, 1, 1, wait=0))
    assert fake.applied == [SLOW, FAST, SLOW, FAST]
    assert log.num_changes == 2


def test_a_setting_that_is_held_already_is_not_asked_for_again() -> None:
    fake = FakeDevice()
    serve(fake.device(), GRAPH, requests(0.0, 0.1, 0.2), schedule=schedule(1, 1, 1, wait=1))
    assert fake.applied == [FAST, FAST]


def test_requests_queue_in_order_and_lateness_counts_from_arrival() -> None:
    log = serve(FakeDevice().device(), GRAPH, requests(0.0, 0.0, 0.0), schedule=schedule(1, 1, 1, wait=1))
    assert [served.latency_s for served in log.served] == pytest.approx([0.015, 0.030, 0.045])
    assert [served.late for served in log.served][-1]


def test_the_window_of_the_energy_holds_the_idle_time_until_the_next_request_is_due() -> None:
    log = serve(FakeDevice().device(), GRAPH, requests(0.0), schedule=schedule(1, 1, 1, wait=1))
    assert log.finish_s - log.start_s == pytest.approx(0.1)
    assert log.energy_j == pytest.approx(0.015 * 10 + 0.085 * 1)
    assert log.served[0].energy_j == pytest.approx(0.15)


def test_a_slice_names_the_clocks_that_ran_and_a_change_those_asked_for_beside_them() -> None:
    log = serve(FakeDevice(settle_s=9.0).device(), GRAPH, requests(0.0), schedule=schedule(0, 0, 1), traced=1)
    assert [piece.ran_at for piece in log.slices] == [FAST, FAST], "the slow clock does not run yet"
    assert [(change.asked, change.got) for change in log.changes][:2] == [(FAST, FAST), (SLOW, FAST)]


def test_without_a_schedule_the_clocks_are_left_alone() -> None:
    fake = FakeDevice()
    log = serve(fake.device(), GRAPH, requests(0.0, 0.1), policy="governor")
    assert fake.applied == []
    assert (log.policy, log.num_changes) == ("governor", 0)


def test_without_a_meter_the_energy_is_unknown() -> None:
    log = serve(FakeDevice(metered=False).device(), GRAPH, requests(0.0), schedule=schedule(1, 1, 1), traced=1)
    assert log.energy_j is None
    assert log.served[0].energy_j is None
    assert log.power == ()


def test_clocks_are_put_back_after_the_device_broke() -> None:
    fake = FakeDevice(fail_at=1)
    with pytest.raises(RuntimeError):
        serve(fake.device(), GRAPH, requests(0.0), schedule=schedule(0, 0, 0))
    assert fake.asked == FAST


def test_only_the_first_requests_are_traced() -> None:
    log = serve(FakeDevice().device(), GRAPH, requests(0.0, 0.1, 0.2), schedule=schedule(0, 1, 0), traced=2)
    assert {piece.request for piece in log.slices} == {0, 1}
    assert len(log.slices) == 6
    assert [change.asked for change in log.changes] == [FAST, SLOW] * 2
    assert sum(piece.energy_j or 0 for piece in log.slices[:3]) == pytest.approx(log.served[0].energy_j)


def test_answers_are_judged_by_their_own_request() -> None:
    def inputs(index: int) -> Tensors:
        return {"x": np.array([index])}

    def judge(index: int, outputs: Tensors) -> bool:
        return bool(outputs["x"][0] == index and index != 1)

    asked = replace(requests(0.0, 0.1, 0.2), inputs=inputs, judge=judge)
    log = serve(FakeDevice().device(), GRAPH, asked, schedule=schedule(1, 0, 1))
    assert [served.correct for served in log.served] == [True, False, True]


def test_a_segment_never_sees_another_graph() -> None:
    seen: list[Graph] = []

    class Watching(FakeDevice):
        def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
            seen.append(graph)
            return super().run(graph, point, inputs)

    serve(Watching().device(), GRAPH, requests(0.0), schedule=schedule(0, 1, 1))
    assert [op.name for part in seen for op in part.operators] == ["op0", "op1", "op2"]
