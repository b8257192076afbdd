"""An ONNX file → its tensors with their open axes, and outputs at whatever batch size comes, from one open session.

What a server needs: `onnx.OnnxRunner` binds a network to one batch size, and another size is another network, with its
own copy of the weights. Here the batch axis stays open. Segments of a network still go to an `OnnxRunner`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from amble.core.graph import Graph, Port
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Meter, Tensors, Timing, Timings
from amble.runtimes import values
from amble.runtimes.onnx import OnnxRunner, example_inputs
from amble.runtimes.onnx.execution import Execution
from amble.runtimes.onnx.network import element_of
from amble.runtimes.onnx.preparing import options, session
from amble.runtimes.onnx.reading import plain
from amble.runtimes.onnx.refusals import refusing

__all__ = ["BatchedRunner", "Signature", "rows_of"]

_WARM_UP, _FEWEST = 2, 5
_ENOUGH_S = 0.5
_TICK_S = 1e-7


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
        self._bound = OnnxRunner(Execution(threads=threads))
        self._meter: Meter | None = None
        self._clocks: Callable[[], Clocks] = Clocks

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

    def watch(self, meter: Meter, clocks: Callable[[], Clocks]) -> None:
        """Read this meter and these clocks when something is timed."""
        self._meter, self._clocks = meter, clocks

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Time a network that is taken as one operator, as it is served, in at most ``repeats`` runs.

        Of several operators each is timed, in the network that is bound to one batch size.
        """
        if len(graph.operators) > 1:
            return self._bound.profile(graph, point, repeats)
        run = partial(self.compute, graph, point, rows_of(graph))
        now_s = time.thread_time if self._threads == 1 else time.perf_counter  # its own, or the wall's where many work
        for _ in range(_WARM_UP):
            run()
        before, begun_s = self._meter.read() if self._meter else None, time.perf_counter()
        times_s: list[float] = []
        walls_s: list[float] = []
        while len(times_s) < _FEWEST or (len(times_s) < repeats and time.perf_counter() - begun_s < _ENOUGH_S):
            start_s, wall_s = now_s(), time.perf_counter()
            run()
            times_s.append(max(_TICK_S, now_s() - start_s))
            walls_s.append(time.perf_counter() - wall_s)
        spent_j = None if self._meter is None or before is None else (self._meter.read() - before).energy_j
        return _timings(times_s, walls_s, spent_j, self._clocks())

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


def rows_of(graph: Graph) -> Tensors:
    """Make up inputs for a batch; the graph's ports may be those of a single row."""
    return {
        name: np.repeat(each, graph.batch, axis=0) if each.ndim and each.shape[0] != graph.batch else each
        for name, each in example_inputs(graph, 0).items()
    }


def _timings(times_s: list[float], walls_s: list[float], spent_j: float | None, ran_at: Clocks) -> Timings:
    """Return the median; ratios are wall time over it, since that is what a client waits for."""
    middle_s = float(np.median(times_s))
    low_s, high_s = np.quantile(times_s, [0.1, 0.9])
    whole = Timing(middle_s, float(high_s - low_s), None if spent_j is None else spent_j / len(times_s))
    return Timings((whole,), whole, ran_at, len(times_s), ratios=tuple(each / middle_s for each in walls_s))


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
