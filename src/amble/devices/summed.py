"""Several meters → one that says what it sums: a GPU, the CPU that feeds it, their memory."""

from __future__ import annotations

from collections.abc import Mapping

from amble.core.cost import Reading
from amble.core.ports import Clock, Meter, SteppedMeter
from amble.devices.watching import counter_period_s

__all__ = ["SummedMeter"]


class SummedMeter:
    """Adds meters up, by name. The sum is known only while every one of them is."""

    def __init__(self, clock: Clock, meters: Mapping[str, Meter]) -> None:
        if not meters:
            raise ValueError("a sum needs at least one meter")
        self._clock = clock
        self._meters = dict(meters)

    @property
    def name(self) -> str:
        """Return what is summed, by name."""
        return " + ".join(self._meters)

    @property
    def why(self) -> str:
        """Return why the energy is unknown, by name."""
        reasons = {name: each.why for name, each in self._meters.items() if isinstance(each, SteppedMeter)}
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)

    def read(self) -> Reading:
        """Return the time, and the sum of what all meters tell; None when one of them does not."""
        found_j = [meter.read().energy_j for meter in self._meters.values()]
        known_j = [each for each in found_j if each is not None]
        return Reading(self._clock.now_s(), sum(known_j) if len(known_j) == len(found_j) else None)

    def period_s(self) -> float | None:
        """Return the slowest meter's period [s]; None where one of them stands still."""
        periods_s = [_period_s(self._clock, meter) for meter in self._meters.values()]
        known_s = [each for each in periods_s if each is not None]
        return max(known_s) if len(known_s) == len(periods_s) else None

    def power_w(self) -> float | None:
        """Return nothing: not every meter here has another sensor."""
        return None


def _period_s(clock: Clock, meter: Meter) -> float | None:
    if isinstance(meter, SteppedMeter):
        return meter.period_s()
    return counter_period_s(clock, lambda: meter.read().energy_j or 0.0)
