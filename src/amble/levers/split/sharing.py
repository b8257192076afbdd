"""Several devices, each with what its cuts take over every share of one link → who sends what, and on which share.

Theory of operation
-------------------
The link is cut into equal units; who has u of U gets that share of the rate, as with slots of time. A server that runs
one request at a time may be busy for no more than a share of the time. Each device brings options (units, energy,
busy): a cut, its clocks, its precision. To choose one for each device so that units and busy time suffice and energy is
least is a knapsack with classes and two budgets.

* *Units* are few whole numbers, so a dynamic programme over them is exact: best[u] of the first n devices from those of
  n - 1. It is what water-filling on the devices' frontiers would be, without needing them convex.
* *Busy time* is no whole number. Where it is in budget without counting it, that is the optimum. Else it is counted in
  small ticks, rounded up, by the same programme; and it is given a price μ, found by bisection: for every μ >= 0 the
  programme's optimum less μ times the budget is a lower bound. The better of both answers is taken, after single
  devices were given better options that still fit; and equal shares of link and server, where these are better yet.

The bound tells how far from optimal the answer can be. What a request waits for others at the server is not modelled:
it belongs into the margin of the server's time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from amble.core.errors import Infeasible
from amble.core.ports import FloatArray
from amble.levers.split.cuts import sent_bytes
from amble.levers.split.link import Link
from amble.levers.split.planning import Admissible, Choice, Question, choice, exchange
from amble.stages.plan.trellis import Ints

__all__ = ["Option", "Shared", "equal", "options", "share"]

_HALVINGS = 40
_TICKS = 512  # into which the time of the server is cut
_SLACK = 1e-12


@dataclass(frozen=True, slots=True)
class Option:
    """What one device may do: units of the link that it needs, its energy, the share of time the server is busy."""

    units: int
    energy_j: float
    busy: float
    choice: Choice | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """The option of each device; no choice of options that fits takes less than ``bound_j`` [J]."""

    chosen: tuple[Option, ...]
    energy_j: float
    bound_j: float


def options(
    question: Question, link: Link, num_units: int, admissible: Admissible = lambda cut, precision: True
) -> tuple[Option, ...]:
    """Return what one device may do on each share of a link, without what another option beats in everything.

    Each cut is sent in the precision of fewest bytes of those that the question allows. ``admissible`` says whether a
    cut may be sent in a precision below FP32.
    """
    last = len(question.cuts) - 1
    whole = choice(question, link, last, question.precisions[0])
    found = [Option(0, whole.energy_j, 0.0, whole)] if whole.fits and whole.energy_j is not None else []
    most_j = found[0].energy_j if found else np.inf
    for index, cut in enumerate(question.cuts[:-1]):
        for precision in sorted(question.precisions, key=partial(sent_bytes, cut.crossing)):
            made = list(_by_share(question, link, num_units, (index, precision), most_j))
            if made and precision != "fp32" and not admissible(cut, precision):
                continue
            found += made
            break  # a precision of more bytes is no better, and late where this one is
    return _undominated(found)


def _by_share(question: Question, link: Link, num_units: int, what: tuple[int, str], most_j: float) -> Iterator[Option]:
    """Yield what a cut in a precision takes on each share of a link, from the whole of it, below ``most_j`` [J]."""
    index, precision = what
    for units in range(num_units, 0, -1):
        slower = replace(link, rate_bit_s=link.rate_bit_s * units / num_units)
        made = exchange(question, slower, index, precision)
        if question.floors.energy_j(index, question.left_s(index, made.link_s)) + made.radio_j >= most_j:
            return  # on fewer units it takes longer yet
        tried = choice(question, slower, index, precision)
        if tried.fits and tried.energy_j is not None and tried.energy_j < most_j:
            yield Option(units, tried.energy_j, tried.server_s / question.period_s, tried)


def _undominated(found: Sequence[Option]) -> tuple[Option, ...]:
    kept: list[Option] = []
    for each in sorted(found, key=lambda of: (of.energy_j, of.units, of.busy)):
        if not any(other.units <= each.units and other.busy <= each.busy for other in kept):
            kept.append(each)
    return tuple(kept)


def share(devices: Sequence[Sequence[Option]], num_units: int, most_busy: float = 1.0) -> Shared:
    """Choose an option for each device. Infeasible where the link or the server is too slow for all of them."""
    free = _programme(devices, _Budgets(num_units))
    if free is None:
        raise _too_many(devices, "the link", "a faster one")
    if _busy(free) <= most_busy + _SLACK:
        return Shared(tuple(free), _energy_j(free), _energy_j(free))
    priced, bound_j = _priced(devices, num_units, most_busy)
    counted = _programme(devices, _Budgets(num_units, most_busy / _TICKS, _TICKS))
    found = [_improved(devices, each, num_units, most_busy) for each in (priced, counted) if each is not None]
    if (alike := equal(devices, num_units, most_busy)) is not None:
        found.append(list(alike))
    if not found:
        raise _too_many(devices, "the server", "a faster one")
    best = min(found, key=_energy_j)
    return Shared(tuple(best), _energy_j(best), min(max(bound_j, _energy_j(free)), _energy_j(best)))


def equal(devices: Sequence[Sequence[Option]], num_units: int, most_busy: float = 1.0) -> tuple[Option, ...] | None:
    """Return the best option of each device on an equal share of the link; None where one has none in time.

    The server is shared equally, too, where it is not quick enough for all of these.
    """
    units = num_units // len(devices)
    for busy in (np.inf, most_busy / len(devices)):
        within = [[each for each in of if each.units <= units and each.busy <= busy] for of in devices]
        if not all(within):
            return None
        found = tuple(min(of, key=lambda each: each.energy_j) for of in within)
        if _busy(found) <= most_busy + _SLACK:
            return found
    return None


def _priced(devices: Sequence[Sequence[Option]], num_units: int, most_busy: float) -> tuple[list[Option] | None, float]:
    """Return the best choice in budget at any price of busy time, if there is one, and the best bound [J]."""
    best, bound_j = None, -np.inf
    low, high = 0.0, _highest_price(devices)
    price = high
    for _ in range(_HALVINGS):
        chosen = _programme(devices, _Budgets(num_units, price_j=price))
        assert chosen is not None
        bound_j = max(bound_j, _energy_j(chosen) + price * (_busy(chosen) - most_busy))
        if _busy(chosen) <= most_busy + _SLACK:
            high = price
            best = chosen if best is None or _energy_j(chosen) < _energy_j(best) else best
        else:
            low = price
        price = (low + high) / 2
    return best, bound_j


@dataclass(frozen=True, slots=True)
class _Budgets:
    """Units, and busy time: in ticks of ``tick`` each, as many as there are, or at a price."""

    num_units: int
    tick: float = np.inf
    num_ticks: int = 0
    price_j: float = 0.0

    def ticks(self, busy: float) -> int:
        """Round up, so that what fits in ticks fits."""
        return math.ceil(busy / self.tick - 1e-9) if self.num_ticks else 0


def _programme(devices: Sequence[Sequence[Option]], budgets: _Budgets) -> list[Option] | None:
    """Return the options of least energy and priced busy time within the budgets; None where none are.

    value: [unit, tick], what the devices so far take within so much; taken: [device][unit, tick], the option.
    """
    units, ticks = budgets.num_units, budgets.num_ticks
    value: FloatArray = np.zeros((units + 1, ticks + 1))
    taken: list[Ints] = []
    for of in devices:
        least, picked = np.full_like(value, np.inf), np.zeros(value.shape, np.int64)
        for row, each in enumerate(of):
            tick = budgets.ticks(each.busy)
            if each.units > units or tick > ticks:
                continue
            cost = value[: units + 1 - each.units, : ticks + 1 - tick] + each.energy_j + budgets.price_j * each.busy
            better = cost < least[each.units :, tick:]
            least[each.units :, tick:][better] = cost[better]
            picked[each.units :, tick:][better] = row
        value = least
        taken.append(picked)
    if not np.isfinite(value[-1, -1]):
        return None
    chosen: list[Option] = []
    for of, picked in zip(reversed(devices), reversed(taken), strict=True):
        chosen.append(of[int(picked[units, ticks])])
        units, ticks = units - chosen[-1].units, ticks - budgets.ticks(chosen[-1].busy)
    return chosen[::-1]


def _improved(
    devices: Sequence[Sequence[Option]], chosen: Sequence[Option], num_units: int, most_busy: float
) -> list[Option]:
    """Give single devices better options, the largest gain first, while units and busy time suffice."""
    found = list(chosen)
    while True:
        units, busy = num_units - sum(each.units for each in found), most_busy - _busy(found)
        gains = [
            (has.energy_j - each.energy_j, at, each)
            for at, (has, of) in enumerate(zip(found, devices, strict=True))
            for each in of
            if each.energy_j < has.energy_j
            and each.units - has.units <= units
            and each.busy - has.busy <= busy + _SLACK
        ]
        if not gains:
            return found
        _, at, each = max(gains, key=lambda gain: gain[0])
        found[at] = each


def _highest_price(devices: Sequence[Sequence[Option]]) -> float:
    """Return a price of busy time at which nobody keeps the server busy who can do without."""
    spread_j = sum(max(each.energy_j for each in of) - min(each.energy_j for each in of) for of in devices)
    least = min((each.busy for of in devices for each in of if each.busy > 0), default=1.0)
    return 2.0 * max(spread_j, 1e-9) / least


def _busy(chosen: Sequence[Option]) -> float:
    return sum(each.busy for each in chosen)


def _energy_j(chosen: Sequence[Option]) -> float:
    return sum(each.energy_j for each in chosen)


def _too_many(devices: Sequence[Sequence[Option]], what: str, remedy: str) -> Infeasible:
    none = [number for number, of in enumerate(devices, start=1) if not of]
    if none:
        return Infeasible(
            f"device {none[0]} keeps its deadline with no cut, even on the whole link; allow more time",
            fastest_s=math.inf,
        )
    return Infeasible(
        f"{what} is too slow for {len(devices)} devices; use {remedy}, or fewer devices", fastest_s=math.inf
    )
