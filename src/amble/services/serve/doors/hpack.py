"""Headers of HTTP/2 ↔ bytes (HPACK, RFC 7541): read with a table that the client fills, written without one.

What a client may have read is bounded: the table by what the protocol begins with, a list of headers by its size as the
protocol counts it. So a few bytes that name one large entry again and again are refused as the large list they stand
for.
"""

from __future__ import annotations

from collections import deque
from functools import cache

__all__ = ["TABLE_BYTES", "Decoder", "Headers", "Malformed", "TooLarge", "literal"]

Headers = tuple[tuple[bytes, bytes], ...]

TABLE_BYTES = 4096
_ENTRY_BYTES = 32  # that each entry counts beside its text
_LONGEST = 5  # bytes of a number
_STATIC: tuple[tuple[bytes, bytes], ...] = (
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"), (b":path", b"/index.html"),
    (b":scheme", b"http"), (b":scheme", b"https"),
    *((b":status", code) for code in (b"200", b"204", b"206", b"304", b"400", b"404", b"500")),
    (b"accept-charset", b""), (b"accept-encoding", b"gzip, deflate"),
    *(
        (name, b"")
        for name in (
            b"accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
            b"content-disposition content-encoding content-language content-length content-location content-range "
            b"content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range "
            b"if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization "
            b"range referer refresh retry-after server set-cookie strict-transport-security transfer-encoding "
            b"user-agent vary via www-authenticate"
        ).split()
    ),
)  # fmt: skip
_END = 256  # the symbol that no text has
_CODES: dict[int, str] = {  # length of a code in bits → symbols in order, "a-b" for all from a to b (appendix B)
    5: "48-50 97 99 101 105 111 115-116",
    6: "32 37 45-47 51-57 61 65 95 98 100 102-104 108-110 112 114 117",
    7: "58 66-87 89 106-107 113 118-122",
    8: "38 42 44 59 88 90",
    10: "33-34 40-41 63",
    11: "39 43 124",
    12: "35 62",
    13: "0 36 64 91 93 126",
    14: "94 125",
    15: "60 96 123",
    19: "92 195 208",
    20: "128 130-131 162 184 194 224 226",
    21: "153 161 167 172 176-177 179 209 216-217 227 229-230",
    22: "129 132-134 136 146 154 156 160 163-164 169-170 173 178 181 185-187 189-190 196 198 228 232-233",
    23: "1 135 137-141 143 147 149-152 155 157-158 165-166 168 174-175 180 182-183 188 191 197 231 239",
    24: "9 142 144-145 148 159 171 206 215 225 236-237",
    25: "199 207 234-235",
    26: "192-193 200-202 205 210 213 218-219 238 240 242-243 255",
    27: "203-204 211-212 214 221-223 241 244-248 250-254",
    28: "2-8 11-12 14-21 23-31 127 220 249",
    30: "10 13 22 256",
}


class Malformed(ValueError):
    """These are no headers; what follows on this connection cannot be read either."""


class TooLarge(ValueError):
    """The headers are larger than allowed; those that follow can be read all the same."""


