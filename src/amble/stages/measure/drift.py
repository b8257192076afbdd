"""Profile, Device → timings that can be repeated: noisy ones are taken again after a rest, and the first once more at
the end.

Only where clocks are real and merely remembered by a driver: heat, other programs and firmware change those behind
one's back. What runs on virtual time does as it did before.
"""

from __future__ import annotations

from dataclasses import replace

from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Device, Remembering, Timings
from amble.core.profile import Profile
from amble.stages.measure.platform import felt, settle

__all__ = ["DRIFT", "rechecked", "steady"]

DRIFT = 0.03
_NOISY = 0.10
_COOL_S = 0.5
_MOST = 2


def steady(device: Device, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
    """Profile a graph; where runs differ by more than a tenth, or the device throttled, rest and profile it again.

    The profile with the least spread counts; at most two more are made.
    """
    found = device.runner.profile(graph, point, repeats)
    if not _real(device):
        return found
    for _ in range(_MOST):
        if _spread(found) <= _NOISY and not found.throttled:
            break
        device.clock.sleep(_COOL_S)
        felt(device, lambda: device.runner.run(graph, point, {}))
        found = min(found, device.runner.profile(graph, point, repeats), key=_spread)
    return found


def rechecked(profile: Profile, graph: Graph, device: Device, *, repeats: int) -> Profile:
    """Profile the first point once more, at the end; a note says where it takes another time by then."""
    if not _real(device) or not profile.totals:
        return profile
    first = profile.totals[0]
    with device.held(first.point.clocks):
        settle(device, first.point.clocks)
        felt(device, lambda: device.runner.run(graph, first.point, {}))
        again_s = device.runner.profile(graph, first.point, repeats).whole.latency_s
    change = again_s / first.latency_s - 1.0
    if abs(change) <= DRIFT:
        return profile
    note = (
        f"{first.point.clocks}: {100 * change:+.1f} % in time at the end against the beginning: the device drifted "
        f"while it was measured (heat, other work); measure again"
    )
    return replace(profile, notes=(*profile.notes, note))


def _real(device: Device) -> bool:
    return isinstance(device.actuator, Remembering) and len(device.actuator.available()) > 1


def _spread(timings: Timings) -> float:
    whole = timings.whole
    return whole.spread_s / whole.latency_s if whole.latency_s > 0 else 0.0
