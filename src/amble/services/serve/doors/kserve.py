"""KServe's protocol V1 ↔ requests and answers: ``instances`` → ``predictions``, ``inputs`` → ``outputs``.

The first are rows, the others columns, both as TensorFlow Serving has them over REST. V1 tells no shapes and no types:
the shape is that of the lists, the type is the model's. Pure, as `protocol` is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from amble.core.graph import Port
from amble.runtimes.remote import limits
from amble.runtimes.remote.datatypes import Array, datatype
from amble.runtimes.remote.fault import Fault
from amble.runtimes.remote.numbers import from_json, to_list
from amble.services.serve.requests.asking import Answer, Asked, Tensor
from amble.services.serve.requests.fitting import fits

__all__ = ["asked_of", "decode", "encode", "parameters_of", "shape_of"]

_NOTHING = msgspec.Raw(b"")


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    instances: msgspec.Raw = _NOTHING
    inputs: msgspec.Raw = _NOTHING
    parameters: msgspec.Raw = _NOTHING


_BODY = msgspec.json.Decoder(_Body)
_ROWS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_COLUMNS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PARAMETERS = msgspec.json.Decoder(dict[str, bool | int | float | str | None])
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def asked_of(path: Sequence[str]) -> tuple[str, str]:
    """Read ``M:predict``, or ``M/versions/V:predict`` → the model's name and version (empty: the newest)."""
    last, _, verb = path[-1].rpartition(":")
    if verb != "predict":
        raise Fault(404, f"{verb[:100]!r} is not offered: use MODEL:predict")
    match (*path[:-1], last):
        case (name,):
            return name, ""
        case (name, "versions", version):
            return name, version
    raise Fault(404, f"/v1/models/{'/'.join(path)}: no such path")


def decode(text: bytes | memoryview, ports: Sequence[Port]) -> tuple[Asked, bool]:
    """Read a request for a model with these inputs → it, and whether it came as rows."""
    if len(text) > limits.JSON_BYTES:
        raise Fault(413, f"request: more than {limits.JSON_BYTES} bytes of JSON; send binary tensors to /v2")
    if bytes(text).count(b"{") > limits.OBJECTS:
        raise Fault(400, f"request: more than {limits.OBJECTS} objects in its JSON; send inputs as columns")
    try:
        body = _BODY.decode(text)
        columns, as_rows = _columns(body, ports)
        parameters = parameters_of(bytes(body.parameters))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Fault(400, f"request: {error}") from error
    wanted = {port.name: port for port in ports}
    if unknown := [name for name in columns if name not in wanted]:
        raise Fault(400, f"inputs: unknown name {unknown[0][:200]!r}; the model takes {', '.join(wanted)}")
    tensors = tuple(_tensor(wanted[name], raw) for name, raw in columns.items())
    return Asked(tensors, parameters=parameters), as_rows


def encode(answer: Answer, *, as_rows: bool) -> bytes:
    """Write an answer: one prediction a row, or each output as it is; with one output its name is left out."""
    alone = len(answer.outputs) == 1
    lists = {name: _nested(value) for name, value in answer.outputs.items()}
    if not as_rows:
        found: Any = next(iter(lists.values())) if alone else lists
        return msgspec.json.encode({"outputs": found, "parameters": answer.parameters})
    lengths = {len(value) if value.ndim else -1 for value in answer.outputs.values()}
    if len(lengths) != 1 or -1 in lengths:
        raise Fault(400, "instances: the outputs of this model are no rows; send inputs, and read outputs")
    rows = zip(*lists.values(), strict=True)
    made = [row[0] if alone else dict(zip(lists, row, strict=True)) for row in rows]
    return msgspec.json.encode({"predictions": made, "parameters": answer.parameters})


