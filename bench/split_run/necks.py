"""A network of four stages with a neck after each: which cut is best depends on the link's rate.

Every stage works on many channels and ends in few, so that what would cross gets smaller from neck to neck while work
is left behind it: much may be saved where the link is quick, something where it is slow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["necks"]

_SIDE, _NECK = 96, 16
_STAGES = ((64, 24, 4), (128, 12, 4), (256, 6, 4), (256, 6, 4))  # channels, side, convolutions


def necks(path: Path) -> Path:
    """Write the network."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def conv(before: str, name: str, shape: tuple[int, int, int, int], **more: object) -> str:
        weight = f"w_{name}"
        scale = 1.0 / np.sqrt(shape[1] * shape[2] * shape[3])
        weights.append(numpy_helper.from_array((scale * rng.standard_normal(shape)).astype(np.float32), weight))
        nodes.append(helper.make_node("Conv", [before, weight], [f"{name}_c"], name, **more))
        nodes.append(helper.make_node("Relu", [f"{name}_c"], [f"{name}_r"], f"{name}_relu"))
        return f"{name}_r"

    now, side, channels = "x", _SIDE, 3
    for stage, (width, smaller, count) in enumerate(_STAGES):
        step = side // smaller
        now = conv(now, f"in{stage}", (width, channels, step, step), strides=[step, step])
        for at in range(count):
            now = conv(now, f"deep{stage}_{at}", (width, width, 3, 3), pads=[1, 1, 1, 1])
        now, side, channels = conv(now, f"neck{stage}", (_NECK, width, 1, 1)), smaller, _NECK
    nodes.append(helper.make_node("GlobalAveragePool", [now], ["y"], "mean"))
    value, kind = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    inputs, outputs = [value("x", kind, [1, 3, _SIDE, _SIDE])], [value("y", kind, [1, _NECK, 1, 1])]
    graph = helper.make_graph(nodes, "necks", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.save(model, path)
    return path
