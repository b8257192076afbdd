"""Networks that are never run on made-up inputs: read, tried and measured on given examples alone.

Such a network is one operator, of which nothing is counted: that would take a run on inputs that it dislikes. A device
that reckons from operators cannot serve it.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnx

from amble.core.errors import Refused
from amble.core.graph import Graph, Operator, Port
from amble.core.point import OperatingPoint
from amble.core.ports import Device, Tensors
from amble.runtimes.onnx import reading
from amble.runtimes.onnx.batched import BatchedRunner
from amble.services.serve.models.candidates import VARIANTS_FILE, Candidates, candidates
from amble.services.serve.models.options import Options
from amble.services.serve.models.samples import Samples

__all__ = ["Fed", "FedCandidates", "fed_candidates", "refuse_reckoning"]

_LOG = logging.getLogger(__name__)
_PRECISIONS = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "INT8": "int8", "UINT8": "int8"}


class Fed(BatchedRunner):
    """Times networks on examples, with the sessions of the runner that serves them."""

    def __init__(self, serving: BatchedRunner, device: Device, samples: Samples, threads: int) -> None:
        super().__init__(threads)
        self.watch(device.meter, device.actuator.current)
        self._serving = serving
        self._samples = samples

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Run a whole network."""
        return self.compute(graph, point, inputs)

    def compute(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Compute the outputs for examples, whatever else was to be fed."""
        return self._serving.compute(graph, point, self._samples.draw(graph.inputs, 0, rows=graph.batch))


class FedCandidates(Candidates):
    """Variants whose networks are read by running them on examples."""

    def __init__(self, of: Candidates, options: Options, samples: Samples, runner: BatchedRunner) -> None:
        super().__init__(of.paths, of.accuracies, options)
        self.may_lose = of.may_lose
        self._samples = samples
        self._runner = runner
        self._graphs: dict[str, Graph] = {}

    def graph(self, variant: str, rows: int, *, by_size: bool) -> Graph:
        """Return the network of a variant at a batch size."""
        if variant not in self._graphs:
            self._graphs[variant] = self._read(self.paths[variant], variant)
        return replace(self._graphs[variant], batch=rows)

    def _read(self, path: Path, variant: str) -> Graph:
        signature = self._runner.open(path)
        single = {port.name: tuple(max(1, size) for size in port.shape) for port in signature.inputs}
        shapes = {name: self.shapes.get(name, shape) for name, shape in single.items()}
        inputs = tuple(replace(port, shape=shapes[port.name]) for port in signature.inputs)
        model, content = reading.as_written(path)
        name, precision = path.stem, _precision(model)
        digest = reading.digest(content, 1, shapes)
        graph = Graph(name, (Operator(name, "Network", 0.0, 0.0, 0.0),), 1, digest, inputs, (), str(path), precision)
        results = self._runner.compute(graph, OperatingPoint(precision=variant), self._samples.draw(inputs, 0))
        dtypes = {port.name: port.dtype for port in signature.outputs}
        outputs = tuple(Port(each, np.shape(value), dtypes[each]) for each, value in results.items())
        return replace(graph, outputs=outputs)


def fed_candidates(path: Path, options: Options, samples: Samples, runner: BatchedRunner) -> FedCandidates:
    """Read which variants there are; of a network alone, without those in the file beside it."""
    if path.suffix == ".json":
        return FedCandidates(candidates(path, options), options, samples, runner)
    if path.with_name(VARIANTS_FILE).is_file():
        _LOG.warning("%s is served without the variants beside it, which cannot be told on examples: name them", path)
    precision = _precision(reading.as_written(path)[0])
    return FedCandidates(Candidates({precision: path}, {precision: 1.0}, options), options, samples, runner)


def refuse_reckoning(samples: Samples, device: Device) -> NoReturn:
    """Refuse a device that reckons from operators."""
    raise Refused(f"{samples.said}: {device.name} reckons from operators, which examples do not tell; serve it on host")


def _precision(model: onnx.ModelProto) -> str:
    """Return the precision that most of the weights have."""
    count: Counter[str] = Counter()
    for each in model.graph.initializer:
        kind = _PRECISIONS.get(onnx.TensorProto.DataType.Name(each.data_type))
        if kind is not None:
            count[kind] += prod(each.dims)
    return max(count, key=lambda each: count[each], default="fp32")
