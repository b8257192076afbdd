"""Buckets of a latency histogram → percentiles as intervals, and shares over an objective.

A histogram says how many requests ended between two edges and no more. So a percentile is an interval: from the lower
edge of the first bucket that may hold it to the upper edge of the last one that may, where *may* also counts the
chance of a sample (the binomial interval of its rank). An objective is judged at the last edge that is not above it:
what lies between that edge and the objective is counted as late, never as on time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from scipy.stats import binom

from amble.core.errors import Refused
from amble.services.govern.objective import Objective

__all__ = ["Buckets", "Interval", "judged_at"]

_COARSE = 0.5  # an edge below this share of the objective judges another objective


@dataclass(frozen=True, slots=True)
class Interval:
    """A latency between two bounds [s]; ``high_s`` may be infinite."""

    low_s: float
    high_s: float


@dataclass(frozen=True, slots=True)
class Buckets:
    """How many requests ended in each bucket: ``counts[i]`` above ``edges_s[i - 1]`` and up to ``edges_s[i]``.

    The last count is of those above the last edge, so there is one more count than there are edges.
    """

    edges_s: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        """Return the number of requests."""
        return sum(self.counts)

    def percentile(self, share: float, *, confidence: float = 0.95) -> Interval | None:
        """Return where this percentile (0 to 1) lies with this confidence; None without requests."""
        total = round(self.total)
        if total == 0:
            return None
        tail = (1.0 - confidence) / 2.0
        first, last = int(binom.ppf(tail, total, share)), int(binom.ppf(1.0 - tail, total, share)) + 1
        below = list(accumulate(self.counts))
        bounds = (0.0, *self.edges_s, float("inf"))
        low = next(index for index, count in enumerate(below) if count >= max(1, first) - 1e-9)
        high = next((index for index, count in enumerate(below) if count >= last - 1e-9), len(below) - 1)
        return Interval(bounds[low], bounds[high + 1])

    def over(self, limit_s: float) -> float:
        """Return how many requests took longer than an edge [s]."""
        within = sum(1 for edge_s in self.edges_s if edge_s <= limit_s * (1.0 + 1e-9))
        return sum(self.counts[within:])

    def __sub__(self, earlier: Buckets) -> Buckets:
        """Return what came since an earlier reading of the same histogram."""
        assert self.edges_s == earlier.edges_s, "two readings of one histogram"
        return Buckets(self.edges_s, tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True)))


def judged_at(edges_s: tuple[float, ...], objective: Objective) -> float:
    """Return the edge [s] at which an objective is judged; Refused, with those that can be judged, if none is near."""
    below = [edge_s for edge_s in edges_s if edge_s <= objective.limit_s * (1 + 1e-9)]
    if below and below[-1] >= _COARSE * objective.limit_s:
        return below[-1]
    near = sorted(edges_s, key=lambda edge_s: abs(edge_s - objective.limit_s))[:3]
    can = ", ".join(f"'{objective.at(edge_s)}'" for edge_s in sorted(near)) or "none: it has no finite bucket"
    raise Refused(
        f"the server's histogram cannot judge '{objective}': its buckets are too coarse there; what it can judge: "
        f"{can} (or let the server have a bucket at {1e3 * objective.limit_s:g} ms, or use --canary)"
    )
