"""Graph, Device → Profile: every operator at the points that ``next_point`` asks for.

The order of points is the caller's: measuring does not know whether it serves a grid, a design of experiments or a
planner. After each point the profile so far is handed to ``on_point``, which may show progress and save it; an
interrupted measurement goes on from what was saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Device, Timing, Timings
from amble.core.profile import Profile, Sample
from amble.stages.measure.platform import settle

__all__ = ["NextPoint", "begin", "operators"]

NextPoint = Callable[[Profile], OperatingPoint | None]
"""Profile so far → the point to measure next, or None when enough is known."""


def begin(graph: Graph, device: Device) -> Profile:
    """Return the empty profile of a graph on a device: who is measured, and every point it could be measured at."""
    points = tuple(OperatingPoint(clocks, graph.precision) for clocks in device.actuator.available())
    names = tuple(operator.name for operator in graph.operators)
    if len(set(names)) != len(names):
        raise ValueError(f"operators of {graph.name} share a name; every operator needs its own")
    return Profile(
        graph.subject,
        device.where,
        operators=names,
        samples=(),
        points=points,
    )


def operators(
    graph: Graph,
    device: Device,
    *,
    next_point: NextPoint,
    repeats: int = 20,
    so_far: Profile | None = None,
    on_point: Callable[[Profile], None] = lambda profile: None,
) -> Profile:
    """Measure until ``next_point`` has enough. Clocks are put back at the end, also after an error."""
    profile = so_far or begin(graph, device)
    _refuse_others(profile, graph, device)
    while (point := next_point(profile)) is not None:
        with device.held(point.clocks):
            settle(device, point.clocks)
            timings = device.runner.profile(graph, point, repeats)
        profile = _with(profile, point, timings)
        on_point(profile)
    return profile


@dataclass(frozen=True, slots=True)
class _At:
    """Where and how samples were taken."""

    point: OperatingPoint
    timings: Timings

    def sample(self, operator: str, timing: Timing) -> Sample:
        timings = self.timings
        return Sample(
            operator=operator,
            point=self.point,
            ran_at=timings.ran_at,
            latency_s=timing.latency_s,
            energy_j=timing.energy_j,
            repeats=timings.repeats,
            spread_s=timing.spread_s,
            temperature_c=timings.temperature_c,
            throttled=timings.throttled,
        )


def _with(profile: Profile, point: OperatingPoint, timings: Timings) -> Profile:
    at = _At(point, timings)
    samples = tuple(at.sample(*each) for each in zip(profile.operators, timings.operators, strict=True))
    return replace(
        profile,
        samples=profile.samples + samples,
        totals=(*profile.totals, at.sample("", timings.whole)),
        ratios=profile.ratios + timings.ratios,
        overhead_ratio=max(profile.overhead_ratio, timings.overhead_ratio),
        notes=tuple(dict.fromkeys((*profile.notes, *timings.notes))),
    )


def _refuse_others(profile: Profile, graph: Graph, device: Device) -> None:
    if profile.subject.digest != graph.digest:
        raise Refused(
            f"the measurement begun is of {profile.subject.network}, not of {graph.name} as it is now; start it anew"
        )
    if profile.where.device != device.name:
        raise Refused(f"the measurement begun is of device {profile.where.device}, not {device.name}; start it anew")
