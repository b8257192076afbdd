"""Requests and answers ↔ the Open Inference Protocol's JSON and binary forms.

Pure: bytes in, bytes out, no sockets and no clock. Whatever a client got wrong is a `Fault` that names the field.

Nouns are tuples here, which are made four times as quickly as frozen dataclasses: the network has driven this code out
of the caches when a request comes, and it waits for every line of it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from amble.core.graph import Port
from amble.runtimes.remote.datatypes import NO_JSON, Array, datatype, from_bytes, from_list, name_of, to_bytes, to_list
from amble.runtimes.remote.fault import Fault

__all__ = ["Answer", "Asked", "Policy", "Tensor", "decode", "encode", "matched", "policy", "refuse_unoffered"]


_SHORT = 4096  # bytes of JSON before tensors
_MAX_PRIORITY = (1 << 16) - 1
_MAX_TIMEOUT_US = (1 << 63) - 1


class Tensor(NamedTuple):
    """One input as the client sent it, still without its model's opinion."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    value: Array


class Asked(NamedTuple):
    """One request as the client sent it. ``outputs``: name → whether as binary; None for all of them.

    ``binary`` is how outputs go that do not say it themselves.
    """

    inputs: tuple[Tensor, ...]
    id: str = ""
    outputs: Mapping[str, bool | None] | None = None
    binary: bool = False
    parameters: Mapping[str, Any] = MappingProxyType({})


class Policy(NamedTuple):
    """Schedule policy of a request: time [s] from arrival to answer (None: the model's), priority (0: none)."""

    timeout_s: float | None = None
    priority: int = 0


class Answer(NamedTuple):
    """What goes back: outputs by name, and parameters of text, numbers and truths."""

    model: str
    version: str
    id: str
    outputs: Mapping[str, Array]
    parameters: Mapping[str, str | float | int | bool]


