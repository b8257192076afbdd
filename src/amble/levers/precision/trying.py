"""Attempts at cheaper variants of one network → what each answers: work that needs nothing of other attempts.

What tries them can travel: elsewhere it unpacks the network, opens a device of its own there, and makes what it is
asked for. A simulated device has a time and a noise of its own, so that one is opened to answer, beside the one that
is timed: times do then not depend on where, or in which order, anything answered.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from amble import inputs
from amble.core.examples import Examples
from amble.core.graph import Graph
from amble.core.ports import Device, Tensors
from amble.core.processor import Saturations
from amble.core.spreading import OnProgress
from amble.core.variants import Quality, Variant
from amble.levers.precision.candidates import Workshop
from amble.levers.precision.choose import Candidate, Tried, tried
from amble.runtimes.parcels import Parcel
from amble.stages.check.intervals import quantile, wilson
from amble.stages.measure import accuracy
from amble.stages.measure.comparison import Comparison, Statistics

__all__ = ["Answered", "Attempt", "Layers", "Trying", "bench_of", "put_down"]

_STATISTICS = Statistics(share=wilson, median=partial(quantile, percentile=0.5))


@dataclass(frozen=True, slots=True)
class Attempt:
    """A whole-network variant by its name, or a mix: a kind of INT8 with these nodes left in floating point."""

    kind: str
    leave: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """A variant that runs: the content of its file, how well it answers, and what saturates."""

    content: bytes
    quality: Quality
    saturations: Saturations | None


@dataclass(frozen=True, slots=True)
class Layers:
    """Which layer is to be in INT8 alone: the groups of nodes of all layers, and the kind of INT8."""

    kind: str
    groups: tuple[tuple[str, ...], ...]
    sample: Examples


@dataclass(slots=True, weakref_slot=True)
class Trying:
    """Makes variants and lets them answer, on the device that its bench runs on, or where it travelled one like it."""

    workshop: Workshop
    bench: Comparison
    uri: str

    def __call__(self, wanted: Attempt, on_progress: OnProgress) -> Answered | Variant:
        """Make a variant and let it answer; a refused one where it cannot be made or run."""
        self.bench.on_progress = on_progress
        found = tried(self.candidate(wanted), self.workshop.folder, self.bench)
        if isinstance(found, Variant):
            return found
        return Answered(found.path.read_bytes(), found.quality, found.saturations)

    def candidate(self, wanted: Attempt, name: str = "") -> Candidate:
        """Return what makes a variant."""
        if wanted.leave:
            return self.workshop.int8(wanted.kind, wanted.leave, name or "mixed")
        return next(each for each in self.workshop.candidates() if each.name == wanted.kind)

    def error_of(self, layers: Layers, layer: int, on_progress: OnProgress) -> float:
        """Return the squared error that the scores of a few examples have with one layer in INT8."""
        self.bench.on_progress = on_progress
        path = self.workshop.folder / "layer.onnx"
        leave = [name for index, group in enumerate(layers.groups) if index != layer for name in group]
        self.workshop.int8(layers.kind, leave).make(path)
        theirs = self.bench.answers(self.bench.reference, layers.sample)
        return accuracy.squared_error(self.bench.answers(self.bench.load(path), layers.sample), theirs)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as data."""
        shop, bench = self.workshop, self.bench
        network = _Network(Parcel.of(shop.source), self.uri, bench.reference.batch, bench.reference.shapes)
        return _unpacked, (network, shop.feeds, shop.saturates, bench.examples, bench.alike)


@dataclass(frozen=True, slots=True)
class _Network:
    """A network on its way, and on which kind of device it is to answer."""

    parcel: Parcel
    uri: str
    batch: int
    shapes: Mapping[str, tuple[int, ...]]


def _unpacked(network: _Network, feeds: Sequence[Tensors], saturates: bool, examples: Examples, alike: float) -> Trying:
    place = Path(tempfile.mkdtemp(prefix="amble-"))
    source = network.parcel.unpacked(place / "given")
    graph = inputs.load(source, batch=network.batch, shapes=network.shapes)
    bench = replace(bench_of(inputs.open(network.uri), network.uri, graph, examples), alike=alike)
    made = Trying(Workshop(source, place, feeds, saturates), bench, network.uri)
    weakref.finalize(made, shutil.rmtree, place, ignore_errors=True)
    return made


def bench_of(opened: Device, uri: str, graph: Graph, judged: Examples) -> Comparison:
    """On this machine the thread's own CPU time counts, which other load does not lengthen."""
    read = partial(inputs.load, batch=graph.batch, shapes=graph.shapes)
    return Comparison(opened, graph, judged, _STATISTICS, read, inputs.timer(uri, opened))


def put_down(candidate: Candidate, found: Answered | Variant, folder: Path, bench: Comparison) -> Tried | Variant:
    """Write a variant that was tried, perhaps elsewhere, into a folder, ready to be timed."""
    if isinstance(found, Variant):
        return found
    path = folder / f"{candidate.name}.onnx"
    path.write_bytes(found.content)
    return Tried(candidate, path, bench.load(path), found.quality, found.saturations)
