"""What a governor chooses from: rungs, from fast to frugal, in one list for each accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.point import DOMAINS, Clocks
from amble.core.profile import SwitchCost
from amble.core.schedule import Accounting, Schedule

__all__ = ["Ladder", "Level", "Rung"]


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to serve a batch: a precision variant at clocks, or along a schedule that starts at these clocks.

    latency_s, energy_j: [batch size − 1], predicted for a whole batch at the median; the energy is gross, None where
    nothing measured it (``idle_w`` then says nothing). ``accuracy`` is a share of the reference's (1.0: as accurate),
    ``idle_w`` the power of doing nothing at these clocks. ``index`` is its place in its ladder.
    """

    variant: str
    clocks: Clocks
    latency_s: tuple[float, ...]
    energy_j: tuple[float, ...] | None
    accuracy: float = 1.0
    idle_w: float = 0.0
    schedule: Schedule | None = None
    index: int = 0

    def __post_init__(self) -> None:
        """Refuse what no rung can be."""
        if not self.latency_s or (self.energy_j is not None and len(self.latency_s) != len(self.energy_j)):
            raise ValueError(f"{self.variant}: a rung needs a latency, and an energy if any, for each batch size")
        if min(self.latency_s) <= 0:
            raise ValueError(f"{self.variant}: latencies must be positive")

    @property
    def max_batch(self) -> int:
        """Return the largest batch that it can serve."""
        return len(self.latency_s)

    @property
    def capacity_hz(self) -> float:
        """Return the most requests it can serve in a second, at its best batch size."""
        return max(size / time_s for size, time_s in enumerate(self.latency_s, start=1))

    @property
    def joules(self) -> tuple[float, ...]:
        """Return the energies [J], by batch size − 1; ValueError where they are unknown."""
        if self.energy_j is None:
            raise ValueError(f"{self.variant} at {self.clocks}: nothing is known of its energy; measure with a meter")
        return self.energy_j

    def objective(self, idle_w: float) -> tuple[float, ...]:
        """Return what a governor makes small: [batch size − 1], energy [J] above that of waiting at this power.

        Where no energy is known it is the device's time [s], that of a single row for each row: nobody knows that a
        larger batch would save energy. It is an order of rungs then, and never shown as joules.
        """
        if self.energy_j is None:
            return tuple(size * self.latency_s[0] for size in range(1, self.max_batch + 1))
        return tuple(joules - idle_w * time_s for joules, time_s in zip(self.energy_j, self.latency_s, strict=True))


@dataclass(frozen=True, slots=True)
class Level:
    """The rungs of one variant, all of one accuracy, from fast to frugal; the last one is the energy floor."""

    variant: str
    accuracy: float
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True)
class Ladder:
    """All levels, the most accurate first, and what else the device costs.

    Every rung is on the Pareto front of time and energy of its level, the energy in ``accounting``, which is the one
    that the governor minimises. ``park`` are the clocks that cost least to wait at, and ``park_w`` that power.
    ``margin`` is the ratio of a high percentile of the latency to the predicted one.
    """

    graph: str
    device: str
    accounting: Accounting
    levels: tuple[Level, ...]
    park: Clocks
    park_w: float
    switches: tuple[SwitchCost, ...] = ()
    margin: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a ladder on which nothing can be served."""
        if not self.levels or not all(level.rungs for level in self.levels):
            raise ValueError("a ladder needs at least one rung in every level")
        if len({rung.energy_j is None for rung in self.rungs}) > 1:
            raise ValueError("the energy of some rungs is known and of others not, so that they cannot be compared")

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """Return all rungs, in the order of their index."""
        return tuple(rung for level in self.levels for rung in level.rungs)

    @property
    def metered(self) -> bool:
        """Tell whether the energy of its rungs is known."""
        return self.levels[0].rungs[0].energy_j is not None

    def objective(self, rung: Rung) -> tuple[float, ...]:
        """Return what a governor makes small at a rung: [batch size − 1]; the same unit for all, [J] or else [s]."""
        return rung.objective(0.0 if self.accounting == "gross" else self.park_w)

    @property
    def max_batch(self) -> int:
        """Return the largest batch that every rung can serve."""
        return min(rung.max_batch for rung in self.rungs)

    def stall_s(self, before: Clocks, after: Clocks) -> float:
        """Return how long [s] the device stands still for a change of clocks."""
        return sum(each.cost.latency_s for each in self._changed(before, after))

    def stall_j(self, before: Clocks, after: Clocks) -> float:
        """Return the energy [J] of a change of clocks; unknown energies count as none."""
        return sum(each.cost.energy_j or 0.0 for each in self._changed(before, after))

    def settle_s(self, before: Clocks, after: Clocks) -> float:
        """Return how long [s] work goes on at the old clocks after a change was asked for."""
        return max((each.settle_s for each in self._changed(before, after)), default=0.0)

    def _changed(self, before: Clocks, after: Clocks) -> list[SwitchCost]:
        changed = {domain for domain in DOMAINS if before.of(domain) != after.of(domain)}
        return [each for each in self.switches if each.domain in changed]
