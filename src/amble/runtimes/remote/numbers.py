"""JSON's lists ↔ arrays: read a piece at a time, after their elements were counted, so that no list stops the others.

A reader in C keeps the interpreter until it is done. Here it reads some thousands of elements, and lets go. What JSON
has no number for is a text, as in protobuf's JSON: ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
"""

from __future__ import annotations

from math import prod
from typing import Any

import msgspec
import numpy as np

from amble.runtimes.remote import limits
from amble.runtimes.remote.datatypes import DATATYPES, NO_JSON, Array
from amble.runtimes.remote.fault import Fault

__all__ = ["from_json", "to_list"]

_PIECE_BYTES = 64 << 10
_TEXTS: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_TOO_LARGE = 2.0**128 - 2.0**103  # is rounded to infinity in FP32
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}
_FLOATS = msgspec.json.Decoder(list[float])
_MIXED = msgspec.json.Decoder(list[float | str])
_WHOLE = msgspec.json.Decoder(list[int])
_TRUTHS = msgspec.json.Decoder(list[bool])


def from_json(name: str, kind: str, shape: tuple[int, ...], raw: bytes) -> Array:
    """Read a tensor from a list, nested or flat; Fault for elements of another type, out of range, too many or few."""
    if kind in NO_JSON:
        raise Fault(400, f"input {name!r}: {kind} has no JSON form; send it as binary data")
    if raw[:1] != b"[":
        raise Fault(400, f"input {name!r}: data must be a list")
    if kind == "BYTES":
        return _texts(name, shape, raw)
    if len(raw) <= _PIECE_BYTES and raw.count(b"[") == 1:
        found = _piece(name, kind, raw)
        _check_count(name, len(found), shape)
        return found.reshape(shape)
    count = raw.count(b",") + 1 if raw.strip(b"[] \t\r\n") else 0
    if count > limits.ELEMENTS:
        raise Fault(400, f"input {name!r}: more than {limits.ELEMENTS} elements in data; send them as binary data")
    _check_count(name, count, shape)
    if raw.count(b"[") > 1:
        _check_nesting(name, kind, raw, count)
    return _read(name, kind, raw, count).reshape(shape)


def to_list(value: Array) -> list[Any]:
    """Return a tensor as JSON's numbers; what JSON has no number for becomes a text."""
    if value.dtype.kind in "OSU":
        return [
            each if isinstance(each, str) else bytes(each).decode(errors="replace") for each in value.ravel().tolist()
        ]
    flat = value.ravel()
    if value.dtype.kind != "f" or np.isfinite(flat).all():
        return list(flat.tolist())
    return [_said(each) for each in flat.tolist()]


def _said(number: float) -> float | str:
    if number != number:
        return "NaN"
    return number if abs(number) != float("inf") else "Infinity" if number > 0 else "-Infinity"


def _read(name: str, kind: str, raw: bytes, count: int) -> Array:
    """Read the numbers, whatever lists they are in."""
    made = np.empty(count, DATATYPES[kind])
    start, filled = 0, 0
    while filled < count:
        stop = raw.find(b",", start + _PIECE_BYTES)
        stop = len(raw) if stop < 0 else stop
        piece = raw[start:stop].translate(None, b"[]")
        found = _piece(name, kind, b"[%b]" % piece)
        if not len(found):
            raise Fault(400, f"input {name!r}: data is not a regular list of {kind}")
        made[filled : filled + len(found)] = found
        start, filled = stop + 1, filled + len(found)
    return made


def _piece(name: str, kind: str, piece: bytes) -> Array:
    dtype = DATATYPES[kind]
    try:
        if dtype.kind == "b":
            return np.array(_TRUTHS.decode(piece), dtype)
        if dtype.kind in "iu":
            return np.array(_WHOLE.decode(piece), dtype)
        found = np.array(_special(piece) if b'"' in piece else _FLOATS.decode(piece), np.float64)
    except OverflowError as error:
        raise Fault(400, f"input {name!r}: data holds numbers that {kind} cannot") from error
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        raise Fault(400, f"input {name!r}: data holds elements that are no {kind}") from error
    if dtype == np.float64:
        return found
    finite = found[np.isfinite(found)] if b'"' in piece else found
    if finite.size and max(finite.max(), -finite.min()) >= _TOO_LARGE:
        raise Fault(400, f"input {name!r}: data holds numbers that {kind} cannot")
    return found.astype(dtype)


def _special(piece: bytes) -> list[float]:
    return [_SPECIAL[each] if isinstance(each, str) else each for each in _MIXED.decode(piece)]


def _check_nesting(name: str, kind: str, raw: bytes, count: int) -> None:
    """Demand that lists are nested as a tensor is: all elements equally deep, all lists of a level equally long."""
    text = np.frombuffer(raw, np.uint8)
    opened, closed = text == ord("["), text == ord("]")
    depth = np.cumsum(opened, dtype=np.int16) - np.cumsum(closed, dtype=np.int16)
    deepest = int(depth.max())
    commas = depth[text == ord(",")]
    ends = closed[1:] & opened[:-1]
    regular = deepest <= limits.RANK and not ends.any() and int(opened.sum()) == 1 + _lists(commas, deepest)
    for level in range(1, deepest):
        places = np.flatnonzero(commas <= level) + 1
        step = int(places[0]) if len(places) else count
        regular = regular and bool((places == step * np.arange(1, len(places) + 1)).all())
        regular = regular and step * (len(places) + 1) == count
    if not regular:
        raise Fault(400, f"input {name!r}: data is not a regular list of {kind}")


def _lists(commas: Array, deepest: int) -> int:
    """Count the lists inside the outermost one, were every element as deep as the deepest."""
    return sum(1 + int((commas <= level).sum()) for level in range(1, deepest))


def _texts(name: str, shape: tuple[int, ...], raw: bytes) -> Array:
    if prod(shape) > limits.TEXTS or raw.count(b",") + raw.count(b"[") > 2 * limits.TEXTS:
        raise Fault(400, f"input {name!r}: more than {limits.TEXTS} elements of BYTES; send them as binary data")
    try:
        found = np.array(_TEXTS.decode(raw), dtype=np.object_)
    except (msgspec.DecodeError, ValueError) as error:
        raise Fault(400, f"input {name!r}: data is not a regular list of BYTES") from error
    if not all(isinstance(each, str) for each in found.ravel()):
        raise Fault(400, f"input {name!r}: elements of BYTES are texts in JSON")
    _check_count(name, found.size, shape)
    return found.reshape(shape)


def _check_count(name: str, count: int, shape: tuple[int, ...]) -> None:
    if count != prod(shape):
        raise Fault(400, f"input {name!r}: {count} elements in data, not {prod(shape)} as in shape {list(shape)}")
