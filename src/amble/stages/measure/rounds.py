"""Several pieces of work → the time of each in every round, in turn, so that what changes with time changes all alike.

A comparison on a busy machine must not depend on when each side ran. So every round runs all of them, each for about
the same time and in an order that changes from round to round, and what is compared is the ratio within a round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np

from amble.core.ports import FloatArray

__all__ = ["rounds", "speedups"]

_WARM_UP = 2
_LEAST_RUNS = 3

OnProgress = Callable[[int, int], None]


def rounds(
    works: Sequence[Callable[[], object]],
    now_s: Callable[[], float],
    *,
    num_rounds: int = 15,
    round_s: float = 0.03,
    on_progress: OnProgress = lambda done, total: None,
) -> FloatArray:
    """Time each work in each round [round, work]: the median of as many runs as take about ``round_s``, at least 3."""
    if num_rounds < 1 or not works:
        raise ValueError("at least one round of at least one work")
    firsts_s = [min(_timed(work, now_s) for _ in range(_WARM_UP)) for work in works]
    counts = [max(_LEAST_RUNS, ceil(round_s / max(first_s, 1e-6))) for first_s in firsts_s]
    times_s = np.empty((num_rounds, len(works)))
    for row in range(num_rounds):
        for place in range(len(works)):
            at = (row + place) % len(works)
            times_s[row, at] = np.median([_timed(works[at], now_s) for _ in range(counts[at])])
        on_progress(row + 1, num_rounds)
    return times_s


def speedups(times_s: FloatArray, reference: int = 0) -> FloatArray:
    """Return the reference's time over each one's, round by round [round, work]."""
    return np.asarray(times_s[:, [reference]] / times_s)


def _timed(work: Callable[[], object], now_s: Callable[[], float]) -> float:
    start_s = now_s()
    work()
    return now_s() - start_s
