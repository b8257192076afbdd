"""What an operator, a switch or a run costs: time and energy."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cost", "Reading"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Time [s] and energy [J]; costs add. Energy None means unknown, never zero."""

    latency_s: float = 0.0
    energy_j: float | None = 0.0

    def __add__(self, other: Cost) -> Cost:
        """Add two costs; a sum with an unknown energy has an unknown energy."""
        known = self.energy_j is not None and other.energy_j is not None
        energy_j = self.energy_j + other.energy_j if known else None  # type: ignore[operator]
        return Cost(self.latency_s + other.latency_s, energy_j)


@dataclass(frozen=True, slots=True)
class Reading:
    """A meter's counters: time [s] and energy [J] since some fixed origin. Later − earlier is a Cost."""

    time_s: float
    energy_j: float | None

    def __sub__(self, earlier: Reading) -> Cost:
        """Return what passed between two readings."""
        if self.energy_j is None or earlier.energy_j is None:
            return Cost(self.time_s - earlier.time_s, None)
        return Cost(self.time_s - earlier.time_s, self.energy_j - earlier.energy_j)
