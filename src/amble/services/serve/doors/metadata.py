"""What the headers and trailers of a gRPC call say: deadlines as they come, statuses and reasons as they go."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from itertools import accumulate
from urllib.parse import quote

from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.hpack import literal

__all__ = ["DEADLINE", "FINE", "HEAD", "INTERNAL", "OK", "is_grpc", "status_of", "timeout_s", "trailers"]

OK, DEADLINE, INTERNAL = 0, 4, 13
_STATUS = {400: 3, 401: 16, 403: 7, 404: 5, 408: 4, 413: 8, 415: 12, 429: 8, 499: 1, 501: 12, 503: 14, 504: 4}
_REASON_BYTES = 6000  # as it goes: clients refuse more than 8 kB of headers and trailers, and the answer with them
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_KIND = re.compile(r"application/grpc(\+[^;]*)?\s*(;.*)?")
_CODINGS = b"identity,deflate,gzip"
HEAD = b"\x88" + literal(b"content-type", b"application/grpc") + literal(b"grpc-accept-encoding", _CODINGS)
FINE = literal(b"grpc-status", b"0")
_PLAIN_TEXT = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


def is_grpc(content_type: str) -> bool:
    """Tell whether a body is gRPC's: ``application/grpc-web`` is another thing."""
    return _KIND.fullmatch(content_type) is not None


def timeout_s(text: str | None) -> float:
    """Return the time that a call has [s]; infinite where it does not say, Fault where it says what is none."""
    if text is None:
        return math.inf
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise Fault(400, f"grpc-timeout {text[:100]!r} is no time")
    return int(found[1]) * _UNITS[found[2]]


def status_of(fault: Fault) -> int:
    """Return the status of gRPC that says what a fault does."""
    return _STATUS.get(fault.status, INTERNAL)


def trailers(status: int, text: str) -> bytes:
    """Write the end of a call; a long reason is cut off, between two characters."""
    if status == OK:
        return FINE
    reason = _quoted(text[:_REASON_BYTES])
    if len(reason) > _REASON_BYTES:
        ends = list(accumulate(len(_quoted(each)) for each in text[:_REASON_BYTES]))
        reason = reason[: ends[bisect_right(ends, _REASON_BYTES) - 1]]
    return literal(b"grpc-status", b"%d" % status) + literal(b"grpc-message", reason.encode())


def _quoted(text: str) -> str:
    return quote(text, safe=_PLAIN_TEXT, errors="replace")
