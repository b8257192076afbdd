"""Device → what the platform itself costs: power when idle, and changing a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import median

from amble.core.cost import Cost
from amble.core.point import DOMAINS, Clocks, Domain
from amble.core.ports import Device, Remembering, SteppedMeter
from amble.core.profile import IdlePower, Profile, SwitchCost
from amble.stages.measure.metering import measured

__all__ = ["ends", "felt", "idle_power", "settle", "switch_costs", "timed_s", "with_idle"]

_POLL_S = 1e-4
_GIVE_UP_S = 0.5
_STEP_S = 5e-4
_SAME = 0.05


def idle_power(device: Device, settings: Iterable[Clocks], *, window_s: float = 1.0) -> tuple[IdlePower, ...]:
    """Measure the power of doing nothing at each setting; empty where the device has no energy meter.

    ``window_s`` [s] must be long against the period at which the meter's counter moves.
    """
    found = [_idle(device, clocks, window_s) for clocks in settings]
    return tuple(each for each in found if each is not None)


def with_idle(profile: Profile, device: Device) -> Profile:
    """Add the idle power at every setting that was measured, unless it is known."""
    known = {each.clocks for each in profile.idle}
    settings = dict.fromkeys(total.point.clocks for total in profile.totals)
    found = idle_power(device, [clocks for clocks in settings if clocks not in known])
    return replace(profile, idle=profile.idle + found)


def settle(device: Device, target: Clocks) -> None:
    """Wait until the device reports these clocks, or for half a second: it may never reach what was asked."""
    until_s = device.clock.now_s() + _GIVE_UP_S
    while device.actuator.current() != target and device.clock.now_s() < until_s:
        device.clock.sleep(_POLL_S)


def felt(device: Device, work: Callable[[], object]) -> bool:
    """Work until the clocks that were asked for act on it; tell whether the work's time came to rest.

    Where an actuator only says what the driver's books say, work goes on for as long as a change may take, and then
    until three runs in a row take the same time. Elsewhere what is read back is what runs, and nothing is done.
    """
    if not isinstance(device.actuator, Remembering) or len(device.actuator.available()) < 2:
        return True
    now_s = device.clock.now_s
    begin_s, times_s = now_s(), list[float]()
    least_s = device.actuator.felt_within_s()
    while now_s() - begin_s < least_s + _GIVE_UP_S:
        times_s = [*times_s[-2:], timed_s(device, work)]
        if now_s() - begin_s >= least_s and len(times_s) == 3 and max(times_s) <= (1 + _SAME) * min(times_s):
            return True
    return False


def timed_s(device: Device, work: Callable[[], object]) -> float:
    """Work once, and return how long it took by the device's clock [s]."""
    start_s = device.clock.now_s()
    work()
    return device.clock.now_s() - start_s


def _idle(device: Device, clocks: Clocks, window_s: float) -> IdlePower | None:
    with device.held(clocks):
        settle(device, clocks)
        device.clock.sleep(window_s / 10)
        if isinstance(device.meter, SteppedMeter):
            window = measured(device, lambda: device.clock.sleep(_STEP_S), _STEP_S)
            return None if window.power_w is None else IdlePower(clocks, window.power_w)
        before = device.meter.read()
        device.clock.sleep(window_s)
        passed = device.meter.read() - before
    return None if passed.energy_j is None else IdlePower(clocks, passed.energy_j / passed.latency_s)


def switch_costs(device: Device, *, repeats: int = 9) -> tuple[SwitchCost, ...]:
    """Measure a change of each clock domain between its lowest and highest level, up and down, the others held."""
    settings = device.actuator.available()
    found = [_switch(device, settings, domain, repeats) for domain in DOMAINS]
    return tuple(each for each in found if each is not None)


def _switch(device: Device, settings: tuple[Clocks, ...], domain: Domain, repeats: int) -> SwitchCost | None:
    between = ends(settings, domain)
    if between is None:
        return None
    low, high = between
    with device.held(high):
        settle(device, high)
        changes = [_change(device, target) for _ in range(repeats) for target in (low, high)]
    energies = [cost.energy_j for cost, _ in changes if cost.energy_j is not None]
    return SwitchCost(
        domain,
        Cost(median(cost.latency_s for cost, _ in changes), median(energies) if energies else None),
        settle_s=median(settle_s for _, settle_s in changes),
    )


def ends(settings: tuple[Clocks, ...], domain: Domain) -> tuple[Clocks, Clocks] | None:
    """Return the lowest and the highest level of a domain with the other domains at the fastest setting."""
    fastest = settings[-1]
    others = [other for other in DOMAINS if other != domain]
    same = [each for each in settings if all(each.of(other) == fastest.of(other) for other in others)]
    levels = sorted((each for each in same if each.of(domain) is not None), key=lambda each: each.of(domain) or 0.0)
    return (levels[0], levels[-1]) if len(levels) > 1 else None


def _change(device: Device, target: Clocks) -> tuple[Cost, float]:
    """Apply a setting → what the call cost, and how long [s] until the new clock ran."""
    before = device.meter.read()
    start_s = device.clock.now_s()
    device.actuator.apply(target)
    cost = device.meter.read() - before
    stall_s = device.clock.now_s() - start_s
    settle(device, target)
    return replace(cost, latency_s=stall_s), device.clock.now_s() - start_s
