"""Arrays ↔ the protocol's datatypes: names, little-endian bytes, JSON's lists."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from amble.core.graph import Port
from amble.runtimes.remote.fault import Fault

__all__ = ["DATATYPES", "NO_JSON", "Array", "datatype", "from_bytes", "from_list", "name_of", "to_bytes", "to_list"]

Array = npt.NDArray[Any]

_BFLOAT16: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
DATATYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BF16": _BFLOAT16,
    "BYTES": np.dtype(np.object_),
}
_OF_ONNX = {
    **{str(dtype): name for name, dtype in DATATYPES.items()},
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_OF_DTYPE = {dtype: name for name, dtype in DATATYPES.items()}  # numpy takes long to say a type's name
NO_JSON = ("FP16", "BF16")


def datatype(port: Port) -> str:
    """Return the protocol's name of an ONNX element type; ValueError for a type that the protocol has not."""
    if port.dtype not in _OF_ONNX:
        raise ValueError(f"{port.name} is a tensor of {port.dtype}, which the protocol cannot carry")
    return _OF_ONNX[port.dtype]


def name_of(value: Array) -> str:
    """Return the protocol's name of an array's type."""
    return "BYTES" if value.dtype.kind in "OSU" else _OF_DTYPE[value.dtype]


def from_bytes(name: str, kind: str, shape: tuple[int, ...], raw: bytes | memoryview) -> Array:
    """Read a tensor from little-endian row-major bytes; Fault when their number does not fit."""
    dtype = _dtype(name, kind)
    if kind == "BYTES":
        return _texts(name, shape, raw)
    if len(raw) != prod(shape) * dtype.itemsize:
        want = f"{prod(shape) * dtype.itemsize} bytes of {kind} {list(shape)}"
        raise Fault(400, f"input {name!r}: {len(raw)} bytes of data, not {want}")
    found = np.frombuffer(raw, dtype=dtype).reshape(shape)
    return found if found.flags.aligned else found.copy()


def from_list(name: str, kind: str, shape: tuple[int, ...], data: object) -> Array:
    """Read a tensor from JSON, nested or flat; Fault for elements of another type, out of range, or too many or few."""
    dtype = _dtype(name, kind)
    if kind in NO_JSON:
        raise Fault(400, f"input {name!r}: {kind} has no JSON form; send it as binary data")
    if not isinstance(data, list):
        raise Fault(400, f"input {name!r}: data must be a list")
    try:
        found = np.array(data) if kind != "BYTES" else np.array(data, dtype=np.object_)
    except (ValueError, OverflowError) as error:
        raise Fault(400, f"input {name!r}: data is not a regular list of {kind}") from error
    if found.size != prod(shape):
        raise Fault(400, f"input {name!r}: {found.size} elements in data, not {prod(shape)} as in shape {list(shape)}")
    return _cast(name, kind, found, dtype).reshape(shape)


def to_bytes(value: Array, kind: str) -> bytes:
    """Write a tensor as little-endian row-major bytes."""
    if kind != "BYTES":
        return np.ascontiguousarray(value).tobytes()
    texts = [each.encode() if isinstance(each, str) else bytes(each) for each in value.ravel().tolist()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def to_list(value: Array) -> list[Any]:
    """Return a tensor as JSON's numbers; what JSON cannot say (NaN, infinities) becomes null."""
    if value.dtype.kind in "OSU":
        return [
            each if isinstance(each, str) else bytes(each).decode(errors="replace") for each in value.ravel().tolist()
        ]
    return list(value.ravel().tolist())


def _dtype(name: str, kind: str) -> np.dtype[Any]:
    if kind not in DATATYPES:
        raise Fault(400, f"input {name!r}: unknown datatype {kind!r}; known are {', '.join(DATATYPES)}")
    return DATATYPES[kind]


_KINDS = {"BOOL": "b", "FP32": "fiu", "FP64": "fiu", "BYTES": "O"}


def _cast(name: str, kind: str, found: Array, dtype: np.dtype[Any]) -> Array:
    """Return JSON's numbers as a datatype's, refusing what would change them."""
    if found.size and found.dtype.kind not in _KINDS.get(kind, "iu"):
        raise Fault(400, f"input {name!r}: data holds elements that are no {kind}")
    if kind == "BYTES":
        if not all(isinstance(each, str) for each in found.ravel()):
            raise Fault(400, f"input {name!r}: elements of BYTES are texts in JSON")
        return found
    if dtype.kind in "iu" and found.size:
        limits = np.iinfo(dtype)
        if int(found.min()) < limits.min or int(found.max()) > limits.max:
            raise Fault(400, f"input {name!r}: data holds numbers that {kind} cannot")
    with np.errstate(over="ignore"):
        made = found.astype(dtype)
    if kind == "FP32" and not np.isfinite(made).all():
        raise Fault(400, f"input {name!r}: data holds numbers that FP32 cannot")
    return made


def _texts(name: str, shape: tuple[int, ...], raw: bytes | memoryview) -> Array:
    """Read elements of four bytes of length and so many bytes of text each."""
    found: list[str] = []
    data, start, count = bytes(raw), 0, prod(shape)
    while start < len(data) and len(found) <= count:
        stop = start + 4 + int.from_bytes(data[start : start + 4], "little")
        if start + 4 > len(data) or stop > len(data):
            raise Fault(400, f"input {name!r}: BYTES element {len(found)} is cut off")
        try:
            found.append(data[start + 4 : stop].decode())
        except UnicodeDecodeError as error:
            raise Fault(400, f"input {name!r}: BYTES element {len(found)} is not UTF-8") from error
        start = stop
    if len(found) != count:
        raise Fault(400, f"input {name!r}: {len(found)} elements of BYTES, not {count} as in shape {list(shape)}")
    made = np.empty(count, dtype=np.object_)
    made[:] = found
    return made.reshape(shape)
