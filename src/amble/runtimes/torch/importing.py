"""An ONNX file → a torch.fx module that answers alike, and can be cut, trained and written as ONNX again.

Layers keep the names of their nodes. Constants that are no layer's weights become parameters, so that they are cut
with the channels they belong to. The first dimension of inputs is the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import shape_inference
from torch import fx

from amble.core.errors import Refused
from amble.runtimes.torch.counterparts import SUPPORTED
from amble.runtimes.torch.reading import Call, Origin, Reader, plain

__all__ = ["Imported", "imported", "read", "to_torch"]


@dataclass(frozen=True, slots=True)
class Imported:
    """A network in torch with what became of its parts: ``parts`` of every ONNX node, in order, and named tensors.

    ``origins`` tells for parameters that can be trained which constants they are.
    """

    module: fx.GraphModule
    parts: tuple[tuple[fx.Node, ...], ...]
    tensors: dict[str, fx.Node]
    origins: dict[str, Origin]


def to_torch(path: Path) -> fx.GraphModule:
    """Read the network, in evaluation mode.

    Raises Refused for a file that is no ONNX network, and for an operator that has no counterpart, with its node.
    """
    return imported(path).module


def imported(path: Path) -> Imported:
    """Read the network with its parts; Refused as ``to_torch``."""
    return _imported(_loaded(path), path.name)


def read(model: onnx.ModelProto, name: str) -> tuple[fx.GraphModule, dict[str, Origin]]:
    """Read a network, in evaluation mode → it, and for parameters that can be trained which constants they are."""
    found = _imported(model, name)
    return found.module, found.origins


def _imported(model: onnx.ModelProto, name: str) -> Imported:
    reader = Reader(name, _sizes(model), _opset(model))
    reader.constants(model.graph)
    for port in model.graph.input:
        if port.name not in reader.values:
            reader.values[port.name] = reader.graph.placeholder(plain(port.name))
    parts = []
    for node in model.graph.node:
        before = len(reader.graph.nodes)
        _append(reader, node)
        parts.append(tuple(list(reader.graph.nodes)[before:]))
    answers = [reader.tensor(port.name) for port in model.graph.output]
    reader.graph.output(answers[0] if len(answers) == 1 else tuple(answers))
    tensors = {name: value for name, value in reader.values.items() if isinstance(value, fx.Node)}
    return Imported(fx.GraphModule(reader.root, reader.graph).eval(), tuple(parts), tensors, reader.origins)


def _loaded(path: Path) -> onnx.ModelProto:
    if not path.exists():
        raise Refused(f"there is no file {path}")
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's own errors have no public name
        raise Refused(f"{path} cannot be read as an ONNX network ({error}): export it again") from error


def _sizes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Return the dimensions of every tensor by name; None where they are open."""
    graph = shape_inference.infer_shapes(model).graph
    found: dict[str, tuple[int | None, ...]] = {}
    for port in (*graph.input, *graph.value_info, *graph.output):
        dims = port.type.tensor_type.shape.dim
        found[port.name] = tuple(each.dim_value if each.HasField("dim_value") else None for each in dims)
    return found


def _opset(model: onnx.ModelProto) -> int:
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=1)


def _append(reader: Reader, node: onnx.NodeProto) -> None:
    call = Call(reader, node, {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute})
    convert = SUPPORTED.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if convert is None:
        raise call.refused("it has no counterpart here: take it out of the network, or prune what comes before it")
    made = convert(call)
    made = made if isinstance(made, list) else [made]
    reader.values |= dict(zip(node.output, made, strict=False))
