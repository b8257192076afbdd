"""A request of the protocol as protobuf's bytes → its small part, and its raw tensors where they lie.

Protobuf copies every field twice on its way to Python; raw tensors are most of a request's bytes. They are the field
``raw_input_contents`` of ModelInferRequest, number 7, length-delimited (protobuf's encoding guide).
"""

from __future__ import annotations

from contextlib import suppress

from amble.runtimes.remote import limits

__all__ = ["TooMany", "cut", "prefix", "raw_at"]

_RAW = 7 << 3 | 2
_INPUTS, _CONTENTS = 5 << 3 | 2, 5 << 3 | 2  # of ModelInferRequest, and of the tensors in it
_SHAPE = 3 << 3 | 2
_LARGE = 128  # bytes of an input below which its own fields are not worth counting
_FIRST = 64  # fields in which raw tensors are looked for before all of a message is here
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


class TooMany(ValueError):
    """The message has more fields than allowed; it was read no further."""


class _Count:
    """Fields that may still come."""

    def __init__(self, most: int) -> None:
        self.most = self.left = most

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise TooMany(f"more than {self.most} fields")


def prefix(message: bytes) -> bytes:
    """Return what gRPC has before a message: that it is not packed, and its length."""
    return b"\0" + len(message).to_bytes(4, "big")


def cut(message: bytes | memoryview, most: int = limits.FIELDS) -> tuple[bytes, list[memoryview]]:
    """Return the message without its raw tensors, and views of them in order; ValueError where it is none.

    TooMany when it has more than ``most`` fields, those inside its inputs included: protobuf would make an object of
    each, from two bytes.
    """
    view, rest, raw = memoryview(message), [], []
    start, kept, count = 0, 0, _Count(most)
    while start < len(message):
        count.take()
        tag, body = _varint(message, start)
        stop = _end(message, tag & 7, body)
        if tag == _RAW:
            rest.append(view[kept:start])
            raw.append(view[_varint(message, body)[1] : stop])
            kept = stop
        elif tag == _INPUTS and stop - body > _LARGE:
            _count_inside(message, _varint(message, body)[1], stop, count, deep=True)
        start = stop
    return b"".join([*rest, view[kept:]]), raw


def raw_at(beginning: bytes | memoryview) -> int:
    """Return where the first raw tensor of a message begins, as its first bytes tell; 0 where they do not.

    So that whoever makes room for the message can have that tensor aligned.
    """
    start = 0
    with suppress(ValueError):
        for _ in range(_FIRST):
            tag, body = _varint(beginning, start)
            if tag == _RAW:
                return _varint(beginning, body)[1]
            start = _end(beginning, tag & 7, body)
    return 0


def _count_inside(message: bytes | memoryview, start: int, stop: int, count: _Count, *, deep: bool) -> None:
    """Count the fields of an input, and of its contents; a packed shape counts as long as it is."""
    while start < stop:
        count.take()
        tag, body = _varint(message, start)
        end = _end(message, tag & 7, body)
        if deep and tag == _SHAPE and end - body > 10 * limits.RANK:
            raise TooMany(f"a shape of more than {limits.RANK} axes")
        if deep and tag == _CONTENTS:
            _count_inside(message, _varint(message, body)[1], end, count, deep=False)
        start = end


def _end(message: bytes | memoryview, kind: int, start: int) -> int:
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


def _varint(message: bytes | memoryview, start: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    value = 0
    for index in range(start, min(start + 10, len(message))):
        value |= (message[index] & 0x7F) << 7 * (index - start)
        if message[index] < 0x80:
            return value, index + 1
    raise ValueError("a number without an end")
