"""A device's name → what would spoil work on it, one finding a line."""

from __future__ import annotations

from amble import inputs
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Device
from amble.devices import host, lease, nvml, sysfs
from amble.devices.throttling import WatchedRunner
from amble.stages.measure import doctor
from amble.stages.measure.doctor import Finding

__all__ = ["examine"]

_REPEATS = 50


def examine(device: str, *, period_s: float = 0.010) -> tuple[Finding, ...]:
    """Examine a device with the bundled network, asked for every ``period_s`` [s].

    Nothing is changed for good: clocks are held for the checks and put back.
    """
    left = tuple(
        Finding("leases", "bad", f"{each.device}: a run that ended left its clocks changed", "amble restore")
        for each in lease.leases()
        if not each.owner.alive
    )
    opened = inputs.open(device)
    described = (*nvml.describe(), *sysfs.describe()) if opened.name != "host" else (host.describe(),)
    missing = next((each.missing for each in described if each.name == opened.name), ())
    graph = inputs.load(inputs.BUNDLED, device=str(device))
    found = doctor.examine(opened, graph, missing=missing, period_s=period_s)
    return left + _with_reasons(found, opened, graph)


def _with_reasons(found: tuple[Finding, ...], device: Device, graph: Graph) -> tuple[Finding, ...]:
    """Tell each reason that took clocks during the checks on a line of its own, with its remedy.

    A device without clocks to try has run next to nothing so far: it works once more, for looking.
    """
    if not isinstance(device.runner, WatchedRunner):
        return found
    tried = any(each.what == "throttling" for each in found)
    if not tried:
        device.runner.profile(graph, OperatingPoint(precision=graph.precision), _REPEATS)
    lines = tuple(
        Finding("throttling", "poor", f"{each.says} takes clocks from this work", each.remedy)
        for each in device.runner.seen
    )
    if not lines:
        return found if tried else (*found, Finding("throttling", "good", "nothing takes clocks from this work"))
    return (*(each for each in found if each.what != "throttling"), *lines)
