"""A Device with a time of its own → the same device in this machine's time, so that real clients can be served on it.

A simulated device says how long a run takes; here that much time really passes before the run returns. When nothing
runs, the simulation is let idle for as long as really passed. So its joules and clocks are what they would be under
this very load; only computing the outputs takes this machine's time, and a run can never be quicker than that.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

from amble.core.cost import Reading
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Tensors, Timings

__all__ = ["paced"]


def paced(device: Device) -> Device:
    """Return a device that keeps this machine's time from now on."""
    pacer = _Pacer(device)
    return replace(device, clock=pacer, meter=pacer, actuator=pacer, runner=pacer)


@dataclass(slots=True)
class _Pacer:
    """All ports of a device, each brought up to date first."""

    device: Device
    _origin_s: float = field(init=False)
    _lock: threading.RLock = field(init=False, default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._origin_s = time.perf_counter() - self.device.clock.now_s()

    def now_s(self) -> float:
        return time.perf_counter() - self._origin_s

    def sleep(self, duration_s: float) -> None:
        time.sleep(max(0.0, duration_s))

    def read(self) -> Reading:
        with self._lock:
            self._catch_up()
            return Reading(self.now_s(), self.device.meter.read().energy_j)

    def available(self) -> tuple[Clocks, ...]:
        return self.device.actuator.available()

    def current(self) -> Clocks:
        with self._lock:
            self._catch_up()
            return self.device.actuator.current()

    def apply(self, clocks: Clocks) -> None:
        with self._lock:
            self._catch_up()
            self.device.actuator.apply(clocks)
            self._wait()

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        with self._lock:
            self._catch_up()
            outputs = self.device.runner.run(graph, point, inputs)
            self._wait()
            return outputs

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        with self._lock:
            self._catch_up()
            timings = self.device.runner.profile(graph, point, repeats)
            self._wait()
            return timings

    def _catch_up(self) -> None:
        """Let the device idle for the time that has really passed since it was last used."""
        behind_s = self.now_s() - self.device.clock.now_s()
        if behind_s > 0:
            self.device.clock.sleep(behind_s)

    def _wait(self) -> None:
        """Let the time really pass that the device says has passed."""
        ahead_s = self.device.clock.now_s() - self.now_s()
        if ahead_s > 0:
            time.sleep(ahead_s)
