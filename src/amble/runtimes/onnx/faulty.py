"""An ONNX file, tensors and the memories they live in → outputs, computed by ONNX Runtime from what is read there.

Weights are flipped in the initialisers, which costs a new session when they change. Feature maps are flipped between
segments: the network is cut behind each tensor that has a home, so ONNX Runtime cannot fuse across it. Both costs are
reported by `bench/injection`. A tensor with two consumers is read once for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

from amble.core.errors import Refused
from amble.core.graph import Layer
from amble.runtimes.faults import Home, Injector
from amble.runtimes.onnx import cutting
from amble.runtimes.onnx.preparing import options
from amble.runtimes.onnx.reading import read
from amble.runtimes.onnx.refusals import refusing
from amble.runtimes.onnx.stored import layers

__all__ = ["FaultyOnnx"]

Array = npt.NDArray[Any]

_MEMORY_BYTES = 2**30
_PACKED = (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)


@dataclass(frozen=True, slots=True)
class _Segment:
    """Nodes from one cut to the next: what it takes and gives, which given tensors are then read from memory.

    ``later`` are all that its successors need.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    cut: tuple[str, ...]
    later: frozenset[str]


class FaultyOnnx:
    """A network whose tensors are read from approximate memory.

    ``homes`` says where weights (by initialiser) and feature maps (by tensor) live; all others are reliable. Weights
    are clean until ``inject_weights`` reads them, and then stay as read until its next call.
    """

    def __init__(
        self,
        path: Path,
        homes: Mapping[str, Home] | None = None,
        *,
        threads: int = 1,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        self._name, self._threads, self._memory_bytes = str(path), threads, memory_bytes
        self.model, _ = read(path)
        self.layers: tuple[Layer, ...] = layers(self.model)
        self.injector = Injector()
        self.num_flips = 0
        self._at_once: int | None = None
        self._cuts: tuple[str, ...] = ()
        self._segments = _segments(self.model, ())
        self._sessions: list[onnxruntime.InferenceSession | None] = []
        self._clean: dict[int, onnxruntime.InferenceSession] = {}
        self.place(homes or {})

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Return the clean weights of every layer, not to be written to; those of 4 bits packed, two in a byte."""
        wanted = {layer.weights for layer in self.layers}
        found = {tensor.name: _content(tensor) for tensor in self.model.graph.initializer if tensor.name in wanted}
        for value in found.values():
            value.setflags(write=False)
        return found

    def place(self, homes: Mapping[str, Home]) -> None:
        """Move tensors to these homes, weights clean again; ValueError for a name that no layer reads from memory."""
        features = {layer.input for layer in self.layers}
        unknown = homes.keys() - features - self.weights.keys()
        if unknown:
            raise ValueError(f"{self._name} has no layer that reads {', '.join(sorted(unknown))} from memory")
        packed = [name for name in homes if self._packed(name) and homes[name].bounds is not None]
        if packed:
            raise ValueError(f"{packed[0]} holds two values in a byte, which bounds cannot look at; give it none")
        self._weight_homes = {name: home for name, home in homes.items() if name not in features}
        self._feature_homes = {name: home for name, home in homes.items() if name in features}
        cuts = tuple(sorted(self._feature_homes))
        if cuts != self._cuts:
            self._cuts, self._segments, self._clean = cuts, _segments(self.model, cuts), {}
        self._sessions = []

    def inject_weights(self, seed: int, *, read: int = 0) -> None:
        """Read the weights from memory: flips as this seed and read have them, until the next call."""
        clean = {name: value for name, value in self.weights.items() if name in self._weight_homes}
        self._sessions = self._open(self.injector.inject(clean, self._weight_homes, seed, read=read))

    def run(self, inputs: Mapping[str, Array], seed: int, *, read: int = 0) -> dict[str, Array]:
        """Compute the outputs of one batch, its feature maps read with the errors of this seed and read."""
        known: dict[str, Array] = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        num_examples = len(next(iter(known.values())))
        self.num_flips = 0
        self._sessions = self._sessions or self._open({})
        for segment, session in zip(self._segments, self._sessions, strict=True):
            if session is not None:
                given = {name: known[name] for name in segment.inputs}
                with refusing(self._name, "run on these inputs"):
                    known |= zip(segment.outputs, session.run(list(segment.outputs), given), strict=True)
                known = {name: value for name, value in known.items() if name in segment.later}
            for name in segment.cut:
                known[name] = np.array(known[name], order="C") if name in inputs else np.ascontiguousarray(known[name])
                home = self._feature_homes[name]
                self.num_flips += self.injector.corrupt(
                    known[name], name, home, seed, read=read, num_examples=num_examples
                ).num_flips
        return {value.name: known[value.name] for value in self.model.graph.output}

    def observe(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the clean feature map of every layer, for bounds."""
        wanted = sorted({layer.input for layer in self.layers})
        model = onnx.ModelProto.FromString(self.model.SerializeToString())
        given, results = {value.name for value in model.graph.input}, {value.name for value in model.graph.output}
        shown = [name for name in wanted if name not in given | results]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown)
        session = self._session(model)
        with refusing(self._name, "run on these inputs"):
            values = session.run(None, dict(inputs))
        found = dict(zip([value.name for value in session.get_outputs()], values, strict=True))
        return {name: found[name] if name in found else np.asarray(inputs[name]) for name in wanted}

    def examples_at_once(self, inputs: Mapping[str, Array]) -> int:
        """Return how many examples may be answered together: as the network's input says, else as memory allows."""
        if self._at_once is None:
            dims = self.model.graph.input[0].type.tensor_type.shape.dim
            if dims and dims[0].HasField("dim_value"):
                self._at_once = max(1, int(dims[0].dim_value))
            else:
                one = self.observe({name: value[:1] for name, value in inputs.items()})
                num_bytes = sum(value.size * max(value.itemsize, 4) for value in one.values())  # computed in FP32
                self._at_once = max(1, self._memory_bytes // max(num_bytes, 1))
        return self._at_once

    def extremes(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the least and the greatest clean value of the feature map of every layer [2], for bounds."""
        once, found = self.examples_at_once(inputs), dict[str, Array]()
        for start in range(0, len(next(iter(inputs.values()))), once):
            for name, value in self.observe({n: each[start : start + once] for n, each in inputs.items()}).items():
                ends = np.array([value.min(), value.max(), *found.get(name, ())], value.dtype)
                found[name] = np.array([ends.min(), ends.max()], value.dtype)  # NaN stays NaN
        return found

    def hardened(self, weights: Mapping[str, Array]) -> onnx.ModelProto:
        """Return the model with these weights in place of its own."""
        model = onnx.ModelProto.FromString(self.model.SerializeToString())
        _replace(model.graph, weights)
        return model

    def _packed(self, name: str) -> bool:
        return any(tensor.name == name and tensor.data_type in _PACKED for tensor in self.model.graph.initializer)

    def _open(self, weights: Mapping[str, Array]) -> list[onnxruntime.InferenceSession | None]:
        return [self._opened(at, segment, weights) for at, segment in enumerate(self._segments)]

    def _opened(self, at: int, segment: _Segment, weights: Mapping[str, Array]) -> onnxruntime.InferenceSession | None:
        """Return a session of a segment; one with none of these weights stays open for the next time."""
        graph = segment.model.graph
        if not graph.node:
            return None
        if any(tensor.name in weights for tensor in graph.initializer):
            model = onnx.ModelProto.FromString(segment.model.SerializeToString())
            _replace(model.graph, weights)
            return self._session(model)
        if at not in self._clean:
            self._clean[at] = self._session(segment.model)
        return self._clean[at]

    def _session(self, model: onnx.ModelProto) -> onnxruntime.InferenceSession:
        chosen = options(self._threads, optimised=False)
        chosen.enable_cpu_mem_arena = False  # every segment would keep the most that it ever took
        with refusing(self._name, "opened"):
            return onnxruntime.InferenceSession(model.SerializeToString(), chosen, providers=["CPUExecutionProvider"])


def _content(tensor: onnx.TensorProto) -> Array:
    """Return a tensor's values, or its bytes where two values share one."""
    values: Array = numpy_helper.to_array(tensor)
    if tensor.data_type not in _PACKED:
        return values
    if tensor.HasField("raw_data"):
        return np.frombuffer(tensor.raw_data, dtype=np.uint8)
    codes = values.astype(np.int8).reshape(-1).view(np.uint8) & 15
    codes = np.append(codes, np.zeros(len(codes) % 2, dtype=np.uint8))
    return np.asarray(codes[0::2] | (codes[1::2] << 4))


def _replace(graph: onnx.GraphProto, weights: Mapping[str, Array]) -> None:
    """Store these weights in the initialisers of their names, byte by byte: every format keeps its bits."""
    for tensor in graph.initializer:
        if tensor.name in weights:
            for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(field)
            tensor.raw_data = weights[tensor.name].tobytes()


def _segments(model: onnx.ModelProto, cuts: Sequence[str]) -> tuple[_Segment, ...]:
    """Cut a network behind each of these tensors; inputs of the network are read before the first segment."""
    nodes = list(model.graph.node)
    made_at = {name: at for at, node in enumerate(nodes) for name in node.output}
    given = {value.name for value in model.graph.input}
    lost = [name for name in cuts if name not in made_at and name not in given]
    if lost:
        raise Refused(f"the network has no tensor {', '.join(lost)} to read from memory; name inputs of its layers")
    ends = sorted({made_at.get(name, -1) + 1 for name in cuts} | {len(nodes)})
    types = _types(model)
    bounds = list(zip([0, *ends], ends, strict=False))
    return tuple(
        _segment(model, start, stop, types, tuple(name for name in cuts if made_at.get(name, -1) + 1 == stop))
        for start, stop in bounds
    )


def _segment(
    model: onnx.ModelProto, start: int, stop: int, types: Mapping[str, onnx.ValueInfoProto], cut: tuple[str, ...]
) -> _Segment:
    nodes, crossing = model.graph.node[start:stop], cutting.cut(model.graph, start, stop)
    used = {name for node in nodes for name in cutting.reads(node)}
    graph = onnx.helper.make_graph(
        nodes,
        f"{model.graph.name}_{start}",
        [_typed(name, types) for name in crossing.inputs],
        [types.get(name, onnx.ValueInfoProto(name=name)) for name in crossing.outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    part.functions.extend(model.functions)
    later = frozenset((*crossing.outputs, *crossing.carried, *cut))
    return _Segment(part, crossing.inputs, crossing.outputs, cut, later)


def _typed(name: str, types: Mapping[str, onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    if name not in types:
        raise Refused(
            f"the type of tensor {name} is unknown, since ONNX does not know the operator that makes it: "
            "export the network with operators of ONNX alone"
        )
    return types[name]


def _types(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Infer the element type of every tensor; shapes are left open, since a segment does not need them."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None)
        for value in [*inferred.input, *inferred.value_info, *inferred.output]
    }
