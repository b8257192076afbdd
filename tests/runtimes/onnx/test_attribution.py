"""Whatever the runtime makes of a network, its operators are found again in their layers."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from amble.core.graph import Graph, Operator, Port
from amble.runtimes.onnx import Sessions, load
from amble.runtimes.onnx.attribution import cast_rate_s, layer_of_names, layer_of_operators, widths
from tests.runtimes import models


def layers(path: Path) -> list[list[str]]:
    """A layer for each product, and what follows it."""
    found: list[list[str]] = [[]]
    for node in onnx.load(str(path)).graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and found[-1]:
            found.append([])
        found[-1].append(node.name)
    return found


def attributed(original: Path, executed: Path) -> dict[str, int]:
    """Return the layer of every operator that the runtime executes."""
    graph = load(executed)
    names = layer_of_names(original, layers(original))
    return {op.name: at for op, at in zip(graph.operators, layer_of_operators(graph, Sessions(), names), strict=True)}


def test_fused_operators_belong_to_the_layer_that_they_compute(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.cnn())
    found = attributed(path, path)
    graph = load(path)
    products = [found[op.name] for op in graph.operators if op.gemm is not None]
    assert products == [0, 1, 2]
    assert list(found.values()) == sorted(found.values())


def test_int8_operators_belong_to_the_layer_that_they_compute(tmp_path: Path) -> None:
    quantised = models.quantised()
    path = models.saved(tmp_path, quantised, "int8.onnx")
    plain = models.model(
        [models.node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        [models.value("x", [1, 16, 8, 8])],
        [models.value("c", [1, 16, 8, 8])],
        [models.weight("w", 16, 16, 3, 3)],
    )
    found = attributed(models.saved(tmp_path, plain, "fp32.onnx"), path)
    assert set(found.values()) == {0}


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("a", 0),
        ("b", 1),
        ("a_QuantizeLinear_Output", 0),
        ("b_DequantizeLinear_Output/duplicated", 1),
        ("b_quantized", 1),
        ("b_nchwc_token_3", 1),
        ("a_pre_q", 0),
    ],
)
def test_endings_that_the_runtime_adds_are_taken_off(tensor: str, layer: int, tmp_path: Path) -> None:
    nodes = [models.node("Tanh", ["x"], [tensor]), models.node("Sigmoid", [tensor], ["z"])]
    made = models.model(nodes, [models.value("x", [2])], [models.value("z", [2])])
    graph = load(models.saved(tmp_path, made))
    assert layer_of_operators(graph, Sessions(), {"a": 0, "b": 1})[0] == layer


def test_an_operator_without_a_known_name_belongs_to_whatever_uses_it(tmp_path: Path) -> None:
    nodes = [
        models.node("Tanh", ["x"], ["strange"]),
        models.node("Sigmoid", ["x"], ["a"]),
        models.node("Add", ["strange", "a"], ["b"]),
    ]
    made = models.model(nodes, [models.value("x", [2])], [models.value("b", [2])])
    graph = load(models.saved(tmp_path, made))
    found = dict(
        zip(
            [op.kind for op in graph.operators],
            layer_of_operators(graph, Sessions(), {"a": 0, "b": 1}),
            strict=True,
        )
    )
    assert found == {"Tanh": 1, "Sigmoid": 0, "Add": 1}


def test_what_comes_after_the_last_known_name_belongs_to_the_last_layer(tmp_path: Path) -> None:
    nodes = [models.node("Tanh", ["x"], ["a"]), models.node("Sigmoid", ["a"], ["strange"])]
    made = models.model(nodes, [models.value("x", [2])], [models.value("strange", [2])])
    graph = load(models.saved(tmp_path, made))
    assert layer_of_operators(graph, Sessions(), {"a": 0, "other": 3}) == [0, 3]


def operator(name: str, kind: str, *shape: int) -> Operator:
    return Operator(name, kind, 0.0, 0.0, 0.0, output_shape=shape)


def test_widths_are_the_elements_between_layers() -> None:
    operators = (operator("a", "Conv", 1, 4, 8, 8), operator("b", "Relu", 1, 4, 4, 4), operator("c", "Gemm", 1, 10))
    graph = Graph("net", operators, 1, "0", inputs=(Port("x", (1, 3, 8, 8), "float"),))
    np.testing.assert_array_equal(widths(graph, [0, 0, 1], 2), [192, 64, 10])


def test_a_layer_that_nothing_was_found_of_is_as_wide_as_the_one_before() -> None:
    graph = Graph("net", (operator("a", "Conv", 1, 4),), 1, "0", inputs=(Port("x", (1, 3), "float"),))
    np.testing.assert_array_equal(widths(graph, [0], 3), [3, 4, 4, 4])


def test_the_rate_of_casts_is_their_time_over_their_elements() -> None:
    operators = (operator("q", "QuantizeLinear", 1, 100), operator("c", "QLinearConv", 1, 50))
    graph = Graph("net", (*operators, operator("d", "DequantizeLinear", 1, 300)), 1, "0")
    assert cast_rate_s(graph, [1e-6, 5.0, 3e-6]) == pytest.approx(1e-8)
    assert cast_rate_s(Graph("net", operators[1:], 1, "0"), [5.0]) == 0.0
