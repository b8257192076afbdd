"""A few rungs, their ladder, and a sink that remembers: three clocks, FP32 and INT8, times to be reckoned by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from amble.core.cost import Cost
from amble.core.ladder import Ladder, Rung
from amble.core.point import Clocks
from amble.core.ports import Device, FloatArray
from amble.core.profile import SwitchCost
from amble.devices.recorded.tabled import Behaviour, open_table, whole
from amble.stages.control.batcher import Refusal, Request
from amble.stages.control.engine import Batch, Engine, Lane, Totals
from amble.stages.control.source import Replay
from amble.stages.plan.ladder import build

SLOW, MIDDLE, FAST = (Clocks(core_hz=mhz * 1e6) for mhz in (500.0, 1000.0, 1500.0))
BUSY_W = {SLOW: 40.0, MIDDLE: 60.0, FAST: 120.0}
IDLE_W = {SLOW: 20.0, MIDDLE: 22.0, FAST: 26.0}
ONE_S = {SLOW: 0.030, MIDDLE: 0.015, FAST: 0.010}  # one request at FP32


def every_rung(*, factor: float = 2.0, loss: float = 0.006, max_batch: int = 1, int8: bool = True) -> tuple[Rung, ...]:
    """Every clock at FP32, and at INT8: so many times as fast at the same power. Further rows cost half."""
    found = []
    for clocks, one_s in ONE_S.items():
        sizes = [0.5 + 0.5 * size for size in range(1, max_batch + 1)]
        times = tuple(one_s * size for size in sizes)
        joules = tuple(BUSY_W[clocks] * each for each in times)
        found.append(Rung("fp32", clocks, times, joules, 1.0, IDLE_W[clocks]))
        if int8:
            quick = tuple(each / factor for each in times)
            found.append(
                Rung("int8", clocks, quick, tuple(each / factor for each in joules), 1.0 - loss, IDLE_W[clocks])
            )
    return tuple(found)


def ladder(rungs: tuple[Rung, ...] | None = None, *, stall_s: float = 0.0, settle_s: float = 0.0) -> Ladder:
    """Build the ladder of the rungs."""
    switches = (SwitchCost("core", Cost(stall_s, stall_s * 100.0), settle_s),)
    return build(rungs or every_rung(), graph="net", device="table:test", switches=switches)


@dataclass
class Notes:
    """A sink that keeps everything."""

    batches: list[Batch] = field(default_factory=list)
    refusals: list[tuple[Request, Refusal]] = field(default_factory=list)

    def answered(self, batch: Batch) -> None:
        self.batches.append(batch)

    def refused(self, request: Request, refusal: Refusal) -> None:
        self.refusals.append((request, refusal))

    @property
    def num_answered(self) -> int:
        return sum(len(batch.requests) for batch in self.batches)

    @property
    def num_late(self) -> int:
        return sum(batch.finish_s > request.due_s for batch in self.batches for request in batch.requests)


def open_device(rungs: tuple[Rung, ...] | None = None, *, seed: int = 0, **behaviour: Any) -> Device:
    """A table without noise unless asked for."""
    return open_table("test", rungs or every_rung(), behaviour=Behaviour(**{"noise": 0.0, **behaviour}), seed=seed)


def lane(governor: Any, *, model: str = "", queue_limit: int = 1024) -> Lane:
    """A lane whose graphs are known to the table alone."""
    return Lane(model, governor, lambda variant, batch: whole(model or "net", variant, batch), queue_limit)


def serve(device: Device, governor: Any, arrivals_s: FloatArray, deadline_s: float) -> tuple[Notes, Totals]:
    """Serve a trace and return what was noted."""
    notes = Notes()
    totals = Engine(device, [lane(governor)], notes).run(Replay(arrivals_s, device.clock, deadline_s=deadline_s))
    return notes, totals


def poisson(rate_hz: float, count: int, seed: int = 0) -> FloatArray:
    """Independent arrivals."""
    return np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate_hz, count))
