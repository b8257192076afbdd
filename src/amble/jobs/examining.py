"""A device's name → what would spoil work on it, one finding a line."""

from __future__ import annotations

from amble import inputs
from amble.devices import host, lease, nvml, sysfs
from amble.stages.measure import doctor
from amble.stages.measure.doctor import Finding

__all__ = ["examine"]


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
    return left + doctor.examine(opened, inputs.load(inputs.BUNDLED), missing=missing, period_s=period_s)
