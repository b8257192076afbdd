"""Graphs and segments of graphs → open ONNX Runtime sessions, each made once and kept while its owner lives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.ports import Tensors
from amble.runtimes import values
from amble.runtimes.onnx.cutting import cut, extract
from amble.runtimes.onnx.execution import Execution, pinned
from amble.runtimes.onnx.network import Network
from amble.runtimes.onnx.ordering import in_order
from amble.runtimes.onnx.refusals import refusing

__all__ = ["Part", "Sessions"]


@dataclass(frozen=True, slots=True)
class Part:
    """An open session of a network or of one segment, and the tensors that are carried past it."""

    name: str
    session: onnxruntime.InferenceSession
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    carried: tuple[str, ...]
    cpus: tuple[int, ...] = ()
    plain: bool = True

    def run(self, inputs: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run on these tensors → what comes out and what is carried. ValueError when one is missing or does not fit."""
        missing = [name for name in (*self.inputs, *self.carried) if name not in inputs]
        if missing:
            raise ValueError(
                f"{self.name} needs the tensors {', '.join(missing)}; given were {', '.join(inputs) or 'none'}"
            )
        given = {name: np.asarray(inputs[name]) for name in self.inputs}
        with refusing(self.name, "run on these inputs"), pinned(self.cpus):
            if self.plain:
                results = self.session.run(list(self.outputs), given)
            else:
                results = values.run(self.session, self.outputs, given)
        return dict(zip(self.outputs, results, strict=True)) | {name: inputs[name] for name in self.carried}


class Sessions:
    """What is open, by content: every network is prepared once, every whole network and segment opened once."""

    def __init__(self, execution: Execution | None = None) -> None:
        self.execution = execution or Execution()
        self._networks: dict[str, Network] = {}
        self._parts: dict[tuple[str, int, int], Part] = {}
        self._feeds: dict[tuple[str, int, int], Tensors] = {}

    def network(self, graph: Graph) -> Network:
        """Return the prepared network of a graph; Refused when its file is gone or another one by now."""
        if graph.digest not in self._networks:
            if not graph.source:
                raise Refused(f"{graph.name} has no weights to run, only operators; load an ONNX file instead")
            shapes = {port.name: port.shape for port in graph.inputs}
            network = Network.open(Path(graph.source), graph.batch, shapes, self.execution)
            if network.graph.digest != graph.digest:
                raise Refused(
                    f"{graph.source} has changed since it was loaded, or was loaded for another device; load it again "
                    f"for this one: amble.load(..., device=URI)"
                )
            self._networks[graph.digest] = in_order(network, graph)
        return self._networks[graph.digest]

    def part(self, graph: Graph) -> Part:
        """Return the open session of a graph or of one segment of it."""
        key = (graph.digest, graph.offset, graph.offset + len(graph.operators))
        if key not in self._parts:
            self._parts[key] = self._open(self.network(graph), key[1], key[2])
        return self._parts[key]

    def feed(self, graph: Graph) -> Tensors:
        """Return tensors that a graph, or one segment of it, can be timed with: what the operators before it make."""
        key = (graph.digest, graph.offset, graph.offset + len(graph.operators))
        if key not in self._feeds:
            network = self.network(graph)
            self._feeds[key] = (
                self._open(network, 0, graph.offset).run(network.feed) if graph.offset else dict(network.feed)
            )
        return self._feeds[key]

    def _open(self, network: Network, start: int, stop: int) -> Part:
        crossing = cut(network.model.graph, start, stop)
        last = stop == len(network.model.graph.node)
        results = {value.name for value in network.model.graph.output}
        path = network.path
        if start > 0 or not last:
            path = network.folder / f"segment_{start}_{stop}.onnx"
            onnx.save(extract(network.model, network.tensors, start, stop), str(path))
        with refusing(f"{network.graph.name}, operators {start} to {stop - 1},", "opened"):
            opened = self.execution.open(path, fused=self.execution.fused)
        inputs = tuple(value.name for value in opened.get_inputs())
        outputs = tuple(value.name for value in opened.get_outputs())
        wanted = results if last else set(crossing.carried)
        carried = tuple(name for name in crossing.carried if name in wanted and name not in outputs)
        plain = values.is_plain(opened)
        return Part(network.graph.name, opened, inputs, outputs, carried, self.execution.cpus, plain)