class Decoder:
    """Reads the header blocks of one connection, in order."""

    def __init__(self, most_bytes: int) -> None:
        """Refuse lists of headers that count more than ``most_bytes``."""
        self._most_bytes = most_bytes
        self._table: deque[tuple[bytes, bytes]] = deque()
        self._table_bytes = 0
        self._limit_bytes = TABLE_BYTES
        self._last: tuple[bytes, Headers] = (b"", ())  # a block that changed nothing, and what it said

    def read(self, block: bytes) -> Headers:
        """Return the headers of a block; Malformed where it is none."""
        if block == self._last[0]:
            return self._last[1]
        self._last = (b"", ())
        found: list[tuple[bytes, bytes]] = []
        at, size, changed = 0, 0, False
        try:
            while at < len(block):
                first = block[at]
                if first & 0x80:
                    index, at = _number(block, at, 7)
                    entry = self._entry(index)
                elif first & 0xE0 == 0x20:
                    self._resize(block, at, begun=bool(found))
                    at, changed = _number(block, at, 5)[1], True
                    continue
                else:
                    kept = first & 0x40
                    entry, at = self._literal(block, at, 6 if kept else 4)
                    if kept:
                        self._keep(entry)
                        changed = True
                size += len(entry[0]) + len(entry[1]) + _ENTRY_BYTES
                if size <= self._most_bytes:
                    found.append(entry)
        except IndexError as error:
            raise Malformed("the headers are cut off") from error
        if size > self._most_bytes:
            raise TooLarge(f"the headers are larger than {self._most_bytes} bytes")
        headers = tuple(found)
        if not changed:
            self._last = (block, headers)
        return headers

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if not 0 < index <= len(_STATIC) + len(self._table):
            raise Malformed(f"there is no header {index}")
        return _STATIC[index - 1] if index <= len(_STATIC) else self._table[index - len(_STATIC) - 1]

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[tuple[bytes, bytes], int]:
        index, at = _number(block, at, bits)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = self._text(block, at)
        value, at = self._text(block, at)
        return (name, value), at

    def _text(self, block: bytes, at: int) -> tuple[bytes, int]:
        packed = block[at] & 0x80
        length, at = _number(block, at, 7)
        stop = at + length
        if stop > len(block):
            raise Malformed("the headers are cut off")
        text = block[at:stop]
        return (_unpacked(text) if packed else text), stop

    def _resize(self, block: bytes, at: int, *, begun: bool) -> None:
        limit_bytes, _ = _number(block, at, 5)
        if begun or limit_bytes > TABLE_BYTES:
            raise Malformed(f"the table cannot have {limit_bytes} bytes from here on")
        self._limit_bytes = limit_bytes
        self._shrink()

    def _keep(self, entry: tuple[bytes, bytes]) -> None:
        self._table.appendleft(entry)
        self._table_bytes += len(entry[0]) + len(entry[1]) + _ENTRY_BYTES
        self._shrink()

    def _shrink(self) -> None:
        while self._table_bytes > self._limit_bytes:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + _ENTRY_BYTES


def literal(name: bytes, value: bytes) -> bytes:
    """Write a header that no table keeps."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(number: int) -> bytes:
    if number < 127:
        return bytes([number])
    rest, made = number - 127, bytearray([127])
    while rest >= 128:
        made.append(rest & 127 | 128)
        rest >>= 7
    made.append(rest)
    return bytes(made)


def _number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Return a number that begins in the low bits of a byte, and where it ends."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for place in range(_LONGEST):
        each = block[at + place]
        value += (each & 127) << 7 * place
        if each < 128:
            return value, at + place + 1
    raise Malformed("a number without an end")


def _unpacked(text: bytes) -> bytes:
    """Read a text in Huffman's code, half a byte at a time."""
    steps, state, found = _steps(), 0, bytearray()
    for each in text:
        for half in (each >> 4, each & 15):
            state, symbol = steps[state][half]
            if symbol >= 0:
                found.append(symbol)
            if state < 0:
                raise Malformed("a text that Huffman's code does not have")
    if state not in _padding():
        raise Malformed("a text that ends in the midst of a symbol")
    return bytes(found)


@cache
def _tree() -> list[list[int]]:
    """Return the code's tree: for each inner node where 0 and 1 lead to; a leaf is -1 less its symbol."""
    nodes, code, before = [[0, 0]], 0, 0
    for length, listed in _CODES.items():
        code <<= length - before
        before = length
        for symbol in _symbols(listed):
            node = 0
            for place in range(length - 1, 0, -1):
                bit = code >> place & 1
                if not nodes[node][bit]:
                    nodes.append([0, 0])
                    nodes[node][bit] = len(nodes) - 1
                node = nodes[node][bit]
            nodes[node][code & 1] = -1 - symbol
            code += 1
    return nodes


def _symbols(listed: str) -> list[int]:
    ends = [[int(each) for each in part.split("-")] for part in listed.split()]
    return [symbol for each in ends for symbol in range(each[0], each[-1] + 1)]


@cache
def _steps() -> list[list[tuple[int, int]]]:
    """Return for each node and half a byte: the node that it leads to (-1: none), and a symbol that ends (-1: none).

    No code is shorter than five bits, so that there is one symbol at most.
    """
    nodes, made = _tree(), []
    for start in range(len(nodes)):
        row = []
        for half in range(16):
            node, symbol = start, -1
            for place in (3, 2, 1, 0):
                node = nodes[node][half >> place & 1]
                if node < 0:
                    symbol, node = -1 - node, 0
            row.append((-1, -1) if symbol == _END else (node, symbol))
        made.append(row)
    return made


@cache
def _padding() -> frozenset[int]:
    """Return the nodes in which a text may end: up to seven ones after its last symbol."""
    nodes, node, found = _tree(), 0, [0]
    for _ in range(7):
        node = nodes[node][1]
        found.append(node)
    return frozenset(found)
