"""Arrays ↔ the protocol's datatypes: names, little-endian bytes, JSON's lists."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from amble.core.graph import Port
from amble.runtimes.remote import limits
from amble.runtimes.remote.fault import Fault

__all__ = ["DATATYPES", "NO_JSON", "Array", "datatype", "from_bytes", "known_kind", "name_of", "to_bytes"]

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
    dtype = DATATYPES[known_kind(name, kind)]
    if kind == "BYTES":
        return _texts(name, shape, raw)
    if len(raw) != prod(shape) * dtype.itemsize:
        want = f"{prod(shape) * dtype.itemsize} bytes of {kind} {list(shape)}"
        raise Fault(400, f"input {name!r}: {len(raw)} bytes of data, not {want}")
    found = np.frombuffer(raw, dtype=dtype).reshape(shape)
    return found if found.flags.aligned else found.copy()


def to_bytes(value: Array, kind: str) -> bytes:
    """Write a tensor as little-endian row-major bytes."""
    if kind != "BYTES":
        return np.ascontiguousarray(value).tobytes()
    texts = [each.encode() if isinstance(each, str) else bytes(each) for each in value.ravel().tolist()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def known_kind(name: str, kind: str) -> str:
    """Return a datatype's name; Fault for one that the protocol has not."""
    if kind not in DATATYPES:
        raise Fault(400, f"input {name!r}: unknown datatype {kind!r}; known are {', '.join(DATATYPES)}")
    return kind


def _texts(name: str, shape: tuple[int, ...], raw: bytes | memoryview) -> Array:
    """Read elements of four bytes of length and so many bytes of text each."""
    found: list[str] = []
    data, start, count = bytes(raw), 0, prod(shape)
    if count > limits.TEXTS:
        raise Fault(400, f"input {name!r}: {list(shape)} are more than {limits.TEXTS} elements of BYTES; send fewer")
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
