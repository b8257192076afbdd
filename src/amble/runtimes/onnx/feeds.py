"""The inputs of a network → made-up tensors that it can run on, for timing and for counting.

Pictures and features are standard normal. Whole numbers are drawn from the vocabulary of the table they look up, 0 and
1 where none is found. Texts are the digits 0 and 1, which every operator on texts takes, also one that reads numbers.
Some inputs are known by name, as exporters write them: see ``_KNOWN``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from amble.core.errors import Refused
from amble.core.graph import Port
from amble.runtimes.values import numpy_type

__all__ = ["made_up", "vocabularies"]

Array = npt.NDArray[Any]

_KNOWN: tuple[tuple[re.Pattern[str], Callable[[tuple[int, ...]], Array]], ...] = (
    (re.compile(r"mask", re.IGNORECASE), np.ones),
    (re.compile(r"token_type|segment", re.IGNORECASE), np.zeros),
    (
        re.compile(r"position", re.IGNORECASE),
        lambda shape: np.broadcast_to(np.arange(shape[-1] if shape else 1), shape),
    ),
    (re.compile(r"^(sr|sample_?rate|sampling_?rate)$", re.IGNORECASE), lambda shape: np.full(shape, 16000)),
    (re.compile(r"_len(gth)?s?$|^len(gth)?s?$", re.IGNORECASE), np.ones),
)
_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_SMALL = ("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz")
_FEATURES = ("float", "double", "float16", "bfloat16", *_SMALL)


def made_up(inputs: tuple[Port, ...], vocabulary: Mapping[str, int], seed: int, *, of: str) -> dict[str, Array]:
    """Draw one tensor for every input of a network called ``of``.

    Refused for element types that cannot be drawn, and where there is not the memory.
    """
    rng = np.random.default_rng(seed)
    return {port.name: _tensor(port, vocabulary.get(port.name), rng, of) for port in inputs}


def vocabularies(graph: onnx.GraphProto) -> dict[str, int]:
    """Return how many rows the table has that an input looks up (``Gather``, perhaps after a cast), by input name."""
    rows = {each.name: each.dims[0] for each in graph.initializer if each.dims}
    origin = {each.name: each.name for each in graph.input}
    found: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
        elif node.op_type == "Gather" and node.input[0] in rows and node.input[1] in origin:
            name = origin[node.input[1]]
            found[name] = min(rows[node.input[0]], found.get(name, rows[node.input[0]]))
    return found


def _tensor(port: Port, vocabulary: int | None, rng: np.random.Generator, of: str) -> Array:
    if port.dtype not in (*_WHOLE, *_FEATURES, "bool", "string"):
        raise Refused(
            f"{of}: input {port.name!r} has element type {port.dtype}, of which no values can be made up; "
            f"export the model with a Cast behind an input of float"
        )
    try:
        return _drawn(port, vocabulary, rng)
    except MemoryError as error:
        size = " × ".join(map(str, port.shape))
        raise Refused(
            f"{of}: input {port.name!r} of {size} elements takes more memory than there is; give a smaller shape"
        ) from error


def _drawn(port: Port, vocabulary: int | None, rng: np.random.Generator) -> Array:
    if port.dtype == "string":
        return np.array(rng.integers(0, 2, port.shape)).astype(str).astype(object)
    dtype = numpy_type(port.dtype)
    for pattern, known in _KNOWN:
        if pattern.search(port.name):
            return np.array(known(port.shape)).astype(dtype)
    if port.dtype == "bool":
        return np.ones(port.shape, dtype)
    if port.dtype in _WHOLE:
        return np.array(rng.integers(0, vocabulary or 2, port.shape)).astype(dtype)
    return np.array(rng.standard_normal(port.shape)).astype(dtype)
