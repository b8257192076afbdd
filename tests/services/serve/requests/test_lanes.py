"""A model does not wait for a batch of one that takes far longer; where joules or clocks are at stake it does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from amble.core.graph import Graph
from amble.core.ladder import Rung
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Tensors
from amble.services.serve.pulse import Sample
from amble.services.serve.requests.lanes import Lanes, alone
from amble.stages.control.batcher import Refusal, Request
from amble.stages.control.engine import Batch, Lane
from amble.stages.control.governors import Fixed
from tests.services.serve.house import LOW, Doubler, loaded

LONG_S = 0.1


class Plain(Doubler):
    """A device without a meter, whose clocks cannot be set, that takes as long as its inputs say."""

    def available(self) -> tuple[Clocks, ...]:
        return (LOW,)

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        if np.isnan(inputs["s"][0, 0]):
            raise AssertionError("a mistake of ours")
        time.sleep(float(inputs["s"][0, 0]))
        return {"y": inputs["s"]}


@dataclass
class Sink:
    """Notes when each request was answered, and who was refused."""

    finished_s: dict[Any, float] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)

    def answered(self, batch: Batch) -> None:
        for request in batch.requests:
            self.finished_s[request.ticket] = time.perf_counter()

    def refused(self, request: Request, refusal: Refusal) -> None:
        self.refusals.append(refusal)


def lane(name: str, one_s: float) -> Lane:
    rung = Rung("fp32", LOW, (one_s,), None)
    return Lane(name, Fixed("fixed", rung, 1), loaded({"s": "float"}).graph)


def request(model: str, ticket: object, service_s: float, due_s: float = float("inf")) -> Request:
    now_s = time.perf_counter()
    inputs = {"s": np.full((1, 2), service_s, np.float32)}
    return Request(now_s, now_s + due_s, model=model, inputs=inputs, ticket=ticket)


@contextmanager
def running(device: Device, sink: Sink, **models: float) -> Iterator[Lanes]:
    lanes = Lanes(device, sink)
    for name, one_s in models.items():
        lanes.load(lane(name, one_s), one_s, 30.0)
    thread = threading.Thread(target=lanes.run)
    thread.start()
    try:
        yield lanes
    finally:
        lanes.stop()
        lanes.close()
        thread.join(20)
        assert not thread.is_alive()


def p99_of_the_quick(device: Device) -> float:
    """Ask the quick one beside a slow one that always has work; the 99th percentile [s]."""
    sink, waits_s = Sink(), []
    with running(device, sink, quick=1e-3, slow=LONG_S) as lanes:
        for number in range(12):
            lanes.offer(request("slow", ("slow", number), LONG_S))
        for number in range(40):
            asked = request("quick", ("quick", number), 0.0)
            assert lanes.offer(asked) is None
            while ("quick", number) not in sink.finished_s:
                time.sleep(0.0005)
            waits_s.append(sink.finished_s["quick", number] - asked.arrival_s)
            time.sleep(0.01)
        assert any(kind == "slow" for kind, _ in sink.finished_s), "both are served"
    return float(np.quantile(waits_s, 0.99))


def test_the_quick_one_is_not_held_up_by_the_slow_one() -> None:
    assert p99_of_the_quick(Plain(metered=False).device()) < LONG_S / 3


def test_where_joules_are_told_one_batch_runs_at_a_time() -> None:
    assert p99_of_the_quick(Plain(metered=True).device()) > LONG_S / 2


def test_a_deadline_is_promised_without_the_slow_ones_work() -> None:
    sink = Sink()
    with running(Plain(metered=False).device(), sink, quick=1e-3, slow=LONG_S) as lanes:
        for number in range(5):
            lanes.offer(request("slow", number, LONG_S))
        assert lanes.offer(request("quick", "in time", 0.0, due_s=LONG_S / 2)) is None
        refusal = lanes.offer(request("slow", "late", LONG_S, due_s=LONG_S))
        assert refusal is not None
        assert refusal.cause == "deadline"


def test_the_longer_yields_only_where_there_is_a_quicker_one() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with running(Plain(metered=False).device(), Sink(), slow=LONG_S) as lanes:
        assert niceness_of_the_slow(lanes) == before
        lanes.load(lane("quick", 1e-3), 1e-3, 30.0)
        assert niceness_of_the_slow(lanes) == min(19, before + 5)


def niceness_of_the_slow(lanes: Lanes) -> int:
    return lanes.do(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))


def test_a_device_with_clocks_to_set_takes_one_batch_at_a_time_and_one_without_rights_does_not() -> None:
    assert alone(Doubler(metered=False).device())
    assert alone(Plain(metered=True).device())
    assert not alone(Plain(metered=False).device())


def test_one_that_breaks_ends_all_of_them_with_its_error() -> None:
    sink = Sink()
    lanes = Lanes(Plain(metered=False).device(), sink)
    lanes.load(lane("quick", 1e-3), 1e-3, 30.0)
    lanes.load(lane("slow", LONG_S), LONG_S, 30.0)
    lanes.offer(request("slow", "never", float("nan")))
    with pytest.raises(AssertionError, match="of ours"):
        lanes.run()


def test_what_runs_for_longer_than_its_models_may_take_hangs_and_what_is_shorter_does_not() -> None:
    sink = Sink()
    lanes = Lanes(Plain(metered=False).device(), sink)
    lanes.load(lane("slow", LONG_S), LONG_S, 0.2)
    thread = threading.Thread(target=lanes.run)
    assert lanes.overdue(shortest_s=0.0) is None, "it does not run yet"
    thread.start()
    try:
        lanes.offer(request("slow", 1, 0.1))
        until(lambda: 1 in sink.finished_s)
        lanes.offer(request("slow", 2, 4.0))
        until(lambda: lanes.overdue(shortest_s=1.0) is not None)
        assert "slow" in str(lanes.overdue(shortest_s=1.0))
        assert lanes.overdue(shortest_s=60.0) is None
        assert 2 not in sink.finished_s
        until(lambda: 2 in sink.finished_s)
        until(lambda: lanes.overdue(shortest_s=1.0) is None)
    finally:
        lanes.close()
        thread.join(20)
    assert lanes.overdue(shortest_s=0.0) is None, "it does not run any more"


def test_measuring_may_take_longer_than_a_batch() -> None:
    with running(Plain(metered=False).device(), Sink(), slow=LONG_S) as lanes:
        begun = threading.Event()

        def work() -> str | None:
            begun.set()
            time.sleep(1.5)
            return lanes.overdue(shortest_s=1.0)

        lanes.load(lane("slow", LONG_S), LONG_S, 0.1)
        assert lanes.do(work) is None
        assert begun.is_set()


def test_what_waits_for_a_model_that_is_unloaded_is_answered_first() -> None:
    sink = Sink()
    with running(Plain(metered=False).device(), sink, slow=LONG_S) as lanes:
        for number in range(4):
            lanes.offer(request("slow", number, 0.1))
        lanes.unload("slow")
        until(lambda: len(sink.finished_s) == 4)
        assert sink.refusals == []
        lanes.offer(request("slow", "late", 0.1))
        assert [each.cause for each in sink.refusals] == ["unloaded"]


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.005)


def test_counts_are_those_of_all_of_them() -> None:
    sink = Sink()
    with running(Plain(metered=False).device(), sink, quick=1e-3, slow=LONG_S) as lanes:
        lanes.offer(request("quick", 1, 0.0))
        lanes.offer(request("slow", 2, 0.0))
        lanes.offer(request("nobody", 3, 0.0))
        deadline_s = time.monotonic() + 20
        while len(sink.finished_s) < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
    assert lanes.totals.answered == 2
    assert lanes.totals.refused == {"unloaded": 1}
    assert isinstance(lanes.last, Sample)
