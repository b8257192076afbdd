"""An ONNX file → its tensors with their open axes, and outputs at whatever batch size comes, from one open session.

What a server needs: `onnx.OnnxRunner` binds a network to one batch size, and another size is another network, with its
own copy of the weights. Here the batch axis stays open. Segments of a network still go to an `OnnxRunner`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from amble.core.graph import Graph, Port
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors, Timings
from amble.runtimes import values
from amble.runtimes.onnx import OnnxRunner
from amble.runtimes.onnx.network import element_of
from amble.runtimes.onnx.preparing import options, session
from amble.runtimes.onnx.reading import plain
from amble.runtimes.onnx.refusals import refusing

__all__ = ["BatchedRunner", "Signature"]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a network, −1 for open axes. ``batched``: the first axis of all of them is the batch."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batched: bool


class BatchedRunner:
    """Runs networks on this machine's CPU, each from one session. Networks are opened by ``open``, from any thread."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._opened: dict[str, _Opened] = {}
        self._bound = OnnxRunner(threads)

    def open(self, path: Path) -> Signature:
        """Open a network, or open it again when its file has changed. Refused when the file is no network."""
        with tempfile.TemporaryDirectory(prefix="amble-") as folder, refusing(str(path), "opened"):
            opened = session(plain(path, Path(folder)), options(self._threads, optimised=False))
        inputs, outputs = _ports(opened.get_inputs()), _ports(opened.get_outputs())
        self._opened[str(path)] = _Opened(opened, [port.name for port in outputs], values.is_plain(opened))
        batched = all(port.shape and port.shape[0] < 0 for port in (*inputs, *outputs))
        return Signature(inputs, outputs, batched)

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Run a whole network at the batch size of its inputs, or one segment at the size it is bound to."""
        if graph.offset or not graph.ends or not inputs:
            return self._bound.run(graph, point, inputs)
        return self.compute(graph, point, inputs)

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Time each operator of a network that is bound to one batch size."""
        return self._bound.profile(graph, point, repeats)

    def compute(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Compute a whole network's outputs; nothing without inputs."""
        if not inputs:
            return {}
        if graph.source not in self._opened:
            self.open(Path(graph.source))
        opened = self._opened[graph.source]
        with refusing(graph.name, "run on these inputs"):
            if opened.plain:
                results = opened.session.run(opened.outputs, dict(inputs))
            else:
                results = values.run(opened.session, opened.outputs, inputs)
        return dict(zip(opened.outputs, results, strict=True))


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session and its outputs; ``plain`` where numpy has all their types."""

    session: onnxruntime.InferenceSession
    outputs: list[str]
    plain: bool


def _ports(found: list[Any]) -> tuple[Port, ...]:
    return tuple(
        Port(
            each.name,
            tuple(size if isinstance(size, int) and size >= 0 else -1 for size in each.shape),
            element_of(each.type),
        )
        for each in found
    )
