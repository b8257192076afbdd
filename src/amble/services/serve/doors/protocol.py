"""Requests and answers ↔ the Open Inference Protocol's JSON and binary forms.

Pure: bytes in, bytes out, no sockets and no clock. Whatever a client got wrong is a `Fault` that names the field.

Nouns are tuples here, which are made four times as quickly as frozen dataclasses: the network has driven this code out
of the caches when a request comes, and it waits for every line of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from amble.core.graph import Port
from amble.runtimes.remote import limits
from amble.runtimes.remote.datatypes import from_bytes, known_kind, name_of, to_bytes
from amble.runtimes.remote.fault import Fault
from amble.runtimes.remote.numbers import from_json, to_list
from amble.services.serve.doors.classes import classes_of, classified
from amble.services.serve.doors.shared_memory import FIELDS, NOT_OFFERED, Memory
from amble.services.serve.requests.asking import Answer, Asked, Tensor, as_binary, whole
from amble.services.serve.requests.fitting import checked_shape, refuse_unfit

__all__ = ["decode", "encode", "offered"]


_SHORT = 4096  # bytes of JSON before tensors
_NO_NUMBER = re.compile(rb"[\s,:\[](NaN|-?Infinity)\b")  # as Python's json writes them


_NOTHING = msgspec.Raw(b"")
_TWICE = "it comes in more than one way; send data, or binary data (binary_data_size), or use shared memory"


class _Listed(msgspec.Struct):
    name: str
    datatype: str
    shape: msgspec.Raw
    parameters: msgspec.Raw = _NOTHING
    data: msgspec.Raw = _NOTHING


class _Wanted(msgspec.Struct):
    name: str
    parameters: msgspec.Raw = _NOTHING


class _Body(msgspec.Struct):
    inputs: list[_Listed]
    id: str = ""
    outputs: list[_Wanted] | None = None
    parameters: msgspec.Raw = _NOTHING


class _Input(NamedTuple):
    """One input as its JSON says, its data still as it came."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Any]
    data: msgspec.Raw
    num_bytes: int | None  # of binary data, where it comes as that and in no other way


class _Head(NamedTuple):
    """What the JSON of a request says."""

    inputs: tuple[_Input, ...]
    id: str
    outputs: Mapping[str, bool | None] | None
    binary: bool
    parameters: Mapping[str, Any]
    classes: Mapping[str, int]
    shared: Mapping[str, Mapping[str, Any]]  # parameters of outputs that go to shared memory


_BODY = msgspec.json.Decoder(_Body)
_SHAPE = msgspec.json.Decoder(list[int])
_PARAMETERS = msgspec.json.Decoder(dict[str, bool | int | float | str | None])
_SHAPE_BYTES = 64 * limits.RANK
_ENCODER = msgspec.json.Encoder()


