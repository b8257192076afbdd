"""A network → the proof that its rows are independent, or the first reason why it is not proved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnx
from onnx import inliner, numpy_helper, shape_inference

from amble.runtimes.onnx.shapes import network_inputs
from amble.services.serve.models.rows.facts import FIXED, Call, Cell, Fact, Mixed, Rule, Times, merged
from amble.services.serve.models.rows.mixing import COMPUTING
from amble.services.serve.models.rows.shaping import SHAPING

__all__ = ["Verdict", "proved", "proved_file"]

_RULES: Mapping[str, Rule] = {**SHAPING, **COMPUTING}
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_ROWS = "amble.rows"  # the symbol of the first axes while shapes are inferred
_FEW = 64  # elements of a constant that may be a shape
_MANY = 1024  # elements of a weight, which shape inference need not carry about
_SAME = ("", "ai.onnx")
_RECKONING = frozenset(
    [
        "Add",
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Equal",
        "Gather",
        "Identity",
        "Mod",
        "Mul",
        "Reshape",
        "Shape",
        "Slice",
        "Squeeze",
        "Sub",
        "Unsqueeze",
        "Where",
    ]
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether rows of several requests may share a batch, and why (not): one line for people."""

    proved: bool
    reason: str


def proved(model: onnx.ModelProto) -> Verdict:
    """Follow the rows from the first axes of a network's inputs to its outputs."""
    try:
        model = _slimmed(inliner.inline_local_functions(model))
        _one_symbol(model.graph)
        facts = _followed(model)
        for each in model.graph.output:
            _is_rows(each.name, facts.get(each.name))
    except Mixed as reason:
        return Verdict(False, str(reason))
    return Verdict(True, f"no operator of {len(model.graph.node)} mixes rows")


def proved_file(path: Path) -> Verdict:
    """Read a network, without weights that are kept beside it, and follow its rows."""
    return proved(onnx.load(str(path), load_external_data=False))


def _one_symbol(graph: onnx.GraphProto) -> None:
    """Demand that the first axes of all inputs and outputs are open, and the same one as far as the file says."""
    inputs = network_inputs(graph)
    symbols = {}
    for each in (*inputs, *graph.output):
        if not each.type.HasField("tensor_type"):
            raise Mixed(f"{each.name!r} is no tensor")
        dims = each.type.tensor_type.shape.dim
        if not dims or dims[0].HasField("dim_value"):
            raise Mixed(f"the first axis of {each.name!r} is not open")
        symbols[each.name] = dims[0].dim_param
    named = {symbol: name for name, symbol in symbols.items() if symbol}
    if len(named) > 1:
        told = ", ".join(f"{name!r} has {symbol!r}" for symbol, name in named.items())
        raise Mixed(f"the first axes are not one: {told}")
    if len(inputs) > 1 and any(not symbols[each.name] for each in inputs):
        raise Mixed("the first axes of its inputs have no common name")
    if not inputs:
        raise Mixed("it has no inputs")


def _slimmed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the elements of large weights, which are not looked at, and open all first axes under one symbol."""
    for each in model.graph.initializer:
        if np.prod(each.dims, dtype=np.int64) > _MANY:
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                each.ClearField(field)
            each.ClearField("external_data")
            each.data_location = onnx.TensorProto.DEFAULT
    return model


def _followed(model: onnx.ModelProto) -> dict[str, Fact]:
    """Go through the nodes in order → what is known of every tensor."""
    inferred = _inferred(model)
    facts = {each.name: _constant(each) for each in model.graph.initializer}
    for each in model.graph.sparse_initializer:
        facts[each.values.name] = FIXED
    for value in network_inputs(model.graph):
        facts[value.name] = Fact((Times(1), *inferred.get(value.name, ())[1:]), 0)
    for node in model.graph.node:
        made = _judged(node, facts)
        for name, fact in zip(node.output, made, strict=False):
            facts[name] = merged(fact, inferred.get(name))
    return facts


def _judged(node: onnx.NodeProto, facts: Mapping[str, Fact]) -> list[Fact]:
    """Apply an operator's rule; what takes nothing from the rows is fixed whatever it does."""
    missing = [name for name in node.input if name and name not in facts]
    call = Call(node, [facts.get(name) for name in node.input])
    if missing:
        call.fail(f"takes {missing[0]!r}, which the rules do not follow")
    if node.op_type in _RANDOM:
        call.fail("draws at random")
    captured = [facts[name] for name in _captured(node) if name in facts]
    if all(each.fixed for each in (*captured, *(each for each in call.inputs if each is not None))):
        return _unmoved(node, call)
    domain = "" if node.domain in _SAME else f"{node.domain}."
    rule = _RULES.get(domain + node.op_type)
    if rule is None or captured:
        call.fail("is not known to keep rows apart")
    return rule(call)


def _unmoved(node: onnx.NodeProto, call: Call) -> list[Fact]:
    """Return the outputs of what does not depend on the rows; constants, and sizes made of sizes, are known."""
    if node.op_type == "Constant" and node.attribute:
        value = onnx.helper.get_attribute_value(node.attribute[0])
        return [_constant(value) if isinstance(value, onnx.TensorProto) else _numbers(value)]
    if node.op_type in _RECKONING and not node.domain:
        try:
            made = _RULES[node.op_type](call)
        except Mixed:
            return [FIXED for _ in node.output]
        return [replace(each, sized=False) for each in made]
    return [FIXED for _ in node.output]


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that the subgraphs of a node refer to."""
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
            for each in graph.node:
                yield from each.input
                yield from _captured(each)
            yield from (each.name for each in graph.output)


def _is_rows(name: str, fact: Fact | None) -> None:
    if fact is None or fact.axis is None:
        _fail(name, "does not follow from the rows alone")
    if fact.axis != 0 or fact.shape is None or fact.shape[0] != Times(1):
        _fail(name, "does not have one row for each row of the inputs on its first axis")


def _fail(name: str, why: str) -> NoReturn:
    raise Mixed(f"output {name!r} {why}")


def _constant(tensor: onnx.TensorProto) -> Fact:
    """Read a constant: its shape, and its elements where they can be sizes."""
    count = int(np.prod(tensor.dims, dtype=np.int64))
    if count > _FEW or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return Fact(tuple(tensor.dims))
    if tensor.data_type == onnx.TensorProto.STRING:
        return Fact(tuple(tensor.dims))
    return replace(_numbers(numpy_helper.to_array(tensor)), shape=tuple(tensor.dims))


def _numbers(value: object) -> Fact:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.size > _FEW:
        return Fact(array.shape)
    numbers = array.ravel().tolist()
    whole: tuple[Cell, ...] = tuple(
        int(each) if math.isfinite(each) and each == int(each) else None for each in numbers
    )
    return Fact(array.shape, None, whole)


def _inferred(model: onnx.ModelProto) -> dict[str, tuple[Cell, ...]]:
    """Infer what ONNX can of all shapes; open axes other than the rows' are unknown."""
    graph = model.graph
    for each in network_inputs(graph):
        each.type.tensor_type.shape.dim[0].dim_param = _ROWS
    for each in graph.output:
        each.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    with suppress(shape_inference.InferenceError, ValueError):  # what it cannot infer, the rules may still know
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    found = {}
    for each in (*graph.input, *graph.value_info, *graph.output):
        if each.type.HasField("tensor_type") and each.type.tensor_type.HasField("shape"):
            found[each.name] = tuple(_cell(dim) for dim in each.type.tensor_type.shape.dim)
    return found


def _cell(dim: onnx.TensorShapeProto.Dimension) -> Cell:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return Times(1) if dim.dim_param == _ROWS else None
