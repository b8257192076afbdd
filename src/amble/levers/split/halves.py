"""A prepared network, a cut, the precision of what crosses → two networks, shown to answer as the whole one does.

What crosses in FP16 is cast, what crosses in INT8 is quantized with a scale of its own for every request
(DynamicQuantizeLinear), both inside the halves: between them go plain tensors. An input of the network that the server
reads too is no output of the device's half: the caller sends it as it is, or in the precision of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from amble.core.errors import Refused
from amble.core.graph import Port
from amble.levers.split.cuts import Cut
from amble.runtimes.onnx.cutting import reads
from amble.runtimes.onnx.execution import Execution
from amble.runtimes.onnx.feeds import made_up, vocabularies
from amble.runtimes.onnx.network import Network
from amble.runtimes.onnx.preparing import options
from amble.runtimes.onnx.providers import CPU

__all__ = ["PORTABLE", "Halves", "Tried", "halves", "joined", "tried"]

PORTABLE = Execution(replace(CPU, name="portable", fuses=True))
"""Networks in the operators of the standard, which any runtime takes: halves go to other machines than this one."""

_MOST_BYTES = 2_000_000_000  # of one ONNX file
_SEEDS = range(4)  # of the inputs that halves are tried on


@dataclass(frozen=True, slots=True)
class Halves:
    """Both networks; None where there is nothing to run. ``sent`` names what goes from here to there.

    ``forwarded`` are those of ``sent`` that are inputs of the whole network, which the caller sends as they are.
    """

    device: onnx.ModelProto | None
    server: onnx.ModelProto | None
    sent: tuple[str, ...]
    forwarded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tried:
    """How far joined answers were from the whole network's, as a share of its largest, and whether in no bit."""

    deviation: float
    identical: bool
    num_inputs: int


@dataclass(frozen=True, slots=True)
class _Crossing:
    """How one tensor crosses: nodes on both sides, and what goes between them."""

    before: tuple[onnx.NodeProto, ...]
    sent: tuple[Port, ...]
    after: tuple[onnx.NodeProto, ...]


def halves(network: Network, cut: Cut, precision: str) -> Halves:
    """Cut a network, its weights inside. Refused where a half is too large for one ONNX file."""
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    onnx.load_external_data_for_model(model, str(network.folder))
    crossings = [_crossing(port, precision) for port in cut.crossing]
    here = set(cut.local)
    first = [model.graph.node[index] for index in cut.local] + [node for each in crossings for node in each.before]
    rest = [node for index, node in enumerate(model.graph.node) if index not in here]
    last = [node for each in crossings for node in each.after] + rest if rest else []
    sent = [port for each in crossings for port in each.sent]
    inputs = {port.name: port for port in network.graph.inputs}
    outputs = {port.name: port for port in network.graph.outputs}
    back = {port.name for port in cut.answers}
    made = [port for port in sent if port.name not in inputs]
    early = [port for name, port in outputs.items() if name not in back and name not in {each.name for each in made}]
    read = _read_by(first)
    device = _model(model, first, [port for name, port in inputs.items() if name in read], [*made, *early])
    server = _model(model, last, sent, list(cut.answers))
    names = tuple(port.name for port in sent)
    return Halves(device, server, names, tuple(name for name in names if name in inputs))


