"""Samples → estimates with confidence intervals that assume no distribution.

Order statistics and shares assume that requests are independent. Where a queue ties neighbours together, the intervals
are somewhat too narrow; sums over the whole run are therefore cut into blocks instead (`ratio_of_sums`).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import bdtr, betaincinv, ndtri, stdtrit

from amble.core.ports import FloatArray
from amble.core.report import Estimate, Share

__all__ = ["clopper_pearson", "quantile", "ratio_of_sums", "requests_needed", "wilson"]


def quantile(values: FloatArray, percentile: float, confidence: float = 0.95) -> Estimate:
    """Return the nearest-rank percentile of ``values``, [sample], and its order-statistic interval.

    The ends are order statistics whose ranks bound the binomial number of samples below the percentile (David and
    Nagaraja, Order Statistics, 3rd ed., section 7.1). With too few samples an end does not exist: None.
    """
    ordered = np.sort(values)
    count = ordered.size
    if not count:
        raise ValueError("no percentile of nothing")
    below = bdtr(np.arange(count), count, percentile)  # [rank]: P(at most that many samples are below)
    tail = (1 - confidence) / 2
    low = int(np.searchsorted(below, tail, side="right")) - 1
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return Estimate(
        float(ordered[rank(count, percentile)]),
        float(ordered[low]) if low >= 0 else None,
        float(ordered[high]) if high < count else None,
    )


def rank(count: int, percentile: float) -> int:
    """Return the index of the nearest-rank percentile among ``count`` ordered samples.

    It is within the deadline exactly when the late ones are no more than ``(1 - percentile) × count``.
    """
    return min(count, max(1, math.ceil(percentile * count - 1e-9))) - 1


def clopper_pearson(count: int, out_of: int, confidence: float = 0.95) -> Share:
    """Return a share with its exact interval (Clopper and Pearson 1934)."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, out_of - count + 1, tail))
    high = 1.0 if count == out_of else float(betaincinv(count + 1, out_of - count, 1 - tail))
    return Share(count, out_of, Estimate(count / out_of, low, high))


def wilson(count: int, out_of: int, confidence: float = 0.95) -> Share:
    """Return a share with its score interval (Wilson 1927)."""
    z = float(ndtri((1 + confidence) / 2))
    ratio, weight = count / out_of, z * z / out_of
    centre = (ratio + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(ratio * (1 - ratio) / out_of + weight / (4 * out_of))
    return Share(count, out_of, Estimate(ratio, max(0.0, centre - half), min(1.0, centre + half)))


def ratio_of_sums(above: FloatArray, below: FloatArray, confidence: float = 0.95) -> Estimate:
    """Return Σ above / Σ below over paired blocks, [block], with a delete-one-block jackknife interval.

    Blocks of consecutive requests keep neighbours together (Künsch 1989); Student's t with one degree of freedom less
    than blocks. Without at least four blocks there is no interval.
    """
    total = float(above.sum() / below.sum())
    blocks = above.size
    if blocks < 4:
        return Estimate(total)
    without = (above.sum() - above) / (below.sum() - below)
    spread = math.sqrt((blocks - 1) / blocks * float(np.sum((without - without.mean()) ** 2)))
    half = float(stdtrit(blocks - 1, (1 + confidence) / 2)) * spread
    return Estimate(total, total - half, total + half)


def requests_needed(percentile: float, confidence: float = 0.95) -> int:
    """Return how many requests, none of them late, it takes to vouch for a percentile: 299 for p99 at 95 %."""
    return math.ceil(math.log(1 - confidence) / math.log(percentile))
