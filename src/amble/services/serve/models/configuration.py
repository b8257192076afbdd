"""A model's configuration in Triton's form → the part of it that is done here; whatever else it asks for is refused.

Nothing is passed over: a wish that is dropped in silence is one that its writer believes to be kept. Empty values ask
for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from amble.services.serve.models.settings import Settings, configured

__all__ = ["Claim", "Config", "parse_config"]

Claim = tuple[str, str, tuple[int, ...]]
"""A tensor as a configuration describes it: name, data type (empty: not told), dims (none: not told)."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a model's configuration may say: Triton's names, the part of them that means something here.

    ``timeout_s`` is the time of a request that brings none. ``versions``: ``latest`` of so many, ``all``, or a list.
    ``inputs`` and ``outputs`` are what it says of tensors; the network must agree. ``labels``: by output, the file of
    its classes' names; ``formats``: by tensor, what its axes mean to people, which is told and changes nothing.
    ``settings`` are its parameters.
    """

    name: str = ""
    max_batch_size: int | None = None
    timeout_s: float | None = None
    queue_limit: int = 1024
    latest: int = 1
    every: bool = False
    versions: tuple[str, ...] = ()
    inputs: tuple[Claim, ...] = ()
    outputs: tuple[Claim, ...] = ()
    labels: Mapping[str, Path] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)


class _Queue(msgspec.Struct):
    default_timeout_microseconds: int = 0
    max_queue_size: int = 0
    timeout_action: str | int = "REJECT"
    allow_timeout_override: bool = True


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


class _Instances(msgspec.Struct):
    name: str = ""
    kind: str | int = "KIND_AUTO"
    count: int = 1


class _Tensor(msgspec.Struct):
    name: str = ""
    data_type: str = ""
    dims: list[int] = []
    format: str | int = "FORMAT_NONE"


class _Output(_Tensor):
    label_filename: str = ""


class _Decoupled(msgspec.Struct):
    decoupled: bool = False


class _Document(msgspec.Struct):
    name: str = ""
    platform: str = ""
    backend: str = ""
    default_model_filename: str = ""
    max_batch_size: int | None = None
    dynamic_batching: _Batching | None = None
    version_policy: _Versions = msgspec.field(default_factory=_Versions)
    instance_group: list[_Instances] = []
    input: list[_Tensor] = []
    output: list[_Output] = []
    model_transaction_policy: _Decoupled = msgspec.field(default_factory=_Decoupled)
    parameters: dict[str, Any] = {}


_INSIDE: Mapping[str, type[msgspec.Struct]] = {
    "": _Document,
    "dynamic_batching": _Batching,
    "dynamic_batching.default_queue_policy": _Queue,
    "version_policy": _Versions,
    "version_policy.latest": _Latest,
    "version_policy.specific": _Specific,
    "instance_group": _Instances,
    "input": _Tensor,
    "output": _Output,
    "model_transaction_policy": _Decoupled,
}
_ALLOWED: Mapping[str, tuple[str | int, ...]] = {
    "platform": ("", "onnxruntime_onnx"),
    "backend": ("", "onnxruntime"),
    "default_model_filename": ("", "model.onnx"),
}
_KINDS = ("KIND_AUTO", "KIND_CPU", "KIND_MODEL", 0, 2, 3)
_TOLD = (
    "batching",
    "lengths",
    "sha256",
)  # what a server says of itself among the parameters, and is sent back by clients
_CHOICES = ("sequence_batching", "ensemble_scheduling")  # ask for something even when they are empty
_FORMATS = ("FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW")
_REASONS: Mapping[str, str] = {
    "dynamic_batching.max_queue_delay_microseconds": "a batch is what waits when the device is free, and nobody is "
    "delayed for it; the default governor does wait where deadlines allow it and it saves energy",
    "dynamic_batching.preferred_batch_size": "the governor chooses the size of every batch by its deadlines",
    "dynamic_batching.priority_levels": "every request may bring a priority from 1 to 65535",
    "dynamic_batching.preserve_ordering": "who is due first is answered first",
    "sequence_batching": "models keep no state from request to request",
    "ensemble_scheduling": "models are not chained here; export the chain as one network",
    "model_warmup": "a model is warm when it is served, since it was measured; examples among the parameters are what "
    "it was measured with",
    "input.allow_ragged_batch": "requests of unlike length share a batch by padding, where that was tried and changed "
    "no answer",
    "response_cache": "every request is computed",
    "optimization": "precision and clocks follow the load; amble quantize makes the variants",
}
"""Why a field is not done here, by its place."""


def parse_config(document: Mapping[str, Any]) -> Config:
    """Read a configuration in Triton's form. ValueError names the field that is wrong, or not done here."""
    _refuse_others(document, "")
    try:
        read = msgspec.convert(document, _Document, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"model configuration: {error}") from error
    if read.max_batch_size is not None and read.max_batch_size < 0:
        raise ValueError(f"model configuration: max_batch_size {read.max_batch_size} is negative")
    _refuse_wishes(read)
    queue = read.dynamic_batching.default_queue_policy if read.dynamic_batching else _Queue()
    versions = read.version_policy
    return Config(
        name=read.name,
        max_batch_size=read.max_batch_size,
        timeout_s=queue.default_timeout_microseconds * 1e-6 or None,
        queue_limit=queue.max_queue_size or Config().queue_limit,
        latest=versions.latest.num_versions if versions.latest else 1,
        every=versions.all is not None,
        versions=tuple(str(each) for each in versions.specific.versions) if versions.specific else (),
        inputs=tuple((each.name, each.data_type, tuple(each.dims)) for each in read.input),
        outputs=tuple((each.name, each.data_type, tuple(each.dims)) for each in read.output),
        labels={each.name: Path(each.label_filename) for each in read.output if each.label_filename},
        formats={
            each.name: _FORMATS[each.format] if isinstance(each.format, int) else each.format
            for each in (*read.input, *read.output)
            if each.format not in ("FORMAT_NONE", 0)
        },
        settings=configured({name: value for name, value in read.parameters.items() if name not in _TOLD}),
    )


