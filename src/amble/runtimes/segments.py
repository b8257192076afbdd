"""Times of many segments of a network → the time of every operator, where no profiler tells it.

A provider that compiles what it is given, or that runs on a GPU behind a queue, tells launches or nothing. But a
segment of the network is a network, and can be timed whole. The model: a run of operators a … b − 1 takes

    entry + boundary · (bytes that cross where the network was cut) + Σ time of each operator

with times that are not negative. Segments a little longer than a few operators tell neighbours apart and keep what the
provider fuses together; longer ones, and the whole network, say what it all adds up to. The fit is a least squares of
relative errors under the bounds (Lawson and Hanson, "Solving Least Squares Problems", 1974, ch. 23), weighted by
length: what no law of bytes knows of a segment's ends (a layout that is changed there, caches that are warm) spoils
short ones most. A weak pull towards what work and bytes let expect decides between operators that no segment separates.
Segments that were left out of the fit judge it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from amble.core.ports import FloatArray

__all__ = ["Solution", "Span", "solve", "spans", "works_s"]

_WINDOW = 4
"""Operators before the one that two neighbouring windows differ by: what is fused reaches no farther, mostly."""
_MOST_STARTS = 96
_PULL = 0.02
_WHOLE = 30.0
"""Weight of the whole network, which the sum has to meet."""
_FLOPS_PER_BYTE = 8.0

Span = tuple[int, int]
"""First operator, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Times of operators [operator], of entering a run, and of a byte that crosses an end of a segment [s].

    ``sum_error`` is by how much their sum, with the entry, misses the whole run; ``held_out`` are relative errors of
    segments that had no part in the fit [segment].
    """

    operators_s: FloatArray
    entry_s: float
    byte_s: float
    sum_error: float
    held_out: FloatArray

    @property
    def notes(self) -> tuple[str, ...]:
        """Say how good the times are, and where they miss what is wanted: 3 % of the sum, 10 % of a segment."""
        typical = float(np.median(np.abs(self.held_out))) if len(self.held_out) else float("nan")
        said = (
            f"operators' times come from timing segments: their sum is {self.sum_error:+.1%} off the whole run, "
            f"segments that were left out are predicted within {typical:.1%} (median of {len(self.held_out)})"
        )
        warned = []
        if abs(self.sum_error) > 0.03:
            warned.append("the operators' times do not add up to the whole within 3 %: plan for whole networks only")
        if typical > 0.10:
            warned.append("segments are not predicted within 10 %: the provider fuses across operators; do not split")
        return (said, *warned)


def spans(num_operators: int, *, seed: int = 0) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Choose the segments to time for a fit, the whole network last, and those that are kept to judge it."""
    stride = -(-num_operators // _MOST_STARTS)
    window = _WINDOW * stride
    short: list[Span] = []
    for stop in range(stride, num_operators + 1, stride):
        start = max(0, stop - stride - window)
        short += [(start, stop), (start, stop - stride)] if stop - stride > start else [(start, stop)]
    long: list[Span] = []
    length = 2 * window
    while length < num_operators:
        long += [(start, start + length) for start in range(0, num_operators - length + 1, max(1, length // 4))]
        length *= 2
    whole = (0, num_operators)
    fitted = [each for each in dict.fromkeys([*short, *long]) if each != whole]
    return (*fitted, whole), _kept(num_operators, {*fitted, whole}, np.random.default_rng(seed))


def _kept(num_operators: int, taken: set[Span], rng: np.random.Generator) -> tuple[Span, ...]:
    found: list[Span] = []
    for _ in range(40):
        length = int(rng.integers(max(2, num_operators // 8), max(3, num_operators * 3 // 4) + 1))
        start = int(rng.integers(0, max(1, num_operators - length + 1)))
        span = (start, min(num_operators, start + length))
        if span not in taken and span not in found:
            found.append(span)
    return tuple(found[:8])


def works_s(flops: Sequence[float], moved_bytes: Sequence[float]) -> FloatArray:
    """Return what operators would take by their work and bytes, in units of their own [operator]."""
    return np.asarray(np.maximum(np.array(flops) / _FLOPS_PER_BYTE, np.array(moved_bytes)), dtype=np.float64)


def solve(
    fitted: Sequence[tuple[Span, float]],
    kept: Sequence[tuple[Span, float]],
    *,
    crossing_bytes: Callable[[Span], float],
    expected: FloatArray,
) -> Solution:
    """Fit the times of operators to those of segments [s]; the last one is the whole network.

    ``expected`` [operator] are times in any unit that a weak pull goes towards.
    """
    whole, whole_s = fitted[-1]
    shares = expected / expected.sum() if expected.sum() > 0 else np.full(len(expected), 1.0 / len(expected))
    scale_bytes = max(1.0, max(crossing_bytes(span) for span, _ in fitted))
    rows, targets = [], []
    for span, time_s in fitted:
        weight = (_WHOLE if span == whole else (span[1] - span[0]) / _WINDOW) / max(time_s, 1e-9)
        rows.append(weight * _row(span, len(shares), crossing_bytes, scale_bytes) * whole_s)
        targets.append(weight * time_s)
    pull = np.concatenate([np.diag(_PULL / np.maximum(shares, 0.1 / len(shares))), np.zeros((len(shares), 2))], axis=1)
    matrix = np.concatenate([np.array(rows), pull])
    wanted = np.concatenate([targets, _PULL * shares / np.maximum(shares, 0.1 / len(shares))])
    found = nnls(matrix, wanted)[0] * whole_s
    operators_s, entry_s, byte_s = found[:-2], float(found[-2]), float(found[-1]) / scale_bytes

    def predicted_s(span: Span) -> float:
        return float(operators_s[span[0] : span[1]].sum()) + entry_s + byte_s * crossing_bytes(span)

    held_out = np.array([predicted_s(span) / time_s - 1.0 for span, time_s in kept])
    return Solution(operators_s, entry_s, byte_s, predicted_s(whole) / whole_s - 1.0, held_out)


def _row(span: Span, count: int, crossing_bytes: Callable[[Span], float], scale_bytes: float) -> FloatArray:
    row = np.zeros(count + 2)
    row[span[0] : span[1]] = 1.0
    row[-2] = 1.0
    row[-1] = crossing_bytes(span) / scale_bytes
    return row
