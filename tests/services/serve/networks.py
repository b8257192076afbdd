"""Random networks of operators that keep rows apart and of operators that mix them, over ``x`` [N, 4]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["APART", "MIXING", "chain", "network"]

Nodes = list[onnx.NodeProto]
Step = Callable[[str, str], tuple[Nodes, dict[str, Any]]]
"""Names of what comes in and goes out, both [N, 4] → nodes, and constants by name."""


def _one(kind: str, **attributes: Any) -> Step:
    return lambda a, z: ([helper.make_node(kind, [a], [z], **attributes)], {})


def _with(kind: str, value: Any, *, first: bool = False, **attributes: Any) -> Step:
    def step(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
        names = [f"{z}_c", a] if first else [a, f"{z}_c"]
        return [helper.make_node(kind, names, [z], **attributes)], {f"{z}_c": value}

    return step


def _centred(axis: int) -> Step:
    def step(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
        mean = helper.make_node("ReduceMean", [a, f"{z}_ax"], [f"{z}_m"], keepdims=1)
        return [mean, helper.make_node("Sub", [a, f"{z}_m"], [z])], {f"{z}_ax": np.array([axis])}

    return step


def _self_attention(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
    """x·xᵀ·x over the rows."""
    return [
        helper.make_node("Transpose", [a], [f"{z}_t"], perm=[1, 0]),
        helper.make_node("MatMul", [a, f"{z}_t"], [f"{z}_s"]),
        helper.make_node("Softmax", [f"{z}_s"], [f"{z}_p"], axis=-1),
        helper.make_node("MatMul", [f"{z}_p", a], [z]),
    ], {}


def _reshaped(target: Sequence[int], kind: str, **attributes: Any) -> Step:
    """Do something in another shape, and come back."""

    def step(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
        nodes = [
            helper.make_node("Reshape", [a, f"{z}_s"], [f"{z}_r"]),
            helper.make_node(kind, [f"{z}_r"], [f"{z}_d"], **attributes),
            helper.make_node("Reshape", [f"{z}_d", f"{z}_b"], [z]),
        ]
        return nodes, {f"{z}_s": np.array(target), f"{z}_b": np.array([-1, 4])}

    return step


def _by_shape(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
    """Reshape to [batch, 2, 2] as exporters do, with the batch read from the tensor, and back."""
    nodes = [
        helper.make_node("Shape", [a], [f"{z}_n"]),
        helper.make_node("Gather", [f"{z}_n", f"{z}_0"], [f"{z}_g"]),
        helper.make_node("Unsqueeze", [f"{z}_g", f"{z}_ax"], [f"{z}_u"]),
        helper.make_node("Concat", [f"{z}_u", f"{z}_22"], [f"{z}_s"], axis=0),
        helper.make_node("Reshape", [a, f"{z}_s"], [f"{z}_r"]),
        helper.make_node("Transpose", [f"{z}_r"], [f"{z}_t"], perm=[0, 2, 1]),
        helper.make_node("Flatten", [f"{z}_t"], [z]),
    ]
    return nodes, {f"{z}_0": np.array(0), f"{z}_ax": np.array([0]), f"{z}_22": np.array([2, 2])}


def _scaled_by_count(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
    """Divide by the number of rows."""
    return [
        helper.make_node("Shape", [a], [f"{z}_n"], end=1),
        helper.make_node("Cast", [f"{z}_n"], [f"{z}_f"], to=TensorProto.FLOAT),
        helper.make_node("Div", [a, f"{z}_f"], [z]),
    ], {}


def _numbered(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
    """Add each row's place."""
    return [
        helper.make_node("Shape", [a], [f"{z}_n"], end=1),
        helper.make_node("Squeeze", [f"{z}_n", f"{z}_ax"], [f"{z}_e"]),
        helper.make_node("Range", [f"{z}_0", f"{z}_e", f"{z}_1"], [f"{z}_i"]),
        helper.make_node("Cast", [f"{z}_i"], [f"{z}_f"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", [f"{z}_f", f"{z}_a1"], [f"{z}_u"]),
        helper.make_node("Add", [a, f"{z}_u"], [z]),
    ], {f"{z}_ax": np.array([0]), f"{z}_0": np.array(0), f"{z}_1": np.array(1), f"{z}_a1": np.array([1])}


def _over_time(axis: int) -> Step:
    """Turn the tensor so that the rows are on ``axis`` of [1, N, 4] or [N, 1, 4], and run a GRU of four units."""

    def step(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
        rng = np.random.default_rng(3)
        weight = rng.normal(size=(1, 12, 4)).astype(np.float32)
        nodes = [
            helper.make_node("Unsqueeze", [a, f"{z}_ax"], [f"{z}_x"]),
            helper.make_node("GRU", [f"{z}_x", f"{z}_w", f"{z}_w"], [f"{z}_y", ""], hidden_size=4),
            helper.make_node("Squeeze", [f"{z}_y", f"{z}_sq"], [z]),
        ]
        single = np.array([0, 1] if axis == 1 else [1, 2])
        return nodes, {f"{z}_ax": np.array([1 - axis]), f"{z}_w": weight, f"{z}_sq": single}

    return step


def _stretches(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
    """Turn [N, 4] into [2·N, 2] whose rows lie in two stretches, as [time, batch] does when it is flattened."""
    nodes = [
        helper.make_node("Reshape", [a, f"{z}_22"], [f"{z}_r"]),
        helper.make_node("Transpose", [f"{z}_r"], [f"{z}_t"], perm=[1, 0, 2]),
        helper.make_node("Reshape", [f"{z}_t", f"{z}_2"], [f"{z}_f"]),
    ]
    return nodes, {f"{z}_22": np.array([-1, 2, 2]), f"{z}_2": np.array([-1, 2])}


def _strided(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
    """Softmax over pairs while the rows lie in stretches, and back."""
    nodes, constants = _stretches(a, z)
    nodes += [
        helper.make_node("Softmax", [f"{z}_f"], [f"{z}_s"], axis=-1),
        helper.make_node("Reshape", [f"{z}_s", f"{z}_2n2"], [f"{z}_u"]),
        helper.make_node("Transpose", [f"{z}_u"], [f"{z}_v"], perm=[1, 0, 2]),
        helper.make_node("Flatten", [f"{z}_v"], [z]),
    ]
    return nodes, {**constants, f"{z}_2n2": np.array([2, -1, 2])}


def _torn(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
    """Take stretches for blocks."""
    nodes, constants = _stretches(a, z)
    return [*nodes, helper.make_node("Reshape", [f"{z}_f", f"{z}_4"], [z])], {**constants, f"{z}_4": np.array([-1, 4])}


def _unlike(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
    """Add rows in stretches to rows in blocks."""
    nodes, constants = _stretches(a, z)
    nodes += [
        helper.make_node("Reshape", [a, f"{z}_2"], [f"{z}_p"]),
        helper.make_node("Add", [f"{z}_f", f"{z}_p"], [f"{z}_a"]),
        helper.make_node("Reshape", [f"{z}_a", f"{z}_4"], [z]),
    ]
    return nodes, {**constants, f"{z}_4": np.array([-1, 4])}


def _masked(a: str, z: str) -> tuple[Nodes, dict[str, Any]]:
    """Replace what is negative by −infinity, and squash it."""
    nodes = [
        helper.make_node("Less", [a, f"{z}_0"], [f"{z}_l"]),
        helper.make_node("Where", [f"{z}_l", f"{z}_i", a], [f"{z}_w"]),
        helper.make_node("Tanh", [f"{z}_w"], [z]),
    ]
    return nodes, {f"{z}_0": np.float32(0), f"{z}_i": np.float32(-np.inf)}


_RNG = np.random.default_rng(7)
_SQUARE = _RNG.normal(size=(4, 4)).astype(np.float32)
_ROW = _RNG.normal(size=(1, 4)).astype(np.float32)

APART: dict[str, Step] = {
    "relu": _one("Relu"),
    "tanh": _one("Tanh"),
    "softmax": _one("Softmax", axis=-1),
    "bias": _with("Add", _ROW),
    "dense": _with("MatMul", _SQUARE),
    "gemm": _with("Gemm", _SQUARE, transB=1),
    "centred": _centred(1),
    "cumulated": _with("CumSum", np.array(1)),
    "pictures": _reshaped([-1, 2, 2], "Softmax", axis=1),
    "by_shape": _by_shape,
    "strided": _strided,
    "masked": _masked,
    "gru": _over_time(1),
    "shuffled": _with("Gather", np.array([3, 1, 0, 2]), axis=1),
}
MIXING: dict[str, Step] = {
    "softmax": _one("Softmax", axis=0),
    "centred": _centred(0),
    "cumulated": _with("CumSum", np.array(0)),
    "reshaped": _reshaped([4, -1], "Softmax", axis=1),
    "attention": _self_attention,
    "torn": _torn,
    "unlike": _unlike,
    "count": _scaled_by_count,
    "numbered": _numbered,
    "gru": _over_time(0),
}


def chain(steps: Sequence[Step], symbol: str = "N") -> onnx.ModelProto:
    """Make a network of steps one after the other."""
    nodes, constants, name = [], dict[str, Any](), "x"
    for index, step in enumerate(steps):
        made, given = step(name, f"h{index}")
        nodes += made
        constants |= given
        name = f"h{index}"
    nodes.append(helper.make_node("Identity", [name], ["y"]))
    return network(nodes, constants, {"x": [symbol, 4]}, {"y": [symbol, 4]})


def network(
    nodes: Nodes, constants: dict[str, Any], inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]
) -> onnx.ModelProto:
    """Make a network of FP32 inputs and outputs."""
    sides = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in each.items()]
        for each in (inputs, outputs)
    ]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "made", *sides, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return made
