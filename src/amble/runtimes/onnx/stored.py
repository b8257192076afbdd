"""An ONNX model → the tensors of each layer that live in memory: its weights, and the feature map that it reads.

Biases, batch norm statistics, shapes, scales and zero points stay in reliable memory: they are small, and an error in
them is fatal. In a quantised model the stored tensors are the integers behind a DequantizeLinear.
"""

from __future__ import annotations

from collections import Counter
from math import prod

import onnx
from onnx import numpy_helper

from amble.core.errors import Refused
from amble.core.graph import Layer

__all__ = ["cut_to", "layers", "layers_by_output"]

_KINDS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_SAME_VALUES = ("DequantizeLinear", "Transpose", "Reshape", "Identity", "Cast", "Flatten", "Squeeze", "Unsqueeze")


def layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """Return the layers in order; Refused for a model without a convolution or matrix product at its top level."""
    found = layers_by_output(model)
    if not found:
        raise Refused(
            "the model has no convolution or matrix product to read its tensors from memory; "
            "give one with layers of these kinds: " + ", ".join(_KINDS)
        )
    return tuple(found.values())


def layers_by_output(model: onnx.ModelProto) -> dict[str, Layer]:
    """Return the layers in order, by what they write; a node without a name of its own is called by that."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    sizes = {tensor.name: prod(tensor.dims) for tensor in model.graph.initializer}
    called = Counter(node.name for node in model.graph.node)
    found = {}
    for node in model.graph.node:
        if node.op_type not in _KINDS:
            continue
        second = 3 if node.op_type.startswith("QLinear") else 1
        weight = _stored(node.input[second], made_by, through=_SAME_VALUES)
        feature = _stored(node.input[0], made_by, through=("DequantizeLinear",))
        weight, size = (weight, sizes[weight]) if weight in sizes else ("", 0)
        named = node.name and called[node.name] == 1
        name = node.name if named else f"{node.op_type} of {node.output[0]}"
        found[node.output[0]] = Layer(name, weight, size, feature)
    return found


def cut_to(model: onnx.ModelProto) -> dict[str, tuple[float, float]]:
    """Return the limits of every tensor that a Clip node has just cut, where both are constants of the model."""
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    known |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    found = {}
    for node in model.graph.node:
        if node.op_type == "Clip" and len(node.input) == 3 and all(name in known for name in node.input[1:]):
            low, high = (float(numpy_helper.to_array(known[name]).reshape(())) for name in node.input[1:])
            found[node.output[0]] = (low, high)
    return found


def _stored(name: str, made_by: dict[str, onnx.NodeProto], *, through: tuple[str, ...]) -> str:
    """Follow a tensor back through nodes that only present the same values in another form."""
    while name in made_by and made_by[name].op_type in through:
        name = made_by[name].input[0]
    return name
