"""A device whose clocks cannot be set → what else of it can be."""

from __future__ import annotations

from amble.core.address import Address

__all__ = ["limited"]


def limited(address: Address) -> str | None:
    """Return the URI of a device's power limit; None where there is none."""
    match address.scheme:
        case "nvml":
            return f"nvml:{address.name or 0}/power"
        case _:
            return None
