"""Work on a device, a meter whose counter moves now and then → joules of one run, from windows that are long enough.

A counter that moves every 10 or 100 ms says nothing about a run of one. So work is repeated without a pause, from one
move of the counter to a later one, until the moves are many; the energy between two moves is exact, and only the runs
that lie across the two ends are uncertain. What the meter says is compared with its own readings of power: a counter
that disagrees with them is not believed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean

from amble.core.cost import Reading
from amble.core.ports import Device, SteppedMeter, Timing, Timings

__all__ = ["DISAGREEMENT", "Window", "measured", "metered"]

DISAGREEMENT = 0.25
_MOVES = 8
_RUNS = 200  # in a window: an end of it is known to a run
_LEAST_J = 0.25  # counters count millijoules
_STEP_S = 2e-4
_LONGEST_S = 5.0
_LOOKS = 8  # at the meter inside a window


@dataclass(frozen=True, slots=True)
class Window:
    """What a window of repeated work found: joules of one run (None: unknown, and ``why``), power, how many runs."""

    energy_j: float | None
    power_w: float | None
    runs: int
    why: str = ""


def metered(device: Device, timings: Timings, work: Callable[[], object]) -> tuple[Timings, str]:
    """Give timings the energy that the device's meter finds for the same work, shared by time among operators.

    Returns them with what made the energy unknown; as they are where the meter is no counter that moves in steps.
    """
    if not isinstance(device.meter, SteppedMeter):
        return timings, ""
    window = measured(device, work, timings.whole.latency_s)
    whole = replace(timings.whole, energy_j=window.energy_j)
    shares = tuple(_share(each, whole) for each in timings.operators)
    return replace(timings, whole=whole, operators=shares), window.why


def _share(operator: Timing, whole: Timing) -> Timing:
    if whole.energy_j is None or whole.latency_s <= 0:
        return replace(operator, energy_j=None)
    return replace(operator, energy_j=whole.energy_j * operator.latency_s / whole.latency_s)


def measured(device: Device, work: Callable[[], object], run_s: float) -> Window:
    """Repeat work that takes about ``run_s`` [s] until the meter tells its energy."""
    meter = device.meter
    assert isinstance(meter, SteppedMeter), "windows are for counters that move in steps"
    period_s = meter.period_s()
    if period_s is None:
        return Window(None, None, 0, "the counter does not move")
    begin = _next_move(device, work, period_s)
    end, runs, powers_w = _until(device, work, begin, _long_enough_s(period_s, run_s))
    passed = end - begin
    if passed.energy_j is None or passed.latency_s <= 0 or runs == 0:
        return Window(None, None, runs, meter.why or "the counter tells nothing")
    power_w = passed.energy_j / passed.latency_s
    if powers_w and abs(power_w / fmean(powers_w) - 1.0) > DISAGREEMENT:
        why = f"the counter says {power_w:.3g} W, readings of power {fmean(powers_w):.3g} W: one of them is wrong"
        return Window(None, None, runs, why)
    return Window(passed.energy_j / runs, power_w, runs)


def _long_enough_s(period_s: float, run_s: float) -> float:
    return min(_LONGEST_S, max(_MOVES * period_s, _RUNS * min(run_s, max(period_s, _STEP_S))))


def _next_move(device: Device, work: Callable[[], object], period_s: float) -> Reading:
    """Work until the counter moves → the reading then."""
    first = device.meter.read()
    while True:
        work()
        now = device.meter.read()
        moved = now.energy_j is None or first.energy_j is None or now.energy_j != first.energy_j
        if moved or now.time_s - first.time_s > 4 * period_s + _LONGEST_S:
            return now


def _until(
    device: Device, work: Callable[[], object], begin: Reading, window_s: float
) -> tuple[Reading, int, list[float]]:
    """Work until the counter moves once the window is over → the reading then, the runs, readings of power [W].

    Inside the window the meter is read seldom, since reading costs time; at its end after every run.
    """
    meter, now_s = device.meter, device.clock.now_s
    assert isinstance(meter, SteppedMeter), "windows are for counters that move in steps"
    runs, powers_w, last = 0, list[float](), begin
    while True:
        work()
        runs += 1
        time_s = now_s()
        if time_s - begin.time_s < window_s and time_s - last.time_s < window_s / _LOOKS:
            continue
        now = meter.read()
        if now.energy_j is None or begin.energy_j is None or now.time_s - begin.time_s > 4 * _LONGEST_S:
            return now, runs, powers_w
        if now.time_s - begin.time_s < window_s:
            power_w = meter.power_w()
            powers_w += [] if power_w is None else [power_w]
        elif _moved_just_now(begin, last, now, window_s):
            return now, runs, powers_w
        last = now


def _moved_just_now(begin: Reading, last: Reading, now: Reading, window_s: float) -> bool:
    """Tell whether the counter moved during the last run, after the window, and counted enough.

    Enough is so many joules that a millijoule does not matter, or ten windows.
    """
    if last.time_s - begin.time_s < window_s or now.energy_j == last.energy_j:
        return False
    passed = now - begin
    return (passed.energy_j or 0.0) >= _LEAST_J or passed.latency_s > 10 * window_s
