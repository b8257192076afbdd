"""A network and a range of its operators → a network of those alone, and the tensors that cross the cuts.

A tensor that is made before a segment and needed after it is carried past it: residual connections, and outputs of the
network that are ready early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from amble.core.errors import Refused
from amble.core.graph import Port

__all__ = ["Cut", "cut", "extract", "reads"]


@dataclass(frozen=True, slots=True)
class Cut:
    """What a segment takes, what it makes that is needed later, and what is only carried past it."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    carried: tuple[str, ...]


def cut(graph: onnx.GraphProto, start: int, stop: int) -> Cut:
    """Find the tensors around nodes ``start`` to ``stop - 1`` of a graph in order of execution."""
    weights = {tensor.name for tensor in graph.initializer}
    before = {each.name for each in graph.input} - weights
    before |= {name for node in graph.node[:start] for name in node.output if name}
    needed = {each.name for each in graph.output}
    needed |= {name for node in graph.node[stop:] for name in reads(node)}
    used = {name for node in graph.node[start:stop] for name in reads(node)}
    made = [name for node in graph.node[start:stop] for name in node.output if name]
    return Cut(
        inputs=tuple(sorted(before & used)),
        outputs=tuple(name for name in made if name in needed),
        carried=tuple(sorted(before & needed)),
    )


def extract(model: onnx.ModelProto, tensors: Mapping[str, Port], start: int, stop: int) -> onnx.ModelProto:
    """Return nodes ``start`` to ``stop - 1`` as a model of their own; its large weights stay in the same files.

    Refused when something else than a tensor (a sequence) crosses the cut.
    """
    crossing = cut(model.graph, start, stop)
    for name in crossing.inputs:
        if name not in tensors:
            raise Refused(f"the network cannot be cut before operator {start}: {name!r} is not a tensor; cut elsewhere")
    used = {name for node in model.graph.node[start:stop] for name in reads(node)}
    part = onnx.ModelProto()
    part.CopyFrom(onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import))
    part.graph.name = f"{model.graph.name}_{start}_{stop}"
    part.graph.node.extend(model.graph.node[start:stop])
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    part.graph.input.extend(_value(tensors[name]) for name in crossing.inputs)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in crossing.outputs)
    return part


def reads(node: onnx.NodeProto) -> list[str]:
    """Return the names that a node reads, also inside its branches and loop bodies, where these do not make them."""
    read = list(node.input)
    for graph in [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]:
        own = {value.name for value in [*graph.input, *graph.initializer]}
        own |= {name for each in graph.node for name in each.output}
        read += [name for each in graph.node for name in reads(each) if name not in own]
        read += [value.name for value in graph.output if value.name not in own]
    return read


def _value(port: Port) -> onnx.ValueInfoProto:
    """Declare an input with its number of axes only: sizes would be inferred into branches that never run."""
    dtype = onnx.TensorProto.DataType.Value(port.dtype.upper())
    return onnx.helper.make_tensor_value_info(port.name, dtype, [None] * len(port.shape))
