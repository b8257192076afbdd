"""Scores → classes: the classification extension of the protocol, ``SCORE:INDEX`` of the highest, the highest first.

Where names of the classes are known it is ``SCORE:INDEX:NAME``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amble.runtimes.remote.datatypes import Array
from amble.runtimes.remote.fault import Fault

__all__ = ["classes_of", "classified"]

_MOST = 1000  # texts are made where others wait


def classes_of(name: str, parameters: Mapping[str, Any]) -> int:
    """Read how many classes of an output are wanted; 0 where none are asked for."""
    count = parameters.get("classification", 0)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MOST:
        raise Fault(
            400, f"output {name!r}: classification is a number of classes from 0 to {_MOST}, not {str(count)[:100]}"
        )
    return count


def classified(value: Array, count: int, rows: bool, labels: Sequence[str] = ()) -> Array:
    """Return texts of the ``count`` highest scores, for each row of a batch or for the whole tensor.

    ``labels`` are the names of the classes, as far as there are any.

    Of equal scores the first comes first; what is no number comes last. Fault for what has no scores.
    """
    if value.dtype.kind in "OSU":
        raise Fault(400, "classification: the output is a tensor of BYTES, which has no scores")
    rows = rows and value.ndim > 0
    scores = value.reshape(len(value), -1) if rows and value.size else value.reshape(1, -1)
    numbers = scores if scores.dtype.kind in "iub" else scores.astype(np.float64)
    order = np.argsort(_falling(numbers), axis=1, kind="stable")[:, :count]
    made = np.empty(order.shape, np.object_)
    for row, chosen in enumerate(order):
        made[row] = [f"{_said(numbers[row, index])}:{_named(int(index), labels)}" for index in chosen]
    return made if rows else made[0]


def _named(index: int, labels: Sequence[str]) -> str:
    return f"{index}:{labels[index]}" if index < len(labels) and labels[index] else str(index)


def _falling(scores: Array) -> Array:
    """Return numbers that rise where scores fall, without overflow."""
    if scores.dtype.kind == "f":
        return -scores
    return np.bitwise_not(scores)


def _said(score: Any) -> str:
    return f"{score:.6f}" if isinstance(score, np.floating) else str(int(score))
