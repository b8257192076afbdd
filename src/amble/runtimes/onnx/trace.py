"""ONNX Runtime's profile (Chrome trace JSON) → one event a kernel, with the types and shapes that were really there.

A profile is the most robust source of shapes: it has them for fused and contributed operators too, and for those that
depend on data. Durations are whole microseconds. Weights show up only while prepacking is off.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

__all__ = ["Details", "Kernel", "kernels", "nested"]

_SUFFIX = "_kernel_time"
_US = 1e-6


class Details(msgspec.Struct, frozen=True):
    """What a kernel worked on; sizes in bytes, as decimal text; one ``{type: shape}`` for each tensor that is there."""

    op_name: str = ""
    provider: str = ""
    activation_size: str = "0"
    parameter_size: str = "0"
    output_size: str = "0"
    input_type_shape: list[dict[str, list[int]]] = msgspec.field(default_factory=list)
    output_type_shape: list[dict[str, list[int]]] = msgspec.field(default_factory=list)


class _Event(msgspec.Struct, frozen=True):
    cat: str
    name: str
    ts: int
    dur: int
    args: Details = Details()


class Kernel(msgspec.Struct, frozen=True):
    """One execution of one node: when it began [µs], how long it took [µs]."""

    node: str
    start_us: int
    duration_us: int
    details: Details

    @property
    def start_s(self) -> float:
        """Return when it began [s], from the start of the session."""
        return self.start_us * _US

    @property
    def duration_s(self) -> float:
        """Return how long it took [s]."""
        return self.duration_us * _US


def kernels(path: Path) -> list[Kernel]:
    """Read all kernels of a profile, in the order in which they ended."""
    events = msgspec.json.decode(path.read_bytes(), type=list[_Event])
    return [
        Kernel(event.name.removesuffix(_SUFFIX), event.ts, event.dur, event.args)
        for event in events
        if event.cat == "Node" and event.name.endswith(_SUFFIX)
    ]


def nested(found: Iterable[Kernel], outer: set[str]) -> list[tuple[Kernel, list[Kernel]]]:
    """Pair every execution of an outer node with the kernels that ran inside it (branches and loop bodies).

    What runs inside a node ends before it, and on one thread nothing else ends in between.
    """
    pairs: list[tuple[Kernel, list[Kernel]]] = []
    inside: list[Kernel] = []
    for kernel in found:
        if kernel.node in outer:
            pairs.append((kernel, inside))
            inside = []
        else:
            inside.append(kernel)
    assert not inside, f"{inside[0].node} ran outside of every operator"
    return pairs
