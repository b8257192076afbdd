"""Messages of inference over gRPC ↔ requests and answers. The stubs are given by `grpc`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from amble.core.graph import Port
from amble.runtimes.remote import limits
from amble.runtimes.remote.datatypes import DATATYPES, Array, from_bytes, name_of, to_bytes
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.classes import classes_of, classified
from amble.services.serve.doors.protocol import offered
from amble.services.serve.doors.shared_memory import FIELDS, Memory
from amble.services.serve.doors.wire import cut
from amble.services.serve.requests.asking import Answer, Asked, Tensor
from amble.services.serve.requests.fitting import checked_shape, refuse_unfit

__all__ = ["asked_of", "identity_of", "response_of"]

_FEW = 4096
_PIECE = 1 << 15  # elements that are converted in one go
_NO_ARRAY: Array = np.empty(0)
_CONTENTS = {
    "BOOL": "bool_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def asked_of(request: Any, raw: Sequence[memoryview], ports: Sequence[Port], memory: Memory | None = None) -> Asked:
    """Make a request of it; binary tensors come in the order of the inputs, or each brings its own contents.

    Those in shared memory bring none.
    """
    sent = [each for each in request.inputs if FIELDS[0] not in each.parameters]
    _refuse_twice(request.inputs, len(sent), len(raw))
    if raw and len(raw) != len(sent):
        raise Fault(400, f"raw_input_contents: {len(raw)} tensors for {len(sent)} inputs")
    if not request.inputs:
        raise Fault(400, "inputs: the request has none")
    if len(request.inputs) > limits.INPUTS or len(request.outputs) > limits.INPUTS:
        raise Fault(400, f"inputs and outputs: at most {limits.INPUTS} of each can be")
    shapes = [checked_shape(each.name, tuple(each.shape[: limits.RANK + 1])) for each in request.inputs]
    named = zip(request.inputs, shapes, strict=True)
    refuse_unfit([Tensor(each.name, each.datatype, shape, _NO_ARRAY) for each, shape in named], ports)
    tensors, binary = [], iter(raw)
    for each, shape in zip(request.inputs, shapes, strict=True):
        if FIELDS[0] in each.parameters:
            shared = offered(memory, f"input {each.name!r}").input(each.name, _parameters(each.parameters))
            value = from_bytes(each.name, each.datatype, shape, shared)
        else:
            value = from_bytes(each.name, each.datatype, shape, next(binary)) if raw else _contents(each, shape)
        tensors.append(Tensor(each.name, each.datatype, shape, value))
    places = {
        each.name: offered(memory, f"output {each.name!r}").output(each.name, _parameters(each.parameters))
        for each in request.outputs
        if FIELDS[0] in each.parameters
    }
    outputs = {each.name: True for each in request.outputs} or None
    classes = {
        each.name: classes_of(each.name, _parameters(each.parameters)) for each in request.outputs if each.parameters
    }
    return Asked(tuple(tensors), request.id, outputs, True, _parameters(request.parameters), classes, places)


def _refuse_twice(inputs: Sequence[Any], num_sent: int, num_raw: int) -> None:
    """Refuse an input that comes in more than one way: whichever was taken, the other may have been meant."""
    for each in inputs:
        shared, contents = FIELDS[0] in each.parameters, each.HasField("contents")
        raw = num_raw > num_sent if shared else num_raw > 0
        if shared + contents + raw > 1:
            way = "send contents, or raw_input_contents, or use shared memory"
            raise Fault(400, f"input {each.name!r}: it comes in more than one way; {way}")


def identity_of(message: bytes, stub: Any) -> str:
    """Return the id of a request that failed, as far as it can be read: the first fields are its model and its id."""
    try:
        small, _ = cut(message, _FEW)
        return str(stub.FromString(small).id) if len(small) <= limits.INLINE_BYTES else ""
    except (ValueError, DecodeError):
        return ""


def _contents(tensor: Any, shape: tuple[int, ...]) -> Array:
    """Read a tensor from the field of its datatype."""
    kind = tensor.datatype
    if kind not in _CONTENTS:
        raise Fault(400, f"input {tensor.name!r}: {kind!r} can only come as raw_input_contents")
    values = getattr(tensor.contents, _CONTENTS[kind])
    if len(values) > limits.ELEMENTS:
        raise Fault(400, f"input {tensor.name!r}: more than {limits.ELEMENTS} elements; send raw_input_contents")
    if len(values) != math.prod(shape):
        raise Fault(400, f"input {tensor.name!r}: {len(values)} elements, not {math.prod(shape)} as in {list(shape)}")
    try:
        if kind == "BYTES":
            found = np.empty(len(values), dtype=np.object_)
            found[:] = [each.decode() for each in values]
            return found.reshape(shape)
        pieces = [values[start : start + _PIECE] for start in range(0, len(values), _PIECE)]
        return np.concatenate([np.array(each, dtype=DATATYPES[kind]) for each in pieces or [[]]]).reshape(shape)
    except (OverflowError, UnicodeDecodeError) as error:
        raise Fault(400, f"input {tensor.name!r}: elements that are no {kind}") from error


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Read parameters of whatever kind."""
    found = {}
    for name, value in given.items():
        kind = value.WhichOneof("parameter_choice")
        found[name] = getattr(value, kind) if kind else None
    return found


def response_of(answer: Answer, asked: Asked, stub: Any) -> Any:
    """Write a response, its tensors as raw bytes."""
    made = stub(model_name=answer.model, model_version=answer.version, id=answer.id)
    for name in asked.outputs or answer.outputs:
        value = answer.outputs[name]
        if asked.classes and asked.classes.get(name):
            value = classified(value, asked.classes[name], answer.rows, answer.labels.get(name, ()))
        kind = name_of(value)
        output, data = made.outputs.add(name=name, datatype=kind, shape=value.shape), to_bytes(value, kind)
        if name in asked.places:
            _write(output.parameters, asked.places[name].put(name, data))
            data = b""  # so that the others keep their places
        made.raw_output_contents.append(data)
    _write(made.parameters, answer.parameters)
    return made


def _write(parameters: Any, values: Mapping[str, str | float | int | bool]) -> None:
    for name, each in values.items():
        match each:
            case bool():
                parameters[name].bool_param = each
            case int():
                parameters[name].int64_param = each
            case float():
                parameters[name].double_param = each
            case str():
                parameters[name].string_param = each
