"""A fleet in virtual time: arrivals, a policy of clocks and routing -> energy, misses, and what the budget saw.

Time passes in slots, a tenth of the deadline each. Rows wait in a queue for each device, by age in slots, and are
served oldest first at the rung's rate; one that cannot start in time any more is dropped and is a miss, as are rows
that find no device and those that wait on a device that fails. A row waits for the batch that runs and for its own, so
the last two batch times of the deadline are no time to wait. Work and waiting draw the rung's two powers; a device that
is down draws nothing.

Under a `ClusterGovernor` orders travel for one to three slots, a device parks once its queue is empty, and it is
reported at the next step what it holds then. Where requests find no room on devices that are filled as far as they are
meant to be, the next step comes at once, as at the door of a cluster (`Steering.hurry`), but not sooner after the last
one than ``soonest_s``. Routing knows what a device was ordered, and uses the lower of the two rungs. Every policy has
the same health checks: failed devices get no work from the next slot on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from amble.core.ports import FloatArray
from amble.services.cluster import routing
from amble.services.cluster.filling import BoolArray, Frontiers, IntArray
from amble.services.cluster.governor import ClusterGovernor, Seen, State
from amble.services.cluster.ladders import Ladders

__all__ = ["SLOTS", "Day", "Fleet", "Outcome", "Policy", "Spread", "least_j", "simulate", "smoothest"]

SLOTS = 10  # in a deadline
_FULL = 0.8  # share of the room on a device that routing by energy uses before it spills over
Spread = Literal["joules", "least loaded", "round-robin"]


@dataclass(frozen=True)
class Fleet:
    """Devices, what their rungs cost, and the deadline of every request [s]."""

    frontiers: Frontiers
    ladders: Ladders
    deadline_s: float

    @property
    def slot_s(self) -> float:
        """Return how long a slot is [s]."""
        return self.deadline_s / SLOTS


@dataclass(frozen=True)
class Policy:
    """How requests are spread, and either rungs that are held or a governor that steps every ``period_s``.

    It steps sooner where room runs out, ``soonest_s`` after its last step at the earliest.
    """

    spread: Spread
    held: IntArray | None = None
    governor: ClusterGovernor | None = None
    period_s: float = 0.5
    soonest_s: float = 0.02


@dataclass(frozen=True)
class Outcome:
    """What a run came to. ``over_s``: how long rungs' powers together were above the governor's budget.

    ``lost`` rows were refused, dropped because they would be late, or waited on a device that failed.
    """

    energy_j: float
    arrived: int
    met: float
    lost: float
    over_s: float
    most_w: float

    @property
    def missed(self) -> float:
        """Return the share of all requests that were late, dropped or refused."""
        return max(0.0, round(self.lost / max(1, self.arrived), 9))  # less is what sums of floats leave


class _Run:
    """The state of a run: queues, what devices hold and were ordered, and what is still on its way."""

    def __init__(self, fleet: Fleet, policy: Policy, seed: int) -> None:
        num = fleet.frontiers.num_devices
        self.fleet, self.policy, self.random = fleet, policy, np.random.default_rng(seed)
        self.waiting = np.zeros((num, SLOTS))  # by age, the newest first
        self.down = np.zeros(num, dtype=np.bool_)
        held = np.zeros(num, dtype=np.int64) if policy.held is None else policy.held
        self.held, self.ordered, self.arrives = held.copy(), held.copy(), np.zeros(num, dtype=np.int64)
        self.serial, self.applied = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.int64)
        self.state: State | None = policy.governor.init() if policy.governor else None
        self.turn, self.came, self.lost = 0, 0, 0.0
        self.governed, self.hurry = 0, False
        self._ages = np.arange(SLOTS)

    def fail(self, down: BoolArray) -> None:
        """Let devices go down, with all that waits there."""
        self.down = down
        self.lost += float(self.waiting[down].sum())
        self.waiting[down] = 0.0
        self.held[down] = self.ordered[down] = 0
        self.serial[down] = self.applied[down] = 0

    def govern(self, slot: int) -> None:
        """Tell the governor what came since its last step, and send its orders, when the time for it has come."""
        governor, slots = self.policy.governor, slot - self.governed
        wait_s = self.policy.soonest_s if self.hurry else self.policy.period_s
        if governor is None or self.state is None or slots < max(1, round(wait_s / self.fleet.slot_s)):
            return
        self.governed, self.hurry = slot, False
        demand_hz = self.came / (slots * self.fleet.slot_s)
        self.came = 0
        rung = np.where(self.down, -1, self.held)
        self.state, orders = governor.step(self.state, Seen(demand_hz, rung, self.applied.copy(), self.down))
        self.ordered[orders.device], self.serial[orders.device] = orders.rung, orders.serial
        self.arrives[orders.device] = self.random.integers(1, 4, len(orders.device))

    def travel(self) -> None:
        """Apply the orders that have come; parking waits for the queue to empty."""
        self.arrives = np.maximum(0, self.arrives - 1)
        apply = (self.serial != self.applied) & (self.arrives == 0) & ~self.down
        apply &= (self.ordered > 0) | (self.waiting.sum(axis=1) <= 1e-9)
        self.held = np.where(apply, self.ordered, self.held)
        self.applied = np.where(apply, self.serial, self.applied)

    def _of(self, values: FloatArray, rung: IntArray) -> FloatArray:
        return np.asarray(values[self.fleet.frontiers.kind, rung])

    def _start_slots(self, rung: IntArray) -> FloatArray:
        """Return for how many slots a row may wait at most."""
        late_s = self.fleet.deadline_s - 2.0 * self._of(self.fleet.ladders.latency_s, rung)
        return np.floor(late_s / self.fleet.slot_s + 1e-9)

    def route(self, count: int) -> None:
        """Spread the rows of a slot; those without a place are refused."""
        self.came += count
        rung = np.where(self.ordered < self.held, self.ordered, self.held)
        rate_hz = np.where(self.down, 0.0, self._of(self.fleet.ladders.rate_hz, rung))
        queue = self.waiting.sum(axis=1)
        if self.policy.spread == "round-robin":
            self.waiting[:, 0] = routing.turns(count, np.flatnonzero(rate_hz > 0), len(queue), self.turn)
            self.turn += count
        elif self.policy.spread == "least loaded":
            self.waiting[:, 0] = routing.level(count, queue, rate_hz)
        else:
            self.waiting[:, 0] = self._cheapest(count, rung, rate_hz, queue)
        self.lost += count - float(self.waiting[:, 0].sum())

    def _cheapest(self, count: int, rung: IntArray, rate_hz: FloatArray, queue: FloatArray) -> FloatArray:
        ladders = self.fleet.ladders
        more_w = self._of(ladders.busy_w, rung) - self._of(ladders.idle_w, rung)
        row_j = np.divide(more_w, rate_hz, out=np.zeros_like(more_w), where=rate_hz > 0)
        can = rate_hz * self._start_slots(rung) * self.fleet.slot_s
        first = routing.allot(count, np.maximum(0.0, _FULL * can - queue), row_j)
        left = count - float(first.sum())
        if left <= 1e-9:
            return first
        self.hurry = True
        return first + routing.allot(left, np.maximum(0.0, can - queue - first), row_j)

    def serve(self) -> tuple[float, float]:
        """Serve a slot; return (rows met, energy [J])."""
        ladders, slot_s = self.fleet.ladders, self.fleet.slot_s
        late = self._ages[None, :] >= self._start_slots(self.held)[:, None]
        self.lost += float(self.waiting[late].sum())
        self.waiting[late] = 0.0
        can = np.where(self.down, 0.0, self._of(ladders.rate_hz, self.held) * slot_s)
        older = np.cumsum(self.waiting[:, ::-1], axis=1)[:, ::-1]
        served = np.clip(can[:, None] - (older - self.waiting), 0.0, self.waiting)
        done = served.sum(axis=1)
        share = np.divide(done, can, out=np.zeros_like(can), where=can > 0)
        busy_w, idle_w = self._of(ladders.busy_w, self.held), self._of(ladders.idle_w, self.held)
        watts = np.where(self.down, 0.0, idle_w + share * (busy_w - idle_w))
        self.waiting -= served
        self.lost += float(self.waiting[:, -1].sum())
        self.waiting[:, 1:] = self.waiting[:, :-1]
        self.waiting[:, 0] = 0.0
        return float(done.sum()), float(watts.sum()) * slot_s

    def allowed_w(self) -> float:
        """Return what the rungs that are held may draw together [W]."""
        return float(np.where(self.down, 0.0, self.fleet.frontiers.watts(self.held)).sum())


@dataclass(frozen=True)
class Day:
    """What happens to a fleet: rows that arrive in each slot, and in which slot which devices go down.

    The first ``lead`` slots are not counted in the outcome: a governed fleet starts parked.
    """

    arrivals: IntArray
    lead: int = 0
    fails: tuple[int, BoolArray] | None = None


def simulate(fleet: Fleet, day: Day, policy: Policy, *, seed: int = 0) -> Outcome:
    """Run a policy through a day. It ends when queues are empty."""
    run = _Run(fleet, policy, seed)
    budget_w = policy.governor.budget_w if policy.governor else np.inf
    met = energy_j = over_s = most_w = 0.0
    for slot, count in enumerate(np.concatenate([day.arrivals, np.zeros(SLOTS, dtype=np.int64)])):
        if slot == day.lead:
            run.lost = 0.0
        if day.fails is not None and slot == day.fails[0]:
            run.fail(day.fails[1])
        run.govern(slot)
        run.travel()
        run.route(int(count))
        done, joules = run.serve()
        watts = run.allowed_w()
        over_s += fleet.slot_s * (watts > budget_w * (1 + 1e-6))
        if slot >= day.lead:
            met, energy_j, most_w = met + done, energy_j + joules, max(most_w, watts)
    return Outcome(energy_j, int(day.arrivals[day.lead :].sum()), met, run.lost, over_s, most_w)


def smoothest(arrivals: IntArray, delay: int) -> FloatArray:
    """Return the rows served in each slot by the smoothest service that finishes each within ``delay`` slots.

    It is the shortest string between all that has arrived and all that is due: of all services in time it costs least,
    for every convex cost of a slot at once.
    """
    zeros = np.zeros(delay, dtype=np.int64)
    upper = np.concatenate([[0], np.cumsum(np.concatenate([arrivals, zeros]))]).astype(np.float64)
    lower = np.concatenate([[0], np.cumsum(np.concatenate([zeros, arrivals]))]).astype(np.float64)
    at, height, end, rates = 0, 0.0, len(upper) - 1, np.zeros(len(upper) - 1)
    while at < end:
        to, rate = _taut(upper, lower, at, height)
        rates[at:to] = rate
        height += rate * (to - at)
        at = to
    return rates


def _taut(upper: FloatArray, lower: FloatArray, at: int, height: float) -> tuple[int, float]:
    """Return up to where the string is straight from here, and its slope."""
    least, most, least_to, most_to = -np.inf, np.inf, at, at
    for to in range(at + 1, len(upper)):
        low, high = (lower[to] - height) / (to - at), (upper[to] - height) / (to - at)
        if low > most:
            return most_to, most
        if high < least:
            return least_to, least
        if low >= least:
            least, least_to = low, to
        if high <= most:
            most, most_to = high, to
    return len(upper) - 1, (upper[-1] - height) / (len(upper) - 1 - at)


def least_j(fleet: Fleet, day: Day) -> float:
    """Return the energy [J] below which nobody serves all arrivals in time: mixtures of rungs, known arrivals.

    Every slot costs what the hulls of all devices say for its rate, changes cost nothing, and the service is the
    smoothest one.
    """
    edges = fleet.frontiers.edges
    power = np.concatenate([[0.0], np.cumsum(edges.power_w)]) + float(fleet.frontiers.parked_w.sum())
    rate = np.concatenate([[0.0], np.cumsum(edges.rate_hz)])
    rates_hz = smoothest(day.arrivals[day.lead :], SLOTS) / fleet.slot_s
    return float(np.interp(rates_hz, rate, power).sum()) * fleet.slot_s
