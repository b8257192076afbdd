"""A model that was found, and what is said of it → its networks in the right shapes, fed what they are to be fed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from amble import bundled
from amble.core import files
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.ports import Device, Tensors
from amble.core.schedule import FORMAT as SCHEDULE
from amble.core.variants import FORMAT as VARIANTS
from amble.inputs import BUNDLED
from amble.runtimes import onnx
from amble.runtimes.onnx.batched import BatchedRunner
from amble.services.serve.models import lengths
from amble.services.serve.models.candidates import Candidates, candidates
from amble.services.serve.models.fed import Fed, fed_candidates
from amble.services.serve.models.joining import Run
from amble.services.serve.models.lengths import Lengths
from amble.services.serve.models.model import Found
from amble.services.serve.models.options import Options
from amble.services.serve.models.samples import Axes, Samples, input_names, open_axes, shapes
from amble.services.serve.models.settings import Settings
from amble.services.serve.models.shelf import taken

__all__ = ["Tailored", "network_of", "tailored"]

_HOW = (
    "say more of this model: NAME=FILE?seq=128 (an open axis by its symbol), NAME=FILE?INPUT=1,128 (a whole shape) or "
    "NAME=FILE?examples=FILE.npz (inputs that it takes); in a repository among the parameters of its configuration"
)


@dataclass(frozen=True, slots=True)
class Tailored:
    """A model with what is said of it. ``samples`` None: inputs are made up."""

    found: Found
    settings: Settings
    options: Options
    axes: Axes
    samples: Samples | None

    def candidates(self, runner: BatchedRunner) -> Candidates:
        """Read its variants. Refused, by the model's name, where they cannot be run as they are to be fed."""
        try:
            if self.samples is None:
                made = candidates(self.found.path, self.options)
            else:
                made = fed_candidates(self.found.path, self.options, self.samples, runner)
        except Refused as error:
            raise Refused(f"model {self.found.name!r}: {error}; {_HOW}") from error
        made.kept = taken(runner, made.files)
        return made

    def draw(self, graph: Graph, seed: int) -> Tensors:
        """Return inputs of one row: an example, or made up."""
        return onnx.example_inputs(graph, seed) if self.samples is None else self.samples.draw(graph.inputs, seed)

    def measured_on(self, device: Device, runner: BatchedRunner) -> Device:
        """Return a device to measure on, which feeds networks what they are to be fed."""
        if self.samples is None:
            return device
        return replace(device, runner=Fed(runner, device, self.samples, self.options.threads))

    def lengths(self, graph: Graph, runs: Sequence[Run]) -> Lengths | None:
        """Say how requests of unlike length share a batch; ``runs`` answer in each variant, ``graph`` has one row."""
        sizes = {port.name: port.shape for port in graph.inputs}
        found, _ = lengths.lengths_of(self.axes)
        name = next(iter(found), None)
        length = 0 if name is None else sizes[name][found[name][0]]
        draw = partial(self.draw, graph)
        try:
            return lengths.tried(self.axes, self.settings.buckets, runs, draw, length)
        except Refused as error:
            raise Refused(f"model {self.found.name!r}: {self.settings.said}: {error}") from error


def tailored(found: Found, settings: Settings, options: Options) -> Tailored:
    """Fit what is said of a model to its network. Refused, by its name, where they do not fit."""
    try:
        network = network_of(found.path)
        axes, names = open_axes(network), input_names(network)
        samples = None if settings.examples is None else Samples.read(settings.examples, settings.said, axes)
        common = {name: shape for name, shape in options.shapes.items() if name in names}
        chosen = replace(options, shapes={**common, **shapes(axes, settings, samples)})
    except Refused as error:
        raise Refused(f"model {found.name!r}: {error}") from error
    return Tailored(found, settings, chosen, axes, samples)


def network_of(path: Path) -> Path:
    """Return the network of a model's file: of variants the reference, of a schedule what it was planned for."""
    if path.suffix != ".json":
        return path
    if files.kind_of(path) == "schedule":
        source = files.load(path, SCHEDULE).subject.source
        return bundled.model_path() if source == BUNDLED else Path(source)
    return path.parent / files.load(path, VARIANTS).reference.file
