"""Twenty networks: ten keep rows apart, so that requests may share a batch; ten others mix them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["MIXING", "ROWWISE", "WIDTH", "write"]

WIDTH = 8
Built = tuple[list[onnx.NodeProto], dict[str, np.ndarray]]
Make = Callable[[], Built]


def _node(kind: str, *inputs: str, to: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [to], **attributes)


def _weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def _numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


ROWWISE: dict[str, Make] = {
    "add": lambda: ([_node("Add", "x", "x")], {}),
    "scale": lambda: ([_node("Mul", "x", "w")], {"w": _weights(WIDTH)}),
    "dense": lambda: ([_node("MatMul", "x", "w")], {"w": _weights(WIDTH, 5)}),
    "deep": lambda: (
        [_node("MatMul", "x", "w", to="a"), _node("Relu", "a", to="b"), _node("MatMul", "b", "v")],
        {"w": _weights(WIDTH, 64), "v": _weights(64, 3)},
    ),
    "softmax": lambda: ([_node("Softmax", "x", axis=1)], {}),
    "mean": lambda: ([_node("ReduceMean", "x", "axes", keepdims=1)], {"axes": _numbers(1)}),
    "convolution": lambda: (
        [_node("Unsqueeze", "x", "axes", to="a"), _node("Conv", "a", "w", to="b"), _node("Squeeze", "b", "axes")],
        {"axes": _numbers(1), "w": _weights(1, 1, 3)},
    ),
    "tanh": lambda: ([_node("Tanh", "x", to="a"), _node("Sub", "x", "a")], {}),
    "concat": lambda: ([_node("Concat", "x", "x", axis=1)], {}),
    "columns": lambda: ([_node("CumSum", "x", "axis")], {"axis": np.array(1, np.int64)}),
}
MIXING: dict[str, Make] = {
    "mean_of_rows": lambda: ([_node("ReduceMean", "x", "axes", keepdims=1)], {"axes": _numbers(0)}),
    "max_of_rows": lambda: ([_node("ReduceMax", "x", "axes", keepdims=1)], {"axes": _numbers(0)}),
    "less_mean": lambda: (
        [_node("ReduceMean", "x", "axes", to="a", keepdims=1), _node("Sub", "x", "a")],
        {"axes": _numbers(0)},
    ),
    "sums_so_far": lambda: ([_node("CumSum", "x", "axis")], {"axis": np.array(0, np.int64)}),
    "softmax_of_rows": lambda: ([_node("Softmax", "x", axis=0)], {}),
    "backwards": lambda: (
        [_node("Slice", "x", "starts", "ends", "axes", "steps")],
        {"starts": _numbers(-1), "ends": _numbers(-(1 << 40)), "axes": _numbers(0), "steps": _numbers(-1)},
    ),
    "gram": lambda: (
        [_node("Transpose", "x", to="a", perm=[1, 0]), _node("MatMul", "x", "a", to="b"), _node("MatMul", "b", "x")],
        {},
    ),
    "positive_rows": lambda: (
        [
            _node("Slice", "x", "zero", "one", "one", to="a"), _node("Squeeze", "a", "one", to="b"),
            _node("Greater", "b", "none", to="c"), _node("Compress", "x", "c", axis=0),
        ],
        {"zero": _numbers(0), "one": _numbers(1), "none": np.array(0.0, np.float32)},
    ),
    "recurrent": lambda: (
        [
            _node("Unsqueeze", "x", "one", to="a"), helper.make_node("RNN", ["a", "w", "r"], ["b"], hidden_size=4),
            _node("Squeeze", "b", "axes"),
        ],
        {"one": _numbers(1), "axes": _numbers(1, 2), "w": _weights(1, 4, WIDTH), "r": _weights(1, 4, 4)},
    ),
    "norm_of_all": lambda: (
        [_node("ReduceL2", "x", to="a", keepdims=0), _node("Div", "x", "a")],
        {},
    ),
}  # fmt: skip


def write(folder: Path, name: str) -> Path:
    """Write one of them."""
    nodes, held = {**ROWWISE, **MIXING}[name]()
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, name, [x], [y], [numpy_helper.from_array(each, key) for key, each in held.items()])
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    )
    path = folder / f"{name}.onnx"
    onnx.save(model, str(path))
    return path
