"""What became of every request → counters, histograms and sums, by model: what statistics, metrics and the page read.

Kept in one thread, the one that answers the clients, so it needs no locks. All of it is bounded: nothing here grows
with the number of requests.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from amble.core.ladder import Rung

__all__ = ["DURATIONS_S", "ENERGIES_J", "SLACKS_S", "Book", "Histogram", "Ledger", "Outcome"]

DURATIONS_S = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.2,
    0.5,
    1.0,
    5.0,
)
ENERGIES_J = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SLACKS_S = (-1.0, -0.1, -0.01, 0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)


class Outcome(NamedTuple):
    """One request that was answered: its own rows and its batch's, times [s] on the device's clock, its energy."""

    rung: Rung
    rows: int
    batch_rows: int
    arrival_s: float
    start_s: float
    finish_s: float
    due_s: float
    energy_j: float | None
    idle_j: float | None
    core_hz: float | None

    @property
    def late(self) -> bool:
        """Tell whether it came after its deadline."""
        return self.finish_s > self.due_s


@dataclass(slots=True)
class Histogram:
    """Counts by upper bound; the last count is for what is above all bounds."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """Return how many there were."""
        return sum(self.counts)


@dataclass(slots=True)
class Book:
    """One model's counters. Times are sums in ns, as the protocol's statistics want them."""

    success: int = 0
    success_ns: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failed_ns: int = 0
    rows: int = 0
    batches: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    met: int = 0
    late: int = 0
    pending: int = 0
    last_ms: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    precisions: Counter[str] = field(default_factory=Counter)
    batch_sizes: Counter[int] = field(default_factory=Counter)
    batch_ns: Counter[int] = field(default_factory=Counter)
    duration: Histogram = field(default_factory=lambda: Histogram(DURATIONS_S))
    queue: Histogram = field(default_factory=lambda: Histogram(DURATIONS_S))
    energy: Histogram = field(default_factory=lambda: Histogram(ENERGIES_J))
    slack: Histogram = field(default_factory=lambda: Histogram(SLACKS_S))
    error_ratio: float | None = None

    def answered(self, outcome: Outcome) -> None:
        """Count a request that was answered."""
        took_s, waited_s = outcome.finish_s - outcome.arrival_s, outcome.start_s - outcome.arrival_s
        self.success += 1
        self.rows += outcome.rows
        self.success_ns += round(took_s * 1e9)
        self.queue_ns += round(waited_s * 1e9)
        self.infer_ns += round((outcome.finish_s - outcome.start_s) * 1e9)
        late = outcome.late
        self.met += not late
        self.late += late
        self.precisions[outcome.rung.variant] += 1
        self.duration.observe(took_s)
        self.queue.observe(waited_s)
        if outcome.energy_j is not None:
            self.energy.observe(outcome.energy_j)
        if outcome.due_s != float("inf"):
            self.slack.observe(outcome.due_s - outcome.finish_s)

    def ran(self, rung: Rung, rows: int, took_s: float) -> None:
        """Count a batch, and how far off its prediction was, smoothed over the last hundred."""
        self.batches += 1
        self.batch_sizes[rows] += 1
        self.batch_ns[rows] += round(took_s * 1e9)
        error = took_s / rung.latency_s[rows - 1] - 1.0
        self.error_ratio = error if self.error_ratio is None else 0.99 * self.error_ratio + 0.01 * error

    def failed(self, reason: str, cause: str, took_s: float) -> None:
        """Count a request without an answer: ``reason`` in Triton's words, ``cause`` in ours (empty: none of them)."""
        self.failures[reason] += 1
        self.failed_ns += round(max(0.0, took_s) * 1e9)
        if cause:
            self.refused[cause] += 1


@dataclass(slots=True)
class Ledger:
    """The books of all models that were ever served, by (name, version), and the device's busy time [s]."""

    books: dict[tuple[str, str], Book] = field(default_factory=dict)
    busy_s: float = 0.0

    def book(self, name: str, version: str) -> Book:
        """Return a model's book, opening it at its first use."""
        if (book := self.books.get((name, version))) is None:
            book = self.books[(name, version)] = Book()
        return book
