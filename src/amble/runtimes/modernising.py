"""A model as some exporter left it → one that all readers here take alike: present opset, nodes in order, no training.

Opsets 7 to 12 are converted by onnx itself to the first whose meaning is the present one. Whether the answers stayed
the same is for who can run both to check (`network`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from google.protobuf.message import EncodeError
from onnx import version_converter

from amble.core.errors import Refused

__all__ = ["MIN_OPSET", "is_random", "modern", "opset"]

MIN_OPSET = 13
"""The oldest opset whose operators are counted by their present meaning (axes as inputs, quantisation per axis)."""

_OLDEST = 7
"""The oldest opset that ONNX Runtime promises to run, so that a conversion can be checked."""

_RESIZED_ALIKE = 11
"""The first opset in which Resize says by which rule it looks for the old points."""

_CONSTANT_WEIGHTS_IR = 4
"""The first version of the format whose weights need not be inputs."""

_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")


def opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators; the present one for a model without any."""
    found: list[int] = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    return max(found, default=onnx.defs.onnx_opset_version())


def is_random(model: onnx.ModelProto) -> bool:
    """Tell whether a network draws numbers, so that it answers differently each time."""
    return any(node.op_type in _RANDOM for node in _nodes(model.graph.node))


def modern(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the model itself where there is nothing to do, or a new one.

    That is converted, its nodes are in order, empty axes are open, and weights are constants: one that is listed among
    the inputs too could be fed, so nothing would be fused with it.

    Refused for opsets below 7 and those that onnx cannot convert, for loops in the graph, and in training mode.
    """
    _check_mode(model, name)
    made = model if opset(model) >= MIN_OPSET else _converted(model, name)
    weights = {each.name for each in made.graph.initializer}
    listed = any(each.name in weights for each in made.graph.input)
    ordered = _in_order(made.graph.node, weights | {each.name for each in made.graph.input})
    if ordered and not listed and not any(_empty_axes(made.graph)):
        return made
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    for dim in _empty_axes(copy.graph):
        dim.Clear()
    if listed:
        _replace(copy.graph.input, [each for each in made.graph.input if each.name not in weights])
        copy.ir_version = max(made.ir_version, _CONSTANT_WEIGHTS_IR)
    if not ordered:
        _replace(copy.graph.node, _ordered(made.graph, name))
    return copy


def _replace(field: Any, values: Sequence[Any]) -> None:
    """Put these messages in the place of a repeated field's."""
    del field[:]
    field.extend(values)


def _empty_axes(graph: onnx.GraphProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    """Yield the axes of inputs that have the size 0 (or less), by which old exporters mean that they are open."""
    for each in graph.input:
        for dim in each.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                yield dim


def _converted(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    old = opset(model)
    again = f"export it again with opset {MIN_OPSET} or later"
    if old < _OLDEST:
        raise Refused(
            f"{name} uses opset {old}, and amble reads {MIN_OPSET} and later and converts {_OLDEST}-12; {again}"
        )
    known = onnx.ModelProto()
    known.CopyFrom(model)
    known.ir_version = max(model.ir_version, _CONSTANT_WEIGHTS_IR)  # before that, onnx knows no weight that is no input
    try:
        made = version_converter.convert_version(known, MIN_OPSET)
    except (version_converter.ConvertError, EncodeError, RuntimeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(
            f"{name} uses opset {old}, which onnx cannot convert to {MIN_OPSET}: {reason}; {again}"
        ) from error
    if old < _RESIZED_ALIKE:
        _resize_as_before(made)
    return made


def _resize_as_before(model: onnx.ModelProto) -> None:
    """Let Resize look where it did before opset 11, which onnx leaves to the defaults, and those changed."""
    for node in _nodes(model.graph.node):
        if node.op_type == "Resize" and not any(each.name.startswith("coordinate") for each in node.attribute):
            made = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in made.items())


def _check_mode(model: onnx.ModelProto, name: str) -> None:
    """Refuse what was exported while it was being trained: its answers depend on chance, or on the rest of a batch."""
    constants = {each.name: each for each in model.graph.initializer}
    for node in _nodes(model.graph.node):
        training = any(each.name == "training_mode" and each.i for each in node.attribute)
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in constants:
            training = bool(onnx.numpy_helper.to_array(constants[node.input[2]]).any())
        if training and node.domain in ("", "ai.onnx"):
            raise Refused(
                f"{name} was exported in training mode: the {node.op_type} {node.name or node.output[0]!r} would "
                f"answer otherwise each time; export it after model.eval(), with training=TrainingMode.EVAL"
            )


def _ordered(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """Return the nodes in an order in which each comes after those it reads from; Refused where there is none."""
    maker = {made: at for at, node in enumerate(graph.node) for made in node.output if made}
    needs = [{maker[each] for each in _reads(node) if each in maker} for node in graph.node]
    takers: list[list[int]] = [[] for _ in needs]
    for at, before in enumerate(needs):
        for each in before:
            takers[each].append(at)
    ready = [at for at in range(len(needs) - 1, -1, -1) if not needs[at]]
    order: list[onnx.NodeProto] = []
    while ready:
        at = ready.pop()
        order.append(graph.node[at])
        for taker in takers[at]:
            needs[taker].discard(at)
            if not needs[taker]:
                ready.append(taker)
    if len(order) < len(graph.node):
        stuck = next(node for node, before in zip(graph.node, needs, strict=True) if before)
        raise Refused(f"{name}: the node {stuck.name or stuck.op_type!r} waits for its own answer; export it again")
    return order


def _in_order(nodes: Sequence[onnx.NodeProto], known: set[str]) -> bool:
    made = {name for node in nodes for name in node.output}
    for node in nodes:
        if any(name in made and name not in known for name in _reads(node)):
            return False
        known.update(node.output)
    return True


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads, also from inside its branches and bodies."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
            for each in graph.node:
                yield from _reads(each)
            yield from (value.name for value in graph.output)


def _nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
                yield from _nodes(graph.node)
