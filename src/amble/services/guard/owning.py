"""A device's name → its clocks, owned by a lease in the guard's folder. No runtime is loaded for that."""

from __future__ import annotations

from pathlib import Path

from amble.core.address import Address
from amble.devices.lease import LeasedActuator, leased
from amble.devices.named import owned_by_name, refuse_empty

__all__ = ["owned"]


def owned(uri: str, folder: Path) -> LeasedActuator:
    """Open the clocks of ``nvml:0``, ``sysfs:gpu`` or ``host``; Refused for a device without real clocks."""
    refuse_empty(uri)
    return leased(owned_by_name(Address.parse(uri)), uri, folder)
