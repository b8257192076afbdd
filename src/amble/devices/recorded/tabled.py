"""Rungs → a light simulated device: time and energy are looked up, with noise, switching and contention.

For days of traffic, where only the cost of whole batches counts. It computes no outputs: what comes in goes out. The
rungs are the truth of this device; a governor may be given others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.graph import Graph, Operator
from amble.core.ladder import Rung
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Tensors, Timing, Timings

__all__ = ["Behaviour", "Tabled", "open_table", "whole"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a table does not say. ``noise``: standard deviation of the logarithm of one batch's time.

    A change of clocks stands still for ``stall_s`` at the busy power of the clocks left, then works on at them for
    ``settle_s``. ``slow`` gives the factor on all times at a time [s]: contention and heat.
    """

    noise: float = 0.01
    stall_s: float = 0.0
    settle_s: float = 0.0
    slow: Callable[[float], float] | None = None


def whole(model: str, variant: str, batch: int) -> Graph:
    """Return a network as one operator, of which only the table knows the cost."""
    return Graph(
        model, (Operator(model, "Whole", 0.0, 0.0, 0.0),), batch, f"{model} {variant} {batch}", precision=variant
    )


def open_table(name: str, rungs: Sequence[Rung], *, behaviour: Behaviour = Behaviour(), seed: int = 0) -> Device:
    """Open a device that has exactly the clocks and variants of the rungs, at the fastest clocks and time 0."""
    table = Tabled(rungs, behaviour, seed)
    precisions = tuple(dict.fromkeys(rung.variant for rung in rungs))
    return Device(f"table:{name}", table, table, table, table, "uncalibrated: a table", precisions)


class Tabled:
    """All ports of the device in one, so that a batch is one call deep. Time passes in sleep, apply and run only."""

    def __init__(self, rungs: Sequence[Rung], behaviour: Behaviour, seed: int) -> None:
        """Take the rungs as the truth."""
        self._by_clocks: dict[Clocks, dict[str, Rung]] = {}
        for rung in rungs:
            self._by_clocks.setdefault(rung.clocks, {})[rung.variant] = rung
        self._settings = tuple(sorted(self._by_clocks))
        self._idle_w = {clocks: max(r.idle_w for r in rungs.values()) for clocks, rungs in self._by_clocks.items()}
        self._behaviour = behaviour
        draws = np.random.default_rng(seed).normal(0.0, behaviour.noise, 8192)
        self._noise: list[float] = np.exp(draws).tolist()
        self._draw = 0
        self._time_s = 0.0
        self._energy_j = 0.0
        self._asked = self._before = self._settings[-1]
        self._settled_s = 0.0

    def now_s(self) -> float:
        """Return the simulated time [s]."""
        return self._time_s

    def sleep(self, duration_s: float) -> None:
        """Idle at the clocks that are set."""
        old_s = min(duration_s, self._settled_s - self._time_s)
        if old_s > 0:
            self._energy_j += old_s * (self._idle_w[self._before] - self._idle_w[self._asked])
        self._time_s += duration_s
        self._energy_j += duration_s * self._idle_w[self._asked]

    def read(self) -> Reading:
        """Return time and energy since the start."""
        return Reading(self._time_s, self._energy_j)

    def available(self) -> tuple[Clocks, ...]:
        """Return the rungs' clocks, slowest first."""
        return self._settings

    def current(self) -> Clocks:
        """Return the clocks that run now."""
        return self._asked if self._time_s >= self._settled_s else self._before

    def apply(self, clocks: Clocks) -> None:
        """Stall, then go on at the old clocks until the new ones have settled."""
        if clocks not in self._by_clocks:
            raise Refused(
                f"no such clocks: {clocks}; there are {len(self._settings)}, {self._settings[-1]} the highest"
            )
        before = self.current()
        if clocks == before == self._asked:
            return
        rung = next(iter(self._by_clocks[before].values()))
        self._time_s += self._behaviour.stall_s
        self._energy_j += self._behaviour.stall_s * rung.joules[0] / rung.latency_s[0]
        self._before, self._asked = before, clocks
        self._settled_s = self._time_s + self._behaviour.settle_s

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Let the batch's time and energy pass, an even share of it for each operator of a segment."""
        share = 1.0 if not graph.whole else len(graph.operators) / graph.whole
        if self._time_s < self._settled_s:
            share = self._at(self._before, graph, point, share, self._settled_s - self._time_s)
        if share > 0.0:
            self._at(self._asked, graph, point, share, float("inf"))
        return inputs

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Look the whole up, and share it out evenly."""
        rung = self._rung(self.current(), graph, point)
        latency_s, energy_j = rung.latency_s[graph.batch - 1], rung.joules[graph.batch - 1]
        count = len(graph.operators)
        each = Timing(latency_s / count, 0.0, energy_j / count)
        self._time_s += repeats * latency_s
        self._energy_j += repeats * energy_j
        return Timings((each,) * count, Timing(latency_s, 0.0, energy_j), rung.clocks, repeats, ratios=(1.0,) * repeats)

    def _at(self, clocks: Clocks, graph: Graph, point: OperatingPoint, share: float, limit_s: float) -> float:
        """Do as much of a share of the batch as fits the limit at these clocks; return the share that is left."""
        rung, size = self._rung(clocks, graph, point), graph.batch - 1
        self._draw = (self._draw + 1) & 8191
        full_s = rung.latency_s[size] * self._noise[self._draw]
        if self._behaviour.slow is not None:
            full_s *= self._behaviour.slow(self._time_s)
        spent_s = min(limit_s, share * full_s)
        self._time_s += spent_s
        self._energy_j += spent_s * rung.joules[size] / rung.latency_s[size]
        return share - spent_s / full_s if spent_s < share * full_s else 0.0

    def _rung(self, clocks: Clocks, graph: Graph, point: OperatingPoint) -> Rung:
        try:
            rung = self._by_clocks[clocks][point.precision]
        except KeyError:
            raise Refused(f"no {point.precision} at {clocks} in the table; add a rung for it") from None
        if graph.batch > rung.max_batch:
            raise Refused(f"no batch of {graph.batch} in the table: it ends at {rung.max_batch}")
        return rung
