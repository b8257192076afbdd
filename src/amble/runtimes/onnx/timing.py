"""Runs with and without a profiler, interleaved → the times of operators, corrected for what observing them costs.

ONNX Runtime's profiler adds a few microseconds to every node: part of it inside the node's own duration (it writes down
shapes before it stops the watch), part of it between nodes. In an unobserved run only the dispatch between nodes is
left. So an operator's time is its observed duration plus one constant that is the same for all: negative when the
profiler adds more inside than the dispatch takes, and such that the sum is the time of the unobserved run. What no such
constant can explain (other clocks, other load) scales all operators alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from amble.core.ports import FloatArray, Meter

__all__ = ["Runs", "corrected", "interleave", "interrupted", "typical"]

_BLOCK = 5
_SMALLEST_SHARE = 0.05
_SHORT_S = 50e-6
_MIDDLE = (0.1, 0.9)
_FAST = (0.05, 0.25)
_INTERRUPTED = 0.1


@dataclass(frozen=True, slots=True)
class Runs:
    """Times of single runs [s].

    plain_s, wall_s: [run], the same unobserved runs by the chosen clock and by the wall; observed_s: [observed run];
    ``energy_j`` is the mean of one unobserved run, None without a meter.
    """

    plain_s: FloatArray
    wall_s: FloatArray
    observed_s: FloatArray
    energy_j: float | None


def interleave(
    plain: Callable[[], object],
    observed: Callable[[], object],
    *,
    repeats: int,
    num_observed: int,
    now_s: Callable[[], float],
    meter: Meter | None,
) -> Runs:
    """Run both in turn, in blocks, so that what changes with time changes both alike.

    Who was observed leaves caches full of its own: the first unobserved run after it is not timed.
    """
    plain_s: list[float] = []
    wall_s: list[float] = []
    observed_s: list[float] = []
    energies: list[float | None] = []
    while len(plain_s) < repeats:
        block = min(_BLOCK, num_observed - len(observed_s))
        observed_s += [_timed(observed, now_s)[0] for _ in range(block)]
        if block > 0:
            plain()
        before = meter.read() if meter else None
        for _ in range(min(_BLOCK, repeats - len(plain_s))):
            busy_s, passed_s = _timed(plain, now_s)
            plain_s.append(busy_s)
            wall_s.append(passed_s)
        energies.append((meter.read() - before).energy_j if meter and before else None)
    known = [energy_j for energy_j in energies if energy_j is not None]
    energy_j = sum(known) / repeats if len(known) == len(energies) else None
    return Runs(np.array(plain_s), np.array(wall_s), np.array(observed_s), energy_j)


def typical(durations_s: FloatArray) -> FloatArray:
    """Return what work takes that nothing interrupts. durations_s: [..., run].

    Short work is rarely interrupted and is told in whole microseconds: the mean between the 10th and 90th percentile
    resolves fractions of them. Longer work on a busy machine is mostly interrupted: the mean of its fast runs.
    """
    ordered = np.sort(durations_s, axis=-1)
    short = np.median(ordered, axis=-1) < _SHORT_S
    return np.asarray(np.where(short, _mean(ordered, *_MIDDLE), _mean(ordered, *_FAST)), dtype=np.float64)


def _mean(ordered_s: FloatArray, low: float, high: float) -> FloatArray:
    """Return the mean between two percentiles, of one run at least. ordered_s: [..., run]."""
    count = ordered_s.shape[-1]
    start = int(count * low)
    return np.asarray(ordered_s[..., start : max(int(count * high), start + 1)].mean(axis=-1), dtype=np.float64)


def corrected(durations_s: FloatArray, whole_s: float, *, most_inside_s: float, most_between_s: float) -> FloatArray:
    """Return the operators' times, which sum to ``whole_s``, the time of the unobserved run.

    durations_s: [operator], as observed. The constant takes at most ``most_inside_s`` off, what the profiler can add
    to a node (and never more than the shortest duration), and adds at most ``most_between_s``, the gap between nodes.
    """
    least_s = -min(max(0.0, most_inside_s), float(durations_s.min()))
    constant_s = float(np.clip((whole_s - durations_s.sum()) / len(durations_s), least_s, max(0.0, most_between_s)))
    shifted_s = np.maximum(durations_s + constant_s, _SMALLEST_SHARE * durations_s)
    return np.asarray(shifted_s * (whole_s / shifted_s.sum()), dtype=np.float64)


def interrupted(runs: Runs, durations_s: FloatArray) -> tuple[str, ...]:
    """Say where the profiler's durations [operator, run] are longer than the runs' own time: other work came between.

    ONNX Runtime tells durations by the wall. On a machine so busy that even fast runs are interrupted, the longest
    operators are most, and their shares of the run come out too large.
    """
    more = float(typical(durations_s).sum() / typical(runs.observed_s)) - 1.0
    if more <= _INTERRUPTED:
        return ()
    return (
        f"other work interrupted this: operators were seen for {more:.0%} longer than they ran. The whole is right, "
        "shares are not, and the longest operators come out too long: measure again on a quieter machine",
    )


def _timed(work: Callable[[], object], now_s: Callable[[], float]) -> tuple[float, float]:
    wall_s, busy_s = time.perf_counter(), now_s()
    work()
    return now_s() - busy_s, time.perf_counter() - wall_s
