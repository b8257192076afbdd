"""A ladder, arrivals and two prices -> a lower bound on the clairvoyant's energy, requests whole and changes paid for.

The linear programme of `clairvoyant` lets a request be served in fractions and changes of clocks be free. Here the
budget of accuracy and the number of drops are priced instead (Lagrangian relaxation: for any prices that are not
negative the priced optimum is a lower bound), and what is left, a shortest path over requests, the moment when the
device is free, and its clocks, is solved exactly. So every request is served whole, in a batch that is really there,
at one rung; going to other clocks costs its energy and its stand-still. What is still given away for nothing:

1. idle time costs what the cheapest clocks cost, and a change inside of it takes no time; nothing has to settle;
2. times are whole slots: arrivals and service times rounded down, deadlines up. The slot is chosen among a few so that
   the times of the rungs lose least.

Shapes: K clocks, S slots of the time at which the device is free, from a request's arrival on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from amble.core.ladder import Ladder
from amble.core.ports import FloatArray

__all__ = ["Case", "Prices", "priced_j"]

SLOTS = (900, 1500)  # least and most slots in a deadline
INFINITE = float("inf")


class Prices(NamedTuple):
    """Of a whole unit of accuracy lost, and of a dropped request [J]."""

    loss_j: float
    drop_j: float


@dataclass(frozen=True, slots=True)
class Case:
    """Arrivals [s] with one relative deadline [s], the mean loss allowed, and how many may be dropped."""

    arrivals_s: FloatArray
    deadline_s: float
    allowed: float
    drops: int
    end_s: float


class _Action(NamedTuple):
    """Serve so many requests at these clocks: slots that it takes, energy above idling [J] and loss of all of them."""

    clocks: int
    batch: int
    slots: int
    above_j: float
    loss: float


@dataclass(frozen=True, slots=True)
class _Grid:
    slot_s: float
    due: int  # slots in a deadline
    stall: int  # slots of a change
    change_j: float
    clocks: int
    actions: tuple[_Action, ...]


def priced_j(case: Case, ladder: Ladder, prices: Prices) -> float:
    """Return the lower bound [J] at these prices, idling until the end included."""
    grid = _grid(case, ladder)
    arrivals = np.floor(case.arrivals_s / grid.slot_s + 1e-9).astype(np.int64).tolist()
    count, due = len(arrivals), grid.due
    costs = [each.above_j + prices.loss_j * (each.loss - case.allowed * each.batch) for each in grid.actions]
    largest = max(each.batch for each in grid.actions)
    stages = [np.full((grid.clocks, due + 1), INFINITE) for _ in range(largest + 1)]
    stages[0][:, 0] = 0.0
    arrivals += [arrivals[-1]] * largest
    for place in range(count):
        here = stages.pop(0)
        stages.append(np.full((grid.clocks, due + 1), INFINITE))
        ready = _changed(here, grid)
        for action, cost_j in zip(grid.actions, costs, strict=True):
            if place + action.batch <= count:
                _serve(
                    ready[action.clocks], stages[action.batch - 1][action.clocks], arrivals, place, action, cost_j, due
                )
        if case.drops:
            _drop(here, stages[0], arrivals[place + 1] - arrivals[place], prices.drop_j)
    return float(stages[0].min()) - prices.drop_j * case.drops + ladder.park_w * case.end_s


def _changed(here: FloatArray, grid: _Grid) -> FloatArray:
    """Allow a change of clocks before serving [K, S]: later by its stand-still, unless the device was idle."""
    other = here.min(axis=0) + grid.change_j
    late = np.full_like(other, INFINITE)
    late[grid.stall :] = other[: len(other) - grid.stall]
    late[0] = other[0]
    return np.asarray(np.minimum(here, late))


def _serve(
    ready: FloatArray, after: FloatArray, arrivals: Sequence[int], place: int, action: _Action, cost_j: float, due: int
) -> None:
    """Serve a batch from every slot in time, and note when the device is free for the next request."""
    wait = arrivals[place + action.batch - 1] - arrivals[place]
    gap = arrivals[place + action.batch] - arrivals[place]
    last = due - action.slots  # the latest slot to begin in
    if wait > last:
        return
    first = min(max(wait, gap - action.slots), last)  # whoever is free by then is so at the same time afterwards
    target = max(0, max(first, wait) + action.slots - gap)
    after[target] = min(after[target], ready[: first + 1].min() + cost_j)
    if first < last:
        place_s = first + 1 + action.slots - gap
        found = ready[first + 1 : last + 1] + cost_j
        part = after[place_s : place_s + last - first]
        np.minimum(part, found, out=part)


def _drop(here: FloatArray, after: FloatArray, gap: int, price_j: float) -> None:
    gap = min(gap, here.shape[1] - 1)
    np.minimum(after[:, 0], here[:, : gap + 1].min(axis=1) + price_j, out=after[:, 0])
    part = after[:, 1 : here.shape[1] - gap]
    np.minimum(part, here[:, gap + 1 :] + price_j, out=part)


def _grid(case: Case, ladder: Ladder) -> _Grid:
    settings = sorted({rung.clocks for rung in ladder.rungs})
    size = ladder.max_batch
    times_s = np.array([rung.latency_s[:size] for rung in ladder.rungs]).ravel()
    slots_s = case.deadline_s / np.arange(*SLOTS, 4)
    lost = [float(np.mean(1.0 - np.floor(times_s / each + 1e-9) * each / times_s)) for each in slots_s]
    slot_s = float(slots_s[int(np.argmin(lost))])
    actions = tuple(
        _Action(
            settings.index(rung.clocks),
            batch,
            math.floor(rung.latency_s[batch - 1] / slot_s + 1e-9),
            rung.joules[batch - 1] - ladder.park_w * rung.latency_s[batch - 1],
            batch * (1.0 - rung.accuracy),
        )
        for rung in ladder.rungs
        for batch in range(1, size + 1)
        if rung.latency_s[batch - 1] <= case.deadline_s
    )
    pairs = [(a, b) for a in settings for b in settings if a != b]
    stall_s = min((ladder.stall_s(*pair) for pair in pairs), default=0.0)
    change_j = min((ladder.stall_j(*pair) - ladder.park_w * ladder.stall_s(*pair) for pair in pairs), default=0.0)
    due = math.ceil(case.deadline_s / slot_s - 1e-9) + 1  # an arrival rounded down moves its deadline by a slot at most
    return _Grid(slot_s, due, math.floor(stall_s / slot_s), max(0.0, change_j), len(settings), actions)
