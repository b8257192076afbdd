"""The runner: segments agree with the whole bit by bit, and times of operators sum to the unobserved run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Tensors
from amble.runtimes.onnx import Execution, OnnxRunner, example_inputs, load
from amble.runtimes.synthetic import chain
from tests.runtimes import models

POINT = OperatingPoint()
NETWORKS = {
    "cnn": models.cnn(),
    "lstm": models.lstm(),
    "branching": models.branching(),
    "looping": models.looping(),
    "mlp": models.mlp((8, 16, 32, 16, 8)),
}


class CountingMeter:
    """Counts one joule at every reading; without energy when told so."""

    def __init__(self, *, knows: bool = True) -> None:
        self.readings = 0
        self._knows = knows

    def read(self) -> Reading:
        self.readings += 1
        return Reading(0.0, float(self.readings) if self._knows else None)


def in_segments(runner: OnnxRunner, graph: Graph, cuts: list[int], inputs: Tensors) -> Tensors:
    tensors = inputs
    for start, stop in pairwise(cuts):
        tensors = runner.run(graph.segment(start, stop), POINT, tensors)
    return tensors


@pytest.fixture(params=sorted(NETWORKS))
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> Graph:
    return load(models.saved(tmp_path, NETWORKS[request.param], f"{request.param}.onnx"), batch=2)


def test_a_schedule_of_single_operators_gives_the_outputs_of_the_whole(graph: Graph) -> None:
    runner, inputs = OnnxRunner(), example_inputs(graph, seed=5)
    whole = runner.run(graph, POINT, inputs)
    parts = in_segments(runner, graph, list(range(len(graph.operators) + 1)), inputs)
    assert set(parts) == set(whole) == {port.name for port in graph.outputs}
    for name, expected in whole.items():
        np.testing.assert_array_equal(parts[name], expected)


def test_every_cut_in_two_gives_the_outputs_of_the_whole(graph: Graph) -> None:
    runner, inputs = OnnxRunner(), example_inputs(graph, seed=6)
    whole = runner.run(graph, POINT, inputs)
    for middle in range(1, len(graph.operators)):
        parts = in_segments(runner, graph, [0, middle, len(graph.operators)], inputs)
        for name, expected in whole.items():
            np.testing.assert_array_equal(parts[name], expected)


def test_a_segment_of_a_segment_is_where_it_says(tmp_path: Path) -> None:
    graph, runner = load(models.saved(tmp_path, NETWORKS["mlp"])), OnnxRunner()
    inputs, last = example_inputs(graph, seed=7), len(graph.operators)
    tail = graph.segment(1, last)
    tensors = runner.run(graph.segment(0, 1), POINT, inputs)
    tensors = runner.run(tail.segment(0, 1), POINT, tensors)
    tensors = runner.run(tail.segment(1, last - 1), POINT, tensors)
    for name, expected in runner.run(graph, POINT, inputs).items():
        np.testing.assert_array_equal(tensors[name], expected)


def test_without_inputs_the_work_is_done_and_nothing_returned(graph: Graph) -> None:
    runner = OnnxRunner()
    assert runner.run(graph, POINT, {}) == {}
    for index in range(len(graph.operators)):
        assert runner.run(graph.segment(index, index + 1), POINT, {}) == {}


def test_a_residual_connection_is_carried_past_a_segment(tmp_path: Path) -> None:
    nodes = [models.node("Tanh", ["x"], ["a"]), models.node("Exp", ["a"], ["b"]), models.node("Sin", ["b"], ["c"])]
    nodes.append(models.node("Add", ["a", "c"], ["y"]))
    content = models.model(nodes, [models.value("x", [4])], [models.value("y", [4])])
    graph, runner = load(models.saved(tmp_path, content)), OnnxRunner()
    x = np.linspace(-1, 1, 4, dtype=np.float32)
    middle = runner.run(graph.segment(0, 2), POINT, {"x": x})
    assert set(middle) == {"a", "b"}, "x is not needed any more"
    assert set(runner.run(graph.segment(2, 3), POINT, middle)) == {"a", "c"}


def test_an_output_that_is_ready_early_arrives_at_the_end(tmp_path: Path) -> None:
    graph, runner = load(models.saved(tmp_path, models.branching())), OnnxRunner()
    inputs = example_inputs(graph, seed=1)
    names = [operator.name for operator in graph.operators]
    after = names.index("early") + 1
    first = runner.run(graph.segment(0, after), POINT, inputs)
    assert "early" in first
    last = first if after == len(names) else runner.run(graph.segment(after, len(names)), POINT, first)
    assert set(last) == {"early", "y"}


def test_the_other_branch_runs_too(tmp_path: Path) -> None:
    graph, runner = load(models.saved(tmp_path, models.branching())), OnnxRunner()
    inputs = example_inputs(graph, seed=1) | {"flag": np.array(False)}
    cuts = list(range(len(graph.operators) + 1))
    expected = np.tanh(np.tanh(inputs["x"]))
    np.testing.assert_allclose(in_segments(runner, graph, cuts, inputs)["y"], expected, rtol=1e-5)


def test_a_segment_says_which_tensor_is_missing(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.mlp()))
    with pytest.raises(ValueError, match="needs the tensors t0; given were x"):
        OnnxRunner().run(graph.segment(2, 3), POINT, example_inputs(graph, seed=0))


def test_sequences_cannot_be_cut(tmp_path: Path) -> None:
    nodes = [
        models.node("SplitToSequence", ["x"], ["many"], axis=0),
        models.node("ConcatFromSequence", ["many"], ["y"], axis=1),
    ]
    content = models.model(nodes, [models.value("x", [2, 3])], [models.value("y", [1, 6])])
    graph, runner = load(models.saved(tmp_path, content)), OnnxRunner()
    assert runner.run(graph, POINT, example_inputs(graph, seed=0))["y"].shape == (1, 6)
    with pytest.raises(Refused, match="not a tensor; cut elsewhere"):
        runner.run(graph.segment(1, 2), POINT, {})


def test_operators_sum_to_the_unobserved_run(graph: Graph) -> None:
    timings = OnnxRunner().profile(graph, POINT, 40)
    assert len(timings.operators) == len(graph.operators)
    assert sum(each.latency_s for each in timings.operators) == pytest.approx(timings.whole.latency_s, rel=1e-9)
    assert all(each.latency_s > 0 for each in timings.operators)
    assert timings.repeats == len(timings.ratios) == 40
    assert all(ratio > 0 for ratio in timings.ratios)


def test_a_large_product_takes_most_of_the_time(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.mlp((256, 2048, 8))), batch=64)
    timings = OnnxRunner().profile(graph, POINT, 20)
    large = graph.operators.index(max(graph.operators, key=lambda each: each.flops))
    small = graph.operators.index(min(graph.operators, key=lambda each: each.flops))
    assert timings.operators[large].latency_s > 10 * timings.operators[small].latency_s


def test_energy_is_shared_by_time_and_unknown_without_a_meter(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.mlp()))
    assert OnnxRunner().profile(graph, POINT, 10).whole.energy_j is None
    assert OnnxRunner(meter=CountingMeter(knows=False)).profile(graph, POINT, 10).operators[0].energy_j is None
    meter = CountingMeter()
    timings = OnnxRunner(meter=meter).profile(graph, POINT, 10)
    assert timings.whole.energy_j == pytest.approx(meter.readings / 2 / 10), "one joule for each block of runs"
    shares = [each.energy_j or 0.0 for each in timings.operators]
    assert sum(shares) == pytest.approx(timings.whole.energy_j)
    assert shares[0] / sum(shares) == pytest.approx(timings.operators[0].latency_s / timings.whole.latency_s)


def test_the_clocks_that_ran_are_read_back(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.mlp()))
    read_back = Clocks(cpu_hz=2.6e9)
    timings = OnnxRunner(clocks=lambda: read_back).profile(graph, OperatingPoint(Clocks(cpu_hz=3e9)), 2)
    assert timings.ran_at == read_back


def test_two_threads_compute_the_same(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.cnn()))
    inputs = example_inputs(graph, seed=2)
    two = OnnxRunner(Execution(threads=2))
    np.testing.assert_allclose(
        two.run(graph, POINT, inputs)["y"], OnnxRunner().run(graph, POINT, inputs)["y"], rtol=1e-5
    )
    assert two.profile(graph, POINT, 5).whole.latency_s > 0


def test_wrong_arguments_are_errors_and_wrong_graphs_are_refused(tmp_path: Path) -> None:
    graph, runner = load(models.saved(tmp_path, models.mlp())), OnnxRunner()
    with pytest.raises(ValueError, match="at least one repeat"):
        runner.profile(graph, POINT, 0)
    with pytest.raises(ValueError, match="profile the whole network"):
        runner.profile(graph.segment(0, 1), POINT, 1)
    with pytest.raises(ValueError, match="at least one thread"):
        OnnxRunner(Execution(threads=0))
    with pytest.raises(Refused, match="cannot run at fp16"):
        runner.run(graph, OperatingPoint(precision="fp16"), {})
    with pytest.raises(Refused, match="has no weights to run"):
        runner.run(chain(3), POINT, {})


def test_profiling_leaves_no_files_where_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = load(models.saved(tmp_path, models.mlp()))
    empty = tmp_path / "here"
    empty.mkdir()
    monkeypatch.chdir(empty)
    OnnxRunner().profile(graph, POINT, 3)
    assert list(empty.iterdir()) == []


def test_the_folder_of_a_network_goes_with_its_owner(tmp_path: Path) -> None:
    graph, runner = load(models.saved(tmp_path, models.mlp())), OnnxRunner()
    runner.run(graph, POINT, {})
    folder = runner.sessions.network(graph).folder
    assert folder.is_dir()
    del runner
    assert not folder.exists()


def test_onnx_runtime_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = models.cnn()
    content.graph.initializer.append(models.weight("never_used", 4))
    load(models.saved(tmp_path, content))
    with pytest.raises(Refused):
        load(models.saved(tmp_path, models.model([models.node("Nothing", ["x"], ["y"])], [models.value("x", [1])], [])))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_half_precision_runs_end_to_end(tmp_path: Path) -> None:
    half = onnx.TensorProto.FLOAT16
    weights = [models.constant("w", np.eye(8), np.float16)]
    content = models.model(
        [models.node("MatMul", ["x", "w"], ["y"])],
        [models.value("x", [2, 8], half)],
        [models.value("y", [2, 8], half)],
        weights,
    )
    graph = load(models.saved(tmp_path, content))
    assert graph.inputs[0].dtype == "float16"
    inputs = example_inputs(graph, seed=0)
    outputs = OnnxRunner().run(graph, OperatingPoint(precision=graph.precision), inputs)
    np.testing.assert_array_equal(outputs["y"], inputs["x"])
