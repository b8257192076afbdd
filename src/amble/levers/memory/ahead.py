"""Trials with errors, as work that needs nothing of other trials: asked for ahead of need where others do them.

A search stops when its trials tell enough, which nobody knows before. So the next few are begun, and given up when they
are not needed: the trials that count, and their seeds, are those of a search that does one after another.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from amble.core.spreading import OnProgress, Spread
from amble.levers.memory.proving import Faulty

__all__ = ["Ahead", "AtRates"]

Rates = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class AtRates:
    """The accuracy lost with uniform errors at rates, by seed."""

    network: Faulty

    def __call__(self, item: tuple[Rates, int], on_progress: OnProgress) -> float:
        """Do one trial."""
        return self.network.at_rates(*item)


def _untold(what: str, done: int, total: int) -> None:
    """Tell nobody: the search tells how far it is."""


@dataclass(slots=True)
class Ahead:
    """A trial for a search; seeds that follow one another at the same rates are asked for ``most`` at a time."""

    work: AtRates
    spread: Spread
    most: int
    _rates: Rates | None = field(default=None, init=False)
    _next: int = field(default=0, init=False)
    _lost: Generator[float, None, None] | None = field(default=None, init=False)

    def __call__(self, rates: Rates, seed: int) -> float:
        """Return the accuracy lost with this seed."""
        if self._lost is None or self._rates != rates or self._next != seed:
            self.close()
            items = [(rates, seed + number) for number in range(self.most)]
            self._rates, self._lost = dict(rates), self.spread(self.work, items, _untold)
        self._next = seed + 1
        return next(self._lost)

    def close(self) -> None:
        """Give up what was begun and is not needed."""
        if self._lost is not None:
            self._lost.close()
        self._lost = None
