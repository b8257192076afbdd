"""A device small enough to reckon by hand: latency = flops / core_hz, busy 10 W, idle 1 W, a settable settling time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.graph import Graph, Operator
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Tensors, Timing, Timings

LEVELS = (Clocks(core_hz=1e9), Clocks(core_hz=2e9))


def graph(*flops: float, name: str = "fake") -> Graph:
    """A chain of operators with these FLOPs."""
    operators = tuple(Operator(f"op{i}", "MatMul", each, 4.0, 4.0) for i, each in enumerate(flops))
    return Graph(name, operators, 1, f"digest of {name} {flops}")


@dataclass
class FakeDevice:
    """All ports in one, so that a test sees one state. Time passes only in sleep, apply and run."""

    settings: tuple[Clocks, ...] = LEVELS
    settle_s: float = 0.0
    stall_s: float = 0.0
    metered: bool = True
    time_s: float = 0.0
    energy_j: float = 0.0
    asked: Clocks = LEVELS[-1]
    before: Clocks = LEVELS[-1]
    effective_s: float = 0.0
    applied: list[Clocks] = field(default_factory=list)
    ran: list[tuple[int, int, Clocks]] = field(default_factory=list)
    fail_at: int = -1

    def device(self) -> Device:
        return Device("fake:device", self, self, self, self, "uncalibrated: a fake")

    def now_s(self) -> float:
        return self.time_s

    def sleep(self, duration_s: float) -> None:
        self._pass(duration_s, 1.0)

    def read(self) -> Reading:
        return Reading(self.time_s, self.energy_j if self.metered else None)

    def available(self) -> tuple[Clocks, ...]:
        return self.settings

    def current(self) -> Clocks:
        return self.asked if self.time_s >= self.effective_s - 1e-12 else self.before

    def apply(self, clocks: Clocks) -> None:
        if clocks not in self.settings:
            raise Refused(f"no such clocks: {clocks}")
        self.before, self.asked = self.current(), clocks
        self.applied.append(clocks)
        self._pass(self.stall_s, 5.0)
        self.effective_s = self.time_s + self.settle_s

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        for offset, operator in enumerate(graph.operators, graph.offset):
            if offset == self.fail_at:
                raise RuntimeError("the device broke")
            core_hz = self.current().core_hz or 1e9
            self._pass(operator.flops / core_hz, 10.0)
        self.ran.append((graph.offset, graph.offset + len(graph.operators), self.current()))
        return inputs

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        core_hz = self.current().core_hz or 1e9
        latencies_s = [operator.flops / core_hz for operator in graph.operators]
        timings = tuple(Timing(each, 0.0, 10.0 * each if self.metered else None) for each in latencies_s)
        total_s = float(np.sum(latencies_s))
        self._pass(total_s * repeats, 10.0)
        whole = Timing(total_s, 0.0, 10.0 * total_s if self.metered else None)
        return Timings(timings, whole, self.current(), repeats, ratios=(1.0,) * repeats)

    def _pass(self, duration_s: float, power_w: float) -> None:
        self.time_s += duration_s
        self.energy_j += duration_s * power_w
