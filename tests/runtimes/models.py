"""Small ONNX models that a test can count by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, shape: Sequence[int | str | None] | None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    drawn = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(drawn, name)


def constant(name: str, content: Any, dtype: Any = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(content, dtype), name)


def node(kind: str, inputs: list[str], outputs: list[str], name: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, name=name or outputs[0], **attributes)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(weights))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def saved(folder: Path, content: onnx.ModelProto, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(content.SerializeToString())
    return path


def cnn(batch: int | str = "batch") -> onnx.ModelProto:
    """[batch, 16, 8, 8] → convolution 3 × 3 to 32 → + a 1 × 1 shortcut → mean → 10 classes."""
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Add", ["r1", "c2"], ["sum"]),
        node("GlobalAveragePool", ["sum"], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("Gemm", ["flat", "w3", "b3"], ["y"], transB=1),
    ]
    weights = [weight("w1", 32, 16, 3, 3), weight("b1", 32), weight("w2", 32, 32, 3, 3), weight("w3", 10, 32)]
    return model(nodes, [value("x", [batch, 16, 8, 8])], [value("y", [batch, 10])], [*weights, weight("b3", 10)])


def mlp(widths: Sequence[int] = (8, 16, 4), batch: int | str | None = "batch") -> onnx.ModelProto:
    """Products of [batch, width] by [width, next], with a Tanh after each."""
    nodes, weights, x = [], [], "x"
    for i, (width, following) in enumerate(pairwise(widths)):
        weights.append(weight(f"w{i}", width, following, seed=i))
        nodes += [node("MatMul", [x, f"w{i}"], [f"m{i}"]), node("Tanh", [f"m{i}"], [f"t{i}"])]
        x = f"t{i}"
    return model(nodes, [value("x", [batch, widths[0]])], [value(x, [batch, widths[-1]])], weights)


def attention() -> onnx.ModelProto:
    """[batch, tokens] ids below 50 → embedding of 8 → scores, softmax, mix, and the mask's sum on the side."""
    nodes = [
        node("Gather", ["table", "ids"], ["e"]),
        node("Transpose", ["e"], ["et"], perm=[0, 2, 1]),
        node("MatMul", ["e", "et"], ["scores"]),
        node("Softmax", ["scores"], ["p"], axis=-1),
        node("MatMul", ["p", "e"], ["mixed"]),
        node("ReduceSum", ["attention_mask"], ["used"], keepdims=0),
    ]
    inputs = [value("ids", ["batch", "tokens"], INT64), value("attention_mask", ["batch", "tokens"], INT64)]
    outputs = [value("mixed", ["batch", "tokens", 8]), value("used", [], INT64)]
    return model(nodes, inputs, outputs, [weight("table", 50, 8)])


def lstm(batch: int | str = "batch") -> onnx.ModelProto:
    """[5 steps, batch, 6] → LSTM of 7 in both directions; the second output is not wired."""
    nodes = [node("LSTM", ["x", "w", "r", "b"], ["y", "", "c"], hidden_size=7, direction="bidirectional")]
    weights = [weight("w", 2, 28, 6), weight("r", 2, 28, 7), weight("b", 2, 56)]
    return model(nodes, [value("x", [5, batch, 6])], [value("y", [5, 2, batch, 7]), value("c", [2, batch, 7])], weights)


def branching() -> onnx.ModelProto:
    """A flag picks a product by an outer weight, or passes an outer tensor on; then one more Tanh."""
    product = helper.make_graph([node("MatMul", ["h", "w"], ["inner"])], "product", [], [value("inner", None)])
    passing = helper.make_graph([node("Identity", ["h"], ["same"])], "passing", [], [value("same", None)])
    nodes = [
        node("Tanh", ["x"], ["h"]),
        node("If", ["flag"], ["chosen"], then_branch=product, else_branch=passing),
        node("Tanh", ["chosen"], ["y"]),
        node("Exp", ["h"], ["early"]),
    ]
    inputs = [value("x", [2, 64]), value("flag", [], BOOL)]
    return model(nodes, inputs, [value("early", [2, 64]), value("y", [2, 64])], [weight("w", 64, 64)])


def looping(turns: int = 3) -> onnx.ModelProto:
    """A loop that multiplies [2, 8] by a weight this many times."""
    body = helper.make_graph(
        [node("MatMul", ["h", "w"], ["next"]), node("Identity", ["go"], ["again"])],
        "body",
        [value("turn", [], INT64), value("go", [], BOOL), value("h", [2, 8])],
        [value("again", [], BOOL), value("next", [2, 8])],
    )
    nodes = [node("Loop", ["turns", "", "x"], ["y"], body=body)]
    return model(nodes, [value("x", [2, 8])], [value("y", [2, 8])], [weight("w", 8, 8), constant("turns", turns)])


def quantised() -> onnx.ModelProto:
    """A convolution between QuantizeLinear and DequantizeLinear pairs, as quantisers write it."""
    scales = [constant("s", 0.05, np.float32), constant("z", 128, np.uint8), constant("zw", 0, np.int8)]
    integers = np.random.default_rng(0).integers(-100, 100, (16, 16, 3, 3))
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        node("DequantizeLinear", ["wq", "s", "zw"], ["wd"]),
        node("Conv", ["xd", "wd"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("QuantizeLinear", ["c", "s", "z"], ["yq"]),
        node("DequantizeLinear", ["yq", "s", "z"], ["y"]),
    ]
    weights = [*scales, constant("wq", integers, np.int8)]
    return model(nodes, [value("x", [1, 16, 8, 8])], [value("y", [1, 16, 8, 8])], weights)
