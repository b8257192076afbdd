"""Content codings (RFC 9110, 8.4 and 12.5.3): bodies unpacked up to a size, answers packed where clients take it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from amble.runtimes.remote.fault import Fault

__all__ = ["chosen", "named", "packed", "unpacked"]

_GZIP = (b"gzip", b"x-gzip")
_STEP_BYTES = 1 << 18
_MOST_MEMBERS = 4096
_WBITS = {b"gzip": 31, b"deflate": 15}


def named(header: bytes) -> bytes:
    """Return the coding that a ``Content-Encoding`` names, in one spelling; Fault for one that is not read here."""
    coding = header.strip().lower()
    if coding in _GZIP:
        return b"gzip"
    if coding in (b"", b"identity", b"deflate"):
        return coding or b"identity"
    raise Fault(415, f"Content-Encoding {header.decode('latin-1')[:100]!r}: use gzip, deflate or none")


def unpacked(body: bytes | memoryview, coding: bytes, most: int, grow: Callable[[int], None]) -> bytes:
    """Unpack a body, telling ``grow`` of every piece; Fault as soon as it is larger than ``most``, or is cut off."""
    whole, view, start, members = bytearray(), memoryview(body), 0, 0
    while start < len(view) or not members:
        members += 1
        if members > (_MOST_MEMBERS if coding == b"gzip" else 1):
            raise Fault(400, f"the body is {coding.decode()} with more behind its end")
        for piece, stop in _member(view, start, coding):
            start = stop
            if len(whole) + len(piece) > most:
                raise Fault(413, f"the body is larger than {most} bytes when unpacked")
            grow(len(piece))
            whole += piece
    return bytes(whole)


def _member(view: memoryview, start: int, coding: bytes) -> Iterator[tuple[bytes, int]]:
    """Unpack from ``start`` to the end of a member → pieces, and where each ended in what is packed."""
    raw = coding == b"deflate" and bytes(view[start : start + 1]) != b"x"
    unpacker = zlib.decompressobj(wbits=31 if coding == b"gzip" else -15 if raw else 15)
    while not unpacker.eof:
        given = view[start : start + _STEP_BYTES]
        try:
            piece = unpacker.decompress(given, _STEP_BYTES)
        except zlib.error as error:
            raise Fault(400, f"the body is not {coding.decode()}: {error}") from error
        start += len(given) - len(unpacker.unconsumed_tail) - len(unpacker.unused_data)
        if not given and not piece:
            raise Fault(400, f"the body is {coding.decode()} that was cut off")
        yield piece, start


def chosen(accepted: bytes) -> bytes | None:
    """Return the coding for an answer: the one its client likes most, gzip before deflate; None for none."""
    likes: dict[bytes, float] = {}
    for each in accepted.lower().split(b","):
        name, *parameters = (part.strip() for part in each.split(b";"))
        likes[b"gzip" if name in _GZIP else name] = _weight(parameters)
    found = {coding: likes.get(coding, likes.get(b"*", 0.0)) for coding in _WBITS}
    best = max(found, key=lambda coding: found[coding])
    return best if found[best] > 0 else None


def _weight(parameters: list[bytes]) -> float:
    for each in parameters:
        name, _, value = each.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def packed(body: bytes, coding: bytes) -> bytes:
    """Pack a body, quickly rather than well."""
    packer = zlib.compressobj(1, wbits=_WBITS[coding])
    return packer.compress(body) + packer.flush()
