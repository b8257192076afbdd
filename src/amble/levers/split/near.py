"""The device's half of a pair, and the whole network, on a Device: run at a pace of the plan, or as the device likes.

A device that has the plan's clocks is asked for them before the operators that the plan names. Where it has not (a
plan for a board, tried on this machine) clocks are left alone and the time of a run is measured instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Tensors
from amble.levers.split.halves import PORTABLE
from amble.levers.split.pairs import Pace, Pair
from amble.runtimes import onnx

__all__ = ["Near", "Place", "near"]

_WARM_UPS = 3


@dataclass(slots=True)
class Place:
    """A device and the clocks that were asked for last, so that none is asked for twice. ``follows``: it has them."""

    device: Device
    follows: bool
    asked: Clocks | None = None
    num_changes: int = 0

    def ask(self, clocks: Clocks) -> None:
        """Ask for clocks, where the plan's are there and are not held already."""
        if self.follows and clocks != self.asked:
            self.device.actuator.apply(clocks)
            self.asked = clocks
            self.num_changes += 1


@dataclass(frozen=True, slots=True)
class Near:
    """What the device runs of a pair: nothing, where all of it is sent. ``paces`` are those that it can be run at."""

    pair: Pair
    paces: tuple[Pace, ...]
    graph: Graph | None = None
    programs: tuple[tuple[tuple[Graph, Clocks | None], ...], ...] = field(default=())

    def run(self, place: Place, inputs: Tensors, pace: int) -> Tensors:
        """Run it on these inputs → what it makes."""
        if self.graph is None:
            return {}
        point = OperatingPoint(precision=self.graph.precision)
        tensors: Tensors = {port.name: inputs[port.name] for port in self.graph.inputs}
        for segment, clocks in self.programs[pace]:
            if clocks is not None:
                place.ask(clocks)
            tensors = place.device.runner.run(segment, point, tensors)
        return tensors


def near(place: Place, pair: Pair, path: Path | None, example: Tensors) -> Near:
    """Load a device's half, and try it; ``path`` is None where it has none."""
    if path is None:
        return Near(pair, pair.paces)
    graph = onnx.load(path, execution=PORTABLE)
    if place.follows:
        made = Near(pair, pair.paces, graph, tuple(_program(graph, each) for each in pair.paces))
        made.run(place, example, 0)
        return made
    made = Near(pair, pair.paces[:1], graph, (((graph, None),),))
    times_s = []
    for _ in range(_WARM_UPS + 1):
        begun_s = place.device.clock.now_s()
        made.run(place, example, 0)
        times_s.append(place.device.clock.now_s() - begun_s)
    return replace(made, paces=(replace(pair.paces[0], latency_s=sorted(times_s[1:])[len(times_s) // 2 - 1]),))


def _program(graph: Graph, pace: Pace) -> tuple[tuple[Graph, Clocks | None], ...]:
    """Cut a half where clocks change; an operator that the plan does not name runs at those before it."""
    clocks = _clocks([each.name for each in graph.operators], pace)
    starts = [0, *(at for at in range(1, len(clocks)) if clocks[at] != clocks[at - 1]), len(clocks)]
    return tuple((graph.segment(start, stop), clocks[start]) for start, stop in pairwise(starts))


def _clocks(names: Sequence[str], pace: Pace) -> list[Clocks]:
    asked: Mapping[str, Clocks] = {each.operator: each.clocks for each in pace.changes}
    now = pace.changes[0].clocks if pace.changes else pace.wait
    found = []
    for name in names:
        now = asked.get(name, now)
        found.append(now)
    return found
