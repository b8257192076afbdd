"""What back ends implement, and what stages ask of each other: ports of one to four methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from amble.core.cost import Reading
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.processor import Processor
from amble.core.profile import SwitchCost
from amble.core.subject import Where

__all__ = [
    "Actuator",
    "Clock",
    "CostModel",
    "CostTable",
    "Device",
    "FloatArray",
    "Meter",
    "Remembering",
    "Retabled",
    "Runner",
    "SteppedMeter",
    "Tensors",
    "Timing",
    "Timings",
]

FloatArray = npt.NDArray[np.float64]
Tensors = Mapping[str, npt.NDArray[Any]]


class Clock(Protocol):
    """A device's time: the host's monotonic clock, or a simulation's own."""

    def now_s(self) -> float:
        """Return the time [s] since a fixed origin."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Let this much time [s] pass."""
        ...


class Meter(Protocol):
    """Counts a device's energy."""

    def read(self) -> Reading:
        """Return the counters now; energy None when this machine cannot tell."""
        ...


@runtime_checkable
class SteppedMeter(Meter, Protocol):
    """A meter over a counter that moves now and then: short windows tell nothing."""

    @property
    def why(self) -> str:
        """Return why the energy is unknown; empty while it is known."""
        ...

    def period_s(self) -> float | None:
        """Return how often the counter moves [s], found out by watching it; None where it stands still."""
        ...

    def power_w(self) -> float | None:
        """Return the power now [W], from another sensor than the counter; None where there is none."""
        ...


class Actuator(Protocol):
    """Sets a device's clocks. Asked, got and allowed are three things."""

    def available(self) -> tuple[Clocks, ...]:
        """Return every legal setting, slowest first; a single one when nothing can be set."""
        ...

    def current(self) -> Clocks:
        """Return the clocks that run now, read back from the device."""
        ...

    def apply(self, clocks: Clocks) -> None:
        """Ask for these clocks. Refused when they are not available or the right is missing; nothing is snapped."""
        ...


@runtime_checkable
class Remembering(Actuator, Protocol):
    """An actuator whose ``current()`` is what the driver's books say: kernels may not feel it yet."""

    def felt_within_s(self) -> float:
        """Return within which time [s] a clock that was asked for acts on running work."""
        ...

    def running(self) -> Clocks:
        """Return the clocks that run, whoever set them, as far as the driver tells."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Repeated runs of the same work: median time [s] and its 10th to 90th percentile spread [s], mean energy [J]."""

    latency_s: float
    spread_s: float
    energy_j: float | None


@dataclass(frozen=True, slots=True)
class Timings:
    """One graph timed at one point: each operator, and the whole run as one.

    ``operators`` are corrected for what observing them costs; ``overhead_ratio`` is how much longer the observed run
    took than the unobserved ``whole``, and ``ratios`` are latencies of single whole runs over their median.
    ``notes`` say what a reader must know of how they were taken: whose time, what ran elsewhere, how far sums are off.
    """

    operators: tuple[Timing, ...]
    whole: Timing
    ran_at: Clocks
    repeats: int
    overhead_ratio: float = 0.0
    ratios: tuple[float, ...] = ()
    temperature_c: float | None = None
    throttled: bool = False
    notes: tuple[str, ...] = ()


class Runner(Protocol):
    """Runs graphs on a device."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Run a graph or one segment of it at the clocks that are set.

        A segment that does not end the network gives what the next one takes. Without inputs (an empty mapping) the
        work is done and nothing is returned.
        """
        ...

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Time each operator of a whole graph at the clocks that are set."""
        ...


@dataclass(frozen=True, slots=True)
class Device:
    """A device is its parts. ``calibration`` says how real it is: ``real``, ``recorded: …``, ``calibrated: …``
    or ``uncalibrated``; ``precisions`` are the ones it can run, ``machine`` the CPU that its times and answers hold on.
    """

    name: str
    clock: Clock
    meter: Meter
    actuator: Actuator
    runner: Runner
    calibration: str
    precisions: tuple[str, ...] = ("fp32",)
    machine: Processor | None = None

    @property
    def where(self) -> Where:
        """Return what artefacts that hold on this device carry."""
        return Where(self.name, self.calibration, self.machine)

    @contextmanager
    def held(self, clocks: Clocks) -> Iterator[Clocks]:
        """Hold these clocks inside a ``with`` block, then put back the ones that were found, also after an error."""
        found = self.actuator.current()
        try:
            self.actuator.apply(clocks)
            yield self.actuator.current()
        finally:
            self.actuator.apply(found)


@dataclass(frozen=True, slots=True)
class CostTable:
    """Costs of every operator of a graph at every candidate point.

    latency_s, energy_j: [operator, point]; energy is NaN where unknown.
    """

    points: tuple[OperatingPoint, ...]
    latency_s: FloatArray
    energy_j: FloatArray


class CostModel(Protocol):
    """What any operator would cost at any point. Fitted ones, recorded ones and ones made up for tests are alike."""

    @property
    def where(self) -> Where:
        """Return the device that the costs hold on."""
        ...

    @property
    def switches(self) -> tuple[SwitchCost, ...]:
        """Return what changing each clock domain costs; a switch costs the sum over the domains that change."""
        ...

    def table(self, graph: Graph) -> CostTable:
        """Return the costs of all operators at all candidate points."""
        ...

    def idle_w(self, clocks: Clocks) -> float | None:
        """Return the power [W] of doing nothing at these clocks; None where unknown."""
        ...

    def margin(self, percentile: float) -> float:
        """Return the ratio of this percentile of the latency to the predicted one, from measured residuals."""
        ...


@dataclass(frozen=True, slots=True)
class Retabled:
    """A cost model with another table of its costs, and the same elsewhere."""

    costs: CostModel
    made: Callable[[Graph], CostTable]

    @property
    def where(self) -> Where:
        """Return the device that the costs hold on."""
        return self.costs.where

    @property
    def switches(self) -> tuple[SwitchCost, ...]:
        """Return what changing each clock domain costs."""
        return self.costs.switches

    def table(self, graph: Graph) -> CostTable:
        """Return the other table."""
        return self.made(graph)

    def idle_w(self, clocks: Clocks) -> float | None:
        """Return the power [W] of doing nothing at these clocks; None where unknown."""
        return self.costs.idle_w(clocks)

    def margin(self, percentile: float) -> float:
        """Return the ratio of this percentile of the latency to the predicted one."""
        return self.costs.margin(percentile)
