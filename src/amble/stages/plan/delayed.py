"""Costs, switching, first operators of blocks → what each change of clocks costs when it takes effect late.

A schedule says when clocks are *asked for*. A clock runs a settling time after it was asked for, so the first operators
of a block still run at the clocks of the block before, some at mixtures of both. As every block outlasts the settling,
what that adds to the block's own costs depends on the two settings and the place alone: an edge of the trellis.
Letters: B blocks, S points, D domains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amble.core.cost import Cost
from amble.core.point import DOMAINS, OperatingPoint
from amble.core.ports import FloatArray
from amble.core.profile import SwitchCost
from amble.stages.plan.trellis import DenseSwitch, DomainSwitch, Ints
from amble.stages.plan.waking import parking, waking

__all__ = ["Delays", "Rest", "delays", "levels", "switching"]


@dataclass(frozen=True, slots=True, eq=False)
class Delays:
    """What changing costs: levels [point, domain]; stall_s, stall_j, settle_s [domain]."""

    levels: Ints
    stall_s: FloatArray
    stall_j: FloatArray
    settle_s: FloatArray

    @property
    def stalls(self) -> DomainSwitch:
        """Return what changes cost where they take effect at once."""
        return DomainSwitch(self.levels, self.stall_s, self.stall_j)


@dataclass(frozen=True, slots=True, eq=False)
class Rest:
    """What follows an answer: at least ``slack_s`` [s] until the next request. idle_w: [point], None where unknown."""

    idle_w: FloatArray | None
    slack_s: float


def delays(points: tuple[OperatingPoint, ...], switches: tuple[SwitchCost, ...]) -> Delays:
    """Collect by domain what a device was measured to need for a change."""
    by_domain = {switch.domain: switch for switch in switches}
    known = [by_domain.get(domain, SwitchCost(domain, Cost())) for domain in DOMAINS]
    return Delays(
        levels(points),
        np.array([switch.cost.latency_s for switch in known]),
        np.array([max(0.0, switch.cost.energy_j or 0.0) for switch in known]),
        np.array([switch.settle_s for switch in known]),
    )


def levels(points: tuple[OperatingPoint, ...]) -> Ints:
    """Number the levels of each clock domain: [point, domain]."""
    clocks = [[point.clocks.of(domain) or 0.0 for point in points] for domain in DOMAINS]
    ranks = [np.unique(column, return_inverse=True)[1] for column in clocks]
    return np.stack(ranks, axis=1).astype(np.int64)


def switching(
    latency_s: FloatArray, energy_j: FloatArray, starts: Ints, changes: Delays, rest: Rest
) -> tuple[DomainSwitch | DenseSwitch, FloatArray]:
    """Return the edges of a trellis over blocks, and the time [s] that each adds to every path on purpose: [block].

    latency_s, energy_j: [operator, point]; starts: [block], the first operator of each. Who comes from faster clocks is
    ahead, which a trellis has no negative times for: so every edge into a block counts that much more, and budget and
    period must too. Clocks that could not settle before the next request are none to wait at.
    """
    plain = changes.stalls
    if not changes.settle_s.any():
        return plain, np.zeros(len(starts))
    stall_s, stall_j = plain.into(1, 2)
    worked_s = np.maximum(changes.settle_s - changes.stall_s, 0.0)  # a stalled clock settles too
    times_s, energies_j = np.zeros((2, len(starts) + 1, *stall_s.shape))
    for block, start in enumerate(starts):
        late_s, late_j = waking(latency_s[start:], energy_j[start:], changes.levels, worked_s)
        times_s[block], energies_j[block] = stall_s + late_s, stall_j + late_j
    times_s[-1], energies_j[-1] = _parking(changes, rest)
    ahead_s = np.maximum(-times_s[:-1].min(axis=(1, 2)), 0.0)
    if rest.idle_w is None:  # nothing is held before the first operator
        ahead_s[0] = 0.0
        times_s[0] = np.maximum(times_s[0], 0.0)
    times_s[:-1] += ahead_s[:, None, None]
    return DenseSwitch(times_s, energies_j), ahead_s


def _parking(changes: Delays, rest: Rest) -> tuple[FloatArray, FloatArray]:
    """Return time [s] and energy [J], [from, to], of going to the clocks of waiting."""
    stall_s, stall_j = changes.stalls.into(1, 2)
    slow = np.flatnonzero(changes.settle_s > rest.slack_s)
    unsettled = (changes.levels[:, None, slow] != changes.levels[None, :, slow]).any(axis=2)
    late_j = 0.0 if rest.idle_w is None else parking(rest.idle_w, changes.settle_s)
    return np.where(unsettled, np.inf, stall_s), stall_j + late_j
