"""Layers in FP32 and in INT8 → which of them to leave in FP32: the least time within an accuracy budget.

A column of the trellis for each layer in execution order, two nodes each: floating point and INT8. A node costs the
layer's time there and the accuracy that it is estimated to lose, an edge between unlike nodes a cast of the tensor that
crosses. Time stands for energy: at one clock they are proportional. Branches are taken for a chain, and losses are
added although they do not add: what comes out is a proposal, to be measured before anyone calls it feasible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.ports import FloatArray
from amble.stages.plan.search import solve
from amble.stages.plan.trellis import DenseSwitch, Trellis

__all__ = ["FLOAT", "INT8", "Mix", "mix", "mixes", "share_out"]

FLOAT, INT8 = 0, 1
_NO_LIMIT = 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """A proposal: which layers are INT8 [layer], its predicted time [s] and estimated loss [points]."""

    is_int8: tuple[bool, ...]
    latency_s: float
    loss: float

    @property
    def left(self) -> tuple[int, ...]:
        """Return the layers that stay in floating point."""
        return tuple(index for index, each in enumerate(self.is_int8) if not each)


def mix(latency_s: FloatArray, loss: FloatArray, cast_s: FloatArray, *, max_loss: float) -> Mix | None:
    """Return the fastest mix whose estimated losses add up to at most ``max_loss``; None where there is none.

    latency_s: [layer, 2] in floating point and in INT8; loss: [layer] in INT8, points; cast_s: [layer + 1], a cast of
    what goes into each layer, the last one of what comes out of the network. Inputs and outputs are floating point.
    """
    num = len(latency_s)
    if latency_s.shape != (num, 2) or loss.shape != (num,) or cast_s.shape != (num + 1,):
        raise ValueError("latency_s must be [layer, 2], loss [layer] and cast_s [layer + 1]")
    losses = np.stack([np.zeros(num), np.maximum(loss, 0.0)], axis=1)
    casts = np.zeros((num + 1, 2, 2))
    casts[:, FLOAT, INT8] = casts[:, INT8, FLOAT] = cast_s
    times_s = latency_s.copy()
    times_s[-1, INT8] += cast_s[-1]  # the way out: a trellis without a wait has no step after its last column
    trellis = Trellis(times_s, times_s, DenseSwitch(casts, casts), losses, start=FLOAT)
    found = solve(trellis, _NO_LIMIT, max_loss=max_loss)
    if not found.feasible:
        return None
    return Mix(tuple((found.path == INT8).tolist()), found.latency_s, found.loss)


def mixes(latency_s: FloatArray, loss: FloatArray, cast_s: FloatArray, *, budgets: Sequence[float]) -> tuple[Mix, ...]:
    """Return the different mixes of several budgets [points], the fastest first; those all in FP32 are left out."""
    found: dict[tuple[bool, ...], Mix] = {}
    for budget in budgets:
        each = mix(latency_s, loss, cast_s, max_loss=budget)
        if each is not None and any(each.is_int8):
            found.setdefault(each.is_int8, each)
    return tuple(sorted(found.values(), key=lambda each: each.latency_s))


def share_out(whole: float, squared_errors: FloatArray) -> FloatArray:
    """Return each layer's part of the loss of the whole network in INT8 [layer], in proportion to its squared error.

    Accuracy lost by one layer alone is too small to be counted on a few examples. The noise that it adds to the scores
    is not, and noise of independent origin adds up in squares.
    """
    total = float(squared_errors.sum())
    if total <= 0:
        return np.zeros(len(squared_errors))
    return np.asarray(max(0.0, whole) * squared_errors / total)
