"""Operators as ONNX Runtime executes them → the layers of the original network that they compute.

The runtime fuses, splits and renames operators, in FP32 otherwise than in INT8. What survives, with one ending or
another, is the name of the tensor that an operator gives; where a layout was changed that name is in the operator's own
name, or the operator's original name is in the tensor's. What has none of them (casts, reordering) belongs to whatever
uses its result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from amble.core.graph import Graph
from amble.core.ports import FloatArray
from amble.runtimes.onnx.sessions import Sessions

__all__ = ["cast_rate_s", "layer_of_names", "layer_of_operators", "widths"]

_ENDING = re.compile(
    r"(_QuantizeLinear|_DequantizeLinear|_Output|_Input|_quantized|_output|_scaled|_nchwc|_token|_pre_q|_q_to_dq|/duplicated)(_\d+)?$"
)
_CASTS = ("QuantizeLinear", "DequantizeLinear")


def layer_of_names(path: Path, layers: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return the layer of every tensor and every node of the original network; layers: [layer][node name]."""
    layer_of = {name: index for index, names in enumerate(layers) for name in names}
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    given = {tensor: layer_of[node.name] for node in nodes for tensor in node.output if node.name in layer_of}
    return layer_of | given


def layer_of_operators(graph: Graph, sessions: Sessions, names: Mapping[str, int]) -> list[int]:
    """Return the layer of every operator [operator]; names: the layer of every original tensor and node."""
    nodes = list(sessions.network(graph).model.graph.node)
    found = [_known(node, names) for node in nodes]
    for place in reversed(range(len(nodes))):
        if found[place] is None:
            found[place] = _user(nodes, found, place)
    last = max(names.values(), default=0)
    return [last if layer is None else layer for layer in found]


def widths(graph: Graph, layer_of: Sequence[int], num_layers: int) -> FloatArray:
    """Return the elements that go into each layer, and out of the network [layer + 1]."""
    found = np.zeros(num_layers + 1)
    found[0] = float(np.prod(graph.inputs[0].shape))
    for operator, layer in zip(graph.operators, layer_of, strict=True):
        found[layer + 1] = float(np.prod(operator.output_shape)) if operator.output_shape else found[layer + 1]
    for layer in range(1, num_layers + 1):
        found[layer] = found[layer] or found[layer - 1]
    return found


def cast_rate_s(graph: Graph, times_s: Sequence[float]) -> float:
    """Return the time of a cast for each element [s], from the casts in a timed INT8 network; 0 where it has none."""
    casts = [
        (float(np.prod(operator.output_shape)), time_s)
        for operator, time_s in zip(graph.operators, times_s, strict=True)
        if operator.kind in _CASTS
    ]
    elements = sum(each for each, _ in casts)
    return sum(time_s for _, time_s in casts) / elements if elements else 0.0


def _known(node: onnx.NodeProto, names: Mapping[str, int]) -> int | None:
    for name in (*node.output, node.name):
        while name not in names and _ENDING.search(name):
            name = _ENDING.sub("", name)
        if name in names:
            return names[name]
    return None


def _user(nodes: Sequence[onnx.NodeProto], found: Sequence[int | None], place: int) -> int | None:
    """Return the layer of the first later node that uses what this one gives; else the next one's."""
    given = set(nodes[place].output)
    for later in range(place + 1, len(nodes)):
        if given & set(nodes[later].input):
            return found[later]
    return found[place + 1] if place + 1 < len(nodes) else None
