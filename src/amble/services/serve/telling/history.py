"""Requests, batches and the meter, second by second → what the dashboard draws: the last ten minutes, and the saving.

The saving is against the most accurate variant at full clocks for the very same batches, idling at those clocks in
between: measured joules on one side, the ladder's prediction on the other. Without a meter there is none.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from amble.services.serve.models.model import Model
from amble.services.serve.pulse import Sample
from amble.services.serve.requests.admission import Listener
from amble.services.serve.telling.ledger import Outcome
from amble.stages.control.batcher import Request
from amble.stages.control.engine import Batch

__all__ = ["History", "Second"]

_KEPT = 600
_STEP = math.log(1.05)
_LEAST_S = 1e-5


@dataclass(slots=True)
class Second:
    """What happened in one second. Latencies are counted in steps of 5 %, so that a second stays small."""

    answered: int = 0
    late: int = 0
    refused: int = 0
    batches: int = 0
    busy_s: float = 0.0
    latency: Counter[int] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    baseline_j: float | None = 0.0  # None where the ladder knows no energy
    baseline_s: float = 0.0

    def quantile_s(self, share: float) -> float | None:
        """Return a quantile of the latencies [s], right to 2.5 %; None when there were none."""
        wanted, below = share * sum(self.latency.values()), 0
        for step, count in sorted(self.latency.items()):
            below += count
            if below >= wanted:
                return _LEAST_S * math.exp((step + 0.5) * _STEP)
        return None


class History(Listener):
    """Seconds so far, each closed by ``tick``."""

    def __init__(self) -> None:
        self.series: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.energy_j: float | None = None
        self.saved_j: float | None = None
        self.baseline_j: float | None = 0.0
        self._now = Second()
        self._last: Sample | None = None

    def answered(self, model: Model, outcome: Outcome, context: Mapping[str, str]) -> None:
        """Count an answer."""
        now = self._now
        now.answered += 1
        now.late += outcome.late
        now.rows[outcome.rung.variant] += outcome.rows
        latency_s = max(_LEAST_S, outcome.finish_s - outcome.arrival_s)
        now.latency[int(math.log(latency_s / _LEAST_S) / _STEP)] += 1

    def ran(self, model: Model, batch: Batch) -> None:
        """Count a batch, and what it would have cost at full clocks."""
        now = self._now
        top = model.loaded.ladder.levels[0].rungs[0]
        now.batches += 1
        now.busy_s += batch.finish_s - batch.start_s
        joules = top.energy_j
        now.baseline_j = None if joules is None or now.baseline_j is None else now.baseline_j + joules[batch.rows - 1]
        now.baseline_s += top.latency_s[batch.rows - 1]

    def refused(self, model: Model, request: Request, cause: str) -> None:
        """Count a refusal."""
        self._now.refused += 1

    def take(self) -> Second:
        """Return what happened since the last time, for another history to ``add``."""
        taken, self._now = self._now, Second()
        return taken

    def add(self, second: Second) -> None:
        """Count what happened elsewhere: the whole of what is closed by the next ``tick``."""
        self._now = second

    def tick(self, time_s: float, sample: Sample | None, pending: int, models: tuple[Model, ...]) -> None:
        """Close a second at a wall-clock time [s]; ``sample`` is the newest of the meter."""
        now, self._now = self._now, Second()
        last, self._last = self._last, sample
        passed = sample.reading - last.reading if sample is not None and last is not None else None
        power_w = None
        if passed is not None and passed.energy_j is not None and passed.latency_s > 0:
            power_w = passed.energy_j / passed.latency_s
            self._account(now, passed.energy_j, passed.latency_s, models)
        clocks = sample.ran_at if sample else None
        core_hz = (clocks.core_hz or clocks.cpu_hz) if clocks else None
        self.series.append(
            {
                "time_s": round(time_s, 2),
                "answered": now.answered,
                "late": now.late,
                "refused": now.refused,
                "batches": now.batches,
                "p50_s": now.quantile_s(0.5),
                "p99_s": now.quantile_s(0.99),
                "rows": dict(now.rows),
                "busy": now.busy_s,
                "power_w": power_w,
                "core_hz": core_hz,
                "pending": pending,
            }
        )

    def _account(self, now: Second, energy_j: float, passed_s: float, models: tuple[Model, ...]) -> None:
        idle_w = max((model.loaded.ladder.levels[0].rungs[0].idle_w for model in models), default=0.0)
        self.energy_j = (self.energy_j or 0.0) + energy_j
        if self.baseline_j is None or now.baseline_j is None:
            self.baseline_j = self.saved_j = None
            return
        self.baseline_j += now.baseline_j + max(0.0, passed_s - now.baseline_s) * idle_w
        self.saved_j = self.baseline_j - self.energy_j
