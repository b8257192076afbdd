"""Layers of a network → the error that each one's INT8 alone adds to the scores; can be interrupted and taken up again.

One layer at a time is quantised and all others stay in floating point, so there is one small network to make and run
for each. What is known is kept in a file after every layer. When the time is up, the layers that were not reached count
as the worst that is known: a guess that keeps them in floating point first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from amble.core import files
from amble.core.files import Format
from amble.core.ports import FloatArray
from amble.core.spreading import OnProgress as Told
from amble.core.spreading import Spread, in_order

__all__ = ["SENSITIVITY", "Sensitivity", "measure", "squared_errors"]

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Squared errors of layers in INT8, by layer, relative to the variance of the scores.

    ``digest`` is the network's, ``num_examples`` how many were answered: what is known holds for these alone.
    """

    digest: str
    num_layers: int
    num_examples: int
    known: dict[str, float] = field(default_factory=dict)


SENSITIVITY = Format("sensitivity", 1, Sensitivity)


def measure(
    empty: Sensitivity,
    error_of: Callable[[int, Told], float],
    *,
    order: Sequence[int],
    keep: Path | None = None,
    most_s: float = 120.0,
    on_progress: OnProgress = lambda done, total: None,
    spread: Spread = in_order,
) -> Sensitivity:
    """Ask for the error of one layer after another, in this order, until all are known or ``most_s`` [s] are over."""
    found = _so_far(empty, keep)
    until_s = time.perf_counter() + most_s
    left = [layer for layer in order if str(layer) not in found.known]
    with closing(spread(error_of, left, lambda what, done, total: None)) as errors:
        for layer in left:
            if time.perf_counter() > until_s:
                break
            found.known[str(layer)] = next(errors)
            if keep is not None:
                files.save(found, keep, SENSITIVITY)
            on_progress(len(found.known), found.num_layers)
    return found


def squared_errors(found: Sensitivity) -> FloatArray:
    """Return every layer's squared error [layer]; one that is not known counts as the worst that is."""
    worst = max(found.known.values(), default=1.0)
    return np.array([found.known.get(str(layer), worst) for layer in range(found.num_layers)])


def _so_far(empty: Sensitivity, keep: Path | None) -> Sensitivity:
    """Return what was known before, if it is about the same network and examples."""
    if keep is not None and keep.exists():
        kept = files.load(keep, SENSITIVITY)
        if (kept.digest, kept.num_layers, kept.num_examples) == (empty.digest, empty.num_layers, empty.num_examples):
            return kept
    return Sensitivity(empty.digest, empty.num_layers, empty.num_examples)
