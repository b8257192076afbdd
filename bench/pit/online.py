"""A ladder, a load in pieces and a number of drops -> the least mean energy of whoever knows the rates, not the future.

In each piece requests come at independent moments, one or several at a time, at a rate that is known; the state is how
many wait and which clocks run (the decision process of `amble`'s own policy, here with a free choice of the level too).
Refusals and accuracy have prices, the same in all pieces, so that both go where they save most; every price gives a
lower bound on what keeps the limits on the mean (Lagrangian relaxation), and the best of those that are tried counts.
It stands between the clairvoyant bound and what a governor reaches: the first difference is what not knowing the future
costs, the second what the governor loses. Pieces are steady: a queue that one leaves to the next is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from amble.core.ladder import Ladder
from amble.core.ports import FloatArray
from amble.stages.control.governors import Budget
from amble.stages.control.governors.gears import Gear, gears
from amble.stages.control.governors.policy import Load, Process

__all__ = ["Piece", "least_j", "pieces", "settled_at_once"]

LOSS = (4.0, 250.0)  # prices of a whole unit of accuracy, in energies of one request in the fastest gear
REFUSAL = (0.05, 1e4)  # prices of a refusal, in the same
STEPS = (7, 9)  # of the searches between them


class Piece(NamedTuple):
    """A load, and for how long [s]."""

    load: Load
    time_s: float

    @property
    def num_requests(self) -> float:
        """Return how many requests it has."""
        return self.load.rate_hz * self.time_s


def pieces(arrivals_s: FloatArray, window_s: float, deadline_s: float, *, parts: int, clump: int = 1) -> list[Piece]:
    """Cut a window into parts of equal length, each with the rate that its arrivals happen to have; none if empty."""
    counts, _ = np.histogram(arrivals_s, parts, (0.0, window_s))
    time_s = window_s / parts
    return [Piece(Load(float(count) / time_s, deadline_s, clump), time_s) for count in counts if count]


def settled_at_once(ladder: Ladder) -> Ladder:
    """Return the ladder on a device whose clocks change at once; what a change costs otherwise stays."""
    return replace(ladder, switches=tuple(replace(each, settle_s=0.0) for each in ladder.switches))


def least_j(ladder: Ladder, load: Sequence[Piece], *, allowed: float, drops: float) -> float:
    """Return the least mean energy [J] above that of parked clocks all the time."""
    unit_j = gears(ladder, Budget(allowed=allowed))[-1].objective[0]

    def least(loss_j: float) -> float:
        return _least_j(ladder, load, (loss_j, allowed, drops), unit_j)

    low, high = np.log(LOSS)
    inner = (np.sqrt(5.0) - 1.0) / 2.0
    places = [high - inner * (high - low), low + inner * (high - low)]
    found = [least(unit_j * float(np.exp(place))) for place in places]
    best_j = max(found)
    for _ in range(STEPS[0] - 2):  # golden section: the dual is concave
        if found[0] > found[1]:
            high, places, found = places[1], [0.0, places[0]], [0.0, found[0]]
            places[0] = high - inner * (high - low)
            found[0] = least(unit_j * float(np.exp(places[0])))
        else:
            low, places, found = places[0], [places[1], 0.0], [found[1], 0.0]
            places[1] = low + inner * (high - low)
            found[1] = least(unit_j * float(np.exp(places[1])))
        best_j = max(best_j, *found)
    return best_j


def _least_j(ladder: Ladder, load: Sequence[Piece], limits: tuple[float, float, float], unit_j: float) -> float:
    """Return the best bound [J] at one price of accuracy, over prices of a refusal."""
    loss_j, allowed, drops = limits
    free_j = loss_j * allowed  # what an answer may lose
    choices = _single(ladder, Budget(allowed=allowed), loss_j)
    processes = [Process(choices, ladder, each.load) for each in load]
    low_j, high_j = (price * unit_j for price in REFUSAL)
    best_j = -float("inf")
    for _ in range(STEPS[1]):
        price_j = float(np.sqrt(low_j * high_j))
        policies = [process.policy(price_j + free_j) for process in processes]
        refused = sum(each.num_requests * policy.refused for each, policy in zip(load, policies, strict=True))
        spent_j = sum(each.time_s * policy.power_w for each, policy in zip(load, policies, strict=True))
        answered = sum(each.num_requests for each in load) - refused
        best_j = max(best_j, spent_j + price_j * (refused - drops) - free_j * answered)
        low_j, high_j = (price_j, high_j) if refused > drops else (low_j, price_j)
    return best_j


def _single(ladder: Ladder, budget: Budget, loss_j: float) -> tuple[Gear, ...]:
    """Return a gear for each level of each gear, its loss paid for."""
    idle_w = 0.0 if ladder.accounting == "gross" else ladder.park_w
    size = np.arange(1, ladder.max_batch + 1)
    found = []
    for gear in gears(ladder, budget):
        for rung in gear.rungs:
            latency_s = np.array(rung.latency_s[: ladder.max_batch])
            paid_j = np.array(rung.joules[: ladder.max_batch]) - idle_w * latency_s
            paid_j += loss_j * (1.0 - rung.accuracy) * size
            found.append(Gear((rung,) * len(gear.rungs), tuple(latency_s), tuple(paid_j), gear.cheaper))
    return tuple(sorted(found, key=lambda gear: -gear.latency_s[0]))
