"""Which layer of the file an operator computes, after ONNX Runtime has fused, ordered and laid out anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from amble.core.graph import Layer
from amble.runtimes.onnx.lineage import computed
from amble.runtimes.onnx.network import Network
from amble.runtimes.onnx.stored import layers, layers_by_output

BUNDLED = Path("src/amble/bundled/fashion-resnet.onnx")


def file_of(tmp_path: Path, nodes: list[onnx.NodeProto], **weights: tuple[int, ...]) -> Path:
    """A network from x [1, 16, 8, 8] to y with these weights, which differ in every value."""
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(random.normal(size=size).astype(np.float32), name) for name, size in weights.items()],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def node(kind: str, given: str, made: str, name: str = "", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, given.split(), [made], name=name, **attributes)


def found_in(path: Path) -> dict[str, Layer]:
    """The layers of a file's operators, by the operators' names; all must have been found."""
    graph = Network.open(path, 1, {}).graph
    found = {each.name: each.layer for each in graph.operators if each.layer is not None}
    assert sorted(found.values(), key=str) == sorted(layers(onnx.load(path)), key=str)
    return found


def test_layers_of_one_size_are_told_apart_where_they_run_in_another_order_than_in_the_file(tmp_path: Path) -> None:
    """The file has the branch first that is summed last: ONNX Runtime runs the other one first."""
    nodes = [
        node("Conv", "x long1", "a", "first"),
        node("Relu", "a", "b"),
        node("Conv", "b long2", "c", "second"),
        node("Conv", "x short", "d", "third"),
        node("Add", "c d", "e"),
        node("Relu", "e", "y"),
    ]
    path = file_of(tmp_path, nodes, long1=(16, 16, 1, 1), long2=(16, 16, 1, 1), short=(16, 16, 1, 1))
    model = Network.open(path, 1, {})
    clean = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    held = {each.name: each for each in onnx.load(str(model.path)).graph.initializer}
    order = []
    for each, operator in zip(model.model.graph.node, model.graph.operators, strict=True):
        if operator.layer is not None:
            laid_out = np.sort(numpy_helper.to_array(held[each.input[1]], str(model.folder)).reshape(-1))
            np.testing.assert_array_equal(laid_out, np.sort(clean[operator.layer.weights].reshape(-1)))
            order.append(operator.layer.name)
    assert sorted(order) == ["first", "second", "third"]
    assert order != ["first", "second", "third"]


def test_every_layer_of_a_residual_network_has_the_operator_with_its_own_biases() -> None:
    network = Network.open(BUNDLED, 1, {})
    held = {each.name: each.layer for each in network.graph.operators if each.layer is not None}
    biased = {each.name: name for each in network.model.graph.node for name in each.input if name.endswith(".bias")}
    assert len(held) == 16
    assert {name: layer.weights.removesuffix("weight") for name, layer in held.items()} == {
        name: bias.removesuffix("bias") for name, bias in biased.items()
    }


def test_layers_in_front_of_batch_norm_activations_and_views_are_found(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w1", "a", "conv"),
        node("BatchNormalization", "a scale shift mean var", "b"),
        node("Clip", "b", "c"),
        node("Flatten", "c", "d"),
        node("MatMul", "d w2", "e"),
        node("Add", "e shift2", "y"),
    ]
    each = dict.fromkeys(("scale", "shift", "mean", "var"), (16,))
    sizes = {"w1": (16, 16, 3, 3), **each, "w2": (576, 4), "shift2": (4,)}
    path = file_of(tmp_path, nodes, **sizes)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "var":
            tensor.CopyFrom(numpy_helper.from_array(np.ones(16, np.float32), "var"))
    onnx.save(model, path)
    assert {each.name for each in found_in(path).values()} == {"conv", "MatMul of e"}


def test_nodes_of_one_name_are_called_by_what_they_write() -> None:
    nodes = [node("MatMul", "x w", "a", "same"), node("MatMul", "a w", "b", "same"), node("MatMul", "b w", "y", "own")]
    model = helper.make_model(helper.make_graph(nodes, "net", [], [], [numpy_helper.from_array(np.eye(2), "w")]))
    assert [each.name for each in layers(model)] == ["MatMul of a", "MatMul of b", "own"]


@pytest.mark.parametrize(
    ("executed", "known"),
    [
        ([("Conv", "p", "x w1", "relu")], {"p": "one"}),  # the only layer upstream of what it writes
        ([("Conv", "p", "x q", "sum")], {}),  # two upstream, neither known elsewhere
        ([("Conv", "p", "x q", "sum"), ("Conv", "two", "x r", "b")], {"p": "one", "two": "two"}),
        ([("Conv", "p", "x q", "relu"), ("Conv", "q", "x r", "relu")], {}),  # both would be the same one
        ([("Conv", "two", "x w1", "b")], {}),  # its name says one thing, its weights another
        ([("Conv", "p", "x q", "elsewhere")], {}),
        ([("LSTM", "p", "x q", "relu")], {}),
        ([("FusedConv", "p", "x q", "fused")], {}),  # in the file it is a product, but no layer: not the one before it
        ([("Conv", "two_token_3", "x q", "lost")], {"two_token_3": "two"}),
        ([("Conv", "fourth", "x w4", "lost")], {"fourth": "fourth"}),  # one of two that share these weights
    ],
)
def test_nothing_is_guessed(executed: list[tuple[str, str, str, str]], known: dict[str, str]) -> None:
    written = helper.make_graph(
        [
            node("Conv", "x w1", "a", "one"),
            node("Relu", "a", "relu", "r"),
            node("Conv", "x w2", "b", "two"),
            node("Add", "a b", "sum", "s"),
            node("FusedConv", "a w3", "fused", "f"),
            node("Conv", "x w4", "c", "third"),
            node("Conv", "x w4", "d", "fourth"),
        ],
        "net",
        [],
        [],
        [numpy_helper.from_array(np.eye(2), name) for name in ("w1", "w2", "w4")],
    )
    nodes = [node(kind, given, made, name) for kind, name, given, made in executed]
    graph = helper.make_graph(nodes, "net", [], [])
    found = computed(written, layers_by_output(helper.make_model(written)), graph)
    assert {name: layer.name for name, layer in found.items()} == known
