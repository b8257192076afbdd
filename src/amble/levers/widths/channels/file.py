"""An ONNX file and an example of its input → its constants, and the shape of every tensor as it really is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from amble.core.errors import Refused

__all__ = ["Array", "File", "answers", "attributes", "computed", "name_of", "opened", "opset"]

Array = NDArray[Any]
_FIXED = ("QuantizeLinear", "DequantizeLinear")  # of constants: weights in INT8 stay what they are


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """A network: ``constants`` by name, the ``shapes`` of all tensors, and ``values`` of computed whole numbers.

    ``feed`` is the example. Nothing here is changed by cutting.
    """

    model: onnx.ModelProto
    constants: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    values: Mapping[str, Array]
    feed: Mapping[str, Array]

    def value(self, name: str) -> Array | None:
        """Return what a tensor of whole numbers holds, constant or computed; None if that is not known."""
        return self.constants.get(name, self.values.get(name))


def opened(path: Path, example: Array) -> File:
    """Read a network of one input; ``example`` [1, ...] is what it may be given. Refused where it does not run."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own errors have no public name
        raise Refused(f"{path} cannot be read as an ONNX network ({error}): export it again") from error
    _fold(model)
    graph = model.graph
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    feed = {inputs[0].name: _sized(example, inputs[0])}
    shapes, values = _ran(model, feed, path.name)
    shapes |= {name: each.shape for name, each in (*constants.items(), *feed.items())}
    return File(model, constants, shapes, values, feed)


def _sized(example: Array, port: onnx.ValueInfoProto) -> Array:
    """Return as many examples as the network takes at once: one where that is open."""
    size = port.type.tensor_type.shape.dim[0].dim_value or 1
    return np.ascontiguousarray(np.resize(example, (size, *example.shape[1:])))


def _ran(
    model: onnx.ModelProto, feed: Mapping[str, Array], name: str
) -> tuple[dict[str, tuple[int, ...]], dict[str, Array]]:
    """Run once, every tensor an output → shapes of all, values of those that are whole numbers."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    known = {each.name for each in copied.graph.output}
    wanted = [each for node in copied.graph.node for each in node.output if each and each not in known]
    copied.graph.output.extend(onnx.ValueInfoProto(name=each) for each in wanted)
    found = answers(copied, feed, name)
    shapes = {each: tuple(values.shape) for each, values in found.items() if isinstance(values, np.ndarray)}
    whole = {each: found[each] for each in shapes if found[each].dtype.kind in "iu" and found[each].size < 10_000}
    return shapes, whole


def answers(model: onnx.ModelProto, feed: Mapping[str, Array], name: str) -> dict[str, Array]:
    """Run a network as it stands, on one thread; Refused where the runtime cannot."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feed)), strict=True))
    except Exception as error:  # the runtime's own errors have no common class
        reason = " ".join(str(error).split())[:200]
        raise Refused(f"{name} does not run here ({reason}): check it with onnx.checker, or export it again") from error


def _fold(model: onnx.ModelProto) -> None:
    """Turn what is computed from constants alone into constants, so that every weight can be cut."""
    graph, imports = model.graph, list(model.opset_import)
    known = {each.name: each for each in graph.initializer}
    kept = []
    for node in graph.node:
        made = _folded(node, known, imports)
        if made is None:
            kept.append(node)
            continue
        for name, value in zip(node.output, made, strict=False):
            known[name] = numpy_helper.from_array(np.asarray(value), name)
            graph.initializer.append(known[name])
    del graph.node[:]
    graph.node.extend(kept)


def _folded(
    node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto], imports: list[onnx.OperatorSetIdProto]
) -> list[Array] | None:
    is_plain = node.domain in ("", "ai.onnx") and not node.op_type.startswith("Random")
    if not is_plain or node.op_type in _FIXED or any(each.type == onnx.AttributeProto.GRAPH for each in node.attribute):
        return None
    if not all(not each or each in known for each in node.input):
        return None
    return computed(node, {each: numpy_helper.to_array(known[each]) for each in node.input if each}, imports)


def computed(
    node: onnx.NodeProto, given: Mapping[str, Array], imports: list[onnx.OperatorSetIdProto]
) -> list[Array] | None:
    """Compute one node of known inputs; None where ONNX's reference cannot."""
    types = {name: helper.np_dtype_to_tensor_dtype(each.dtype) for name, each in given.items()}
    inputs = [helper.make_tensor_value_info(name, types[name], each.shape) for name, each in given.items()]
    outputs = [onnx.ValueInfoProto(name=each) for each in node.output if each]
    graph = helper.make_graph([node], "node", inputs, outputs)
    try:
        return list(ReferenceEvaluator(helper.make_model(graph, opset_imports=imports)).run(None, dict(given)))
    except Exception:  # its errors have no common class
        return None


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def name_of(node: onnx.NodeProto) -> str:
    """Return a node's name, or that of its first output."""
    return str(node.name or node.output[0])


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the operators."""
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=1)


def inner_names(node: onnx.NodeProto) -> Iterator[str]:
    """Return the tensors that subgraphs of a node read."""
    for each in node.attribute:
        graphs = [each.g] if each.type == onnx.AttributeProto.GRAPH else list(each.graphs)
        for graph in graphs:
            for inner in graph.node:
                yield from inner.input
                yield from inner_names(inner)