def joined(made: Halves, feed: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Run both halves, one after the other → the answers of these names."""
    known = dict(feed)
    for half in (made.device, made.server):
        if half is not None:
            known |= _run(half, known)
    return [known[name] for name in names]


def tried(network: Network, cut: Cut, precision: str) -> Tried:
    """Run halves and whole network on made-up inputs, operator by operator as they stand in the files."""
    made = halves(network, cut, precision)
    names = [port.name for port in network.graph.outputs]
    session = onnxruntime.InferenceSession(str(network.path), options(1), providers=["CPUExecutionProvider"])
    found = vocabularies(network.model.graph)
    worst, identical = 0.0, True
    for seed in _SEEDS:
        feed = made_up(network.graph.inputs, found, seed, of=network.graph.name)
        expected = session.run(names, dict(feed))
        for theirs, ours in zip(expected, joined(made, feed, names), strict=True):
            identical &= _same(theirs, ours)
            worst = max(worst, _deviation(theirs, ours))
    return Tried(worst, identical, len(_SEEDS))


def _same(theirs: Any, ours: Any) -> bool:
    theirs, ours = np.asarray(theirs), np.asarray(ours)
    return bool(theirs.shape == ours.shape and theirs.dtype == ours.dtype and theirs.tobytes() == ours.tobytes())


def _deviation(theirs: Any, ours: Any) -> float:
    """Return the largest distance over the largest answer; infinite where shapes, or what is no number, differ."""
    theirs, ours = np.asarray(theirs), np.asarray(ours)
    if _same(theirs, ours):
        return 0.0
    if theirs.shape != ours.shape or theirs.dtype.kind not in "fiub":
        return np.inf
    first, second = theirs.astype(np.float64), ours.astype(np.float64)
    distance = float(np.abs(first - second).max(initial=0.0))
    most = float(np.abs(first).max(initial=0.0))
    return distance / most if np.isfinite(distance) and most else (0.0 if distance == 0.0 else np.inf)


def _crossing(port: Port, precision: str) -> _Crossing:
    name = port.name
    if precision == "fp32" or port.dtype != "float":
        return _Crossing((), (port,), ())
    if precision == "fp16":
        half = Port(f"{name}__fp16", port.shape, "float16")
        to = onnx.helper.make_node("Cast", [name], [half.name], to=onnx.TensorProto.FLOAT16, name=f"{half.name}_to")
        back = onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT, name=f"{half.name}_back")
        return _Crossing((to,), (half,), (back,))
    return _quantized(port)


def _quantized(port: Port) -> _Crossing:
    """Scale and zero point cross as tensors of one element: not every server has such of none (Triton)."""
    name, node = port.name, onnx.helper.make_node
    sent = (
        Port(f"{name}__int8", port.shape, "uint8"),
        Port(f"{name}__scale", (1,), "float"),
        Port(f"{name}__zero", (1,), "uint8"),
    )
    whole, *single = (each.name for each in sent)
    bare, one = [f"{each}_bare" for each in single], f"{name}__one"
    before = [
        node("DynamicQuantizeLinear", [name], [whole, *bare], name=f"{whole}_to"),
        node("Constant", [], [one], name=one, value_ints=[1]),
        *(node("Reshape", [each, one], [to], name=f"{to}_to") for each, to in zip(bare, single, strict=True)),
    ]
    after = [
        *(node("Squeeze", [each], [to], name=f"{each}_back") for each, to in zip(single, bare, strict=True)),
        node("DequantizeLinear", [whole, *bare], [name], name=f"{whole}_back"),
    ]
    return _Crossing(tuple(before), sent, tuple(after))


def _model(
    whole: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], inputs: Sequence[Port], outputs: Sequence[Port]
) -> onnx.ModelProto | None:
    """Make a network of some nodes, with the weights that they read."""
    if not nodes:
        return None
    read = _read_by(nodes)
    weights = [tensor for tensor in whole.graph.initializer if tensor.name in read]
    graph = onnx.GraphProto(name=f"{whole.graph.name}_{len(nodes)}")
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    graph.input.extend(map(_value, inputs))
    graph.output.extend(map(_value, outputs))
    used = {node.domain for node in nodes} | {"", *_inner_domains(nodes)}
    model = onnx.ModelProto(ir_version=whole.ir_version, producer_name="amble", graph=graph)
    model.opset_import.extend(each for each in whole.opset_import if each.domain in used)
    if model.ByteSize() > _MOST_BYTES:
        raise Refused("a half has more than 2 GB of weights, which one ONNX file does not take; cut elsewhere")
    return model


def _inner_domains(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    graphs = [attribute.g for node in nodes for attribute in node.attribute if attribute.HasField("g")]
    found = {node.domain for graph in graphs for node in graph.node}
    return found.union(*(_inner_domains(graph.node) for graph in graphs))


def _read_by(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes for name in reads(node)}


def _value(port: Port) -> onnx.ValueInfoProto:
    kind = onnx.TensorProto.DataType.Value(port.dtype.upper())
    return onnx.helper.make_tensor_value_info(port.name, kind, port.shape)


def _run(model: onnx.ModelProto, known: Mapping[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), options(1), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    feed = {each.name: known[each.name] for each in session.get_inputs()}
    return dict(zip(names, session.run(names, feed), strict=True))
