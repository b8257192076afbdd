"""Gears and an arrival rate → which gear to serve in, for each length of the queue and each gear that runs.

A queue that is served one batch at a time, at a speed that may be chosen anew for each, is a semi-Markov decision
process (Puterman, Markov Decision Processes, 1994, chapter 11): the state is how many wait when the device is free and
which clocks run; an action is a gear; what it costs is energy, the change of clocks included, and every request that
has to be refused because it comes to a queue that is too long for its deadline. The least energy for a given share of
refusals is found by pricing refusals and solving for the policy (Howard's policy iteration, exact on so few states),
with the smallest price that keeps the share. Requests come at independent moments, one or several at a time.

Shapes: K gears that run now, G gears to choose, N lengths of the queue (1 … N), A arrivals during a service.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from amble.core.ladder import Ladder, Rung
from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.stages.control.governors.gears import Gear

__all__ = ["Load", "Policy", "Process", "baseline_refusals", "solve"]

_LONGEST = 32  # no queue is modelled longer than this; what is longer is served as this one
_PRICES = (0.05, 1e4)  # of a refusal, in energies of one request in the fastest gear
_STEPS = 12  # of the bisection between them
_LEAK = 1e-6  # chance that the clocks fall to the lowest by themselves, so that every policy has one value

Choice = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Load:
    """Requests at this rate [1/s], ``clump`` of them at each independent moment, all due ``deadline_s`` later."""

    rate_hz: float
    deadline_s: float
    clump: int = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """gear: [running][waiting − 1], and what the model expects of it.

    ``refused`` is the expected share of refusals, ``power_w`` the mean power above that of a parked device.
    """

    gear: tuple[tuple[int, ...], ...]
    refused: float
    power_w: float

    def choose(self, running: int, waiting: int) -> int:
        """Return the gear for this many waiting while that one runs."""
        row = self.gear[running if running < len(self.gear) else 0]
        return row[min(waiting, len(row)) - 1]


def solve(gears: tuple[Gear, ...], ladder: Ladder, load: Load, *, goal: float) -> Policy:
    """Return the policy of least energy that refuses at most this share; the one that refuses least where none does."""
    model = Process(gears, ladder, load)
    unit = gears[-1].objective[0]
    low, high = (price * unit for price in _PRICES)
    best = model.policy(high)
    if best.refused > goal:
        return best
    for _ in range(_STEPS):
        middle = float(np.sqrt(low * high))
        found = model.policy(middle)
        if found.refused <= goal:
            best, high = found, middle
        else:
            low = middle
    return best


def baseline_refusals(rung: Rung, ladder: Ladder, load: Load) -> float:
    """Return the share that serving everything at one rung refuses, by the same model."""
    size = ladder.max_batch
    objective = rung.objective(0.0)
    only = Gear((rung,), rung.latency_s[:size], objective[:size], (objective[0],))
    return Process((only,), ladder, load).policy(0.0).refused


class Process:
    """The decision process. wait_s, cost, lost: [K, G, N], of one step; move: [K, G, N, N], where it leads.

    A step is one service. Where a change of clocks takes longer than that, the step lasts until it has settled, with
    services at the old clocks meanwhile: who has asked for a change does not ask for another before.
    """

    def __init__(self, gears: tuple[Gear, ...], ladder: Ladder, load: Load) -> None:
        self._load = load
        count = max(2, min(_LONGEST, int(load.deadline_s * gears[-1].capacity_hz)))
        waiting = np.arange(1, count + 1)
        step = _steps(gears, ladder, waiting, load.rate_hz)
        self._lost, self._move, empty = self._arrivals(step, gears[-1])
        idle_w = np.array([gear.rungs[0].idle_w for gear in gears]) - ladder.park_w
        idle_s = empty * load.clump / load.rate_hz
        self._wait_s = step.time_s + idle_s
        self._cost = step.cost + idle_s * idle_w[None, :, None]
        self._begin: Choice = np.full(self._wait_s[:, 0].shape, len(gears) - 1, dtype=np.intp)

    def policy(self, price: float) -> Policy:
        """Return the best policy at a price of a refusal [J], by Howard's iteration."""
        choice = self._begin  # of the price before: most often nearly the same
        for _ in range(30):
            gains, value = self._evaluated(choice, price)
            ahead = self._ahead(value)
            quality = self._cost + price * self._lost - gains[0] * self._wait_s + ahead
            held = np.take_along_axis(quality, choice[:, None, :], axis=1)[:, 0]
            better = quality.min(axis=1) < held - 1e-9 * np.abs(held)
            if not better.any():
                break
            choice = np.where(better, quality.argmin(axis=1), choice)
        self._begin = choice
        refused = float(gains[1] / self._load.rate_hz)
        gear = tuple(tuple(int(each) for each in row) for row in choice)
        return Policy(gear, refused, float(gains[0] - price * gains[1]))

    def _evaluated(self, choice: Choice, price: float) -> tuple[FloatArray, FloatArray]:
        """Return the gains of a policy (cost [W], refusals [1/s]), and the relative value of every state [K, N]."""
        kinds, states = choice.shape
        rows, columns = np.indices(choice.shape)
        lost = self._lost[rows, choice, columns].ravel()
        cost = self._cost[rows, choice, columns].ravel() + price * lost
        after = choice if kinds > 1 else np.zeros_like(choice)
        matrix = np.eye(kinds * states).reshape(kinds, states, kinds, states)
        moved = self._move[rows, choice, columns]
        matrix[rows, columns, after] -= (1.0 - _LEAK) * moved
        matrix[rows, columns, 0] -= _LEAK * moved
        square = matrix.reshape(kinds * states, -1)
        square[:, 0] = self._wait_s[rows, choice, columns].ravel()
        solved = np.linalg.solve(square, np.stack([cost, lost], axis=1))
        gains = solved[0].copy()
        solved[0] = 0.0
        return gains, solved[:, 0].reshape(kinds, states)

    def _ahead(self, value: FloatArray) -> FloatArray:
        """Return the value of where a choice leads [K, G, N]."""
        if value.shape[0] == 1:
            return np.asarray(np.einsum("kgnm,m->kgn", self._move, value[0]))
        return np.asarray(np.einsum("kgnm,gm->kgn", self._move, value))

    def _arrivals(self, step: _Steps, top: Gear) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return lost [K, G, N], move [K, G, N, N] and the chance that nobody waits afterwards [K, G, N]."""
        count, clump = step.left.shape[-1], self._load.clump
        mean = self._load.rate_hz / clump * step.time_s
        clumps = np.arange(int(np.ceil((count + 24) / clump)) + 1)
        chance = np.exp(clumps * np.log(mean[..., None]) - mean[..., None] - gammaln(clumps + 1))
        caps = self._caps(step, top)[..., None]
        move = np.zeros((mean.size, count + 1))
        lost = np.zeros(mean.shape)
        row = np.arange(mean.size)[:, None]
        for left, share in _whole_parts(step.left[..., None]):
            found = np.maximum(0.0, left + clump * clumps)
            lost += (share * chance * np.clip(found - np.maximum(caps, left), 0.0, None)).sum(axis=-1)
            for cap, weight in _whole_parts(caps):
                target = np.clip(np.maximum(np.minimum(found, cap), left), 0, count).astype(np.intp)
                np.add.at(move, (row, target.reshape(mean.size, -1)), (chance * share * weight).reshape(mean.size, -1))
        move = move.reshape(*mean.shape, count + 1)
        return (*self._begun(lost, move, step, top), move[..., 0].copy())

    def _begun(self, lost: FloatArray, move: FloatArray, step: _Steps, top: Gear) -> tuple[FloatArray, FloatArray]:
        """Let the next clump come to a device left idle in a gear: what of it is on time waits, the rest is lost."""
        count, clump = move.shape[-1] - 1, self._load.clump
        room = np.floor((self._load.deadline_s - step.climb_s) * top.capacity_hz + 1e-9)
        kept = np.clip(np.minimum(room, clump), 1, count).astype(np.intp)
        gears = np.arange(move.shape[1])
        moved = move[..., 1:].copy()
        moved[:, gears, :, kept - 1] += np.moveaxis(move[..., 0], 1, 0)
        return lost + move[..., 0] * (clump - kept)[None, :, None], moved

    def _caps(self, step: _Steps, top: Gear) -> FloatArray:
        """Return how many may wait for a newcomer to be on time, on the mean over a step [K, G, N].

        A newcomer needs what is left of the step, the way to the top, those ahead and itself to fit its deadline.
        """
        left_s = np.linspace(0.06, 0.94, 8) * step.time_s[..., None] + step.climb_s[None, :, None, None]
        room_s = np.clip(self._load.deadline_s - left_s, 0.0, None)
        return np.asarray(np.floor(room_s * top.capacity_hz + 1e-9).mean(axis=-1))


@dataclass(frozen=True, slots=True)
class _Steps:
    """time_s, cost: [K, G, N]. left: [K, G, N], how many wait afterwards if nobody comes (not whole, may be < 0).

    climb_s: [G], time lost on the way from a gear to the fastest. K = 1 where no change costs anything.
    """

    time_s: FloatArray
    cost: FloatArray
    left: FloatArray
    climb_s: FloatArray


def _nothing(before: Clocks, after: Clocks) -> float:
    return 0.0


def _steps(gears: tuple[Gear, ...], ladder: Ladder, waiting: Choice, rate_hz: float) -> _Steps:
    """Add what a change of clocks costs; while one settles, work goes on as before."""
    batch = np.minimum(waiting, ladder.max_batch)
    latency_s = np.array([gear.latency_s for gear in gears])[:, batch - 1]
    objective = np.array([gear.objective for gear in gears])[:, batch - 1]
    clocks = [gear.rungs[0].clocks for gear in gears]
    stall_s, stall_j, settle_s = (
        np.array([[cost(before, after) for after in clocks] for before in clocks])
        for cost in (ladder.stall_s, ladder.stall_j if ladder.metered else _nothing, ladder.settle_s)
    )
    if not (stall_s.any() or stall_j.any() or settle_s.any()):
        return _Steps(latency_s[None], objective[None], (waiting - batch)[None, None, :] + 0.0 * latency_s, stall_s[0])
    old = settle_s[:, :, None] / latency_s[:, None]  # services at the old clocks
    inside = np.minimum(old, 1.0)
    time_s = stall_s[:, :, None] + old * latency_s[:, None] + (1.0 - inside) * latency_s[None]
    above = np.clip(stall_j - ladder.park_w * stall_s, 0.0, None)
    done = np.minimum(old, np.maximum(inside, (waiting + rate_hz * time_s) / batch))  # no more than there is to do
    cost = above[:, :, None] + done * objective[:, None] + (1.0 - inside) * objective[None]
    climb_s = stall_s[:, -1] + settle_s[:, -1] * np.clip(1.0 - latency_s[-1, 0] / latency_s[:, 0], 0.0, None)
    return _Steps(time_s, cost, waiting - batch * np.maximum(1.0, old), climb_s)


def _whole_parts(values: FloatArray) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Return the whole numbers below and above, each with its weight, that have these values as their mean."""
    below = np.floor(values)
    return (below, 1.0 - (values - below)), (below + 1.0, values - below)
