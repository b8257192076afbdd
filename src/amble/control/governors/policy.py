"""Gears and an arrival rate → which gear to serve in, for each length of the queue and each gear that runs.

A queue that is served one batch at a time, at a speed that may be chosen anew for each, is a semi-Markov decision
process (Puterman, Markov Decision Processes, 1994, chapter 11): the state is how many wait when the device is free and
which clocks run; an action is a gear; what it costs is energy, the change of clocks included, and every request that
has to be refused because it comes to a queue that is too long for its deadline. The least energy for a given share of
refusals is found by pricing refusals and solving for the policy (Howard's policy iteration, exact on so few states),
with the smallest price that keeps the share. Arrivals are taken as independent, which is what slack is for elsewhere.

Shapes: K gears that run now, G gears to choose, N lengths of the queue (1 … N), A arrivals during a service.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from amble.control.governors.gears import Gear
from amble.core.ladder import Ladder, Rung
from amble.core.ports import FloatArray

__all__ = ["Load", "Policy", "baseline_refusals", "solve"]

_LONGEST = 32  # no queue is modelled longer than this; what is longer is served as this one
_PRICES = (0.05, 3000.0)  # of a refusal, in energies of one request in the fastest gear
_STEPS = 12  # of the bisection between them
_LEAK = 1e-6  # chance that the clocks fall to the lowest by themselves, so that every policy has one value

Choice = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Load:
    """Independent arrivals at this rate [1/s], each due ``deadline_s`` later."""

    rate_hz: float
    deadline_s: float


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
    model = _Model(gears, ladder, load)
    unit_j = gears[-1].objective_j[0]
    low, high = (price * unit_j for price in _PRICES)
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
    only = Gear((rung,), rung.latency_s[:size], rung.energy_j[:size], (rung.energy_j[0],))
    return _Model((only,), ladder, load).policy(0.0).refused


class _Model:
    """The decision process. wait_s, cost_j, lost: [K, G, N], of one service; move: [K, G, N, N], where it leads."""

    def __init__(self, gears: tuple[Gear, ...], ladder: Ladder, load: Load) -> None:
        self._load = load
        count = max(2, min(_LONGEST, int(load.deadline_s * gears[-1].capacity_hz)))
        waiting = np.arange(1, count + 1)
        batch = np.minimum(waiting, ladder.max_batch)
        latency_s = np.array([gear.latency_s for gear in gears])[:, batch - 1]
        objective_j = np.array([gear.objective_j for gear in gears])[:, batch - 1]
        self._service_s, self._cost_j, self._late_s = _switched(gears, ladder, latency_s, objective_j)
        self._lost, self._move, self._empty = self._arrivals(waiting - batch, gears[-1])
        idle_w = np.array([gear.rungs[0].idle_w for gear in gears]) - ladder.park_w
        self._wait_s = self._service_s + self._empty / load.rate_hz
        self._cost_j = self._cost_j + self._empty * idle_w[None, :, None] / load.rate_hz

    def policy(self, price_j: float) -> Policy:
        """Return the best policy at a price of a refusal [J], by Howard's iteration."""
        choice: Choice = np.full(
            (self._wait_s.shape[0], self._wait_s.shape[2]), self._wait_s.shape[1] - 1, dtype=np.intp
        )
        for _ in range(30):
            gains, value = self._evaluated(choice, price_j)
            ahead = np.einsum("kgnm,gm->kgn", self._move, self._next(value))
            quality = self._cost_j + price_j * self._lost - gains[0] * self._wait_s + ahead
            held = np.take_along_axis(quality, choice[:, None, :], axis=1)[:, 0]
            better = quality.min(axis=1) < held - 1e-9 * np.abs(held)
            if not better.any():
                break
            choice = np.where(better, quality.argmin(axis=1), choice)
        refused = float(gains[1] / self._load.rate_hz)
        gear = tuple(tuple(int(each) for each in row) for row in choice)
        return Policy(gear, refused, float(gains[0] - price_j * gains[1]))

    def _evaluated(self, choice: Choice, price_j: float) -> tuple[FloatArray, FloatArray]:
        """Return the gains of a policy (cost [W], refusals [1/s]), and the relative value of every state [K, N]."""
        kinds, states = choice.shape
        rows, columns = np.indices(choice.shape)
        lost = self._lost[rows, choice, columns].ravel()
        cost = self._cost_j[rows, choice, columns].ravel() + price_j * lost
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

    def _next(self, value: FloatArray) -> FloatArray:
        """Value of the state that each gear leads to [G, N]."""
        return value if value.shape[0] > 1 else np.broadcast_to(value, (self._wait_s.shape[1], value.shape[1]))

    def _arrivals(self, left: Choice, top: Gear) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return lost [K, G, N], move [K, G, N, N] and the chance that nobody waits afterwards [K, G, N]."""
        count = len(left)
        mean = self._load.rate_hz * self._service_s
        arrivals = np.arange(count + 24)
        chance = np.exp(arrivals * np.log(mean[..., None]) - mean[..., None] - gammaln(arrivals + 1))
        caps = self._caps(top)[..., None]
        found = left[:, None] + arrivals
        lost = (chance * np.clip(found - caps, 0.0, None)).sum(axis=-1)
        move = np.zeros((mean.size, count + 1))
        row = np.arange(mean.size)[:, None]
        for part, weight in ((np.floor(caps), 1.0 - caps % 1.0), (np.floor(caps) + 1.0, caps % 1.0)):
            target = np.clip(np.maximum(np.minimum(found, part), left[:, None]), 0, count).astype(np.intp)
            np.add.at(move, (row, target.reshape(mean.size, -1)), (chance * weight).reshape(mean.size, -1))
        move = move.reshape(*mean.shape, count + 1)
        empty = move[..., 0].copy()
        move[..., 1] += empty
        return lost, move[..., 1:], empty

    def _caps(self, top: Gear) -> FloatArray:
        """Return how many may wait for a newcomer to be on time, on the mean over a service [K, G, N].

        A newcomer needs what is left of the service, those ahead and itself to fit its deadline.
        """
        left_s = np.linspace(0.06, 0.94, 8) * self._service_s[..., None]
        room_s = np.clip(self._load.deadline_s - left_s - self._late_s[None, :, None, None], 0.0, None)
        return np.asarray(np.floor(room_s * top.capacity_hz + 1e-9).mean(axis=-1))


def _switched(
    gears: tuple[Gear, ...], ladder: Ladder, latency_s: FloatArray, objective_j: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Add what a change of clocks costs → time and energy of a service [K, G, N], and time lost on the way to the top [G].

    latency_s, objective_j: [G, N]. K = 1 where no change costs anything. While a change settles, work goes on as before.
    """
    clocks = [gear.rungs[0].clocks for gear in gears]
    stall_s, stall_j, settle_s = (
        np.array([[cost(before, after) for after in clocks] for before in clocks])
        for cost in (ladder.stall_s, ladder.stall_j, ladder.settle_s)
    )
    if not (stall_s.any() or stall_j.any() or settle_s.any()):
        return latency_s[None], objective_j[None], np.zeros(len(gears))
    old = np.minimum(1.0, settle_s[:, :, None] / latency_s[:, None])
    time_s = stall_s[:, :, None] + old * latency_s[:, None] + (1.0 - old) * latency_s[None]
    above_j = np.clip(stall_j - ladder.park_w * stall_s, 0.0, None)
    energy_j = above_j[:, :, None] + old * objective_j[:, None] + (1.0 - old) * objective_j[None]
    return time_s, energy_j, (time_s[:, -1, 0] - latency_s[-1, 0])
