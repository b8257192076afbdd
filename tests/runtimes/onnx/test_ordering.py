"""However ONNX Runtime orders branches this time, a segment is the operators that the graph says it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors
from amble.runtimes import onnx
from amble.runtimes.onnx import ordering
from tests.runtimes import models

POINT = OperatingPoint()


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A stem and two branches of unlike size, whose ends are joined."""
    nodes = [
        models.node("Relu", ["x"], ["stem"], "stem"),
        models.node("MatMul", ["stem", "a"], ["left"], "left"),
        models.node("MatMul", ["stem", "b"], ["right"], "right"),
        models.node("Sigmoid", ["right"], ["bent"], "bent"),
        models.node("Concat", ["left", "bent"], ["y"], "joined", axis=1),
    ]
    weights = [models.weight("a", 8, 16), models.weight("b", 8, 4, seed=1)]
    content = models.model(nodes, [models.value("x", (1, 8))], [models.value("y", (1, 20))], weights)
    return onnx.load(models.saved(tmp_path, content))


def ordered(graph: Graph, *names: str) -> Graph:
    """The graph as another run of the optimiser might have given it."""
    known = {each.name: each for each in graph.operators}
    return replace(graph, operators=tuple(known[name] for name in names))


def test_segments_are_the_graphs_operators_whatever_order_the_network_came_in(graph: Graph) -> None:
    inputs = onnx.example_inputs(graph, 1)
    whole = onnx.OnnxRunner().run(graph, POINT, inputs)
    other = ordered(graph, "stem", "right", "bent", "left", "joined")
    runner = onnx.OnnxRunner()
    network = runner.sessions.network(other)
    assert [each.name for each in network.model.graph.node] == [each.name for each in other.operators]
    tensors: Tensors = inputs
    for at in range(len(other.operators)):
        part = other.segment(at, at + 1)
        assert [each.kind for each in part.operators] == [network.model.graph.node[at].op_type]
        tensors = runner.run(part, POINT, tensors)
    np.testing.assert_allclose(tensors["y"], whole["y"], rtol=1e-6)
    np.testing.assert_allclose(runner.run(other, POINT, inputs)["y"], whole["y"], rtol=1e-6)


def test_names_that_were_made_up_anew_are_the_graphs(graph: Graph) -> None:
    swapped = {"left": "made_up_2", "right": "left"}
    other = replace(
        graph, operators=tuple(replace(each, name=swapped.get(each.name, each.name)) for each in graph.operators)
    )
    runner = onnx.OnnxRunner()
    timings = runner.profile(other, POINT, 3)
    assert len(timings.operators) == len(other.operators)
    nodes = {node.name: node for node in runner.sessions.network(other).model.graph.node}
    assert list(nodes["made_up_2"].output) == ["left"]
    assert list(nodes["left"].output) == ["right"]


def test_names_that_changed_places_on_like_branches_are_put_right(tmp_path: Path) -> None:
    """Two branches alike but for their weights; what the optimiser made up at their ends swapped names."""
    nodes = [
        models.node("MatMul", ["x", "a"], ["left"], "left"),
        models.node("Sigmoid", ["left"], ["y"], "made_up"),
        models.node("MatMul", ["x", "b"], ["right"], "right"),
        models.node("Sigmoid", ["right"], ["z"], "made_up_1"),
    ]
    weights = [models.weight("a", 8, 4), models.weight("b", 8, 4, seed=1)]
    outputs = [models.value("y", (1, 4)), models.value("z", (1, 4))]
    first = onnx.load(models.saved(tmp_path, models.model(nodes, [models.value("x", (1, 8))], outputs, weights)))
    other = ordered(first, "right", "made_up", "left", "made_up_1")
    made = {node.name: list(node.output) for node in onnx.OnnxRunner().sessions.network(other).model.graph.node}
    assert made == {"right": ["right"], "made_up": ["z"], "left": ["left"], "made_up_1": ["y"]}


def test_other_operators_or_an_order_that_cannot_run_are_told_and_left(
    graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(graph.operators[1], flops=7.0)
    changed = replace(graph, operators=(graph.operators[0], other, *graph.operators[2:]))
    for wrong in (changed, ordered(graph, "stem", "bent", "right", "left", "joined")):
        caplog.clear()
        network = onnx.OnnxRunner().sessions.network(wrong)
        assert "made other operators" in caplog.text
        assert network.graph.operators == graph.operators


def test_what_is_prepared_again_comes_as_it_came_first(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ordered(graph, "stem", "right", "bent", "left", "joined")
    monkeypatch.setitem(ordering._FIRST, graph.digest, other)
    assert onnx.load(graph.source).operators == other.operators
    part = other.segment(1, 3)
    assert [each.name for each in part.operators] == ["right", "bent"]
    outputs = onnx.OnnxRunner().run(part, POINT, {"stem": np.ones((1, 8), np.float32)})
    assert outputs["bent"].shape == (1, 4)
