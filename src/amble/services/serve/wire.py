"""A request of the protocol as protobuf's bytes → its small part, and its raw tensors where they lie.

Protobuf copies every field twice on its way to Python; raw tensors are most of a request's bytes. They are the field
``raw_input_contents`` of ModelInferRequest, number 7, length-delimited (protobuf's encoding guide).
"""

from __future__ import annotations

__all__ = ["cut"]

_RAW = 7 << 3 | 2
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


def cut(message: bytes) -> tuple[bytes, list[memoryview]]:
    """Return the message without its raw tensors, and views of them in order; ValueError where it is none."""
    view, rest, raw = memoryview(message), [], []
    start, kept = 0, 0
    while start < len(message):
        tag, body = _varint(message, start)
        stop = _end(message, tag & 7, body)
        if tag == _RAW:
            rest.append(view[kept:start])
            raw.append(view[_varint(message, body)[1] : stop])
            kept = stop
        start = stop
    return b"".join([*rest, view[kept:]]), raw


def _end(message: bytes, kind: int, start: int) -> int:
    """Return where a field's value ends that begins at ``start``."""
    if kind == _DELIMITED:
        size, start = _varint(message, start)
        stop = start + size
    elif kind == _VARINT:
        stop = _varint(message, start)[1]
    elif kind in (_FIXED32, _FIXED64):
        stop = start + (4 if kind == _FIXED32 else 8)
    else:
        raise ValueError(f"a field of wire type {kind}")
    if stop > len(message):
        raise ValueError("the last field is cut off")
    return stop


def _varint(message: bytes, start: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    value = 0
    for index in range(start, min(start + 10, len(message))):
        value |= (message[index] & 0x7F) << 7 * (index - start)
        if message[index] < 0x80:
            return value, index + 1
    raise ValueError("a number without an end")
