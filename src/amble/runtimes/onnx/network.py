"""An ONNX file, a batch size and shapes → the operators that ONNX Runtime executes, in its order, and what each costs.

Theory of operation: the file is read and its open axes are bound; ONNX Runtime optimises it and saves what it will
execute; that is run once on made-up inputs, observed by ONNX Runtime's profiler; the profile tells the order and every
shape, also where inference cannot (contributed kinds, data-dependent shapes, branches). Nodes of a branch or a loop
body count towards the outer node, which is what can be scheduled.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Set
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from amble.core.errors import Refused
from amble.core.graph import Graph, Layer, Operator, Port
from amble.runtimes.external import graph_tensors
from amble.runtimes.modernising import MIN_OPSET, is_random, modern, opset
from amble.runtimes.onnx import reading
from amble.runtimes.onnx.counting import Traffic, traffic, work
from amble.runtimes.onnx.execution import Execution
from amble.runtimes.onnx.feeds import made_up, vocabularies
from amble.runtimes.onnx.lineage import computed
from amble.runtimes.onnx.preparing import inner_nodes, optimise, options, session
from amble.runtimes.onnx.products import Attribute, Call, Shape
from amble.runtimes.onnx.refusals import refusing
from amble.runtimes.onnx.shapes import bind
from amble.runtimes.onnx.stored import layers_by_output
from amble.runtimes.onnx.trace import Kernel, kernels, nested
from amble.runtimes.values import call

__all__ = ["Network", "check_converted", "element_of"]

_ROUNDING = 1e-3
"""By how much of their largest answer two sums of the same numbers in another order may differ."""

_PRECISIONS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Network:
    """A network prepared in a folder of its own, which goes when this object does.

    ``model`` is the optimised graph with its nodes in the order of execution (large weights stay in files of
    ``folder``); ``tensors`` are all those that pass between nodes; ``feed`` is what it can be timed with.
    """

    graph: Graph
    folder: Path
    model: onnx.ModelProto
    tensors: Mapping[str, Port]
    feed: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path, batch: int, shapes: Mapping[str, Shape], execution: Execution | None = None) -> Network:
        """Prepare a file as it is to be executed; Refused when it cannot be read, bound, optimised or run."""
        try:
            return _open(path, batch, shapes, execution or Execution())
        except OSError as error:
            where = tempfile.gettempdir()
            raise Refused(
                f"cannot write to {where}: {error.strerror}; make room, or set TMPDIR to another place"
            ) from error

    @property
    def path(self) -> Path:
        """Return where the optimised network is."""
        return self.folder / "network.onnx"


def _open(path: Path, batch: int, shapes: Mapping[str, Shape], execution: Execution) -> Network:
    folder = Path(tempfile.mkdtemp(prefix="amble-"))
    try:
        network = _prepare(path, batch, shapes, folder=folder, execution=execution)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(network, shutil.rmtree, folder, ignore_errors=True)
    return network


def _prepare(path: Path, batch: int, shapes: Mapping[str, Shape], *, folder: Path, execution: Execution) -> Network:
    written, content = reading.as_written(path)
    model = modern(written, str(path))
    inputs = bind(model, str(path), batch, shapes)
    feed = made_up(inputs, vocabularies(model.graph), seed=0, of=str(path))
    layers = layers_by_output(model)
    optimised = optimise(model, str(path), folder, fused=execution.fused)
    found, results = _run_observed(optimised, str(path), folder, feed)
    outputs = tuple(port for port, _ in results)
    if opset(written) < MIN_OPSET:
        bind(written, str(path), batch, shapes)
        check_converted(written, str(path), folder, feed, [result for _, result in results])
    pairs = nested(found, {node.name for node in optimised.graph.node})
    _reorder(optimised.graph, [kernel.node for kernel, _ in pairs])
    if not pairs:
        raise Refused(
            f"{path} has nothing to run: its answers are constants, or its inputs as they are; "
            f"give a network that computes"
        )
    onnx.save(optimised, str(folder / "network.onnx"))
    precision = _precision(optimised.graph)
    graph = Graph(
        name=path.stem,
        operators=_operators(optimised.graph, pairs, computed(model.graph, layers, optimised.graph)),
        batch=batch,
        digest=reading.digest(content + execution.form, batch, {port.name: port.shape for port in inputs}),
        inputs=inputs,
        outputs=outputs,
        source=str(path),
        precision=execution.precision if precision == "fp32" else precision,
    )
    tensors = {port.name: port for port in inputs}
    for node, (kernel, _) in zip(optimised.graph.node, pairs, strict=True):
        tensors |= _ports(list(node.output), kernel.details.output_type_shape)
    return Network(graph, folder, optimised, tensors, feed)


def _run_observed(
    model: onnx.ModelProto, name: str, folder: Path, feed: Mapping[str, Any]
) -> tuple[list[Kernel], list[tuple[Port, Any]]]:
    """Run once under the profiler, weights not prepacked, so that they count as inputs → kernels, and what came out."""
    path = folder / "observed.onnx"
    path.write_bytes(model.SerializeToString())
    chosen = options(1)
    chosen.enable_profiling = True
    chosen.profile_file_prefix = str(folder / "profile")
    chosen.add_session_config_entry("session.disable_prepacking", "1")
    with refusing(name, "run on made-up inputs (give it the shapes that it expects)"):
        opened = session(path, chosen)
        results = call(opened, feed)()
    found = kernels(Path(opened.end_profiling()))
    ports = [
        Port(value.name, np.shape(result) if isinstance(result, np.ndarray) else (), element_of(value.type))
        for value, result in zip(opened.get_outputs(), results, strict=True)
    ]
    return found, list(zip(ports, results, strict=True))


def check_converted(
    written: onnx.ModelProto, name: str, folder: Path, feed: Mapping[str, Any], results: list[Any]
) -> None:
    """Refuse a network whose answers changed when its opset did; one that draws numbers cannot be compared."""
    if is_random(written):
        return
    path = folder / "written.onnx"
    onnx.save_model(written, str(path))
    with refusing(name, "run on made-up inputs (give it the shapes that it expects)"):
        before = call(session(path, options(1)), feed)()
    path.unlink()
    for theirs, ours in zip(before, results, strict=True):
        if not _alike(theirs, ours):
            raise Refused(
                f"{name} uses opset {opset(written)}, and answers otherwise once onnx has converted it to {MIN_OPSET}; "
                f"export it again with opset {MIN_OPSET} or later"
            )


def _alike(theirs: Any, ours: Any) -> bool:
    """Tell whether two outputs are the same, but for how sums round; those that are no numbers must be equal."""
    if not isinstance(theirs, np.ndarray) or theirs.dtype.kind in "OSU":
        return bool(np.all(theirs == ours))
    if theirs.shape != ours.shape:
        return False
    first, second = theirs.astype(np.float64), ours.astype(np.float64)
    most = float(np.abs(first[np.isfinite(first)]).max(initial=0.0))
    return bool(np.allclose(first, second, rtol=_ROUNDING, atol=_ROUNDING * most, equal_nan=True))


def element_of(type_text: str) -> str:
    """Return the element type in ``tensor(float)``; anything else as it is."""
    return type_text[len("tensor(") : -1] if type_text.startswith("tensor(") else type_text


def _reorder(graph: onnx.GraphProto, names: list[str]) -> None:
    nodes = {node.name: node for node in graph.node}
    assert len(names) == len(nodes) == len(set(names)), "every outer node runs once"
    ordered = [onnx.NodeProto.FromString(nodes[name].SerializeToString()) for name in names]
    del graph.node[:]
    graph.node.extend(ordered)


def _operators(
    graph: onnx.GraphProto, pairs: list[tuple[Kernel, list[Kernel]]], layers: Mapping[str, Layer]
) -> tuple[Operator, ...]:
    inner = {node.name: node for outer in graph.node for node in inner_nodes(outer)}
    weights = {tensor.name for tensor in graph_tensors(graph)}
    executed = [
        [(node, kernel), *((inner[each.node], each) for each in inside if each.node in inner)]
        for node, (kernel, inside) in zip(graph.node, pairs, strict=True)
    ]
    return tuple(_operator(each, weights, layers.get(each[0][0].name)) for each in executed)


def _operator(executed: list[tuple[onnx.NodeProto, Kernel]], weights: Set[str], layer: Layer | None) -> Operator:
    """Count one outer node, the first of those executed, with the nodes that ran inside it."""
    node, kernel = executed[0]
    outer, *inside = [work(_call(*each)) for each in executed]
    moved = sum((_traffic(*each, weights) for each in executed), Traffic())
    shapes = [shape for entry in kernel.details.output_type_shape for shape in entry.values()]
    return Operator(
        name=node.name,
        kind=node.op_type,
        flops=outer.flops + sum(each.flops for each in inside),
        bytes_read=moved.read_bytes,
        bytes_written=moved.written_bytes,
        weight_bytes=moved.weight_bytes,
        output_shape=tuple(shapes[0]) if shapes else (),
        gemm=outer.gemm,
        layer=layer,
    )


def _traffic(node: onnx.NodeProto, kernel: Kernel, weights: Set[str]) -> Traffic:
    """Weights are told by name, since the profiler takes those of an outer graph for activations."""
    of = kernel.details
    ports = _ports(list(node.input), of.input_type_shape)
    constant = sum(float(_num_bytes(port)) for name, port in ports.items() if name in weights)
    everything = float(of.activation_size) + float(of.parameter_size)
    return traffic(of.op_name, everything - constant, constant, float(of.output_size))


def _num_bytes(port: Port) -> int:
    """Return the size of a tensor [bytes], rounded down for elements of a few bits."""
    num_bits = {"float": 32, "double": 64, "bfloat16": 16, "bool": 8, "string": 0}
    bits = num_bits.get(port.dtype) or int("".join(c for c in port.dtype[:8] if c.isdigit()) or 0)
    return prod(port.shape) * bits // 8


def _call(node: onnx.NodeProto, kernel: Kernel) -> Call:
    return Call(
        node.op_type,
        {each.name: value for each in node.attribute if (value := _attribute(each)) is not None},
        _aligned(list(node.input), kernel.details.input_type_shape),
        _aligned(list(node.output), kernel.details.output_type_shape),
    )


def _attribute(attribute: onnx.AttributeProto) -> Attribute | None:
    """Return a number, a text or whole numbers; None for anything else."""
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if attribute.type == onnx.AttributeProto.INTS:
        return tuple(value)
    return value if isinstance(value, int | float) else None


def _aligned(names: list[str], entries: list[dict[str, list[int]]]) -> tuple[Shape | None, ...]:
    """Put the shapes that the profiler lists, of present tensors only, back to their positions."""
    shapes = iter([tuple(shape) for entry in entries for shape in entry.values()])
    return tuple(next(shapes, None) if name else None for name in names)


def _ports(names: list[str], entries: list[dict[str, list[int]]]) -> dict[str, Port]:
    """Name the tensors that the profiler lists; nothing where one of them is no tensor, and the count differs."""
    present = [name for name in names if name]
    if len(present) != len(entries):
        return {}
    return {
        name: Port(name, tuple(shape), dtype)
        for name, entry in zip(present, entries, strict=True)
        for dtype, shape in entry.items()
    }


def _precision(graph: onnx.GraphProto) -> str:
    """Return the precision that most of the weights have."""
    num_bytes: dict[str, int] = {}
    for tensor in graph.initializer:
        dtype = reading.elements(tensor.data_type)
        if dtype in _PRECISIONS:
            precision = _PRECISIONS[dtype]
            num_bytes[precision] = num_bytes.get(precision, 0) + int(np.prod(tensor.dims, dtype=np.int64))
    return max(num_bytes, key=lambda each: num_bytes[each], default="fp32")
