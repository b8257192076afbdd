"""A network that is to be pruned, a latency and a loss → clocks and widths together that need the least energy.

What the network as it is takes and needs at each setting tells which settings are worth staircases: the fastest, the
most frugal, and some of those between that no other beats in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.levers.widths.staircases import Work, priced, table_of
from amble.levers.widths.with_clocks import Setting, Together, choose_together

__all__ = ["Saved", "least_energy", "settled"]

_SETTLE_S = 0.2
_MOST_SETTINGS = 5


@dataclass(frozen=True, slots=True)
class Saved:
    """What was chosen, and the energy of the network as it is at the clocks that were found [J]."""

    together: Together
    today_j: float


@dataclass(frozen=True, slots=True)
class _Whole:
    """The network as it is at some clocks: seconds, and joules."""

    clocks: Clocks
    latency_s: float
    energy_j: float


def least_energy(work: Work, latency_s: float, may_lose: float, rounds: int = 5) -> Saved:
    """Choose clocks and widths within a latency [s] that lose at most this share of all importance.

    Refused for a device with one setting, or without a meter; Infeasible with the fastest there is.
    """
    available = work.device.actuator.available()
    if len(available) < 2:
        raise Refused(f"{work.device.name} has one setting of clocks; leave --least-energy out")
    today_j = _whole(work, work.device.actuator.current()).energy_j
    tried = [_whole(work, each) for each in available]
    settings = []
    for done, each in enumerate(chosen := _worth_staircases(tried)):
        work.on_progress(f"staircases at {each}", done, len(chosen))
        settings.append(_setting(work, each, rounds))
    whole = sum(sum(each.importance) for each in work.network.groups)
    return Saved(choose_together(settings, latency_s, may_lose * whole), today_j)


@contextmanager
def settled(work: Work, clocks: Clocks) -> Iterator[None]:
    """Hold clocks that have settled inside a ``with`` block; after it those before have settled again."""
    with work.device.held(clocks):
        work.device.clock.sleep(_SETTLE_S)
        yield
    work.device.clock.sleep(_SETTLE_S)


def _whole(work: Work, clocks: Clocks) -> _Whole:
    with settled(work, clocks):
        found = work.profile(work.graph).whole
    if found.energy_j is None:
        raise Refused(f"{work.device.name} has no meter that can be read; leave --least-energy out")
    return _Whole(clocks, found.latency_s, found.energy_j)


def _worth_staircases(tried: Sequence[_Whole]) -> list[Clocks]:
    """Return a few of the clocks that no others beat in time and energy, the fastest first."""
    front: list[_Whole] = []
    for each in sorted(tried, key=lambda one: (one.latency_s, one.energy_j)):
        if not front or each.energy_j < front[-1].energy_j:
            front.append(each)
    places = np.linspace(0, len(front) - 1, min(len(front), _MOST_SETTINGS)).round()
    return [front[int(at)].clocks for at in places]


def _setting(work: Work, clocks: Clocks, rounds: int) -> Setting:
    with settled(work, clocks):
        table = table_of(work, rounds)
        return Setting(clocks, priced(work, table), priced(work, table, "energy"))
