"""The generate extension ↔ requests and answers: inputs and outputs as they are, without shapes and types.

    {"text": "yes", "parameters": {"timeout": 30000}}  →  {"model_name": …, "model_version": …, "score": 1.0, …}

Made for models of texts, which answer one row; shapes and types are the model's. `generate_stream` sends the same as
an event: a network of ONNX computes its outputs once, so there is one event. Pure, as `protocol` is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import msgspec

from amble.core.graph import Port
from amble.runtimes.remote import limits
from amble.runtimes.remote.datatypes import datatype
from amble.runtimes.remote.fault import Fault
from amble.runtimes.remote.numbers import from_json, to_list
from amble.services.serve.doors.kserve import parameters_of, shape_of
from amble.services.serve.requests.asking import Answer, Asked, Tensor
from amble.services.serve.requests.fitting import fits

__all__ = ["decode", "encode", "event"]

_BODY = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_SAID = 200


def decode(text: bytes | memoryview, ports: Sequence[Port]) -> Asked:
    """Read a request for a model with these inputs."""
    if len(text) > limits.JSON_BYTES:
        raise Fault(413, f"request: more than {limits.JSON_BYTES} bytes of JSON; send binary tensors to …/infer")
    if bytes(text).count(b"{") > limits.OBJECTS:
        raise Fault(400, f"request: more than {limits.OBJECTS} objects in its JSON")
    wanted = {port.name: port for port in ports}
    try:
        body = _BODY.decode(text)
        given = {name: bytes(raw) for name, raw in body.items()}
        identity = _TEXT.decode(given.pop("id")) if "id" in given and "id" not in wanted else ""
        raw = b"" if "parameters" in wanted else given.pop("parameters", b"")
        parameters: Mapping[str, Any] = parameters_of(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Fault(400, f"request: {error}") from error
    if unknown := [name for name in given if name not in wanted]:
        known = ", ".join(wanted)
        raise Fault(400, f"request: {unknown[0][:_SAID]!r} is no input; the model takes {known}, and id and parameters")
    return Asked(tuple(_tensor(wanted[name], each) for name, each in given.items()), identity, parameters=parameters)


def encode(answer: Answer) -> bytes:
    """Write an answer: an output of one element as that, others as flat lists."""
    lists = {name: to_list(value) for name, value in answer.outputs.items()}
    head = {"model_name": answer.model, "model_version": answer.version, "parameters": answer.parameters}
    if answer.id:
        head["id"] = answer.id
    return msgspec.json.encode({**head, **{name: each[0] if len(each) == 1 else each for name, each in lists.items()}})


def event(answer: Answer) -> bytes:
    """Write an answer as the one event of a stream."""
    return b"data: %b\n\n" % encode(answer)


def _tensor(port: Port, raw: bytes) -> Tensor:
    kind = datatype(port)
    if raw.lstrip()[:1] != b"[":
        raw = b"[%b]" % raw
    shape = _fitted(port, shape_of(port, raw))
    fits(port.name, kind, shape, port)
    return Tensor(port.name, kind, shape, from_json(port.name, kind, shape, raw))


def _fitted(port: Port, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the model's shape for lists of this shape: the batch is 1, and one more open axis takes what is left."""
    if len(shape) == len(port.shape):
        return shape
    if len(shape) == len(port.shape) - 1 and port.shape[0] in (-1, 1):
        return (1, *shape)
    sizes = [1 if index == 0 and size < 0 and len(port.shape) > 1 else size for index, size in enumerate(port.shape)]
    left, count = [index for index, size in enumerate(sizes) if size < 0], prod(shape)
    if len(shape) > 1 or len(left) > 1:
        raise Fault(400, f"input {port.name!r}: lists of shape {list(shape)}, the model takes {list(port.shape)}")
    known = prod(size for size in sizes if size > 0)
    for index in left:
        sizes[index] = count // known
    if prod(sizes) != count:
        raise Fault(400, f"input {port.name!r}: {count} elements, the model takes {list(port.shape)}")
    return tuple(sizes)
