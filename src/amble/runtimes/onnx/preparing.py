"""A model whose shapes are known → the network as ONNX Runtime executes it after its own optimisation, in a folder.

Weights are spilled beside the graph before and after, so that every later session and segment maps the same file and
only small files are parsed. Every node gets a name of its own, which ONNX Runtime wants and ONNX does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime

from amble.runtimes.onnx.refusals import RUNTIME_ERRORS, refusing

__all__ = ["inner_nodes", "optimise", "options", "session"]

_WEIGHTS = "weights.bin"
_LEAN = "model.onnx"
_OPTIMISED = "optimised.onnx"
_SPILLED_BYTES = 1024
_INSERTED = "InsertedPrecisionFree"
_FATAL = 4


def options(threads: int, *, optimised: bool = True) -> onnxruntime.SessionOptions:
    """Return quiet options; for an ``optimised`` network that means: change nothing."""
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = _FATAL
    if optimised:
        chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return chosen


def session(path: Path, chosen: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Open a network on the CPU."""
    return onnxruntime.InferenceSession(str(path), chosen, providers=["CPUExecutionProvider"])


def optimise(model: onnx.ModelProto, name: str, folder: Path, *, fused: bool = True) -> onnx.ModelProto:
    """Let ONNX Runtime optimise a model for this CPU → the graph that it executes, its weights in files of ``folder``.

    Unless ``fused``, only constants are folded: the operators stay those of the standard, which any provider takes.
    Empties the model of its weights. A model that contradicts itself at these shapes is tried with open ones. Refused
    when an operator has no kernel here, or the model is not valid.
    """
    _spill(model, folder / _WEIGHTS)
    _name_nodes(model.graph)
    try:
        _save_optimised(model, folder, fused)
    except RUNTIME_ERRORS:
        _open_axes(model.graph)
        with refusing(name, "loaded"):
            _save_optimised(model, folder, fused)
    result = onnx.load(str(folder / _OPTIMISED), load_external_data=False)
    for node in result.graph.node:  # by this name, casts would be taken out when the graph is loaded again
        node.name = node.name.removeprefix(_INSERTED)
    _name_nodes(result.graph)
    for made in (_WEIGHTS, _LEAN, _OPTIMISED):
        (folder / made).unlink()
    return result


def _save_optimised(model: onnx.ModelProto, folder: Path, fused: bool) -> None:
    lean = folder / _LEAN
    lean.write_bytes(model.SerializeToString())
    chosen = options(1, optimised=False)
    if not fused:
        chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    chosen.optimized_model_filepath = str(folder / _OPTIMISED)
    chosen.add_session_config_entry("session.disable_prepacking", "1")
    chosen.add_session_config_entry("session.optimized_model_external_initializers_file_name", "optimised.bin")
    session(lean, chosen)


def _open_axes(graph: onnx.GraphProto) -> None:
    """Make every axis of every input unknown.

    ONNX infers the shapes of branches that never run, too; sizes that are right for the branch that runs can be wrong
    there. What runs is told the sizes by its inputs anyway.
    """
    for each in graph.input:
        for dim in each.type.tensor_type.shape.dim:
            dim.Clear()


def _spill(model: onnx.ModelProto, path: Path) -> None:
    """Move the large weights out of a model into a file beside it."""
    with path.open("wb") as file:
        for tensor in model.graph.initializer:
            content = tensor.raw_data
            if len(content) < _SPILLED_BYTES:
                continue
            file.write(b"\0" * (-file.tell() % 64))
            entries = {"location": path.name, "offset": str(file.tell()), "length": str(len(content))}
            file.write(content)
            tensor.ClearField("raw_data")
            del tensor.external_data[:]
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=value)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Name every node uniquely, in branches and bodies too, in letters that ONNX Runtime's profile keeps."""
    taken: set[str] = set()
    everything = [*graph.node, *(node for outer in graph.node for node in inner_nodes(outer))]
    for index, node in enumerate(everything):
        clean = "".join(c if c.isprintable() and c not in '"\\' else "_" for c in node.name)
        name = clean or f"{node.op_type}_{index}"
        node.name = name if name not in taken else f"{name}_{index}"
        while node.name in taken:
            node.name += "_"
        taken.add(node.name)


def inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of all branches and bodies of a node, at any depth."""
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
            for each in graph.node:
                yield each
                yield from inner_nodes(each)