class _Listed(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: Any = msgspec.UNSET


class _Wanted(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Body(msgspec.Struct):
    inputs: list[_Listed]
    id: str = ""
    outputs: list[_Wanted] | None = None
    parameters: dict[str, Any] = {}


_BODY = msgspec.json.Decoder(_Body)
_ENCODER = msgspec.json.Encoder()


def decode(body: bytes | memoryview, header_length: int | None = None) -> Asked:
    """Read a request; the first ``header_length`` bytes are JSON where binary tensors follow, else all of it is."""
    if header_length is not None and not 0 <= header_length <= len(body):
        raise Fault(400, f"Inference-Header-Content-Length {header_length} does not fit a body of {len(body)} bytes")
    if header_length is None:
        parsed, tail = _parsed(body), memoryview(b"")
    else:
        view = memoryview(body)
        head, tail = view[:header_length], view[header_length:]
        parsed = _parsed(head) if header_length > _SHORT else _parsed_before(bytes(head))
    if not parsed.inputs:
        raise Fault(400, "inputs: the request has none")
    return Asked(
        inputs=tuple(_inputs(parsed.inputs, tail)),
        id=parsed.id,
        outputs=_wanted(parsed.outputs),
        binary=_truth(parsed.parameters, "binary_data_output", "parameters") or False,
        parameters=parsed.parameters,
    )


def _parsed(head: bytes | memoryview) -> _Body:
    """Read a request's JSON; Fault for what is none."""
    try:
        return _BODY.decode(head)
    except msgspec.ValidationError as error:
        raise Fault(400, f"request: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Fault(400, f"request is not JSON: {error}") from error


@lru_cache(maxsize=256)
def _parsed_before(head: bytes) -> _Body:
    """Read short JSON before tensors, which clients repeat to the letter; nobody changes what this returns."""
    return _parsed(head)


def policy(parameters: Mapping[str, Any]) -> Policy:
    """Read ``timeout`` (µs) and ``priority``; Fault for what is no whole number or out of range."""
    timeout_us = _whole(parameters, "timeout", _MAX_TIMEOUT_US, "microseconds")
    priority = _whole(parameters, "priority", _MAX_PRIORITY, "1 the highest, 0 the default")
    return Policy(timeout_us * 1e-6 if timeout_us else None, priority)


def matched(
    asked: Asked, inputs: Sequence[Port], outputs: Sequence[Port], *, batched: bool
) -> tuple[dict[str, Array], int]:
    """Check a request against its model → its arrays by name, and its rows; Fault when they do not fit.

    With ``batched`` the first axis of every input is the batch, the same for all.
    """
    given = {tensor.name: tensor for tensor in asked.inputs}
    if len(given) != len(asked.inputs):
        raise Fault(400, "inputs: a name comes twice")
    wanted = {port.name: port for port in inputs}
    if unknown := sorted(given.keys() - wanted.keys()):
        raise Fault(400, f"inputs: unknown name {unknown[0]!r}; the model takes {', '.join(wanted)}")
    if missing := [name for name in wanted if name not in given]:
        raise Fault(400, f"inputs: {missing[0]!r} is missing; the model takes {', '.join(wanted)}")
    for name, port in wanted.items():
        _fits(given[name], port)
    _check_outputs(asked, outputs)
    rows = {given[name].shape[0] for name in wanted} if batched else {1}
    if len(rows) > 1:
        raise Fault(400, f"inputs: the first axis is the batch, but its sizes differ: {sorted(rows)}")
    return {name: given[name].value for name in wanted}, rows.pop()


def encode(answer: Answer, asked: Asked) -> tuple[bytes, int | None]:
    """Write a response → its body, and the length of its JSON where binary tensors follow."""
    listed, tail = [], []
    for name in asked.outputs or answer.outputs:
        value = answer.outputs[name]
        kind = name_of(value)
        entry: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(value.shape)}
        if _as_binary(asked, name):
            tail.append(to_bytes(value, kind))
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = to_list(value)
        listed.append(entry)
    head = {"model_name": answer.model, "model_version": answer.version, "parameters": answer.parameters}
    if asked.id:
        head["id"] = asked.id
    text = _ENCODER.encode({**head, "outputs": listed})
    return (b"".join([text, *tail]), len(text)) if tail else (text, None)


def _inputs(listed: Iterable[_Listed], tail: memoryview) -> Iterable[Tensor]:
    """Read the inputs; binary ones lie in ``tail`` one after the other."""
    start = 0
    for each in listed:
        shape = tuple(each.shape)
        if any(size < 0 for size in shape):
            raise Fault(400, f"input {each.name!r}: shape {list(shape)} has a negative size")
        refuse_unoffered(f"input {each.name!r}", each.parameters)
        size = _whole(each.parameters, "binary_data_size", len(tail), f"input {each.name!r}")
        if "binary_data_size" in each.parameters:
            if start + size > len(tail):
                raise Fault(
                    400, f"input {each.name!r}: binary_data_size {size}, but {len(tail) - start} bytes are left"
                )
            value = from_bytes(each.name, each.datatype, shape, tail[start : start + size])
            start += size
        elif each.data is msgspec.UNSET:
            raise Fault(400, f"input {each.name!r}: it has neither data nor binary_data_size")
        else:
            value = from_list(each.name, each.datatype, shape, each.data)
        yield Tensor(each.name, each.datatype, shape, value)
    if start != len(tail):
        raise Fault(400, f"inputs: {len(tail) - start} bytes follow the last binary input")


def _fits(tensor: Tensor, port: Port) -> None:
    """Check one input against its port; an open axis (−1) takes every positive size."""
    kind = datatype(port)
    if tensor.datatype != kind:
        raise Fault(400, f"input {tensor.name!r}: datatype {tensor.datatype}, the model takes {kind}")
    fits = len(tensor.shape) == len(port.shape) and all(
        size == want or (want < 0 and size > 0) for size, want in zip(tensor.shape, port.shape, strict=True)
    )
    if not fits:
        raise Fault(400, f"input {tensor.name!r}: shape {list(tensor.shape)}, the model takes {list(port.shape)}")


def _check_outputs(asked: Asked, ports: Sequence[Port]) -> None:
    known = {port.name: port for port in ports}
    if asked.outputs is not None and (unknown := [name for name in asked.outputs if name not in known]):
        raise Fault(400, f"outputs: unknown name {unknown[0]!r}; the model gives {', '.join(known)}")
    for name in asked.outputs or known:
        if not _as_binary(asked, name) and (kind := datatype(known[name])) in NO_JSON:
            raise Fault(400, f"output {name!r}: {kind} has no JSON form; ask for binary_data")


def _as_binary(asked: Asked, name: str) -> bool:
    own = asked.outputs.get(name) if asked.outputs else None
    return asked.binary if own is None else own


def _wanted(listed: Sequence[_Wanted] | None) -> dict[str, bool | None] | None:
    """Return the wanted outputs; none named means all."""
    if not listed:
        return None
    for each in listed:
        refuse_unoffered(f"output {each.name!r}", each.parameters)
    return {each.name: _truth(each.parameters, "binary_data", f"output {each.name!r}") for each in listed}


def refuse_unoffered(what: str, parameters: Container[str]) -> None:
    """Refuse what would otherwise be answered with something else: shared memory, and classes for scores."""
    if "shared_memory_region" in parameters:
        raise Fault(400, f"{what}: shared memory is not offered; send the data")
    if "classification" in parameters:
        raise Fault(400, f"{what}: classification is not offered; take the highest scores of the tensor")


def _whole(parameters: Mapping[str, Any], name: str, most: int, what: str) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise Fault(400, f"parameters.{name}: {value!r} is not a whole number from 0 to {most} ({what})")
    return value


def _truth(parameters: Mapping[str, Any], name: str, what: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise Fault(400, f"{what}: {name} is true or false, not {value!r}")
    return value
