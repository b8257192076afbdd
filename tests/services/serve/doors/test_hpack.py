"""Headers of HTTP/2: those of the RFC's own examples, tables that are bounded, and blocks that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amble.services.serve.doors.hpack import Decoder, Malformed, TooLarge, literal

MOST = 1 << 15


def test_the_requests_of_the_rfc_are_read_with_a_table_and_packed_texts() -> None:  # RFC 7541, C.4
    decoder = Decoder(MOST)
    first = decoder.read(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))
    assert first == (
        (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com"),
    )  # fmt: skip
    second = decoder.read(bytes.fromhex("828684be5886a8eb10649cbf"))
    assert second == (*first, (b"cache-control", b"no-cache"))
    third = decoder.read(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))
    assert third[2:] == (
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    )
    assert decoder.read(bytes.fromhex("be"))[0] == (b"custom-key", b"custom-value")


def test_old_entries_make_room_for_new_ones() -> None:  # RFC 7541, C.6: a table of 256 bytes
    decoder = Decoder(MOST)
    decoder.read(b"\x3f" + bytes([256 - 31 & 127 | 128, 256 - 31 >> 7]))
    for value in (b"a" * 100, b"b" * 100):
        decoder.read(b"\x40\x01x" + bytes([100]) + value)
    assert decoder.read(b"\xbe") == ((b"x", b"b" * 100),)
    with pytest.raises(Malformed, match="header 63"):
        decoder.read(b"\xbf")


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=20))
def test_what_is_written_is_read(headers: list[tuple[bytes, bytes]]) -> None:
    assert Decoder(MOST).read(b"".join(literal(name, value) for name, value in headers)) == tuple(headers)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_rubbish_is_refused_or_read_and_nothing_else(blocks: list[bytes]) -> None:
    decoder = Decoder(MOST)
    for each in blocks:
        try:
            decoder.read(each)
        except (Malformed, TooLarge):
            return


def test_a_repeated_block_says_the_same_only_while_the_table_does() -> None:
    decoder = Decoder(MOST)
    decoder.read(b"\x40\x01x\x011")
    assert decoder.read(b"\xbe") == decoder.read(b"\xbe") == ((b"x", b"1"),)
    decoder.read(b"\x40\x01x\x012")
    assert decoder.read(b"\xbe") == ((b"x", b"2"),)


def test_headers_that_are_too_large_change_the_table_all_the_same() -> None:
    decoder = Decoder(100)
    first, second = b"\x40\x03key\x03one", b"\x40\x03key\x03two"
    decoder.read(first)
    assert decoder.read(b"\xbe") == ((b"key", b"one"),)
    with pytest.raises(TooLarge):
        decoder.read(second + literal(b"x", b"y" * 100))
    assert decoder.read(b"\xbe") == ((b"key", b"two"),)


def test_few_bytes_that_stand_for_many_are_refused_and_what_follows_is_read() -> None:
    decoder = Decoder(MOST)
    decoder.read(b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4000)
    with pytest.raises(TooLarge, match="larger"):
        decoder.read(b"\xbe" * 2000 + b"\x40\x01y\x011")
    assert decoder.read(b"\xbe") == ((b"y", b"1"),)


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (b"\x80", "no header 0"),
        (b"\xff\xff\xff\xff\xff\xff\xff", "without an end"),
        (b"\x40\x05ab", "cut off"),
        (b"\x40", "cut off"),
        (b"\x3f\xe2\x1f", "cannot have"),  # 4097
        (b"\x82\x20", "cannot have"),  # not at the beginning
        (b"\x40\x01x\x81\x00", "ends in the midst"),
        (b"\x40\x01x\x84\xff\xff\xff\xff", "does not have"),  # the symbol that ends
    ],
)  # fmt: skip
def test_blocks_that_are_none_are_refused(block: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        Decoder(MOST).read(block)
