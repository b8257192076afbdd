"""What may be chosen for one operator: clocks, precision, place and DRAM partition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["DOMAINS", "Clocks", "Domain", "OperatingPoint"]

Domain = Literal["core", "memory", "cpu"]
DOMAINS: tuple[Domain, ...] = ("core", "memory", "cpu")


@dataclass(frozen=True, slots=True, order=True)
class Clocks:
    """Settings of the knobs a device has; None where it has not that knob.

    ``cpu_share`` is no clock: the CPU time a control group may take in a second of time (1.5: one CPU and a half), in
    turns of running and standing still.
    """

    core_hz: float | None = None
    memory_hz: float | None = None
    cpu_hz: float | None = None
    power_limit_w: float | None = None
    cpu_share: float | None = None

    def of(self, domain: Domain) -> float | None:
        """Return the clock of one domain [Hz]."""
        match domain:
            case "core":
                return self.core_hz
            case "memory":
                return self.memory_hz
            case "cpu":
                return self.cpu_hz

    def knobs(self) -> tuple[float | None, ...]:
        """Return every setting: the clocks of core, memory and CPU [Hz], the power limit [W] and the CPU share."""
        return (self.core_hz, self.memory_hz, self.cpu_hz, self.power_limit_w, self.cpu_share)

    def __str__(self) -> str:
        """Write the knobs that are set, in MHz and W: ``core 1300 MHz, memory 1866 MHz``."""
        clocks = [(domain, self.of(domain)) for domain in DOMAINS]
        words = [f"{domain} {clock_hz / 1e6:g} MHz" for domain, clock_hz in clocks if clock_hz is not None]
        if self.power_limit_w is not None:
            words.append(f"limit {self.power_limit_w:g} W")
        if self.cpu_share is not None:
            words.append(f"quota {self.cpu_share:g} CPU")
        return ", ".join(words) or "fixed clocks"


@dataclass(frozen=True, slots=True, order=True)
class OperatingPoint:
    """One candidate for one operator.

    ``precision`` is ``fp32``, ``fp16``, ``bf16`` or ``int8``; ``place`` names who runs it (``device`` or a server);
    ``dram`` names the memory partition its tensors live in (None: memory at its ratings).
    """

    clocks: Clocks = Clocks()
    precision: str = "fp32"
    place: str = "device"
    dram: str | None = None

    def at(self, clocks: Clocks) -> OperatingPoint:
        """Return the same choice at other clocks."""
        return replace(self, clocks=clocks)
