"""Names, types and shapes that a client gave ↔ those that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Protocol

from amble.core.graph import Port
from amble.runtimes.remote import limits
from amble.runtimes.remote.datatypes import datatype
from amble.runtimes.remote.fault import Fault

__all__ = ["SAID", "Named", "checked_shape", "fits", "refuse_unfit"]

SAID = 200  # characters of a client's text that are repeated to it


class Named(Protocol):
    """An input as a client gave it."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def datatype(self) -> str:
        """Its type, as the protocol calls it."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...


def refuse_unfit(listed: Sequence[Named], ports: Sequence[Port]) -> None:
    """Refuse inputs that the model has not, or not of that type and shape; reading them would be for nothing."""
    wanted = {port.name: port for port in ports}
    if len(listed) > len(wanted):
        raise Fault(400, f"inputs: {len(listed)} of them; the model takes {', '.join(wanted)}, each once")
    for each in listed:
        if each.name not in wanted:
            raise Fault(400, f"inputs: unknown name {each.name[:SAID]!r}; the model takes {', '.join(wanted)}")
        fits(each.name, each.datatype, each.shape, wanted[each.name])


def checked_shape(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return an input's shape; Fault for one that no tensor has."""
    if len(sizes) > limits.RANK:
        raise Fault(400, f"input {name!r}: shape has {len(sizes)} axes, at most {limits.RANK} can be")
    if any(size < 0 for size in sizes):
        raise Fault(400, f"input {name!r}: shape {list(sizes)} has a negative size")
    if prod(size for size in sizes if size) > limits.SIZE:
        raise Fault(400, f"input {name!r}: shape {list(sizes)} has a number of elements beyond 64 bits")
    return tuple(sizes)


def fits(name: str, kind: str, shape: tuple[int, ...], port: Port) -> None:
    """Check one input against its port; an open axis (−1) takes every positive size."""
    want = datatype(port)
    if kind != want:
        raise Fault(400, f"input {name!r}: datatype {kind[:SAID]}, the model takes {want}")
    if not _agree(shape, port.shape):
        empty = "; an open axis (-1) is 1 or more" if 0 in shape else ""
        raise Fault(400, f"input {name!r}: shape {list(shape)}, the model takes {list(port.shape)}{empty}")


@lru_cache(maxsize=1024)
def _agree(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        size == each or (each < 0 and size > 0) for size, each in zip(shape, wanted, strict=True)
    )
