"""A chain of convolutions or dense layers with made-up weights → the same in INT8, as a quantised network has it.

Every tensor goes through QuantizeLinear and DequantizeLinear (QDQ), which ONNX Runtime fuses with the product between
them into one INT8 kernel: activations unsigned, weights signed with a scale for each output channel (U8S8). Ranges are
made up, as times do not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

__all__ = ["in_int8"]

_SCALE = np.float32(0.05)  # of every activation
_MIDDLE = 128  # zero point of what may be negative; 0 after a rectifier, which is then part of the product
_MOST = 127


def in_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the chain in INT8: Conv (each with a Relu, or none) and Gemm nodes, their weights and biases constant."""
    graph, nodes = model.graph, list(model.graph.node)
    parts = _Parts({each.name: numpy_helper.to_array(each) for each in graph.initializer})
    parts.through(graph.input[0].name, _MIDDLE)
    for node, following in zip(nodes, [*nodes[1:], None], strict=True):
        if node.op_type == "Relu":
            parts.keep(node, [node.input[0]])
            parts.through(node.output[0], 0)
            continue
        parts.product(node)
        if following is None or following.op_type != "Relu":
            parts.through(node.output[0], _MIDDLE)
    ends = [helper.make_tensor_value_info(_back(nodes[-1].output[0]), onnx.TensorProto.FLOAT, None)]
    made = helper.make_graph(parts.nodes, graph.name, list(graph.input), ends, parts.weights)
    whole = helper.make_model(made, opset_imports=list(model.opset_import))
    whole.ir_version = model.ir_version
    return whole


def _back(name: str) -> str:
    """Name the tensor that comes back from INT8."""
    return f"{name}_back"


@dataclass(slots=True)
class _Parts:
    """Nodes and constants made so far; ``floats`` are the weights as they were."""

    floats: dict[str, npt.NDArray[np.float32]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def keep(self, node: onnx.NodeProto, inputs: list[str]) -> None:
        """Copy a node with other inputs."""
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        del copied.input[:]
        copied.input.extend(inputs)
        self.nodes.append(copied)

    def product(self, node: onnx.NodeProto) -> None:
        """Copy a product with weights in INT8, [output, ...], and its bias in INT32."""
        source, weight, bias = node.input
        values = self.floats[weight]
        most = np.abs(values).reshape(len(values), -1).max(axis=1)
        scale = np.maximum(most, np.float32(1e-6)) / np.float32(_MOST)
        along = scale.reshape(-1, *[1] * (values.ndim - 1))
        self._restored(weight, np.round(values / along).astype(np.int8), scale)
        self._restored(bias, np.round(self.floats[bias] / (scale * _SCALE)).astype(np.int32), scale * _SCALE)
        self.keep(node, [_back(each) for each in (source, weight, bias)])

    def through(self, name: str, zero: int) -> None:
        """Quantise a tensor and restore it."""
        levels = self._constant(f"{name}_scale", _SCALE), self._constant(f"{name}_zero", np.uint8(zero))
        self.nodes.append(helper.make_node("QuantizeLinear", [name, *levels], [f"{name}_int"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_int", *levels], [_back(name)]))

    def _restored(self, name: str, values: npt.NDArray[np.generic], scale: npt.NDArray[np.float32]) -> None:
        """Add a constant in integers, and what restores it by a scale for each output."""
        names = [
            self._constant(f"{name}_int", values),
            self._constant(f"{name}_scale", scale),
            self._constant(f"{name}_zero", np.zeros(len(scale), values.dtype)),
        ]
        self.nodes.append(helper.make_node("DequantizeLinear", names, [_back(name)], axis=0))

    def _constant(self, name: str, value: npt.NDArray[np.generic] | np.generic) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name
