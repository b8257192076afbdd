"""Device → what would spoil a measurement or a deadline on it: a verdict and a remedy a line.

Every check runs a small network and compares what was asked with what happened; nothing rests on what a driver says of
itself alone. Clocks are left as they were found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Remembering, SteppedMeter, Timings
from amble.core.quantity import format_time
from amble.stages.measure.metering import measured
from amble.stages.measure.platform import felt, settle, timed_s

__all__ = ["Finding", "Verdict", "examine"]

Verdict = Literal["good", "poor", "bad", "unknown"]

_REPEATS = 15
_RUNS_AT_PERIOD = 8
_ROUNDING = 0.02
_PENALTY = 1.2
_NOISE = 0.10
_BENT = 0.15  # how far the slope of time over 1/clock may fall


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it (empty where nothing need be)."""

    what: str
    verdict: Verdict
    says: str
    remedy: str = ""


def examine(
    device: Device, graph: Graph, *, missing: tuple[str, ...] = (), period_s: float = 0.010
) -> tuple[Finding, ...]:
    """Examine a device with a network that is asked for every ``period_s`` [s]; ``missing`` are rights it lacks."""
    found = [_right(each) for each in missing] or [Finding("rights", "good", "clocks and energy can be used")]
    for check in (_left_locked, partial(_governor, period_s=period_s), _clocks, _meter):
        try:
            found += check(device, graph)
        except Refused as reason:
            found.append(
                Finding(_NAMES.get(check, "governor"), "bad", str(reason), "mend this first, then check again")
            )
    return tuple(found)


def _right(missing: str) -> Finding:
    says, _, remedy = missing.partition(";")
    return Finding("rights", "poor", says, remedy.strip() or says)


def _left_locked(device: Device, graph: Graph) -> Iterator[Finding]:
    """A clock that is the same at rest and at work, and not the highest, was locked by somebody."""
    if not isinstance(device.actuator, Remembering) or len(device.actuator.available()) < 2:
        return
    run = _runner(device, graph)
    device.clock.sleep(0.5)
    rest = device.actuator.running()
    _busy(device, run, 0.2)
    work = device.actuator.running()
    top = device.actuator.available()[-1]
    for name, at_rest, at_work, most in (
        ("core clock", rest.core_hz, work.core_hz, top.core_hz),
        ("memory clock", rest.memory_hz, work.memory_hz, top.memory_hz),
        ("CPU clock", rest.cpu_hz, work.cpu_hz, top.cpu_hz),
    ):
        if at_rest is None or at_work is None or most is None:
            continue
        if at_work < (1 - _ROUNDING) * most and abs(at_work / at_rest - 1) < _ROUNDING:
            says = f"stays at {at_work / 1e6:g} of {most / 1e6:g} MHz, at rest and at work: somebody left it locked"
            yield Finding(name, "bad", says, "amble restore; else nvidia-smi -rgc -rmc, or jetson_clocks --restore")
        elif at_work < (1 - _ROUNDING) * most:
            says = f"rises to {at_work / 1e6:g} of {most / 1e6:g} MHz only, under load"
            yield Finding(name, "poor", says, "raise the power mode or limit (nvpmodel -m 0, nvidia-smi -pl)")
        else:
            yield Finding(name, "good", f"{at_rest / 1e6:g} MHz at rest, {at_work / 1e6:g} MHz at work")


def _governor(device: Device, graph: Graph, *, period_s: float) -> Iterator[Finding]:
    """Back to back against one request a period, clocks as they were found."""
    run = _runner(device, graph)
    _busy(device, run, 0.1)
    steady_s = float(np.median([timed_s(device, run) for _ in range(_REPEATS)]))
    spaced_s = []
    for _ in range(_RUNS_AT_PERIOD):
        device.clock.sleep(max(0.0, period_s - steady_s))
        spaced_s.append(timed_s(device, run))
    ratio = float(np.median(spaced_s)) / steady_s
    says = f"{format_time(steady_s)} back to back, {format_time(ratio * steady_s)} once every {format_time(period_s)}"
    if ratio > _PENALTY:
        yield Finding("governor", "poor", f"{says}: it naps", "hold the clocks while serving: amble plan, amble serve")
    else:
        yield Finding("governor", "good", says)


