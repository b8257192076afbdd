"""Layers in INT8: what ONNX Runtime makes of them, and how their times go with their widths."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from amble.core.layers import Shape
from amble.runtimes.onnx.layers import OnnxLayers, profiled, sandwich
from amble.runtimes.onnx.qdq import in_int8

CONV = Shape("conv", 64, 64, (3, 3), padding=(1, 1), size=(28, 28))
DEPTHWISE = Shape("depthwise", 32, 32, (3, 3), stride=(2, 2), padding=(1, 1), size=(14, 14))
GROUPED = Shape("conv", 32, 32, (3, 3), padding=(1, 1), groups=4, size=(7, 7))
FIRST = Shape("conv", 3, 32, (3, 3), padding=(1, 1), size=(14, 14), vary_inputs=False)
DENSE = Shape("gemm", 128, 10)


def kernels(shape: Shape) -> list[str]:
    model = in_int8(sandwich(shape, shape.inputs, shape.outputs, 1))
    (port,) = model.graph.input
    size = [each.dim_value for each in port.type.tensor_type.shape.dim]
    kinds, _ = profiled(model, {port.name: np.zeros(size, np.float32)}, 5)
    return kinds


@pytest.mark.parametrize("shape", [CONV, DEPTHWISE, GROUPED], ids=str)
def test_convolutions_run_in_int8_with_nothing_between_them(shape: Shape) -> None:
    found = kernels(shape)
    at = found.index("QLinearConv")
    assert found[at : at + 3] == ["QLinearConv"] * 3
    assert "Conv" not in found
    assert "Relu" not in found


def test_a_dense_layer_runs_in_int8() -> None:
    assert kernels(DENSE) == ["QuantizeLinear", "QGemm", "DequantizeLinear"]


def test_answers_are_those_in_floating_point_within_the_steps() -> None:
    plain = sandwich(DENSE, 128, 10, 1)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 128)).astype(np.float32)
    wanted, found = (
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
        for each in (plain, in_int8(plain))
    )
    assert np.abs(wanted[0] - found[0]).max() < 0.1
    assert np.abs(wanted[0]).max() > 0.2


@pytest.mark.parametrize("shape", [CONV, DEPTHWISE, GROUPED, FIRST, DENSE], ids=str)
def test_every_kind_of_layer_is_timed(shape: Shape) -> None:
    found = OnnxLayers(1, 0, "int8").time(shape, shape.inputs, shape.outputs, 5)
    assert 1e-7 < found.latency_s < 1.0


def test_a_width_that_is_no_multiple_of_four_takes_longer_than_a_wider_one() -> None:
    probe = OnnxLayers(1, 0, "int8")
    odd, even = (probe.time(CONV, 64, width, 15).latency_s for width in (63, 64))
    assert odd > 1.1 * even
