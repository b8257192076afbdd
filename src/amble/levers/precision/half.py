"""An ONNX model → the same in half precision (FP16 or BF16), its inputs and outputs as they were.

A small pass of our own: weights, constants and casts become half, the model's inputs and outputs get a cast each, and
the few kinds whose inputs must be 32 bits by definition stay so between two casts. What the runtime has no half kernel
for it runs in FP32 between casts of its own, or refuses: which of both, and at what speed, a measurement tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Half", "halved"]

Half = Literal["fp16", "bf16"]

_TYPES: dict[str, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_LARGEST = {"fp16": 65504.0, "bf16": 3.3895e38}
_KEPT = frozenset(
    {
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "NonMaxSuppression",
        "QuantizeLinear",
        "RandomNormal",
        "RandomUniform",
        "Range",
        "Resize",
        "TopK",
        "Upsample",
    }
)
"""Kinds that stay FP32: their operator definitions, or their numbers (sizes, scales), ask for it."""


def halved(model: onnx.ModelProto, precision: Half) -> onnx.ModelProto:
    """Return a copy of the model in half precision; finite values beyond its range become the largest one.

    Functions of the model's own are written out first, so that what they hold becomes half too.
    """
    made = onnx.inliner.inline_local_functions(onnx.ModelProto.FromString(model.SerializeToString()))
    graph = made.graph
    del graph.value_info[:]
    kept = _Kept(made, precision)
    for each in _tensors(graph):
        _halve(each, precision)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes += kept.between_casts(node) if node.op_type in _KEPT else [_retyped(node, precision)]
    ends = _ends(graph, nodes, precision)
    del graph.node[:]
    graph.node.extend(ends)
    return made


class _Kept:
    """Puts casts around the nodes that stay FP32; knows which tensors are floating point."""

    def __init__(self, model: onnx.ModelProto, precision: Half) -> None:
        self._half = _TYPES[precision]
        self._floats = _floats(model)

    def between_casts(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the node with a cast before each floating input and after each floating output."""
        same = onnx.NodeProto.FromString(node.SerializeToString())
        before, after = [], []
        for index, name in enumerate(node.input):
            if name in self._floats:
                same.input[index] = f"{name}_for_{node.name or node.output[0]}"
                before.append(helper.make_node("Cast", [name], [same.input[index]], to=TensorProto.FLOAT))
        for index, name in enumerate(node.output):
            if name in self._floats:
                same.output[index] = f"{name}_kept"
                after.append(helper.make_node("Cast", [same.output[index]], [name], to=self._half))
        return [*before, same, *after]


def _floats(model: onnx.ModelProto) -> set[str]:
    """Return the names of the FP32 tensors, as far as ONNX can infer them: not behind operators it does not know."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.input, *inferred.output, *inferred.value_info]
    found = {each.name for each in values if each.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {each.name for each in inferred.initializer if each.data_type == TensorProto.FLOAT}


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from _tensors(attribute.g)


def _halve(tensor: onnx.TensorProto, precision: Half) -> None:
    """Round an FP32 tensor, in place."""
    if tensor.data_type != TensorProto.FLOAT:
        return
    dtype, limit = helper.tensor_dtype_to_np_dtype(_TYPES[precision]), _LARGEST[precision]
    given = numpy_helper.to_array(tensor)
    values = np.where(np.isinf(given), given, np.clip(given, -limit, limit)).astype(dtype)
    name = tensor.name
    tensor.Clear()
    tensor.name = name
    tensor.data_type = _TYPES[precision]
    tensor.dims.extend(values.shape)
    tensor.raw_data = values.tobytes()


def _retyped(node: onnx.NodeProto, precision: Half) -> onnx.NodeProto:
    """Make what asks for FP32 ask for half: casts, and those in branches and bodies."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = _TYPES[precision]
        elif attribute.type == onnx.AttributeProto.GRAPH:
            _retype_values(attribute.g, precision)
            for inner in attribute.g.node:
                _retyped(inner, precision)
    return node


def _retype_values(graph: onnx.GraphProto, precision: Half) -> None:
    """Say half where a branch or a body says what types go in and out."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        if _is_float(value):
            value.type.tensor_type.elem_type = _TYPES[precision]


def _ends(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], precision: Half) -> list[onnx.NodeProto]:
    """Cast after every FP32 input and before every FP32 output."""
    weights = {each.name for each in graph.initializer}
    inputs = [each.name for each in graph.input if _is_float(each) and each.name not in weights]
    outputs = [each.name for each in graph.output if _is_float(each)]
    new = {name: f"{name}_{precision}" for name in (*inputs, *outputs)}
    for node in nodes:
        _rename(node, new)
    before = [helper.make_node("Cast", [name], [new[name]], to=_TYPES[precision]) for name in inputs]
    after = [helper.make_node("Cast", [new[name]], [name], to=TensorProto.FLOAT) for name in outputs]
    return [*before, *nodes, *after]


def _rename(node: onnx.NodeProto, new: dict[str, str]) -> None:
    for names in (node.input, node.output):
        for index, name in enumerate(names):
            names[index] = new.get(name, name)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, new)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)