def _clocks(device: Device, graph: Graph) -> Iterator[Finding]:
    """Ask for the lowest, a middle and the highest setting: what runs, and what work feels."""
    settings = device.actuator.available()
    if len(settings) < 3 or settings[0].core_hz is None:
        yield Finding("asked and held", "unknown", "this device has no ladder of core clocks to try")
        return
    same = [each for each in settings if (each.memory_hz, each.cpu_hz) == (settings[-1].memory_hz, settings[-1].cpu_hz)]
    chosen = (same[0], same[len(same) // 2], same[-1])
    timings = [_at(device, graph, clocks) for clocks in chosen]
    off = [
        f"asked {asked.core_hz / 1e6:g}, ran {timing.ran_at.core_hz / 1e6:g} MHz"
        for asked, timing in zip(chosen, timings, strict=True)
        if asked.core_hz and timing.ran_at.core_hz and abs(timing.ran_at.core_hz / asked.core_hz - 1) > _ROUNDING
    ]
    remedy = "look for a power limit, heat, or another program that sets clocks"
    if off:
        yield Finding("asked and held", "bad", "; ".join(off), remedy)
    elif _bent(chosen, timings):
        yield Finding(
            "asked and held", "bad", "read back as asked, but work does not take the time of these clocks", remedy
        )
    else:
        yield Finding("asked and held", "good", "lowest, middle and highest clock run as asked, and work feels them")
    throttled = any(timing.throttled for timing in timings)
    yield (
        Finding("throttling", "poor", "power or heat takes clocks from this work", "raise the limit, or cool it")
        if throttled
        else Finding("throttling", "good", "nothing takes clocks from this work")
    )
    yield _noise(timings[-1])


def _noise(timings: Timings) -> Finding:
    share = timings.whole.spread_s / timings.whole.latency_s if timings.whole.latency_s > 0 else 0.0
    says = f"p10 to p90 of a run are {100 * share:.2g} % of its median apart"
    if share > _NOISE:
        return Finding("noise", "poor", says, "stop other work on this device, or take more --repeats")
    return Finding("noise", "good", says)


def _bent(chosen: tuple[Clocks, ...], timings: list[Timings]) -> bool:
    """Tell whether time over 1/clock bends downwards, which no chip's does: the clocks are not those asked for.

    What the core bounds takes a time of its own and cycles; what memory bounds flattens out at high clocks. So the
    slope can only grow towards low clocks. A chip whose work takes no time of the core tells nothing.
    """
    slow, middle, fast = (1.0 / (clocks.core_hz or 1.0) for clocks in chosen)
    slow_s, middle_s, fast_s = (timing.whole.latency_s for timing in timings)
    below, above = (slow_s - middle_s) / (slow - middle), (middle_s - fast_s) / (middle - fast)
    return above > 0 and below < (1 - _BENT) * above and (middle_s - fast_s) > 0.05 * fast_s


def _meter(device: Device, graph: Graph) -> Iterator[Finding]:
    """How often the meter moves, and whether it agrees with readings of power."""
    if not isinstance(device.meter, SteppedMeter):
        known = device.meter.read().energy_j is not None
        says = (
            "tells energy at every reading"
            if known
            else "energy is unknown: plans will be the fastest, not the most frugal"
        )
        yield Finding("meter", "good" if known else "poor", says, "" if known else "see the rights above")
        return
    period_s = device.meter.period_s()
    if period_s is None:
        yield Finding("meter", "bad", "its counter does not move", "reload the driver, or open it with power readings")
        return
    window = measured(device, _runner(device, graph), 1e-3)
    moves = "at every reading" if period_s == 0 else f"every {format_time(period_s)}"
    if window.energy_j is None:
        yield Finding("meter", "bad", f"moves {moves}; {window.why}", "do not trust its energy; ask the vendor")
    else:
        yield Finding(
            "meter", "good", f"moves {moves}, and agrees with readings of power: {window.power_w or 0.0:.3g} W"
        )


_NAMES: dict[object, str] = {_left_locked: "clocks", _clocks: "asked and held", _meter: "meter"}


def _at(device: Device, graph: Graph, clocks: Clocks) -> Timings:
    point = OperatingPoint(clocks, graph.precision)
    with device.held(clocks):
        settle(device, clocks)
        felt(device, partial(device.runner.run, graph, point, {}))
        return device.runner.profile(graph, point, _REPEATS)


def _runner(device: Device, graph: Graph) -> Callable[[], object]:
    return partial(device.runner.run, graph, OperatingPoint(precision=graph.precision), {})


def _busy(device: Device, run: Callable[[], object], least_s: float) -> None:
    until_s = device.clock.now_s() + least_s
    while device.clock.now_s() < until_s:
        run()
