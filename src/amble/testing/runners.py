"""What every runner must do, whether it computes, simulates or replays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Graph, Operator, Port
from amble.core.point import OperatingPoint
from amble.core.ports import Device, Tensors, Timing

__all__ = ["RunnerCase", "RunnerConformance"]

_REPEATS = 12
_UNKNOWN = "unheard-of"
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class RunnerCase:
    """A device whose runner is tried, and a network of at least two operators that it knows, with inputs for it.

    Without ``inputs`` the runner computes nothing, and only times are asked of it.
    """

    device: Device
    graph: Graph
    inputs: Tensors = field(default_factory=dict)

    @property
    def point(self) -> OperatingPoint:
        """Return the point to run at: the graph's precision, at the clocks that are set."""
        return OperatingPoint(self.device.actuator.current(), self.graph.precision)

    def run(self, cuts: Iterable[int]) -> Tensors:
        """Run the network segment by segment; each takes what the one before gave."""
        tensors = self.inputs
        for start, stop in pairwise(cuts):
            tensors = self.device.runner.run(self.graph.segment(start, stop), self.point, tensors)
        return tensors

    def whole(self) -> Tensors:
        """Run the network as one."""
        return self.device.runner.run(self.graph, self.point, self.inputs)


class RunnerConformance:
    """Rules of a runner. Give the fixture ``case``."""

    def test_segments_joined_give_the_outputs_of_the_whole(self, case: RunnerCase) -> None:
        """Cut after every operator, and cut in two anywhere: no value differs."""
        whole, count = case.whole(), len(case.graph.operators)
        for cuts in (range(count + 1), *((0, middle, count) for middle in range(1, count))):
            _same(case.run(cuts), whole)

    def test_outputs_are_named_and_shaped_as_the_graph_says(self, case: RunnerCase) -> None:
        """All of them, and no others."""
        if case.inputs:
            found = {name: tensor.shape for name, tensor in case.whole().items()}
            assert found == {port.name: port.shape for port in case.graph.outputs}

    def test_running_again_gives_the_same(self, case: RunnerCase) -> None:
        """Nothing is left over from the run before."""
        _same(case.whole(), case.whole())

    def test_without_inputs_the_work_is_done_and_nothing_returned(self, case: RunnerCase) -> None:
        """Time passes for the whole and for each segment."""
        graphs = [case.graph, *(case.graph.segment(at, at + 1) for at in range(len(case.graph.operators)))]
        for graph in graphs:
            before_s = case.device.clock.now_s()
            assert case.device.runner.run(graph, case.point, {}) == {}
            assert case.device.clock.now_s() > before_s

    def test_a_profile_has_one_timing_an_operator(self, case: RunnerCase) -> None:
        """And says how often it really ran, and how single runs differed."""
        timings = case.device.runner.profile(case.graph, case.point, _REPEATS)
        assert len(timings.operators) == len(case.graph.operators)
        assert 1 <= timings.repeats <= _REPEATS
        assert len(timings.ratios) == timings.repeats
        assert min(timings.ratios) > 0
        assert all(each.latency_s >= 0 and each.spread_s >= 0 for each in (*timings.operators, timings.whole))

    def test_operators_add_up_to_the_whole(self, case: RunnerCase) -> None:
        """Times within the stated overhead and spread (medians do not add exactly), energies exactly, or unknown."""
        timings = case.device.runner.profile(case.graph, case.point, _REPEATS)
        whole = timings.whole
        sum_s = sum(each.latency_s for each in timings.operators)
        allowed_s = abs(timings.overhead_ratio) * whole.latency_s + whole.spread_s + _ROUNDING * whole.latency_s
        assert abs(sum_s - whole.latency_s) <= allowed_s
        assert whole.latency_s > 0
        _energies_add_up(timings.operators, whole)

    def test_answers_do_not_depend_on_clocks(self, case: RunnerCase) -> None:
        """Slow and fast differ in time alone."""
        available = case.device.actuator.available()
        answers = []
        for clocks in (available[0], available[-1]):
            with case.device.held(clocks):
                answers.append(case.whole())
        _same(*answers)

    def test_a_graph_that_nobody_knows_is_refused(self, case: RunnerCase) -> None:
        """Neither its operators, nor its weights, nor its precision."""
        operators = (Operator(_UNKNOWN, _UNKNOWN, 1.0, 4.0, 4.0),)
        ports = (Port(_UNKNOWN, (1,), "float"),)
        graph = Graph(_UNKNOWN, operators, 1, _UNKNOWN, ports, ports, precision=_UNKNOWN)
        point = OperatingPoint(case.device.actuator.current(), _UNKNOWN)
        for inputs in ({}, {_UNKNOWN: np.zeros(1, np.float32)}):
            with pytest.raises(Refused):
                case.device.runner.run(graph, point, inputs)
        with pytest.raises(Refused):
            case.device.runner.profile(graph, point, 1)


def _same(found: Tensors, expected: Tensors) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor)


def _energies_add_up(operators: tuple[Timing, ...], whole: Timing) -> None:
    known = [each.energy_j for each in operators if each.energy_j is not None]
    if whole.energy_j is None:
        assert not known, "parts of an energy that nobody knows"
    else:
        assert len(known) == len(operators)
        assert sum(known) == pytest.approx(whole.energy_j, rel=_ROUNDING)
