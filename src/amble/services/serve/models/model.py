"""A model as its clients see it: name, version, tensors, configuration; what a loader gives, what the protocol tells.

Pure data: how models are found is in `repository`, how they are served in the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from amble.core.graph import Graph, Port
from amble.core.ladder import Ladder
from amble.core.log import Known
from amble.runtimes.remote.datatypes import datatype
from amble.services.serve.models.configuration import Config
from amble.services.serve.models.lengths import Lengths, QueueByLength
from amble.services.serve.pulse import Do
from amble.stages.control.engine import Lane
from amble.stages.control.governor import Governor

__all__ = ["Found", "Loaded", "Loader", "Model", "Stage"]

_PLATFORM = "onnxruntime_onnx"
_FAR_BEYOND, _ANY_LENGTH_S = 30, 600.0


@dataclass(frozen=True, slots=True)
class Found:
    """A version of a model that can be loaded: its file, and what its configuration says."""

    name: str
    version: str
    path: Path
    config: Config = field(default_factory=Config)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to be served. Shapes of ``inputs`` and ``outputs`` have −1 for open axes.

    ``batched``: it is proved that the first axis of all of them is the batch, and ``batching`` says how, or why it is
    not. ``lengths``: how requests of unlike length share a batch, where inputs have further open axes. ``graph`` gives
    the network of a variant at a batch size; ``labels`` are names of classes, by output.
    ``timeout_s`` is the time of requests that bring none, unless the configuration has one; ``known`` is what a log of
    it can be read by. ``sha256`` is that of the network's file, where there is one.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batched: bool
    ladder: Ladder
    governor: Governor[Any]
    graph: Callable[[str, int], Graph]
    timeout_s: float | None = None
    batching: str = ""
    known: Known | None = None
    lengths: Lengths | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sha256: str = ""


Loader = Callable[[Found, Do], Loaded]


@dataclass(frozen=True, slots=True)
class Model:
    """One version of one model that is being served."""

    found: Found
    loaded: Loaded
    versions: tuple[str, ...] = field(default=())

    @property
    def key(self) -> str:
        """Return what the engine knows it by."""
        return self.key_of(self.found)

    @staticmethod
    def key_of(found: Found) -> str:
        """Return what the engine knows a version of a model by."""
        return f"{found.name}/{found.version}"

    @property
    def name(self) -> str:
        """Return its name."""
        return self.found.name

    @property
    def version(self) -> str:
        """Return its version."""
        return self.found.version

    @property
    def timeout_s(self) -> float | None:
        """Return the time [s] of requests that bring none; None: they may take as long as they like."""
        return self.found.config.timeout_s or self.loaded.timeout_s

    @property
    def one_s(self) -> float:
        """Return the time [s] of a single row at its best."""
        return self.loaded.ladder.levels[0].rungs[0].latency_s[0]

    @property
    def patience_s(self) -> float:
        """Return the time [s] after which a batch of it hangs: far beyond the longest that was measured.

        What was measured says little of requests that may be of any length.
        """
        if any(size < 0 for port in self.loaded.inputs for size in port.shape[int(self.loaded.batched) :]):
            return _ANY_LENGTH_S
        rungs = [rung for level in self.loaded.ladder.levels for rung in level.rungs]
        return _FAR_BEYOND * max(rung.latency_s[-1] for rung in rungs)

    @property
    def max_batch(self) -> int:
        """Return the largest batch; 0 where its first axis is no batch."""
        return self.loaded.ladder.max_batch if self.loaded.batched else 0

    @property
    def batching(self) -> str:
        """Say whether requests share batches, and why (not)."""
        told = f"{'batched' if self.max_batch else 'one request at a time'}: {self.loaded.batching}"
        return told if self.loaded.lengths is None else f"{told}; {self.loaded.lengths.reason}"

    def lane(self) -> Lane:
        """Return a fresh queue and governor for the engine."""
        lane = Lane(self.key, self.loaded.governor, self.loaded.graph, self.found.config.queue_limit)
        if self.loaded.lengths is not None:
            lane.queue = QueueByLength(lane.queue_limit, self.loaded.lengths)
        return lane

    def answers_alike(self, other: Model) -> bool:
        """Tell whether a request of the other one is one of this as well."""
        ours, theirs = self.loaded, other.loaded
        return (ours.inputs, ours.outputs, ours.batched, ours.lengths) == (
            theirs.inputs,
            theirs.outputs,
            theirs.batched,
            theirs.lengths,
        )

    def refuted(self) -> str | None:
        """Say what its configuration claims of its tensors and is not so; None where all of it is."""
        claims = self.found.config
        ports = {"input": self.loaded.inputs, "output": self.loaded.outputs}
        for side, claimed in (("input", claims.inputs), ("output", claims.outputs)):
            told = {each["name"]: each for each in map(self._configured, ports[side])}
            for name, kind, dims in claimed:
                if name not in told:
                    return f"{side} {name!r} is not in the network; it has {', '.join(told)}"
                if kind not in ("", told[name]["data_type"]):
                    return f"{side} {name!r} is {told[name]['data_type']}, not {kind}"
                if dims and dims != tuple(told[name]["dims"]):
                    return f"{side} {name!r} has the dims {told[name]['dims']}, not {list(dims)}"
        return None

    def metadata(self) -> dict[str, Any]:
        """Return what the protocol tells of a model."""
        return {
            "name": self.name,
            "versions": list(self.versions or (self.version,)),
            "platform": _PLATFORM,
            "inputs": [_described(port) for port in self.loaded.inputs],
            "outputs": [_described(port) for port in self.loaded.outputs],
        }

    def config(self) -> dict[str, Any]:
        """Return its configuration in Triton's words; the batch axis is left out of ``dims`` where there is one."""
        queue: dict[str, Any] = {"max_queue_size": self.found.config.queue_limit}
        if self.timeout_s is not None:
            queue["default_timeout_microseconds"] = round(self.timeout_s * 1e6)
        return {
            "name": self.name,
            "platform": _PLATFORM,
            "backend": "onnxruntime",
            "version_policy": {"specific": {"versions": [int(each) for each in self.versions or (self.version,)]}},
            "max_batch_size": self.max_batch,
            "input": [self._configured(port) for port in self.loaded.inputs],
            "output": [self._configured(port) for port in self.loaded.outputs],
            **({"dynamic_batching": {"default_queue_policy": queue}} if self.max_batch else {}),
            "parameters": {name: {"string_value": value} for name, value in self._parameters().items()},
        }

    def _parameters(self) -> dict[str, str]:
        """Return what was said of this model, and what is said of it beyond what anybody could configure."""
        told = {"batching": self.batching, "sha256": self.loaded.sha256}
        if self.loaded.lengths is not None:
            told["lengths"] = self.loaded.lengths.reason
        return {**self.found.config.settings.words, **{name: text for name, text in told.items() if text}}

    def _configured(self, port: Port) -> dict[str, Any]:
        kind, config = datatype(port), self.found.config
        dims = list(port.shape[1:] if self.max_batch else port.shape)
        told = {"name": port.name, "data_type": "TYPE_STRING" if kind == "BYTES" else f"TYPE_{kind}", "dims": dims}
        if port.name in config.formats:
            told["format"] = config.formats[port.name]
        if port.name in config.labels:
            told["label_filename"] = config.labels[port.name].name
        return told


class Stage(Protocol):
    """Where models are served."""

    @property
    def open_for_all(self) -> bool:
        """Tell whether requests are taken."""
        ...

    def open(self, model: Model) -> None:
        """Begin to serve a model, in any thread."""
        ...

    def close(self, model: Model) -> None:
        """Stop serving a model, once what waits for it has been answered; in any thread but the loop's."""
        ...

    @property
    def do(self) -> Do:
        """Return what does some work while nobody else uses the device."""
        ...


def _described(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": datatype(port), "shape": list(port.shape)}
