"""A model and bounds of its tensors → the same model that makes implausible feature maps plausible by itself.

What a memory controller would check at every load becomes nodes of the graph, so that any ONNX runtime does it. Values
within the bounds pass unchanged; NaN fails every comparison and becomes 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from amble.runtimes.faults import Bounds

__all__ = ["hardened"]


def hardened(model: onnx.ModelProto, bounds: Mapping[str, Bounds]) -> onnx.ModelProto:
    """Insert a check behind every tensor that has bounds, for all who read it; ValueError for a tensor nobody reads."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    read = {name for node in made.graph.node for name in node.input}
    if unread := sorted(bounds.keys() - read):
        raise ValueError(f"no node reads {', '.join(unread)}; give bounds of tensors that are read")
    types = _element_types(made)
    checks = {name: _check(name, each, types[name]) for name, each in bounds.items()}
    for node in made.graph.node:
        for place, name in enumerate(node.input):
            if name in bounds:
                node.input[place] = f"{name}_checked"
    nodes = [node for given in made.graph.input for node in checks.get(given.name, ())]
    for node in made.graph.node:
        nodes += [node, *(check for name in node.output for check in checks.get(name, ()))]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del made.graph.node[:]
    made.graph.node.extend(copies)
    onnx.checker.check_model(made)
    return made


def _check(name: str, bounds: Bounds, element: int) -> list[onnx.NodeProto]:
    """Return the nodes that give NAME_checked."""
    dtype = helper.tensor_dtype_to_np_dtype(element)

    def constant(part: str, value: float) -> onnx.NodeProto:
        tensor = numpy_helper.from_array(np.asarray(value).astype(dtype))
        return helper.make_node("Constant", [], [f"{name}_{part}"], value=tensor)

    nodes = [constant("low", bounds.low), constant("high", bounds.high), constant("zero", 0.0)]
    if bounds.mode == "saturate":
        nodes += [
            helper.make_node("Equal", [name, name], [f"{name}_number"]),
            helper.make_node("Where", [f"{name}_number", name, f"{name}_zero"], [f"{name}_finite"]),
            helper.make_node("Clip", [f"{name}_finite", f"{name}_low", f"{name}_high"], [f"{name}_checked"]),
        ]
        return nodes
    return [
        *nodes,
        helper.make_node("GreaterOrEqual", [name, f"{name}_low"], [f"{name}_above"]),
        helper.make_node("LessOrEqual", [name, f"{name}_high"], [f"{name}_below"]),
        helper.make_node("And", [f"{name}_above", f"{name}_below"], [f"{name}_plausible"]),
        helper.make_node("Where", [f"{name}_plausible", name, f"{name}_zero"], [f"{name}_checked"]),
    ]


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.input, *inferred.value_info, *inferred.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}
