"""The suite of runners catches what is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Graph, Port
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors, Timings
from amble.testing import RunnerCase, RunnerConformance
from tests import fakes
from tests.fakes import FakeDevice


@dataclass
class Adding(FakeDevice):
    """Every operator adds one to its tensor."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        self._known(point)
        super().run(graph, point, inputs)
        return {name: tensor + len(graph.operators) for name, tensor in inputs.items()}

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        self._known(point)
        return super().profile(graph, point, repeats)

    def _known(self, point: OperatingPoint) -> None:
        if point.precision != "fp32":
            raise Refused(f"no {point.precision}")


@dataclass
class Restless(Adding):
    """Answers differently each time."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        return {name: each + self.time_s for name, each in super().run(graph, point, inputs).items()}


@dataclass
class Whole(Adding):
    """Does the whole network's work in every segment."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        super().run(graph, point, inputs)
        return {name: tensor + graph.num_operators for name, tensor in inputs.items()}


@dataclass
class Renaming(Adding):
    """Calls its output by another name."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        return {f"other {name}": each for name, each in super().run(graph, point, inputs).items()}


@dataclass
class Clocked(Adding):
    """Answers by its clocks."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        core_hz = self.current().core_hz or 0.0
        return {name: each + core_hz for name, each in super().run(graph, point, inputs).items()}


@dataclass
class Lazy(Adding):
    """Does nothing without inputs."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        return super().run(graph, point, inputs) if inputs else {}


@dataclass
class Short(Adding):
    """Times one operator too few."""

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        found = super().profile(graph, point, repeats)
        return replace(found, operators=found.operators[1:])


@dataclass
class Inexact(Adding):
    """Has a whole in which half of the time, or of the energy, belongs to no operator."""

    times: float = 2.0
    joules: float = 1.0

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        found = super().profile(graph, point, repeats)
        whole = found.whole
        assert whole.energy_j is not None
        longer = replace(whole, latency_s=self.times * whole.latency_s, energy_j=self.joules * whole.energy_j)
        return replace(found, whole=longer)


@dataclass
class Obliging(Adding):
    """Runs what it does not know."""

    def _known(self, point: OperatingPoint) -> None:
        pass


def a_case(fake: FakeDevice) -> RunnerCase:
    ports = (Port("x", (1, 3), "float"),)
    graph = replace(fakes.graph(1e6, 2e6, 3e6), inputs=ports, outputs=ports)
    return RunnerCase(fake.device(), graph, {"x": np.zeros((1, 3))})


class TestSound(RunnerConformance):
    @pytest.fixture
    def case(self) -> RunnerCase:
        return a_case(Adding())


RULES = RunnerConformance


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Whole(), RULES.test_segments_joined_give_the_outputs_of_the_whole),
        (Renaming(), RULES.test_outputs_are_named_and_shaped_as_the_graph_says),
        (Restless(), RULES.test_running_again_gives_the_same),
        (Lazy(), RULES.test_without_inputs_the_work_is_done_and_nothing_returned),
        (Short(), RULES.test_a_profile_has_one_timing_an_operator),
        (Inexact(), RULES.test_operators_add_up_to_the_whole),
        (Inexact(times=1.0, joules=2.0), RULES.test_operators_add_up_to_the_whole),
        (Clocked(), RULES.test_answers_do_not_depend_on_clocks),
        (Obliging(), RULES.test_a_graph_that_nobody_knows_is_refused),
    ],
)
def test_a_broken_runner_is_caught(broken: FakeDevice, rule: Callable[..., None]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        rule(RunnerConformance(), a_case(broken))
