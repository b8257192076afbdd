"""Sizes of a layer's tensors and a system's on-chip buffer → the bytes that memory moves for it in one inference.

What fits half of the buffer stays on chip between layers, weights that fit do not: another request may come first. A
layer whose tensors do not fit together is worked on in tiles: either weights stay and inputs stream past each tile of
them, or the other way round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from amble.levers.memory.energy import System

__all__ = ["Moved", "moved"]


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes read of a layer's weights and of its input, and bytes of its input that were written before it."""

    weights_read: float
    input_read: float
    input_written: float


def moved(weights_bytes: float, input_bytes: float, system: System) -> Moved:
    """Count the traffic of one layer; ValueError for negative sizes."""
    if min(weights_bytes, input_bytes) < 0:
        raise ValueError("sizes are not negative")
    half = system.buffer_bytes / 2
    if input_bytes <= half:
        return Moved(weights_bytes, 0.0, 0.0)
    input_passes, weight_passes = max(math.ceil(weights_bytes / half), 1), math.ceil(input_bytes / half)
    stay = Moved(weights_bytes, input_bytes * input_passes, input_bytes)
    stream = Moved(weights_bytes * (weight_passes if weights_bytes > half else 1), input_bytes, input_bytes)
    if system.weights_stay:
        return stay
    return min(stay, stream, key=lambda each: each.weights_read + each.input_read)
