"""A network → every way to cut it in two, with the tensors that cross.

Theory of operation: the device may run any set of operators that holds all that its members depend on (a down-set of
the graph). For each the tensors that cross are those that are ready on the device and read on the server, each sent
once however many read it: no smaller set of the network's own tensors would do. A chain has as many cuts as operators;
branches multiply. Where there would be more than ``MOST`` only the down-sets that are prefixes of the order of
execution are offered, which is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx

from amble.core.errors import Refused
from amble.core.graph import Port
from amble.runtimes.onnx.cutting import reads

__all__ = ["MOST", "PRECISIONS", "Cut", "Cuts", "cuts", "num_bytes", "sent_bytes"]

MOST = 2048
PRECISIONS = ("fp32", "fp16", "int8")
_BYTES_OF = {"fp16": 2, "int8": 1}
_SCALE_BYTES = 5  # of an INT8 tensor: its scale (FP32) and its zero point


@dataclass(frozen=True, slots=True)
class Cut:
    """Which operators the device runs, by index, what crosses to the server, and which answers come back."""

    local: tuple[int, ...]
    crossing: tuple[Port, ...]
    answers: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Cuts:
    """Cuts from all-remote to all-local. ``complete``: every down-set that can be cut is among them."""

    cuts: tuple[Cut, ...]
    complete: bool


def num_bytes(port: Port) -> int:
    """Return the size of a tensor [bytes]."""
    kind = onnx.TensorProto.DataType.Value(port.dtype.upper())
    return prod(port.shape) * int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def sent_bytes(ports: Sequence[Port], precision: str) -> int:
    """Return what sending tensors takes [bytes]; only those of FP32 take another precision."""
    return sum(_sent(port, precision) for port in ports)


def _sent(port: Port, precision: str) -> int:
    if port.dtype != "float" or precision == "fp32":
        return num_bytes(port)
    return prod(port.shape) * _BYTES_OF[precision] + (_SCALE_BYTES if precision == "int8" else 0)


def cuts(graph: onnx.GraphProto, tensors: Mapping[str, Port], outputs: Sequence[Port], *, most: int = MOST) -> Cuts:
    """Find the cuts of a graph in order of execution. Refused where there is none between first and last operator."""
    needs = _dependencies(graph)
    sets = _down_sets(needs, most)
    complete = sets is not None
    if sets is None:
        sets = [(1 << count) - 1 for count in range(len(needs) + 1)]
    whole = (1 << len(needs)) - 1
    found, why = [], ""
    for chosen in sets:
        local = tuple(index for index in range(len(needs)) if chosen >> index & 1)
        names = _crossing(graph, local)
        if strange := [name for name in names if not _can_cross(name, tensors)]:
            why = f"{strange[0]!r} would cross, which is no tensor of numbers"
        elif chosen not in (0, whole) and not names:
            why = "nothing would cross"
        else:
            found.append(Cut(local, tuple(tensors[name] for name in names), _answers(graph, local, outputs)))
    if not any(0 < len(each.local) < len(needs) for each in found):
        reason = why or "it has a single operator"
        raise Refused(f"the network cannot be cut: {reason}; run it whole (amble plan) or on the server")
    return Cuts(tuple(sorted(found, key=lambda each: (len(each.local), each.local))), complete)


def _dependencies(graph: onnx.GraphProto) -> list[int]:
    """Return what each node directly depends on, as a mask of nodes."""
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    return [sum(1 << index for index in {maker[name] for name in reads(node) if name in maker}) for node in graph.node]


def _down_sets(needs: list[int], most: int) -> list[int] | None:
    """Return every down-set as a mask; None where there are more than ``most``."""
    seen = {0}
    level = [0]
    while level:
        following = set()
        for chosen in level:
            for index, need in enumerate(needs):
                if not chosen >> index & 1 and need & chosen == need:
                    following.add(chosen | 1 << index)
        seen |= following
        if len(seen) > most:
            return None
        level = sorted(following)
    return sorted(seen)


def _crossing(graph: onnx.GraphProto, local: Sequence[int]) -> list[str]:
    """Name what is ready on the device (its inputs too) and read on the server."""
    here = set(local)
    weights = {tensor.name for tensor in graph.initializer}
    ready = {each.name for each in graph.input} - weights
    ready |= {name for index in local for name in graph.node[index].output if name}
    read = {name for index, node in enumerate(graph.node) if index not in here for name in reads(node)}
    return sorted(ready & read)


def _answers(graph: onnx.GraphProto, local: Sequence[int], outputs: Sequence[Port]) -> tuple[Port, ...]:
    """Return the outputs that the server makes."""
    here = set(local)
    made = {name for index, node in enumerate(graph.node) if index not in here for name in node.output}
    return tuple(port for port in outputs if port.name in made)


def _can_cross(name: str, tensors: Mapping[str, Port]) -> bool:
    if name not in tensors:
        return False
    try:
        num_bytes(tensors[name])
    except (ValueError, KeyError, AttributeError):
        return False
    return tensors[name].dtype != "string"
