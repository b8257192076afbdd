"""One layer at any width → its time inside a network, in FP32 or INT8, by ONNX Runtime on this machine's CPU.

ONNX Runtime keeps activations in blocks of channels between convolutions, and converts them only at the ends or where a
width does not allow it. A network of one convolution would pay both conversions and hide what it costs inside a
network. So the layer is put between two small pointwise convolutions, and the profiler's times of the layer's own
kernel and of the conversions before it are summed, less what the profiler itself takes for each: a width that breaks
the blocks pays for that too. Between two runs as many bytes pass through the caches as the rest of the network would
read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from amble.core.layers import Shape
from amble.core.ports import FloatArray, Tensors, Timing
from amble.runtimes.onnx.overhead import overhead
from amble.runtimes.onnx.preparing import options
from amble.runtimes.onnx.qdq import in_int8
from amble.runtimes.onnx.trace import kernels

__all__ = ["OnnxLayers", "Precision", "profiled", "sandwich", "undisturbed"]

_WARM_UP = 2
_NEIGHBOUR = 16  # channels of the convolutions around the layer
_MOST_BETWEEN_BYTES = 40_000_000
_OPSET = 17
_LEAST_S = 1e-7
_TICK_S = 1e-6  # of the profiler's clock: no spread that it reads is narrower
_LAYER = "layer"
_PRODUCTS = ("Conv", "FusedConv", "Gemm", "QLinearConv", "QGemm")

Precision = Literal["fp32", "int8"]


@dataclass(slots=True)
class OnnxLayers:
    """Times layers in a precision on one thread; ``between_bytes`` pass through the caches between two runs."""

    batch: int = 1
    between_bytes: int = 0
    precision: Precision = "fp32"
    device: str = "host"
    _buffer: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Set the bytes aside."""
        self._buffer = np.ones(min(self.between_bytes, _MOST_BETWEEN_BYTES) // 8 + 1)

    @property
    def library(self) -> str:
        """Return the runtime and its version."""
        return f"onnxruntime {onnxruntime.__version__}, 1 thread"

    def time(self, shape: Shape, inputs: int, outputs: int, runs: int) -> Timing:
        """Run the layer at these widths so many times; energy is not known for single kernels here."""
        model = sandwich(shape, inputs, outputs, self.batch)
        if self.precision == "int8":
            model = in_int8(model)
        feed = {port.name: _noise(_sizes(port)) for port in model.graph.input}
        found, durations_s = profiled(model, feed, runs, between=self._buffer.sum)
        layer_s = durations_s[:, _of_layer(found, _has_pre(shape))].sum(axis=1)
        low_s, high_s = np.quantile(layer_s, (0.1, 0.9))
        return Timing(max(float(undisturbed(layer_s)), _LEAST_S), max(float(high_s - low_s), _TICK_S), None)


def profiled(
    model: onnx.ModelProto, feed: Tensors, runs: int, *, between: Callable[[], object] = lambda: None
) -> tuple[list[str], FloatArray]:
    """Run a model so many times → kinds of its kernels [kernel], times [run, kernel] less what the profiler takes."""
    with tempfile.TemporaryDirectory(prefix="amble-") as folder:
        chosen = options(1, optimised=False)
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model.SerializeToString(), chosen, providers=["CPUExecutionProvider"])
        for _ in range(_WARM_UP + runs):
            between()
            session.run(None, dict(feed))
        found = kernels(Path(session.end_profiling()))
    durations_s = np.array([each.duration_s for each in found]).reshape(_WARM_UP + runs, -1)[_WARM_UP:]
    return [each.details.op_name for each in found[: durations_s.shape[1]]], durations_s - overhead().profiler_s


