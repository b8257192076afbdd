"""A network as its file has it and as ONNX Runtime executes it → the layer of the file that each operator computes.

Theory of operation: an initialiser that is only read keeps its name. One that is laid out anew loses it; its operator
is then named after the tensor that it writes (``relu_nchwc``), and others keep the name of their node, or get a number
(``conv_token_1``). What a tensor was computed by are the nearest layers upstream of it, since what is fused into a
layer stands behind it. Where several are left, those go that others are known to compute; nothing is guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import onnx

from amble.core.graph import Layer
from amble.runtimes.onnx.products import PRODUCTS

__all__ = ["computed"]

_NUMBER, _LAID_OUT = re.compile(r"_token_\d+$"), "_nchwc"
_PRODUCT = re.compile("Conv|Gemm|MatMul")

Outputs = frozenset[str]
"""Layers, by the tensors that they write."""


def computed(written: onnx.GraphProto, layers: Mapping[str, Layer], executed: onnx.GraphProto) -> dict[str, Layer]:
    """Return the layers by the names of the operators that compute them, where that is certain.

    ``layers`` of the written graph, whose nodes are in order, are given by the tensors that they write.
    """
    nearest = _nearest(written, layers)
    nodes = {node.name: nearest[node.output[0]] for node in written.node}
    readers = _readers(layers)
    maybe = {
        node.name: _agreed(_reading(node, readers), _named(node, nodes, nearest))
        for node in executed.node
        if _PRODUCT.search(node.op_type)
    }
    found: dict[str, Layer] = {}
    while known := {name: each for name, each in maybe.items() if len(each) == 1}:
        taken = Outputs().union(*known.values())
        if len(taken) < len(known):  # one layer, two operators: who computes it?
            claims = Counter(known.values())
            known = {name: each for name, each in known.items() if claims[each] == 1}
        found |= {name: layers[next(iter(each))] for name, each in known.items()}
        maybe = {name: each - taken for name, each in maybe.items()}
    return found


def _nearest(written: onnx.GraphProto, layers: Mapping[str, Layer]) -> dict[str, Outputs]:
    """Return, for every tensor, the layers it was computed by, with no other product in between."""
    found: dict[str, Outputs] = {}
    for node in written.node:
        stops = node.op_type in PRODUCTS or node.op_type == "Attention"
        behind = Outputs() if stops else Outputs().union(*(found.get(name, ()) for name in node.input))
        found |= {name: Outputs({name}) if name in layers else behind for name in node.output}
    return found


def _agreed(read: Outputs, named: Outputs) -> Outputs:
    """Return the layers that both signs allow; one that says nothing allows all."""
    return read & named if read and named else read | named


def _readers(layers: Mapping[str, Layer]) -> dict[str, Outputs]:
    """Return, for every initialiser, the layers whose weights it is."""
    found: dict[str, set[str]] = {}
    for output, each in layers.items():
        if each.weights:
            found.setdefault(each.weights, set()).add(output)
    return {name: Outputs(each) for name, each in found.items()}


def _reading(node: onnx.NodeProto, readers: Mapping[str, Outputs]) -> Outputs:
    """Return the layers whose weights an operator reads as they are in the file."""
    read = [readers[name] for name in node.input if name in readers]
    return read[0] if len(read) == 1 else Outputs().union(*read)


def _named(node: onnx.NodeProto, nodes: Mapping[str, Outputs], nearest: Mapping[str, Outputs]) -> Outputs:
    """Return the layers that an operator may compute by its own name and by that of the tensor it writes."""
    name = _NUMBER.sub("", node.name)
    if name.endswith(_LAID_OUT) and node.domain.endswith("nchwc"):
        return nearest.get(name.removesuffix(_LAID_OUT), Outputs())
    return nodes.get(node.name) or nodes.get(name) or nearest.get(node.output[0], Outputs())
