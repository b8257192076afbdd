"""A model as its clients see it: name, version, tensors, configuration; what a loader gives, what the protocol tells.

Pure data: how models are found is in `repository`, how they are served in the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from amble.control.engine import Lane
from amble.control.governor import Governor
from amble.control.server.datatypes import datatype
from amble.control.server.pulse import Do
from amble.core.graph import Graph, Port
from amble.core.ladder import Ladder

__all__ = ["Config", "Found", "Loaded", "Loader", "Model", "parse_config"]

_PLATFORM = "onnxruntime_onnx"


@dataclass(frozen=True, slots=True)
class Config:
    """What a model's configuration may say: Triton's names, the part of them that means something here.

    ``timeout_s`` is the time of a request that brings none. ``versions``: ``latest`` of so many, ``all``, or a list.
    """

    name: str = ""
    max_batch_size: int | None = None
    timeout_s: float | None = None
    queue_limit: int = 1024
    latest: int = 1
    every: bool = False
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A version of a model that can be loaded: its file, and what its configuration says."""

    name: str
    version: str
    path: Path
    config: Config = Config()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to be served. Shapes of ``inputs`` and ``outputs`` have −1 for open axes.

    ``batched``: it is proved that the first axis of all of them is the batch, and ``batching`` says how, or why it is
    not. ``graph`` gives the network of a variant at a batch size.
    ``timeout_s`` is the time of requests that bring none, unless the configuration has one.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batched: bool
    ladder: Ladder
    governor: Governor[Any]
    graph: Callable[[str, int], Graph]
    timeout_s: float | None = None
    batching: str = ""


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
        return f"{self.found.name}/{self.found.version}"

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
    def max_batch(self) -> int:
        """Return the largest batch; 0 where its first axis is no batch."""
        return self.loaded.ladder.max_batch if self.loaded.batched else 0

    @property
    def batching(self) -> str:
        """Say whether requests share batches, and why (not)."""
        return f"{'batched' if self.max_batch else 'one request at a time'}: {self.loaded.batching}"

    def lane(self) -> Lane:
        """Return a fresh queue and governor for the engine."""
        return Lane(self.key, self.loaded.governor, self.loaded.graph, self.found.config.queue_limit)

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
            "parameters": {"batching": {"string_value": self.batching}},
        }

    def _configured(self, port: Port) -> dict[str, Any]:
        kind = datatype(port)
        dims = list(port.shape[1:] if self.max_batch else port.shape)
        return {"name": port.name, "data_type": "TYPE_STRING" if kind == "BYTES" else f"TYPE_{kind}", "dims": dims}


def _described(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": datatype(port), "shape": list(port.shape)}


class _Queue(msgspec.Struct):
    default_timeout_microseconds: int = 0
    max_queue_size: int = 0


class _Batching(msgspec.Struct):
    default_queue_policy: _Queue = msgspec.field(default_factory=_Queue)


class _Latest(msgspec.Struct):
    num_versions: int = 1


class _Specific(msgspec.Struct):
    versions: list[int] = []


class _Versions(msgspec.Struct):
    latest: _Latest | None = None
    all: dict[str, Any] | None = None
    specific: _Specific | None = None


class _Document(msgspec.Struct):
    name: str = ""
    max_batch_size: int | None = None
    dynamic_batching: _Batching | None = None
    version_policy: _Versions = msgspec.field(default_factory=_Versions)


def parse_config(document: Mapping[str, Any]) -> Config:
    """Read a configuration in Triton's form, passing over what means nothing here. ValueError names the field."""
    try:
        read = msgspec.convert(document, _Document, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"model configuration: {error}") from error
    if read.max_batch_size is not None and read.max_batch_size < 0:
        raise ValueError(f"model configuration: max_batch_size {read.max_batch_size} is negative")
    queue = read.dynamic_batching.default_queue_policy if read.dynamic_batching else _Queue()
    if queue.default_timeout_microseconds < 0 or queue.max_queue_size < 0:
        raise ValueError("model configuration: default_queue_policy holds a negative number")
    versions = read.version_policy
    return Config(
        name=read.name,
        max_batch_size=read.max_batch_size,
        timeout_s=queue.default_timeout_microseconds * 1e-6 or None,
        queue_limit=queue.max_queue_size or Config().queue_limit,
        latest=versions.latest.num_versions if versions.latest else 1,
        every=versions.all is not None,
        versions=tuple(str(each) for each in versions.specific.versions) if versions.specific else (),
    )
