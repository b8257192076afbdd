"""A network on the device that serves it → Profile, at the settings and batch sizes that a governor may choose.

What measures is the stage `measure`, what reads it is the cost model of `fit`: a server has no measurement of its own.
A simulated chip reckons from operators, so it is asked for each of them, in its own time on a twin that serves nobody;
a real machine runs the whole network as it will serve it, between two batches of other models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from amble.core.cost import Cost
from amble.core.graph import Graph, Operator
from amble.core.log import Known
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import CostTable, Device
from amble.core.profile import Profile
from amble.core.schedule import Step
from amble.services.serve.pulse import Do
from amble.stages.fit.costs import Costs, costs
from amble.stages.fit.logs import as_measured
from amble.stages.measure import operators, platform

__all__ = ["BySize", "Profiler", "as_one", "known"]

_REPEATS = 15
_IDLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Profiler:
    """Measures networks on a device; what was measured once is kept by content, for as long as the server lives."""

    device: Device
    _kept: dict[tuple[str, int, tuple[Clocks, ...]], Profile] = field(default_factory=dict)

    def measured(self, graph: Graph, settings: Sequence[Clocks], do: Do) -> tuple[Profile, Costs]:
        """Measure a network at every setting with ``do``, and read off what it costs there."""
        key = (f"{graph.digest} {graph.precision} {graph.source} {len(graph.operators)}", graph.batch, tuple(settings))
        profile = self._kept.get(key)
        if profile is None:
            profile = self._kept[key] = self._measure(graph, settings, do)
        return profile, costs(profile, as_measured)

    def _measure(self, graph: Graph, settings: Sequence[Clocks], do: Do) -> Profile:
        points = tuple(OperatingPoint(clocks, graph.precision) for clocks in settings)
        profile = replace(operators.begin(graph, self.device), points=points)
        for point in points:
            step = partial(operators.operators, graph, self.device, next_point=_once(point), repeats=_REPEATS)
            profile = do(partial(step, so_far=profile))
        idle = do(partial(platform.idle_power, self.device, settings, window_s=_IDLE_S))
        return replace(profile, idle=idle)


def as_one(graph: Graph) -> Graph:
    """Return a network as a single operator: what is run in one go is timed as one."""
    flops, read, written = (
        sum(getattr(each, name) for each in graph.operators) for name in ("flops", "bytes_read", "bytes_written")
    )
    return replace(graph, operators=(Operator(graph.name, "Network", flops, read, written),))


@dataclass(frozen=True, slots=True)
class BySize:
    """Costs of a network at several batch sizes, each of which is a network of its own."""

    costs: Mapping[int, Costs]

    def table(self, graph: Graph) -> CostTable:
        """Return what a network costs at its batch size."""
        return self.costs[graph.batch].table(graph)

    def idle_w(self, clocks: Clocks) -> float | None:
        """Return the power [W] of doing nothing: it has nothing to do with a batch."""
        return next(iter(self.costs.values())).idle_w(clocks)


def known(profile: Profile, graph: Graph) -> Known:
    """Say what a log of this network can be read by: what its operators cost at the highest setting.

    Of a network that was timed as one the time is measured, and shared out by the operators' work.
    """
    point = profile.points[-1]
    samples = {each.operator: each for each in profile.samples if each.point == point}
    if all(each.name in samples for each in graph.operators):
        costs = [Cost(samples[each.name].latency_s, samples[each.name].energy_j) for each in graph.operators]
    else:
        whole = next(each for each in profile.totals if each.point == point)
        costs = [
            Cost(share * whole.latency_s, None if whole.energy_j is None else share * whole.energy_j)
            for share in _shares(graph)
        ]
    steps = tuple(Step(each.name, point, cost) for each, cost in zip(graph.operators, costs, strict=True))
    return Known(steps, profile.idle, profile.switches)


def _shares(graph: Graph) -> list[float]:
    work = [max(each.flops, each.bytes_read + each.bytes_written) for each in graph.operators]
    whole = sum(work)
    return [each / whole for each in work] if whole > 0 else [1.0 / len(work)] * len(work)


def _once(point: OperatingPoint) -> operators.NextPoint:
    """Ask for one point, unless it has been measured."""
    return lambda profile: None if any(total.point == point for total in profile.totals) else point
