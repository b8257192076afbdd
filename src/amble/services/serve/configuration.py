"""A model's configuration in Triton's form → the part of it that is done here; whatever else it asks for is refused.

Nothing is passed over: a wish that is dropped in silence is one that its writer believes to be kept. Empty values ask
for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["Claim", "Config", "parse_config"]

Claim = tuple[str, str, tuple[int, ...]]
"""A tensor as a configuration describes it: name, data type (empty: not told), dims (none: not told)."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a model's configuration may say: Triton's names, the part of them that means something here.

    ``timeout_s`` is the time of a request that brings none. ``versions``: ``latest`` of so many, ``all``, or a list.
    ``inputs`` and ``outputs`` are what it says of tensors; the network must agree.
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
    output: list[_Tensor] = []
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
    "output": _Tensor,
}
_ALLOWED: Mapping[str, tuple[str | int, ...]] = {
    "platform": ("", "onnxruntime_onnx"),
    "backend": ("", "onnxruntime"),
    "default_model_filename": ("", "model.onnx"),
}
_KINDS = ("KIND_AUTO", "KIND_CPU", "KIND_MODEL", 0, 2, 3)
_TOLD = ("batching", "sha256")  # what a server says of itself among the parameters, and is sent back by clients


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
    )


def _refuse_others(document: Mapping[str, Any], path: str) -> None:
    """Refuse fields that are not done here, at any depth."""
    known = {each.name for each in msgspec.structs.fields(_INSIDE[path])}
    for name, value in document.items():
        place = f"{path}.{name}".lstrip(".")
        if name not in known and not _is_empty(value):
            raise ValueError(f"model configuration: {place} is not done here; leave it out")
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
    if left := [name for name in read.parameters if name not in _TOLD]:
        raise ValueError(f"model configuration: parameters.{left[0]} is not done here; leave it out")
