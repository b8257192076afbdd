"""However ONNX Runtime orders branches this time, a segment is the operators that the graph says it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors
from amble.runtimes import onnx
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


def test_other_operators_or_an_order_that_cannot_run_are_refused(graph: Graph) -> None:
    other = replace(graph.operators[1], flops=7.0)
    changed = replace(graph, operators=(graph.operators[0], other, *graph.operators[2:]))
    for wrong in (changed, ordered(graph, "stem", "bent", "right", "left", "joined")):
        with pytest.raises(Refused, match="made other operators"):
            onnx.OnnxRunner().sessions.network(wrong)