def _columns(body: _Body, ports: Sequence[Port]) -> tuple[Mapping[str, bytes], bool]:
    """Return the JSON of every input by its name, and whether it came as rows."""
    rows, columns = bytes(body.instances), bytes(body.inputs)
    if bool(rows) == bool(columns):
        raise Fault(400, "request: send either instances (a list of rows) or inputs (tensors)")
    given = rows or columns
    if rows and rows[:1] != b"[":
        raise Fault(400, "instances: a list is expected, one element a row")
    if columns and columns[:1] == b"{":
        return {name: bytes(raw) for name, raw in _COLUMNS.decode(columns).items()}, False
    if rows and rows[1:].lstrip()[:1] == b"{":
        return _turned(_ROWS.decode(rows)), True
    if len(ports) != 1:
        names = ", ".join(port.name for port in ports)
        raise Fault(400, f"request: the model has {len(ports)} inputs: name them ({names})")
    return {ports[0].name: given}, bool(rows)


def _turned(rows: Sequence[Mapping[str, msgspec.Raw]]) -> Mapping[str, bytes]:
    """Make columns of rows, which must all have the same names."""
    names = rows[0].keys()
    for index, row in enumerate(rows):
        if row.keys() != names:
            raise Fault(400, f"instances[{index}] has other names than the first: {', '.join(sorted(names))[:200]}")
    return {name: b"[%b]" % b",".join(bytes(row[name]) for row in rows) for name in names}


def _tensor(port: Port, raw: bytes) -> Tensor:
    kind = datatype(port)
    shape = shape_of(port, raw)
    fits(port.name, kind, shape, port)
    return Tensor(port.name, kind, shape, from_json(port.name, kind, shape, raw))


def shape_of(port: Port, raw: bytes) -> tuple[int, ...]:
    """Return the shape that an input's lists have, if they are regular; that they are is checked when they are read."""
    return _shape_of_texts(port.name, raw) if datatype(port) == "BYTES" else _shape(port.name, raw)


def _shape(name: str, raw: bytes) -> tuple[int, ...]:
    """Count lists and commas of every depth → the shape that they have if they are regular, which is checked later."""
    text = np.frombuffer(raw, np.uint8)
    depth = np.cumsum(text == ord("["), dtype=np.int32) - np.cumsum(text == ord("]"), dtype=np.int32)
    deepest = int(depth.max()) if len(depth) else 0
    if deepest > limits.RANK:
        raise Fault(400, f"input {name!r}: lists more than {limits.RANK} deep")
    commas = np.bincount(np.clip(depth[text == ord(",")], 0, deepest), minlength=deepest + 1)
    if not text[(text != ord("[")) & (text != ord("]"))].tobytes().strip():
        raise Fault(400, f"input {name!r}: it is empty")
    shape: list[int] = []
    lists = 1
    for level in range(1, deepest + 1):
        size, rest = divmod(int(commas[level]), lists)
        if rest:
            raise Fault(400, f"input {name!r}: its lists are not equally long")
        shape.append(size + 1)
        lists *= size + 1
    return tuple(shape)


def _shape_of_texts(name: str, raw: bytes) -> tuple[int, ...]:
    """Follow the first elements, since texts may have brackets in them."""
    if raw.count(b",") + raw.count(b"[") > 2 * limits.TEXTS:
        raise Fault(400, f"input {name!r}: more than {limits.TEXTS} elements of BYTES; send binary tensors to /v2")
    try:
        each = _ANY.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Fault(400, f"input {name!r}: {error}") from error
    shape: list[int] = []
    while isinstance(each, list) and len(shape) <= limits.RANK:
        shape.append(len(each))
        each = each[0] if each else None
    return tuple(shape)


def parameters_of(raw: bytes) -> Mapping[str, Any]:
    """Read parameters of a request; DecodeError for what is none."""
    if len(raw) > limits.PARAMETER_BYTES:
        raise Fault(400, f"parameters: more than {limits.PARAMETER_BYTES} bytes")
    return _PARAMETERS.decode(raw) if raw else {}


def _nested(value: Array) -> Any:
    """Return a tensor as lists in lists; what JSON has no number for is a text."""
    if value.dtype.kind in "biu" or (value.dtype.kind == "f" and np.isfinite(value).all()):
        return value.tolist()
    flat = np.empty(value.size, np.object_)
    flat[:] = to_list(value)
    return flat.reshape(value.shape).tolist()
