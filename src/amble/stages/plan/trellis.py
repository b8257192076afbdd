"""The trellis of a plan: node costs, switching costs, waiting; and what a path through it costs.

One column per operator in execution order, one node per candidate, the same nodes in every column. A node that an
operator may not use has an infinite time or energy. Letters: N operators, S nodes, D domains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["DenseSwitch", "DomainSwitch", "Solution", "Totals", "Trellis", "Wait", "totals"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class DomainSwitch:
    """Switching as a sum over the domains (core clock, memory clock, precision, ...) whose level changes.

    `at_ends` tells which domains are still set between two inferences: clocks are, the precision of a tensor is not.
    `first` and `last`, where given, replace the sum at the ends: time [s] and energy [J], each [from, to], of the step
    into the first operator (which unlike all others cannot be asked for ahead) and into the wait.
    """

    levels: Ints  # [node, domain]: any whole numbers, equal where the level is equal
    time_s: Floats  # [domain], not negative; infinite: may never change
    energy_j: Floats  # [domain]
    at_ends: NDArray[np.bool_] | None = None  # [domain]; None: all
    first: tuple[Floats, Floats] | None = None
    last: tuple[Floats, Floats] | None = None

    def __post_init__(self) -> None:
        """Take lists as well as arrays; ValueError for shapes that do not fit."""
        levels, time_s = np.asarray(self.levels, dtype=np.int64), np.asarray(self.time_s, dtype=np.float64)
        energy_j = np.asarray(self.energy_j, dtype=np.float64)
        at_ends = np.ones(len(time_s), bool) if self.at_ends is None else np.asarray(self.at_ends, dtype=bool)
        if levels.ndim != 2 or not levels.shape[1:] == time_s.shape == energy_j.shape == at_ends.shape:
            raise ValueError("levels must be [node, domain] and the switching costs [domain]")
        _check_cost(time_s, "switching time_s")
        _check_cost(energy_j, "switching energy_j")
        for end in (self.first, self.last):
            if end is not None and not end[0].shape == end[1].shape == (len(levels), len(levels)):
                raise ValueError("switching times and energies at an end must be [from, to]")
        for name, value in (("levels", levels), ("time_s", time_s), ("energy_j", energy_j), ("at_ends", at_ends)):
            object.__setattr__(self, name, value)

    @property
    def num_nodes(self) -> int:
        """S."""
        return int(self.levels.shape[0])

    def into(self, operator: int, num_operators: int) -> tuple[Floats, Floats]:
        """Time [s] and energy [J], each [from, to], of the step into `operator`; `num_operators` is the wait's."""
        end = self.first if operator == 0 else self.last if operator == num_operators else None
        if end is not None:
            return end
        domains = range(len(self.time_s))
        counted = self.at_ends if operator in (0, num_operators) else np.ones(len(domains), bool)
        assert counted is not None
        time_s, energy_j = np.zeros((2, self.num_nodes, self.num_nodes))
        for domain in domains:
            if counted[domain]:
                changes = self.levels[:, None, domain] != self.levels[None, :, domain]
                time_s[changes] += self.time_s[domain]
                energy_j[changes] += self.energy_j[domain]
        return time_s, energy_j

    def along(self, held: Ints, first: int, num_operators: int) -> tuple[Floats, Floats]:
        """Time [s] and energy [J] of each change along nodes held [..., step + 1]; the first leads into `first`."""
        changes = self.levels[held[..., 1:]] != self.levels[held[..., :-1]]
        steps = first + np.arange(changes.shape[-2])
        changes[..., (steps == 0) | (steps == num_operators), :] &= self.at_ends
        return np.where(changes, self.time_s, 0.0).sum(axis=-1), np.where(changes, self.energy_j, 0.0).sum(axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class DenseSwitch:
    """Any switching cost between two nodes, one table for all steps or one per step; infinite: not allowed.

    With one table per step, table i leads into operator i, table 0 from what was held before, table N into the wait.
    """

    time_s: Floats  # [from, to] or [operator + 1, from, to]
    energy_j: Floats  # as time_s

    def __post_init__(self) -> None:
        """Take lists as well as arrays; ValueError for shapes that do not fit."""
        time_s, energy_j = np.asarray(self.time_s, dtype=np.float64), np.asarray(self.energy_j, dtype=np.float64)
        if time_s.shape != energy_j.shape or time_s.ndim not in (2, 3) or time_s.shape[-1] != time_s.shape[-2]:
            raise ValueError("switching time_s and energy_j must both be [from, to] or [operator + 1, from, to]")
        _check_cost(time_s, "switching time_s")
        _check_cost(energy_j, "switching energy_j", negative=True)
        object.__setattr__(self, "time_s", time_s)
        object.__setattr__(self, "energy_j", energy_j)

    @property
    def num_nodes(self) -> int:
        """S."""
        return int(self.time_s.shape[-1])

    def into(self, operator: int, num_operators: int) -> tuple[Floats, Floats]:
        """Time [s] and energy [J], each [from, to], of the step into `operator`; `num_operators` is the wait's."""
        if self.time_s.ndim == 2:
            return self.time_s, self.energy_j
        if len(self.time_s) != num_operators + 1:
            raise ValueError(f"one switching table per step: {num_operators + 1} wanted, {len(self.time_s)} given")
        return self.time_s[operator], self.energy_j[operator]

    def along(self, held: Ints, first: int, num_operators: int) -> tuple[Floats, Floats]:
        """Time [s] and energy [J] of each change along nodes held [..., step + 1]; the first leads into `first`."""
        pairs: tuple[Ints, ...] = (held[..., :-1], held[..., 1:])
        if self.time_s.ndim == 3:
            pairs = (first + np.arange(held.shape[-1] - 1), *pairs)
        return self.time_s[pairs], self.energy_j[pairs]


@dataclass(frozen=True, slots=True, eq=False)
class Trellis:
    """Candidates and their costs, operator by operator, and what it costs to go from one candidate to another."""

    latency_s: Floats  # [operator, node]
    energy_j: Floats  # [operator, node]
    switch: DomainSwitch | DenseSwitch | None = None  # None: free
    loss: Floats | None = None  # [operator, node]: accuracy lost, adds up along a path
    start: int | None = None  # node held before the first operator; None: any, at no cost

    def __post_init__(self) -> None:
        """Take lists as well as arrays; ValueError for shapes, NaN, minus infinity, or an operator without a node."""
        latency_s, energy_j = np.asarray(self.latency_s, np.float64), np.asarray(self.energy_j, np.float64)
        loss = None if self.loss is None else np.asarray(self.loss, np.float64)
        if latency_s.ndim != 2 or latency_s.size == 0 or latency_s.shape != energy_j.shape:
            raise ValueError("latency_s and energy_j must be [operator, node], of one shape and not empty")
        if loss is not None and loss.shape != latency_s.shape:
            raise ValueError("loss must be [operator, node], like latency_s")
        if self.switch is not None and self.switch.num_nodes != latency_s.shape[1]:
            raise ValueError(f"the switch knows {self.switch.num_nodes} nodes, the operators {latency_s.shape[1]}")
        if self.start is not None and not 0 <= self.start < latency_s.shape[1]:
            raise ValueError(f"start must be a node, 0..{latency_s.shape[1] - 1}, not {self.start}")
        _check_cost(latency_s, "latency_s")
        _check_cost(energy_j, "energy_j", negative=True)
        if loss is not None:
            _check_cost(loss, "loss", negative=True)
        for name, value in (("latency_s", latency_s), ("energy_j", energy_j), ("loss", loss)):
            object.__setattr__(self, name, value)
        without = np.flatnonzero(~self.allowed.any(axis=1))
        if len(without):
            raise ValueError(f"operator {without[0]} has no node with finite costs")

    @property
    def num_operators(self) -> int:
        """N."""
        return int(self.latency_s.shape[0])

    @property
    def num_nodes(self) -> int:
        """S."""
        return int(self.latency_s.shape[1])

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Which nodes an operator may use: [operator, node]."""
        allowed = np.isfinite(self.latency_s) & np.isfinite(self.energy_j)
        return allowed if self.loss is None else allowed & np.isfinite(self.loss)

    def into(self, operator: int) -> tuple[Floats, Floats]:
        """Switching time [s] and energy [J] of the step into `operator` (N: into the wait), each [from, to]."""
        if self.switch is None:
            free = np.zeros((self.num_nodes, self.num_nodes))
            return free, free
        return self.switch.into(operator, self.num_operators)


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """Waiting for the next request: idle power at each node and the time from one request to the next.

    The device waits at one node, which it may change to after the answer is out, and the next request starts there.
    """

    idle_w: Floats  # [node]; infinite: may not wait here
    period_s: float

    def __post_init__(self) -> None:
        """Take lists as well as arrays; ValueError for values that are no powers or no period."""
        object.__setattr__(self, "idle_w", np.asarray(self.idle_w, dtype=np.float64))
        _check_cost(self.idle_w, "idle_w")
        if self.idle_w.ndim != 1 or not np.isfinite(self.idle_w).any():
            raise ValueError("idle_w must be [node] with at least one node to wait at")
        if not 0 < self.period_s < math.inf:
            raise ValueError(f"period_s must be above 0 and finite, not {self.period_s}")


@dataclass(frozen=True, slots=True)
class Totals:
    """What a path costs. With a wait, `energy_j` is that of the whole period: busy, switches and idle."""

    latency_s: float
    energy_j: float
    loss: float


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A path, what it costs, and how far from the optimum it can be.

    Where `feasible` is False no path keeps the budgets: `path` is then the fastest one that keeps `max_loss` (the
    fastest of all where none does, empty where no path exists), and bound and gap are infinite.
    """

    path: Ints  # [operator] node
    wait_node: int | None
    latency_s: float
    energy_j: float  # in the accounting asked: with a wait of the period, without one of the run
    loss: float
    lower_bound_j: float  # no feasible path costs less
    gap: float  # (energy_j - lower_bound_j) / |energy_j|
    feasible: bool


def totals(trellis: Trellis, path: ArrayLike, wait: Wait | None = None, wait_node: int | None = None) -> Totals:
    """Add up a path [operator]: the reference that the search is held to.

    With a wait the energy is that of a period, in which the same request returns: the path starts from `wait_node`
    (from `trellis.start` where that is given) and goes back to it after the answer, which delays nobody.
    """
    nodes = np.asarray(path, dtype=np.int64)
    rows = np.arange(trellis.num_operators)
    latency_s = float(trellis.latency_s[rows, nodes].sum())
    energy_j = float(trellis.energy_j[rows, nodes].sum())
    before = wait_node if trellis.start is None else trellis.start
    held = nodes if before is None else np.concatenate([[before], nodes])
    if trellis.switch is not None:
        switch_s, switch_j = trellis.switch.along(held, int(before is None), trellis.num_operators)
        latency_s += float(switch_s.sum())
        energy_j += float(switch_j.sum())
    loss = 0.0 if trellis.loss is None else float(trellis.loss[rows, nodes].sum())
    if wait is None or wait_node is None:
        return Totals(latency_s, energy_j, loss)
    park_s, park_j = (table[nodes[-1], wait_node] for table in trellis.into(trellis.num_operators))
    idle_j = float(wait.idle_w[wait_node] * max(wait.period_s - latency_s - park_s, 0.0))
    return Totals(latency_s, energy_j + float(park_j) + idle_j, loss)


def _check_cost(values: Floats, name: str, *, negative: bool = False) -> None:
    if np.isnan(values).any() or np.isneginf(values).any():
        raise ValueError(f"{name} holds NaN or minus infinity")
    if not negative and (values < 0).any():
        raise ValueError(f"{name} holds a negative value")
