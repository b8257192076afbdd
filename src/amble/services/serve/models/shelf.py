"""Open networks, each for as long as a model that is served holds it: what is unloaded leaves no memory behind.

A model that is being loaded opens its networks here, and takes them with it. With its last user (a lane whose last
batch still runs, too) they close; nobody has to say so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from weakref import WeakValueDictionary

from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Meter, Tensors, Timings
from amble.runtimes.onnx.batched import BatchedRunner, Signature

__all__ = ["Shelf", "taken"]


class Shelf(BatchedRunner):
    """A runner that has one of its own for each file."""

    def __init__(self, threads: int = 1) -> None:
        super().__init__(threads)
        self._num_threads = threads
        self._held: WeakValueDictionary[str, BatchedRunner] = WeakValueDictionary()
        self._fresh: dict[str, BatchedRunner] = {}  # opened, and no model has taken them yet
        self._lock = threading.Lock()
        self._watched: tuple[Meter, Callable[[], Clocks]] | None = None

    @property
    def sources(self) -> frozenset[str]:
        """Return the files that are open."""
        return frozenset(self._held.keys())

    def take(self, paths: Iterable[Path]) -> tuple[BatchedRunner, ...]:
        """Hand over what was opened of these files, for whoever keeps it; what else was opened is let go."""
        with self._lock:
            found = tuple(self._of(str(path)) for path in paths)
            self._fresh.clear()
            return found

    def open(self, path: Path) -> Signature:
        """Open a network, or open it again when its file has changed. Refused when the file is no network."""
        return self._at(str(path)).open(path)

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Run a whole network at the batch size of its inputs, or one segment at the size it is bound to."""
        return self._at(graph.source).run(graph, point, inputs)

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Time a network as it is served."""
        return self._at(graph.source).profile(graph, point, repeats)

    def compute(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Compute a whole network's outputs; nothing without inputs."""
        return self._at(graph.source).compute(graph, point, inputs)

    def watch(self, meter: Meter, clocks: Callable[[], Clocks]) -> None:
        """Read this meter and these clocks when something is timed."""
        self._watched = (meter, clocks)
        for each in list(self._held.values()):
            each.watch(meter, clocks)

    def _at(self, source: str) -> BatchedRunner:
        found = self._held.get(source)
        if found is not None:
            return found
        with self._lock:
            return self._of(source)

    def _of(self, source: str) -> BatchedRunner:
        found = self._held.get(source)
        if found is None:
            found = self._held[source] = self._fresh[source] = BatchedRunner(self._num_threads)
            if self._watched is not None:
                found.watch(*self._watched)
        return found


def taken(runner: BatchedRunner, paths: Iterable[Path]) -> object:
    """Return what a model has to keep so that its networks stay open; nothing where the runner keeps all it has."""
    return runner.take(paths) if isinstance(runner, Shelf) else None
