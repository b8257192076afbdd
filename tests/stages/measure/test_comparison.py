"""Networks are compared on the same examples and on the same device, whatever it is."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from amble.core.graph import Graph, Port
from amble.core.point import OperatingPoint
from amble.core.ports import Device, Tensors
from amble.stages.check.intervals import quantile, wilson
from amble.stages.measure.accuracy import Examples
from amble.stages.measure.comparison import Comparison, Statistics
from tests.fakes import FakeDevice

PORTS = (Port("x", (2, 3), "float"),)
FP32 = Graph("fp32", (), 2, "0", inputs=PORTS)
INT8 = Graph("int8", (), 2, "1", inputs=PORTS, precision="int8")
TAKES_S = {"fp32": 0.03, "int8": 0.01}


@dataclass
class Runner:
    """FP32 gives the inputs back as scores; INT8 rounds them, three times as fast."""

    fake: FakeDevice
    asked: list[OperatingPoint] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        self.fake.sleep(TAKES_S[graph.name])
        self.asked.append(point)
        self.calls[graph.name] = self.calls.get(graph.name, 0) + 1
        return {"y": inputs["x"] if graph.name == "fp32" else np.round(inputs["x"])}

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> None:
        raise AssertionError("nothing is profiled here")


def comparison(*, labels: bool) -> tuple[Comparison, Runner]:
    x = np.random.default_rng(0).normal(0, 2, (101, 3)).astype(np.float32)
    fake = FakeDevice()
    runner = Runner(fake)
    device = Device("fake", fake, fake, fake, runner, "uncalibrated: a fake")  # type: ignore[arg-type]
    examples = Examples({"x": x}, x.argmax(axis=1) if labels else None)
    statistics = Statistics(wilson, partial(quantile, percentile=0.5))
    return Comparison(device, FP32, examples, statistics, lambda path: INT8, fake.now_s), runner


def test_with_labels_the_metric_is_accuracy_and_without_agreement() -> None:
    assert comparison(labels=True)[0].metric == "accuracy"
    assert comparison(labels=False)[0].metric == "agreement"


@pytest.mark.parametrize("labels", [True, False])
def test_what_rounding_loses_is_counted(labels: bool) -> None:
    bench, _ = comparison(labels=labels)
    x = bench.examples.inputs["x"]
    same = int((np.round(x).argmax(axis=1) == x.argmax(axis=1)).sum())
    found = bench.quality(INT8)
    assert 50 < same < 101
    assert (found.share.count, found.share.out_of) == (same, 101)
    assert found.loss.value == pytest.approx(100 * (101 - same) / 101)
    assert 0 < found.squared_error < 0.1


def test_the_reference_loses_nothing_and_answers_once() -> None:
    bench, runner = comparison(labels=True)
    found = bench.quality(FP32)
    bench.quality(INT8)
    assert found.loss.value == found.squared_error == 0.0
    assert runner.calls == {"fp32": 51, "int8": 51}


def test_every_network_runs_at_its_own_precision_and_the_clocks_that_are_set() -> None:
    bench, runner = comparison(labels=True)
    bench.times_s([FP32, INT8])
    assert {point.precision for point in runner.asked} == {"fp32", "int8"}
    assert {point.clocks for point in runner.asked} == {bench.device.actuator.current()}


def test_times_are_those_of_the_clock_that_was_handed_in() -> None:
    bench, _ = comparison(labels=True)
    times_s = bench.times_s([FP32, INT8])
    assert times_s.shape == (15, 2)
    np.testing.assert_allclose(bench.median(times_s[:, 0] / times_s[:, 1]).value, 3.0)


def test_other_examples_have_a_share_of_their_own() -> None:
    bench, _ = comparison(labels=True)
    other = bench.examples.rows(0, 20)
    theirs = bench.answers(FP32, other)
    assert bench.share(FP32, other, theirs).count == 20
    assert bench.share(INT8, other, theirs).out_of == 20


def test_networks_are_read_by_what_was_handed_in() -> None:
    assert comparison(labels=True)[0].load(Path("anything.onnx")) is INT8


def test_progress_names_what_is_done() -> None:
    bench, _ = comparison(labels=True)
    told: list[str] = []
    bench.on_progress = lambda what, done, total: told.append(what)
    bench.quality(INT8)
    bench.times_s([FP32])
    assert set(told) == {"asking fp32", "asking int8", "timing"}