def undisturbed(durations_s: FloatArray) -> FloatArray:
    """Return what a run takes that nothing disturbs: the mean from the 5th to the 25th percentile. [run, ...] → [...].

    Durations are whole microseconds; a mean of several resolves fractions of them.
    """
    ordered = np.sort(durations_s, axis=0)
    return np.asarray(ordered[len(ordered) // 20 : len(ordered) // 4 + 1].mean(axis=0))


def sandwich(shape: Shape, inputs: int, outputs: int, batch: int) -> onnx.ModelProto:
    """Return a network of the layer between two pointwise convolutions; a dense layer stands alone."""
    if shape.kind == "gemm":
        return _model([_gemm(inputs, outputs)], (batch, inputs))
    first = _NEIGHBOUR if _has_pre(shape) else inputs
    pre = [_conv("pre", "x", first, inputs)] if _has_pre(shape) else []
    middle = _conv(_LAYER, "pre_out" if pre else "x", inputs, outputs, shape=shape)
    post = _conv("post", f"{_LAYER}_out", outputs, _NEIGHBOUR)
    return _model([*pre, middle, post], (batch, first, *shape.size))


@dataclass(frozen=True, slots=True)
class _Part:
    nodes: tuple[onnx.NodeProto, ...]
    weights: tuple[onnx.TensorProto, ...]


def _has_pre(shape: Shape) -> bool:
    """Tell whether a layer reads what another layer writes, not the network's input."""
    return shape.kind != "gemm" and shape.vary_inputs


def _conv(name: str, source: str, inputs: int, outputs: int, *, shape: Shape | None = None) -> _Part:
    """Return a convolution with a rectifier, which ONNX Runtime fuses; without a shape it is a pointwise one."""
    shape = shape or Shape("conv", inputs, outputs)
    groups = inputs if shape.kind == "depthwise" else shape.groups
    weights = (
        _tensor(f"{name}_w", (outputs, inputs // groups, *shape.kernel)),
        _tensor(f"{name}_b", (outputs,)),
    )
    conv = helper.make_node(
        "Conv",
        [source, f"{name}_w", f"{name}_b"],
        [f"{name}_conv"],
        name=name,
        kernel_shape=shape.kernel,
        strides=shape.stride,
        pads=[*shape.padding, *shape.padding],
        dilations=shape.dilation,
        group=groups,
    )
    return _Part((conv, helper.make_node("Relu", [f"{name}_conv"], [f"{name}_out"])), weights)


def _gemm(inputs: int, outputs: int) -> _Part:
    weights = _tensor(f"{_LAYER}_w", (outputs, inputs)), _tensor(f"{_LAYER}_b", (outputs,))
    names = ["x", f"{_LAYER}_w", f"{_LAYER}_b"]
    return _Part((helper.make_node("Gemm", names, [f"{_LAYER}_out"], name=_LAYER, transB=1),), weights)


def _model(parts: Sequence[_Part], size: tuple[int, ...]) -> onnx.ModelProto:
    nodes = [node for part in parts for node in part.nodes]
    graph = helper.make_graph(
        nodes,
        _LAYER,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [weight for part in parts for weight in part.weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = 8
    return model


def _of_layer(found: Sequence[str], has_pre: bool) -> slice:
    """Return which kernels, by their kinds, are the layer's: its own, and those since the convolution before."""
    products = [index for index, kind in enumerate(found) if kind in _PRODUCTS]
    first, last = (products[0] + 1, products[1]) if has_pre else (0, products[0])
    return slice(first, last + 1)


@lru_cache(maxsize=4)
def _pool(size: int) -> FloatArray:
    return np.random.default_rng(0).standard_normal(size)


def _noise(size: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    count = int(np.prod(size))
    return np.resize(_pool(1 << 16), count).astype(np.float32).reshape(size)


def _tensor(name: str, size: tuple[int, ...]) -> onnx.TensorProto:
    scale = np.float32(1.0 / max(1.0, float(np.prod(size[1:]))) ** 0.5)
    return helper.make_tensor(name, TensorProto.FLOAT, size, (_noise(size) * scale).tobytes(), raw=True)


def _sizes(port: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(each.dim_value for each in port.type.tensor_type.shape.dim)
