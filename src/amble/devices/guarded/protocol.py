"""What the guard and its clients say to each other: one JSON object a line, each ask answered by one answer.

A client holds at most one lease a device. Any ask that names the device renews it; without one for ``lease_s`` the
guard puts back what it found, as it does when the connection ends. The guard knows who asks from the kernel, never
from what is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

from amble.core.errors import Refused
from amble.core.point import Clocks

__all__ = ["LONGEST_ASK", "MOST_LEASE_S", "SOCKET", "VARIABLE", "Answer", "Ask", "Held", "decode", "encode"]

SOCKET = "/run/amble/guard.sock"
VARIABLE = "AMBLE_GUARD"
LONGEST_ASK = 4096
MOST_LEASE_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """``available`` and ``current`` read, ``hold`` sets clocks, ``renew`` keeps them, ``release`` puts them back.

    ``status`` names what is held, by whom.
    """

    do: Literal["available", "current", "hold", "renew", "release", "status"]
    device: str = ""
    clocks: Clocks | None = None
    lease_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Held:
    """One device's clocks, held by a process of a user until [s] from now, unless it asks again."""

    device: str
    pid: int
    uid: int
    clocks: str
    left_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """``text`` is why not; the other fields are what was asked for."""

    ok: bool
    text: str = ""
    clocks: Clocks | None = None
    available: tuple[Clocks, ...] = ()
    held: tuple[Held, ...] = ()


def encode(message: Ask | Answer) -> bytes:
    """Write a message as a line."""
    return msgspec.json.encode(message) + b"\n"


def decode(line: bytes, kind: type[T]) -> T:
    """Read a line; Refused where it is no such message."""
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"not understood: {error}") from error
