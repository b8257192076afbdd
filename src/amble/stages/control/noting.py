"""Segments that run → slices of a log: when, at which clocks, for how much energy.

Looking costs a reading of the meter and of the clocks on each side of a segment, so only who keeps a log does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from amble.core.graph import Graph
from amble.core.log import Slice
from amble.core.point import OperatingPoint
from amble.core.ports import Device, Tensors

__all__ = ["Notes", "Run"]

Run = Callable[[Device, Graph, OperatingPoint, Tensors], Tensors]
"""Runs a segment on a device."""


@dataclass(slots=True)
class Notes:
    """What was noted of one batch; ``wanted`` tells whether to note anything."""

    wanted: bool
    slices: list[Slice] = field(default_factory=list)

    def run(self, run: Run, device: Device, graph: Graph, point: OperatingPoint, inputs: Tensors, rows: int) -> Tensors:
        """Run a segment, and note it."""
        if not self.wanted:
            return run(device, graph, point, inputs)
        before, ran_at = device.meter.read(), device.actuator.current()
        start_s = device.clock.now_s()
        outputs = run(device, graph, point, inputs)
        finish_s = device.clock.now_s()
        passed, steady = device.meter.read() - before, device.actuator.current() == ran_at
        stop = graph.offset + len(graph.operators)
        self.slices.append(
            Slice(0, graph.offset, stop, start_s, finish_s, ran_at, passed.energy_j, rows, point.precision, steady)
        )
        return outputs