def _refuse_others(document: Mapping[str, Any], path: str) -> None:
    """Refuse fields that are not done here, at any depth."""
    known = {each.name for each in msgspec.structs.fields(_INSIDE[path])}
    for name, value in document.items():
        place = f"{path}.{name}".lstrip(".")
        if name not in known and (not _is_empty(value) or (name in _CHOICES and value is not None)):
            why = f": {_REASONS[place]}" if place in _REASONS else ""
            raise ValueError(f"model configuration: {place} is not done here{why}; leave it out")
        for each in value if isinstance(value, list) else [value]:
            if place in _INSIDE and isinstance(each, Mapping):
                _refuse_others(each, place)


def _is_empty(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_is_empty(each) for each in value.values())
    return not value


def _refuse_wishes(read: _Document) -> None:
    """Refuse values of known fields that are not done here."""
    for name, allowed in _ALLOWED.items():
        value = getattr(read, name)
        if value not in allowed:
            raise ValueError(f"model configuration: {name} {value!r} is not done here; use {allowed[-1]!r}")
    queue = read.dynamic_batching.default_queue_policy if read.dynamic_batching else _Queue()
    if queue.default_timeout_microseconds < 0 or queue.max_queue_size < 0:
        raise ValueError("model configuration: default_queue_policy holds a negative number")
    if queue.timeout_action not in ("REJECT", 0) or not queue.allow_timeout_override:
        raise ValueError(
            "model configuration: default_queue_policy: late requests are always refused, by their own timeout"
        )
    for group in read.instance_group:
        if group.count > 1 or group.kind not in _KINDS:
            raise ValueError(
                f"model configuration: instance_group: {group.count} × {group.kind} is not done here; "
                "a model has one instance, on the device of the server"
            )
    if read.model_transaction_policy.decoupled:
        raise ValueError(
            "model configuration: model_transaction_policy.decoupled is not done here: every request has one answer, "
            "since an ONNX network computes its outputs once; leave it out"
        )
    for tensor in (*read.input, *read.output):
        if tensor.format not in (*_FORMATS, *range(len(_FORMATS))):
            raise ValueError(
                f"model configuration: input {tensor.name!r}: format {tensor.format!r} is none of {_FORMATS}"
            )
