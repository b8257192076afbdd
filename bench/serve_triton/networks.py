"""A time and a number of bytes -> a network that takes a row of so many bytes and computes for about that time.

Convolutions over the first numbers of the row, so that a batch of n rows takes n times as long as one.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["bare_s", "write"]

CHANNELS = 4  # of the image that a row begins with
SMALL, LARGE = (32, 8), (128, 16)  # channels of the layers, and the image's width and height
LONG_S = 2e-3  # from here on layers are large, so that there are few
MOST = 400


def write(path: Path, num_bytes: int, wanted_s: float) -> float:
    """Write a network that takes about this long on one thread here -> how long it takes [s]."""
    size = LARGE if wanted_s >= LONG_S else SMALL
    few, many = 1, 5
    _save(path, num_bytes, size, few)
    few_s = bare_s(path, num_bytes)
    _save(path, num_bytes, size, many)
    each_s = (bare_s(path, num_bytes) - few_s) / (many - few)
    layers = max(1, min(MOST, round(few + (wanted_s - few_s) / each_s)))
    _save(path, num_bytes, size, layers)
    return bare_s(path, num_bytes)


def bare_s(path: Path, num_bytes: int, repeats: int = 15) -> float:
    """Return the median time [s] of one row."""
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), chosen, providers=["CPUExecutionProvider"])
    row = np.random.default_rng(0).random((1, num_bytes // 4), dtype=np.float32)
    times_s = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        session.run(None, {"x": row})
        times_s.append(time.perf_counter() - start_s)
    return sorted(times_s)[len(times_s) // 2]


def _save(path: Path, num_bytes: int, size: tuple[int, int], layers: int) -> None:
    rng = np.random.default_rng(1)
    width, side = size
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", num_bytes // 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])
    held = {
        "starts": np.array([0]), "ends": np.array([CHANNELS * side * side]), "axes": np.array([1]),
        "shape": np.array([-1, CHANNELS, side, side]),
        "first": 0.1 * rng.standard_normal((width, CHANNELS, 3, 3)).astype(np.float32),
        "again": (2 / (9 * width)) ** 0.5 * rng.standard_normal((width, width, 3, 3)).astype(np.float32),
        "plane": np.array([2, 3]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["used"]),
        helper.make_node("Reshape", ["used", "shape"], ["image"]),
        helper.make_node("Conv", ["image", "first"], ["h0"], pads=[1, 1, 1, 1]),
    ]
    for at in range(layers):
        nodes.append(helper.make_node("Conv", [f"h{at}", "again"], [f"c{at}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{at}"], [f"h{at + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"h{layers}", "plane"], ["y"], keepdims=0))
    made = helper.make_graph(
        nodes, "convolutions", [x], [y], [numpy_helper.from_array(each, name) for name, each in held.items()]
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
