"""What a model itself says of the tensors that it reads from memory."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from amble.runtimes.onnx.stored import cut_to


def model() -> onnx.ModelProto:
    """Three cuts: by stored limits, by limits of constant nodes, and by one that is an input."""
    zero = helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.float32(0.0)))
    nodes = [
        zero,
        helper.make_node("Clip", ["x", "low", "high"], ["stored"]),
        helper.make_node("Clip", ["stored", "zero", "high"], ["constant"]),
        helper.make_node("Clip", ["constant", "zero", "given"], ["open"]),
        helper.make_node("Clip", ["open", "zero"], ["y"]),
    ]
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("given", TensorProto.FLOAT, []),
    ]
    limits = [numpy_helper.from_array(np.float32(each), name) for name, each in (("low", -1.5), ("high", 2.0))]
    graph = helper.make_graph(
        nodes, "cuts", given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])], limits
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_cuts_by_constants_are_limits_of_what_they_make() -> None:
    assert cut_to(model()) == {"stored": (-1.5, 2.0), "constant": (0.0, 2.0)}
