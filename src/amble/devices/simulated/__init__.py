"""A chip's name → a Device with its own physics, its own time and a declared distance from the real one."""

from amble.devices.simulated.device import (
    GOVERNORS,
    Background,
    Compute,
    Scenario,
    chips,
    describe,
    open,  # noqa: A004
)

__all__ = ["GOVERNORS", "Background", "Compute", "Scenario", "chips", "describe", "open"]
