"""Does the runtime saturate INT8 products here? Asked of the runtime itself, with one product that tells.

On x86 its kernels multiply unsigned by signed bytes with VPMADDUBSW, which cuts the sum of two products at 16 bits,
unless the CPU has VPDPBUSD (VNNI) or AMX, which add up in 32. Which kernel it takes depends on the CPU, on its own
version and on how it was built; so no list of instruction sets is believed here.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

__all__ = ["saturates"]


@cache
def saturates() -> bool:
    """Multiply [4, 8] of 255 by [8, 4] of 127: exact is 8 · 255 · 127, with pairs cut at 16 bits 4 · 32,767."""
    left = helper.make_tensor_value_info("left", TensorProto.UINT8, [4, 8])
    right = helper.make_tensor_value_info("right", TensorProto.INT8, [8, 4])
    sums = helper.make_tensor_value_info("sums", TensorProto.INT32, [4, 4])
    node = helper.make_node("MatMulInteger", ["left", "right"], ["sums"])
    model = helper.make_model(
        helper.make_graph([node], "pairs", [left, right], [sums]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"left": np.full((4, 8), 255, np.uint8), "right": np.full((8, 4), 127, np.int8)}
    found = session.run(None, feeds)[0]
    return bool(found[0, 0] != 8 * 255 * 127)
