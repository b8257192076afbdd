"""A small network in INT8 → its answers on a CPU of either kind, computed without its kernels.

What lies between the products of bytes is done by ONNX's reference implementation, the products by the models of
`adapt.products`: so a test sees what any CPU would answer, whatever it runs on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from amble.levers.precision import products
from amble.levers.precision.integer import Product, sums
from amble.levers.precision.integer import products as products_of

Multiply = Callable[[np.ndarray, np.ndarray], np.ndarray]


def multiply(saturates: bool) -> Multiply:
    """Return the products of a CPU that saturates, or of one that does not."""
    return products.saturating if saturates else products.exact


def outputs(path: Path, given: list[dict[str, np.ndarray]], *, saturates: bool) -> np.ndarray:
    """Answer like a CPU that saturates, or one that does not."""
    model = onnx.load(str(path))
    found = {each.node: each for each in products_of(model)}
    for node in model.graph.node:
        if node.name in found:
            _replace(node, model.graph)
    _sort(model.graph)
    del model.opset_import[:]  # the reference implementation has no DequantizeLinear before opset 19
    model.opset_import.extend([onnx.helper.make_opsetid("", 19), onnx.helper.make_opsetid("emulated", 1)])
    session = ReferenceEvaluator(model, new_ops=_operators(found, multiply(saturates)))
    return np.concatenate([session.run(None, feed)[0] for feed in given])


def _replace(node: onnx.NodeProto, graph: onnx.GraphProto) -> None:
    """Let a product start from bytes: what made its inputs' numbers hands over the bytes and the scales instead."""
    made_by = {name: each for each in graph.node for name in each.output}
    if node.op_type == "MatMulInteger":
        given = [node.input[0], node.input[2]]
    else:
        left, right = (made_by[name] for name in node.input[:2])
        given = [left.input[0], left.input[1], right.input[1], *node.input[2:]]
    kind, name, output = node.op_type, node.name, list(node.output)
    node.Clear()
    node.CopyFrom(onnx.helper.make_node(f"{kind}OfBytes", given, output, name=name, domain="emulated", product=name))


def _sort(graph: onnx.GraphProto) -> None:
    """Put nodes behind what they take, which the quantiser does not."""
    known = {"", *(each.name for each in (*graph.input, *graph.initializer))}
    left, ordered = list(graph.node), []
    while left:
        ready = [node for node in left if known.issuperset(node.input)]
        ordered += ready
        known.update(name for node in ready for name in node.output)
        left = [node for node in left if node not in ready]
    del graph.node[:]
    graph.node.extend(ordered)


def _operators(found: dict[str, Product], multiplied: Multiply) -> list[type[OpRun]]:
    class Scaled(OpRun):
        op_domain = "emulated"

        def _run(self, x: Any, x_scale: Any, w_scale: Any, bias: Any = None, product: str = "") -> tuple[Any]:
            whole = sums(found[product], x, multiplied)
            if found[product].windows is not None:  # channels come second
                spread = (-1, *[1] * (whole.ndim - 2))
                w_scale, bias = (each if each is None else each.reshape(spread) for each in (np.array(w_scale), bias))
            real = whole.astype(np.float32) * (x_scale * w_scale)
            return ((real if bias is None else real + bias).astype(np.float32),)

    class MatMulIntegerOfBytes(OpRun):
        op_domain = "emulated"

        def _run(self, x: Any, zero: Any, product: str = "") -> tuple[Any]:
            return (sums(found[product], x, multiplied, zero=int(zero)).astype(np.int32),)

    kinds = [type(f"{kind}OfBytes", (Scaled,), {}) for kind in ("Conv", "Gemm", "MatMul")]
    return [*kinds, MatMulIntegerOfBytes]
