"""A hardened model checks its own feature maps, and is the same where they are plausible."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from amble.runtimes.faults import Bounds
from amble.runtimes.onnx.hardening import hardened


def model() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(made: onnx.ModelProto, x: list[float]) -> list[float]:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[float] = session.run(None, {"x": np.array([x], np.float32)})[0][0].tolist()
    return found


@pytest.mark.parametrize("mode", ["zero", "saturate"])
def test_plausible_values_pass_unchanged(mode: Literal["zero", "saturate"]) -> None:
    bounds = {"x": Bounds(-5, 5, mode), "r": Bounds(0, 5, mode)}
    assert run(hardened(model(), bounds), [1.0, -2.0, 5.0]) == [1.0, 0.0, 5.0]


def test_implausible_values_become_zero_or_the_bound() -> None:
    wild = [np.inf, np.nan, 1e30]
    assert run(hardened(model(), {"x": Bounds(-5, 5, "zero")}), wild) == [0.0, 0.0, 0.0]
    assert run(hardened(model(), {"x": Bounds(-5, 5, "saturate")}), wild) == [5.0, 0.0, 5.0]


def test_the_given_model_stays_as_it_was_and_unread_tensors_are_named() -> None:
    given = model()
    hardened(given, {"r": Bounds(0, 1, "zero")})
    assert given == model()
    with pytest.raises(ValueError, match="no node reads y"):
        hardened(given, {"y": Bounds(0, 1, "zero")})
