"""Content codings by any of their names, in several members, and only where the client takes them."""

from __future__ import annotations

import gzip
import zlib

import pytest

from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.codings import chosen, named, packed, unpacked

TEXT = b"what was said " * 1000


def unpack(body: bytes, coding: bytes, most: int = 1 << 20) -> bytes:
    return unpacked(body, coding, most, lambda num_bytes: None)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (b"gzip", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b" X-GZip ", b"gzip"),
        (b"Deflate", b"deflate"),
        (b"Identity", b"identity"),
        (b"", b"identity"),
    ],
)
def test_a_coding_is_known_by_any_spelling(header: bytes, coding: bytes) -> None:
    assert named(header) == coding


def test_an_unknown_coding_is_refused() -> None:
    with pytest.raises(Fault, match="br") as fault:
        named(b"br")
    assert fault.value.status == 415


def test_several_members_are_one_body() -> None:
    assert unpack(gzip.compress(TEXT) + gzip.compress(b"") + gzip.compress(b"more"), b"gzip") == TEXT + b"more"


def test_deflate_comes_with_and_without_its_wrapper() -> None:
    raw = zlib.compressobj(wbits=-15)
    assert unpack(raw.compress(TEXT) + raw.flush(), b"deflate") == TEXT
    assert unpack(zlib.compress(TEXT), b"deflate") == TEXT


@pytest.mark.parametrize(
    ("body", "coding", "names"),
    [
        (gzip.compress(TEXT)[:-9], b"gzip", "cut off"),
        (b"", b"gzip", "cut off"),
        (b"plain", b"gzip", "not gzip"),
        (gzip.compress(TEXT) + b"junk", b"gzip", "not gzip"),
        (zlib.compress(TEXT) + b"junk", b"deflate", "behind its end"),
        (gzip.compress(b"") * 5000, b"gzip", "behind its end"),
    ],
)
def test_what_is_cut_off_or_followed_by_something_else_is_refused(body: bytes, coding: bytes, names: str) -> None:
    with pytest.raises(Fault, match=names):
        unpack(body, coding)


def test_what_unpacks_to_too_much_is_refused_and_no_more_is_unpacked() -> None:
    grown: list[int] = []
    with pytest.raises(Fault, match="unpacked"):
        unpacked(gzip.compress(bytes(64 << 20)), b"gzip", 1 << 20, grown.append)
    assert sum(grown) <= 1 << 20


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"gzip", b"gzip"),
        (b"GZip, deflate", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"gzip;q=0", None),
        (b"gzip;q=0, deflate", b"deflate"),
        (b"gzip; q=0.1, deflate; q=0.9", b"deflate"),
        (b"*", b"gzip"),
        (b"*;q=0", None),
        (b"gzip;q=0, *", b"deflate"),
        (b"br", None),
        (b"gzip;q=nonsense", None),
        (b"", None),
    ],
)
def test_an_answer_is_packed_as_its_client_likes(accepted: bytes, coding: bytes | None) -> None:
    assert chosen(accepted) == coding


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_what_is_packed_can_be_unpacked(coding: bytes) -> None:
    assert unpack(packed(TEXT, coding), coding) == TEXT
