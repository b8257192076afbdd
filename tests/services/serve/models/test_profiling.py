"""A server's rungs come from the stages that measure and fit, and what was measured once is kept by content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from amble import bundled
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors, Timings
from amble.core.schedule import Deadline
from amble.inputs import open_for_serving, twin
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found
from amble.services.serve.models.options import Options
from amble.services.serve.models.profiling import BySize, Profiler, as_one, known
from tests.fakes import LEVELS, FakeDevice, graph

T = TypeVar("T")
NET = graph(1e7, 3e7)


def at_once(work: Callable[[], T]) -> T:
    return work()


class Counting(FakeDevice):
    """Counts how often it was measured."""

    count = 0

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        self.count += 1
        return super().profile(graph, point, repeats)


def test_a_network_is_measured_at_every_setting_once_and_then_known_by_its_content() -> None:
    fake = Counting()
    profiler = Profiler(fake.device())
    profile, costs = profiler.measured(NET, LEVELS, at_once)
    assert costs.arrays().latency_s.sum(axis=0).tolist() == pytest.approx([0.040, 0.020])
    assert costs.arrays().energy_j.sum(axis=0).tolist() == pytest.approx([0.40, 0.20])
    assert costs.idle_w(LEVELS[0]) == pytest.approx(1.0)
    assert profiler.measured(NET, LEVELS, at_once)[0] is profile
    assert fake.count == 2
    profiler.measured(replace(NET, digest="another"), LEVELS, at_once)
    profiler.measured(replace(NET, batch=2), LEVELS, at_once)
    assert fake.count == 6


def test_every_measurement_waits_for_its_turn() -> None:
    turns = []

    def do(work: Callable[[], T]) -> T:
        turns.append(work)
        return work()

    Profiler(FakeDevice().device()).measured(NET, LEVELS, do)
    assert len(turns) == len(LEVELS) + 1, "each setting, and the idle power"


def test_without_a_meter_nothing_is_known_of_energy() -> None:
    _, costs = Profiler(FakeDevice(metered=False).device()).measured(NET, LEVELS, at_once)
    assert costs.energy_j == ()
    assert costs.idle_w(LEVELS[0]) is None


def test_a_batch_size_is_a_network_of_its_own() -> None:
    profiler = Profiler(FakeDevice().device())
    nets = {1: NET, 2: replace(graph(2e7, 6e7, name="two"), batch=2)}
    costs = BySize({size: profiler.measured(each, LEVELS, at_once)[1] for size, each in nets.items()})
    assert [float(costs.table(each).latency_s.sum(axis=0)[0]) for each in nets.values()] == pytest.approx([0.04, 0.08])


def test_a_log_can_be_read_by_what_was_measured_of_each_operator_or_else_by_their_work() -> None:
    profiler = Profiler(FakeDevice().device())
    each, _ = profiler.measured(NET, LEVELS, at_once)
    assert [step.predicted.latency_s for step in known(each, NET).steps] == pytest.approx([0.005, 0.015])
    whole, _ = profiler.measured(as_one(NET), LEVELS, at_once)
    lone = graph(4e7)
    (step,) = known(profiler.measured(as_one(lone), LEVELS, at_once)[0], lone).steps
    assert (step.operator, step.predicted.latency_s) == ("op0", pytest.approx(0.02))
    steps = known(whole, NET).steps
    assert [step.operator for step in steps] == ["op0", "op1"]
    assert [step.predicted.latency_s for step in steps] == pytest.approx([0.005, 0.015])


class Busy:
    """A runner that serves others and must not be measured on."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        raise AssertionError("measured on the device that serves")

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        raise AssertionError("measured on the device that serves")


def test_a_simulated_chip_is_measured_on_a_twin_and_not_in_the_time_of_those_it_serves() -> None:
    device, runner, by_size = open_for_serving("sim:jetson-orin-nano")
    other = twin("sim:jetson-orin-nano")
    assert other is not None
    serving = replace(device, runner=Busy())
    loader = ModelLoader(serving, runner, Options(max_batch=2), Deadline(0.05), by_size, other)
    begun_s = other.clock.now_s()
    ladder = loader.load(Found("net", "1", bundled.model_path()), at_once).ladder
    assert len(ladder.rungs) > 1
    assert other.clock.now_s() > begun_s


def test_this_machine_has_no_twin() -> None:
    assert twin("host") is None
