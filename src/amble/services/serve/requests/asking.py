"""What clients want of a model and what they get, the same for every door; and whether a model can do it.

Nouns are tuples here, which are made four times as quickly as frozen dataclasses: the network has driven this code out
of the caches when a request comes, and it waits for every line of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from amble.core.graph import Port
from amble.runtimes.remote.datatypes import NO_JSON, Array, datatype
from amble.runtimes.remote.fault import Fault
from amble.services.serve.requests.fitting import fits

__all__ = ["Answer", "Asked", "Place", "Policy", "Tensor", "as_binary", "matched", "policy", "whole"]

_MAX_PRIORITY = (1 << 16) - 1
_MAX_TIMEOUT_US = (1 << 63) - 1


class Place(Protocol):
    """Where an output goes that is not sent."""

    def put(self, name: str, data: bytes) -> dict[str, str | int]:
        """Put an output's bytes there → the parameters that say so. Fault when there is no room."""
        ...


class Tensor(NamedTuple):
    """One input as the client sent it, still without its model's opinion."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    value: Array


class Asked(NamedTuple):
    """One request as the client sent it. ``outputs``: name → whether as binary; None for all of them.

    ``binary`` is how outputs go that do not say it themselves; ``classes``: of which outputs so many of the highest
    scores are wanted, by name; ``places``: where outputs go that are not sent.
    """

    inputs: tuple[Tensor, ...]
    id: str = ""
    outputs: Mapping[str, bool | None] | None = None
    binary: bool = False
    parameters: Mapping[str, Any] = MappingProxyType({})
    classes: Mapping[str, int] = MappingProxyType({})
    places: Mapping[str, Place] = MappingProxyType({})


class Policy(NamedTuple):
    """Schedule policy of a request: time [s] from arrival to answer (None: the model's), priority (0: none)."""

    timeout_s: float | None = None
    priority: int = 0


_ANY = Policy()


class Answer(NamedTuple):
    """What goes back: outputs by name, and parameters of text, numbers and truths."""

    model: str
    version: str
    id: str
    outputs: Mapping[str, Array]
    parameters: Mapping[str, str | float | int | bool]
    rows: bool = True  # the first axis of the outputs is the batch
    labels: Mapping[str, Sequence[str]] = MappingProxyType({})  # names of classes, by output


def policy(parameters: Mapping[str, Any]) -> Policy:
    """Read ``timeout`` (µs) and ``priority``; Fault for what is no whole number or out of range."""
    if not parameters:
        return _ANY
    if parameters.get("sequence_id"):
        raise Fault(400, "parameters.sequence_id: models here keep no state from request to request; send none")
    timeout_us = whole(parameters, "timeout", _MAX_TIMEOUT_US, "microseconds")
    priority = whole(parameters, "priority", _MAX_PRIORITY, "1 the highest, 0 the default")
    return Policy(timeout_us * 1e-6 if timeout_us else None, priority)


def matched(
    asked: Asked, inputs: Sequence[Port], outputs: Sequence[Port], *, batched: bool
) -> tuple[dict[str, Array], int]:
    """Check a request against its model → its arrays by name, and its rows; Fault when they do not fit.

    With ``batched`` the first axis of every input is the batch, the same for all.
    """
    given = {tensor.name: tensor for tensor in asked.inputs}
    if len(given) != len(asked.inputs):
        raise Fault(400, "inputs: a name comes twice")
    arrays: dict[str, Array] = {}
    if given.keys() != {port.name for port in inputs}:
        raise _misnamed(given, [port.name for port in inputs])
    for port in inputs:
        name, kind, shape, arrays[port.name] = given[port.name]
        fits(name, kind, shape, port)
    _check_outputs(asked, outputs)
    rows = {given[name].shape[0] for name in arrays} if batched else {1}
    if len(rows) > 1:
        raise Fault(400, f"inputs: the first axis is the batch, but its sizes differ: {sorted(rows)}")
    return arrays, rows.pop()


def _misnamed(given: Mapping[str, Tensor], wanted: Sequence[str]) -> Fault:
    if unknown := sorted(given.keys() - set(wanted)):
        return Fault(400, f"inputs: unknown name {unknown[0]!r}; the model takes {', '.join(wanted)}")
    missing = next(name for name in wanted if name not in given)
    return Fault(400, f"inputs: {missing!r} is missing; the model takes {', '.join(wanted)}")


def _check_outputs(asked: Asked, ports: Sequence[Port]) -> None:
    known = {port.name: port for port in ports}
    if asked.outputs is not None and not asked.outputs.keys() <= known.keys():
        unknown = next(name for name in asked.outputs if name not in known)
        raise Fault(400, f"outputs: unknown name {unknown!r}; the model gives {', '.join(known)}")
    for name in asked.outputs or known:
        if (
            not (as_binary(asked, name) or asked.classes.get(name) or name in asked.places)
            and (kind := datatype(known[name])) in NO_JSON
        ):
            raise Fault(400, f"output {name!r}: {kind} has no JSON form; ask for binary_data")


def as_binary(asked: Asked, name: str) -> bool:
    """Tell whether an output goes as bytes after the JSON."""
    own = asked.outputs.get(name) if asked.outputs else None
    return asked.binary if own is None else own


def whole(parameters: Mapping[str, Any], name: str, most: int, what: str) -> int:
    """Return a parameter that is a whole number from 0 (which it is when not given) to ``most``; else Fault."""
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise Fault(400, f"parameters.{name}: {value!r} is not a whole number from 0 to {most} ({what})")
    return value