def decode(
    body: bytes | memoryview,
    header_length: int | None = None,
    ports: Sequence[Port] | None = None,
    memory: Memory | None = None,
) -> Asked:
    """Read a request; the first ``header_length`` bytes are JSON where binary tensors follow, else all of it is.

    With the model's ``ports``, what it cannot take is refused before any tensor is read. Without ``memory`` nothing is
    read from shared memory, or goes there.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise Fault(400, f"Inference-Header-Content-Length {header_length} does not fit a body of {len(body)} bytes")
    wanted = None if ports is None else tuple(ports)
    if header_length is None:
        head, tail = _fitting(body, wanted), memoryview(b"")
    else:
        view = memoryview(body)
        text, tail = view[:header_length], view[header_length:]
        head = _fitting(text, wanted) if header_length > _SHORT else _fitting_before(bytes(text), wanted)
    places = {name: offered(memory, f"output {name!r}").output(name, each) for name, each in head.shared.items()}
    tensors = tuple(_inputs(head.inputs, tail, memory))
    return Asked(tensors, head.id, head.outputs, head.binary, head.parameters, head.classes, places)


def _fitting(text: bytes | memoryview, ports: tuple[Port, ...] | None) -> _Head:
    """Read a request's JSON; Fault for what is none, and for inputs that do not fit a model's, if they are given."""
    head = _parsed(text)
    if not head.inputs:
        raise Fault(400, "inputs: the request has none")
    if ports is not None:
        refuse_unfit(head.inputs, ports)
    return head


@lru_cache(maxsize=256)
def _fitting_before(text: bytes, ports: tuple[Port, ...] | None) -> _Head:
    """Read short JSON before tensors, which clients repeat to the letter; nobody changes what this returns."""
    return _fitting(text, ports)


def _parsed(text: bytes | memoryview) -> _Head:
    """Read a request's JSON; Fault for what is none, or more than any request needs."""
    if len(text) > limits.JSON_BYTES:
        raise Fault(413, f"request: more than {limits.JSON_BYTES} bytes of JSON; send tensors as binary data")
    if len(text) > limits.OBJECTS and bytes(text).count(b"{") > limits.OBJECTS:
        raise Fault(400, f"request: more than {limits.OBJECTS} objects in its JSON; send tensors as binary data")
    try:
        return _head(_BODY.decode(text))
    except msgspec.ValidationError as error:
        raise Fault(400, f"request: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        bare = not isinstance(error, RecursionError) and _NO_NUMBER.search(text)
        remedy = '; write "NaN", "Infinity" and "-Infinity" as texts' if bare else ""
        raise Fault(400, f"request is not JSON: {error}{remedy}") from error


def _head(parsed: _Body) -> _Head:
    """Read the small parts of a request; what comes as tensors stays as it is."""
    for what, listed in (("inputs", parsed.inputs), ("outputs", parsed.outputs or ())):
        if len(listed) > limits.INPUTS:
            raise Fault(400, f"{what}: {len(listed)} of them, at most {limits.INPUTS} can be")
    parameters = _scalars(parsed.parameters, "parameters")
    inputs = tuple(map(_input, parsed.inputs))
    binary = _truth(parameters, "binary_data_output", "parameters") or False
    return _Head(inputs, parsed.id, *_wanted(parsed.outputs, binary, parameters))


def _input(each: _Listed) -> _Input:
    parameters = _scalars(each.parameters, "input parameters")
    size = parameters.get("binary_data_size")
    alone = not len(memoryview(each.data)) and FIELDS[0] not in parameters
    known = size if alone and isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None
    return _Input(each.name, each.datatype, _shape(each.name, each.shape), parameters, each.data, known)


def _shape(name: str, raw: msgspec.Raw) -> tuple[int, ...]:
    text = memoryview(raw)
    if len(text) > _SHAPE_BYTES:
        raise Fault(400, f"input {name!r}: shape has more than {limits.RANK} axes, or sizes beyond 64 bits")
    try:
        return checked_shape(name, _SHAPE.decode(text))
    except msgspec.ValidationError as error:
        told, _, place = str(error).partition(" - at `$")
        raise Fault(400, f"input {name!r}: shape{place.rstrip('`')}: {told}") from error


def _scalars(raw: msgspec.Raw, what: str) -> Mapping[str, Any]:
    """Read parameters, which are texts, numbers and truths."""
    text = memoryview(raw)
    if not len(text):
        return _NONE
    if len(text) > limits.PARAMETER_BYTES:
        raise Fault(400, f"{what}: more than {limits.PARAMETER_BYTES} bytes")
    try:
        return _PARAMETERS.decode(text)
    except msgspec.DecodeError as error:
        raise Fault(400, f"{what}: {error}") from error


_NONE: Mapping[str, Any] = MappingProxyType({})


def encode(answer: Answer, asked: Asked) -> tuple[bytes, int | None]:
    """Write a response → its body, and the length of its JSON where binary tensors follow."""
    listed, tail = [], []
    for name in asked.outputs or answer.outputs:
        value = answer.outputs[name]
        if asked.classes and asked.classes.get(name):
            value = classified(value, asked.classes[name], answer.rows, answer.labels.get(name, ()))
        kind = name_of(value)
        entry: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(value.shape)}
        if name in asked.places:
            entry["parameters"] = asked.places[name].put(name, to_bytes(value, kind))
        elif as_binary(asked, name):
            tail.append(to_bytes(value, kind))
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = to_list(value)
        listed.append(entry)
    head: dict[str, Any] = {
        "model_name": answer.model,
        "model_version": answer.version,
        "parameters": answer.parameters,
    }
    if asked.id:
        head["id"] = asked.id
    head["outputs"] = listed
    text = _ENCODER.encode(head)
    return (b"".join([text, *tail]), len(text)) if tail else (text, None)


def _inputs(listed: Iterable[_Input], tail: memoryview, memory: Memory | None) -> Iterable[Tensor]:
    """Read the inputs; binary ones lie in ``tail`` one after the other."""
    start = 0
    for name, kind, shape, parameters, data, num_bytes in listed:
        if num_bytes is not None and start + num_bytes <= len(tail):
            value = from_bytes(name, kind, shape, tail[start : start + num_bytes])
            start += num_bytes
        elif (FIELDS[0] in parameters) + ("binary_data_size" in parameters) + (len(memoryview(data)) > 0) > 1:
            raise Fault(400, f"input {name!r}: {_TWICE}")
        elif FIELDS[0] in parameters:
            shared = offered(memory, f"input {name!r}").input(name, parameters)
            value = from_bytes(name, kind, shape, shared)
        elif "binary_data_size" in parameters:
            size = whole(parameters, "binary_data_size", len(tail), f"input {name!r}")
            raise Fault(400, f"input {name!r}: binary_data_size {size}, but {len(tail) - start} bytes are left")
        elif not len(memoryview(data)):
            raise Fault(400, f"input {name!r}: it has neither data nor binary_data_size")
        else:
            value = from_json(name, known_kind(name, kind), shape, bytes(data))
        yield Tensor(name, kind, shape, value)
    if start != len(tail):
        raise Fault(400, f"inputs: {len(tail) - start} bytes follow the last binary input")


def _wanted(listed: Sequence[_Wanted] | None, binary: bool, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the wanted outputs, the defaults that were given, the classes wanted, and which go to shared memory.

    None named means all of them.
    """
    found: dict[str, bool | None] = {}
    classes, shared = dict[str, int](), dict[str, Mapping[str, Any]]()
    for each in listed or ():
        own = _scalars(each.parameters, f"output {each.name!r}: parameters")
        found[each.name] = _truth(own, "binary_data", f"output {each.name!r}")
        if "classification" in own:
            classes[each.name] = classes_of(each.name, own)
        if FIELDS[0] in own:
            shared[each.name] = own
    return found or None, binary, parameters, classes, shared


def offered(memory: Memory | None, what: str) -> Memory:
    """Return shared memory; Fault where it is not offered, since all else would answer with something else."""
    if memory is None:
        raise Fault(400, f"{what}: {NOT_OFFERED}")
    return memory


def _truth(parameters: Mapping[str, Any], name: str, what: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise Fault(400, f"{what}: {name} is true or false, not {value!r}")
    return value
