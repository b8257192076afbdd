"""Objectives as people write them (``ttft p99 < 500ms``) → what, which percentile, which limit."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from amble.core.errors import Refused
from amble.core.quantity import parse_time_s

__all__ = ["KINDS", "Objective"]

KINDS = {
    "latency": "from the arrival of a request to the end of its answer",
    "ttft": "to the first token",
    "itl": "between two tokens",
    "queue": "in the server's queue",
}
_FORM = re.compile(r"\s*([a-z]+)\s+p(\d+(?:\.\d+)?)\s*<=?\s*(\S.*?)\s*")


@dataclass(frozen=True, slots=True)
class Objective:
    """This share (0 to 1) of the latencies of this kind stays within ``limit_s`` [s]."""

    kind: str
    share: float
    limit_s: float

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read ``latency p99 < 40ms``; Refused when it is not like that."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise Refused(f"--slo {text!r} is not like 'latency p99 < 40ms'")
        kind, percentile, limit = match.groups()
        if kind not in KINDS:
            raise Refused(f"--slo {text!r}: unknown latency {kind!r}; choose {', '.join(KINDS)}")
        if not 0.0 < float(percentile) < 100.0:
            raise Refused(f"--slo {text!r}: p{percentile} is no percentile; write p50 to p99.99")
        try:
            limit_s = parse_time_s(limit)
        except ValueError as error:
            raise Refused(f"--slo {text!r}: {error}") from error
        if limit_s <= 0.0:
            raise Refused(f"--slo {text!r}: the limit must be above zero")
        return cls(kind, float(percentile) / 100.0, limit_s)

    def at(self, limit_s: float) -> Objective:
        """Return the same objective with another limit [s]."""
        return replace(self, limit_s=limit_s)

    @property
    def allowed(self) -> float:
        """Return the share that may be late."""
        return 1.0 - self.share

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.kind} p{100 * self.share:g} < {1e3 * self.limit_s:g}ms"
