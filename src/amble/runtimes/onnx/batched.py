"""An ONNX file → its tensors with their open axes, and outputs at whatever batch size comes, from one open session.

What a server needs: `onnx.OnnxRunner` binds a network to one batch size, and another size is another network, with its
own copy of the weights. Here the batch axis stays open. Segments of a network still go to an `OnnxRunner`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from amble.core.errors import Refused
from amble.core.graph import Graph, Port
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors, Timings
from amble.runtimes.onnx import OnnxRunner
from amble.runtimes.onnx.execution import Execution
from amble.runtimes.onnx.preparing import options
from amble.runtimes.onnx.refusals import refusing

__all__ = ["BatchedRunner", "Signature"]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a network, −1 for open axes. ``batched``: the first axis of all of them is the batch."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batched: bool


class BatchedRunner:
    """Runs networks on this machine's CPU, each from one session. Networks are opened by ``open``, from any thread."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._opened: dict[str, _Opened] = {}
        self._bound = OnnxRunner(Execution(threads=threads))

    def open(self, path: Path) -> Signature:
        """Open a network, or open it again when its file has changed. Refused when the file is no network."""
        if not path.is_file():
            raise Refused(f"there is no file {path}")
        chosen = options(self._threads, optimised=False)
        with refusing(str(path), "opened"):
            opened = onnxruntime.InferenceSession(str(path), chosen, providers=["CPUExecutionProvider"])
        inputs, outputs = _ports(opened.get_inputs()), _ports(opened.get_outputs())
        plain = all(port.dtype != "bfloat16" for port in (*inputs, *outputs))
        self._opened[str(path)] = _Opened(opened, [port.name for port in outputs], plain)
        batched = all(port.shape and port.shape[0] < 0 for port in (*inputs, *outputs))
        return Signature(inputs, outputs, batched)

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Run a whole network at the batch size of its inputs, or one segment at the size it is bound to."""
        if graph.offset or not graph.ends or not inputs:
            return self._bound.run(graph, point, inputs)
        return self.compute(graph, point, inputs)

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Time each operator of a network that is bound to one batch size."""
        return self._bound.profile(graph, point, repeats)

    def compute(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Compute a whole network's outputs; nothing without inputs."""
        if not inputs:
            return {}
        if graph.source not in self._opened:
            self.open(Path(graph.source))
        opened = self._opened[graph.source]
        with refusing(graph.name, "run on these inputs"):
            if opened.plain:
                results = opened.session.run(opened.outputs, dict(inputs))
            else:
                given = {name: _value(each) for name, each in inputs.items()}
                results = [_array(each) for each in opened.session.run_with_ort_values(opened.outputs, given)]
        return dict(zip(opened.outputs, results, strict=True))


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session and its outputs; ``plain`` where numpy has all their types."""

    session: onnxruntime.InferenceSession
    outputs: list[str]
    plain: bool


_BFLOAT16 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)


def _value(array: npt.NDArray[Any]) -> onnxruntime.OrtValue:
    """Wrap an array; ONNX Runtime's numpy interface has no name for bfloat16, so its bits go under another."""
    if array.dtype != _BFLOAT16:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    bits = np.ascontiguousarray(array).view(np.uint16)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, onnx.TensorProto.BFLOAT16)


def _array(value: onnxruntime.OrtValue) -> npt.NDArray[Any]:
    if value.element_type() != onnx.TensorProto.BFLOAT16:
        return np.asarray(value.numpy())
    shape = value.shape()
    bits = ctypes.string_at(value.data_ptr(), 2 * prod(shape))
    return np.frombuffer(bits, dtype=_BFLOAT16).reshape(shape)


def _ports(values: list[Any]) -> tuple[Port, ...]:
    return tuple(
        Port(
            each.name,
            tuple(size if isinstance(size, int) and size >= 0 else -1 for size in each.shape),
            each.type.removeprefix("tensor(").removesuffix(")"),
        )
        for each in values
    )
