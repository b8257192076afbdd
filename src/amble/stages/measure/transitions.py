"""Graph, Device → how long clock changes take until work feels them, by the time of a short piece of work.

What a driver reads back is its books: on a Jetson Orin it lags the effect by 1 to 5 ms, and NVML may tell a clock that
no kernel runs at yet. So the operator that feels a domain most is run again and again; a change has settled with the
first of three runs in a row that take what they take at the new level. Four times are told apart: until the call
returns, until work feels it, until the read-back says so, and the longest pause beyond the slower level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from amble.core.graph import Graph
from amble.core.point import DOMAINS, Clocks, Domain, OperatingPoint
from amble.core.ports import Device
from amble.core.profile import Profile, SwitchCost, Transition
from amble.stages.measure.platform import ends, felt, settle, timed_s

__all__ = ["transitions", "with_transitions"]

_BAND = 0.15
_IN_ROW = 3
_GIVE_UP_S = 1.0
_FELT_RATIO = 1.1  # a domain whose levels change no operator's time by more cannot be timed by one
_PROFILED = 10


@dataclass(frozen=True, slots=True)
class _Work:
    """The work that tells the levels of a domain apart, and its time at the low and the high one [s]."""

    run: Callable[[], object]
    low_s: float
    high_s: float


@dataclass(frozen=True, slots=True)
class _Change:
    """One change [s]; settling and read-back are infinite where they were never seen."""

    call_s: float
    settle_s: float
    readback_s: float
    stall_s: float


def with_transitions(profile: Profile, graph: Graph, device: Device, *, repeats: int = 20) -> Profile:
    """Return a profile with its transitions, and switches that settle when work feels them.

    A domain that no operator feels keeps what the read-back told.
    """
    found = transitions(graph, device, repeats=repeats)
    return replace(profile, transitions=found, switches=tuple(_settled(each, found) for each in profile.switches))


def transitions(graph: Graph, device: Device, *, repeats: int = 20) -> tuple[Transition, ...]:
    """Time changes of each domain between its lowest and its highest level, up and down, the others held."""
    found: list[Transition] = []
    for domain in DOMAINS:
        between = ends(device.actuator.available(), domain)
        if between is not None:
            found += _of_domain(graph, device, domain, between, repeats)
    return tuple(found)


def _of_domain(
    graph: Graph, device: Device, domain: Domain, between: tuple[Clocks, Clocks], repeats: int
) -> list[Transition]:
    low, high = between
    with device.held(high):
        work = _telling(graph, device, low, high)
        if work is None:
            return []
        changes = [(_change(device, work, low), _change(device, work, high)) for _ in range(repeats)]
    down, up = zip(*changes, strict=True)
    low_hz, high_hz = low.of(domain) or 0.0, high.of(domain) or 0.0
    return [_summed(domain, high_hz, low_hz, down), _summed(domain, low_hz, high_hz, up)]


def _telling(graph: Graph, device: Device, low: Clocks, high: Clocks) -> _Work | None:
    """Find the operator that feels the domain most; None where none does."""
    times_s = []
    for clocks in (low, high):
        point = OperatingPoint(clocks, graph.precision)
        device.actuator.apply(clocks)
        settle(device, clocks)
        felt(device, lambda point=point: device.runner.run(graph, point, {}))  # type: ignore[misc]
        timings = device.runner.profile(graph, point, _PROFILED)
        times_s.append([each.latency_s for each in timings.operators])
    low_s, high_s = np.array(times_s)
    ratios = np.where(high_s > 0, low_s / np.maximum(high_s, 1e-12), 0.0)
    worth = np.where(high_s >= np.median(high_s), ratios, 0.0)
    at = int(worth.argmax())
    if ratios[at] < _FELT_RATIO:
        return None
    segment, point = graph.segment(at, at + 1), OperatingPoint(high, graph.precision)
    run = lambda: device.runner.run(segment, point, {})  # noqa: E731
    levels_s = []
    for clocks in (low, high):
        device.actuator.apply(clocks)
        felt(device, run)
        levels_s.append(float(np.median([timed_s(device, run) for _ in range(_PROFILED)])))
    return _Work(run, *levels_s)


def _change(device: Device, work: _Work, target: Clocks) -> _Change:
    """Change to a level and work until it is felt."""
    now_s = device.clock.now_s
    level_s = work.low_s if target != device.actuator.available()[-1] else work.high_s
    start_s = now_s()
    device.actuator.apply(target)
    call_s = now_s() - start_s
    read_s, begun_s, row, longest_s = float("inf"), 0.0, 0, 0.0
    while row < _IN_ROW and now_s() - start_s < _GIVE_UP_S:
        begin_s = now_s()
        took_s = timed_s(device, work.run)
        longest_s = max(longest_s, took_s)
        fits = abs(took_s / level_s - 1.0) <= _BAND
        begun_s = begin_s if fits and row == 0 else begun_s
        row = row + 1 if fits else 0
        if read_s == float("inf") and device.actuator.current() == target:
            read_s = now_s() - start_s
    settle_s = begun_s - start_s if row == _IN_ROW else float("inf")
    return _Change(call_s, settle_s, read_s, max(0.0, longest_s - max(work.low_s, work.high_s)))


def _summed(domain: Domain, from_hz: float, to_hz: float, changes: tuple[_Change, ...]) -> Transition:
    settled_s = [each.settle_s for each in changes if np.isfinite(each.settle_s)]
    read_s = [each.readback_s for each in changes if np.isfinite(each.readback_s)]
    call_s = [each.call_s for each in changes]
    return Transition(
        domain,
        from_hz,
        to_hz,
        call_s=float(np.median(call_s)),
        call_p99_s=float(np.percentile(call_s, 99)),
        settle_s=float(np.median(settled_s)) if settled_s else None,
        settle_p95_s=float(np.percentile(settled_s, 95)) if settled_s else None,
        readback_s=float(np.median(read_s)) if read_s else None,
        stall_s=float(np.percentile([each.stall_s for each in changes], 95)),
        repeats=len(changes),
    )


def _settled(switch: SwitchCost, found: tuple[Transition, ...]) -> SwitchCost:
    mine = [each.settle_s for each in found if each.domain == switch.domain and each.settle_s is not None]
    return replace(switch, settle_s=max(mine)) if mine else switch
