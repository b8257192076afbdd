"""The planner against trying everything, and against HiGHS.

*Trying everything* is all cuts x precisions of what crosses x pairs of clocks to wait at x a pair of clocks for every
block of the device's half. Blocks are those that the planner lays out: on a board whose clocks take 5 to 8 ms to
settle, a half has few places where a change is worth asking for. Which pairs of clocks are offered depends on the
network, so that all of it can be tried; the planner is given the same. Time and energy of what is tried are added up
from the tables of the trellis and the link's rates; no bound, price or label of the planner is used.

*HiGHS* (`scipy.optimize.milp`) is given one programme of all cuts, precisions, clocks of every operator and clocks of
waiting, with clocks that take effect at once after a stall: a binary for each cut and precision, one for each operator
and pair of clocks held, a share of it that counts where the operator is on the device, and rises of the levels of each
clock, whose sum is the number of changes. Building it is not timed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse

from amble.core.errors import Infeasible
from amble.core.point import Domain
from amble.core.ports import FloatArray
from amble.levers.split.link import Link
from amble.levers.split.planning import Choice, Question, best, exchange
from amble.stages.plan.problem import Problem
from bench.kit import document
from bench.split.problems import RADIO, Case, Thinned, ladder, question, top_s

__all__ = ["beside_highs", "tried"]

Record = dict[str, Any]

_SLACK = 1e-12
_DOMAINS: tuple[Domain, ...] = ("core", "memory")
_MOST_PATHS = 2_000_000  # of one cut, clocks of waiting included
_LADDERS = ((10, 3), (8, 2), (4, 2), (6, 1), (5, 1), (4, 1), (3, 1))  # core x memory clocks


def tried(of: Case, rates: tuple[float, ...], looseness: tuple[float, ...]) -> Iterator[Record]:
    """Compare the planner's energy with the least of all that was tried, for link rates and deadlines."""
    for loose in looseness:
        deadline_s = loose * top_s(of)
        asked = _small_enough(of, deadline_s)
        for rate in rates:
            link = Link(rate, 0.01, RADIO)
            start_s = time.process_time()
            least_j = _least(asked, link)
            tried_s = time.process_time() - start_s
            found, planned_s = _planned(asked, link)
            found_j = np.inf if found is None or found.energy_j is None else found.energy_j
            both_none = np.isinf(least_j) and np.isinf(found_j)
            yield {
                "what": "everything tried",
                "network": of.name,
                "cuts": len(of.cuts),
                "pairs": len(asked.table.points),
                "deadline_s": deadline_s,
                "rate_bit_s": rate,
                "tried_s": tried_s,
                "planned_s": planned_s,
                "least_j": least_j,
                "found_j": found_j,
                "cut": None if found is None else len(asked.cuts[found.index].local),
                "precision": None if found is None else found.precision,
                "off": 0.0 if both_none else abs(found_j / least_j - 1) if np.isfinite(least_j) else np.inf,
            }


def _planned(asked: Question, link: Link) -> tuple[Choice | None, float]:
    start_s = time.process_time()
    try:
        found = best(asked, link)
    except Infeasible:
        found = None
    return found, time.process_time() - start_s


def _small_enough(of: Case, deadline_s: float) -> Question:
    """Offer as many pairs of clocks as can all be tried."""
    for cores, memories in _LADDERS:
        keep = ladder(of, cores, memories)
        costs = Thinned(of.costs, of.costs.table(of.graph), keep)
        asked = question(of, costs, deadline_s, exact=True)
        problem = asked.posed(len(of.cuts) - 1, Link(1e9, 0.0, RADIO))
        if problem is None or float(len(keep)) ** (problem.trellis.num_operators + 1) <= _MOST_PATHS:
            return asked
    raise ValueError(f"{of.name} has too many blocks to try every path")


def _least(asked: Question, link: Link) -> float:
    """Return the least energy [J] of all that is in time."""
    least_j = np.inf
    for index, cut in enumerate(asked.cuts):
        paths = _paths(asked.posed(index, link)) if cut.local else None
        precisions = asked.precisions[:1] if asked.whole(index) else asked.precisions
        for precision in precisions:
            made = exchange(asked, link, index, precision)
            left_s = asked.left_s(index, made.link_s)
            if not cut.local:
                energy_j = asked.idle_w.min() * asked.period_s if left_s >= 0 else np.inf
            elif paths is None or left_s <= 0:
                continue
            else:
                energy_j = paths.least_j(left_s)
            least_j = min(least_j, float(energy_j) + made.radio_j)
    return least_j


@dataclass(frozen=True, slots=True, eq=False)
class _Paths:
    """Time [s], parking [s] and energy of a period [J] of every path and clock of waiting; ``period_s`` of the wait."""

    time_s: FloatArray
    park_s: FloatArray
    energy_j: FloatArray
    period_s: float

    def least_j(self, left_s: float) -> float:
        """Return the least energy of those in time, which also are back at their clocks of waiting in time."""
        held_up_s = np.maximum(self.park_s - (self.period_s - left_s), 0.0)
        return float(self.energy_j[self.time_s + held_up_s <= left_s * (1 + _SLACK)].min(initial=np.inf))


def _paths(problem: Problem | None) -> _Paths | None:
    """Add up every path and clock of waiting; arrays are [wait, path so far, node] on the way."""
    if problem is None:
        return None
    trellis, wait = problem.trellis, problem.wait
    assert wait is not None
    nodes, columns = trellis.num_nodes, trellis.num_operators
    first_s, first_j = trellis.into(0)
    time_s, energy_j = first_s + trellis.latency_s[0], first_j + trellis.energy_j[0]
    for column in range(1, columns):
        into_s, into_j = trellis.into(column)
        time_s = (time_s[..., None] + (into_s + trellis.latency_s[column])[None]).reshape(nodes, -1, nodes)
        energy_j = (energy_j[..., None] + (into_j + trellis.energy_j[column])[None]).reshape(nodes, -1, nodes)
    park_s, park_j = (each.T[:, None, :] for each in trellis.into(columns))
    time_s, energy_j = time_s.reshape(nodes, -1, nodes), energy_j.reshape(nodes, -1, nodes)
    idle_s = np.maximum(wait.period_s - time_s - np.where(np.isinf(park_s), 0.0, park_s), 0.0)
    energy_j = energy_j + park_j + wait.idle_w[:, None, None] * idle_s
    parked_s = np.broadcast_to(park_s, time_s.shape)
    return _Paths(
        (time_s - problem.ahead_s).ravel(), parked_s.ravel(), energy_j.ravel(), wait.period_s - problem.ahead_s
    )


def beside_highs(of: Case, rate: float, loose: float, *, pairs: tuple[int, int], most_s: float, repeats: int) -> Record:
    """Time HiGHS and the planner on the same problem; HiGHS is stopped after `most_s` [s]."""
    deadline_s = loose * top_s(of)
    costs = Thinned(of.costs, of.costs.table(of.graph), ladder(of, *pairs), settles=False)
    link = Link(rate, 0.01, RADIO)
    programme = _Programme(question(of, costs, deadline_s), link)
    start_s = time.process_time()
    answer = scipy.optimize.milp(**programme.model(most_s))
    highs_s = time.process_time() - start_s
    times_s = document.durations_s(
        lambda: best(question(of, costs, deadline_s), link), repeats=repeats, clock=time.process_time
    )
    default, exact = (best(question(of, costs, deadline_s, exact=each), link) for each in (False, True))
    assert default.energy_j is not None
    assert exact.energy_j is not None
    planned_s = document.percentile(times_s, 50)
    ended = answer.status == 0
    return {
        "what": "beside HiGHS",
        "network": of.name,
        "operators": len(of.graph.operators),
        "pairs": len(costs.keep),
        "cuts": len(of.cuts),
        "deadline_s": deadline_s,
        "rate_bit_s": rate,
        "variables": programme.count,
        "highs_s": highs_s,
        "highs_ended": ended,
        "highs_j": None if answer.x is None else float(answer.fun),
        "highs_bound_j": None if answer.mip_dual_bound is None else float(answer.mip_dual_bound),
        "planned_s": planned_s,
        "times_faster": highs_s / planned_s,
        "found_j": default.energy_j,
        "gap": 1 - (default.bound_j or 0.0) / default.energy_j,
        "exact_j": exact.energy_j,
        "exact_off": abs(exact.energy_j / answer.fun - 1) if ended else None,
        "cut": len(of.cuts[exact.index].local),
        "precision": exact.precision,
    }


@dataclass(eq=False)
class _Programme:
    """Columns: cuts and precisions, clocks of waiting, idle seconds there, then per operator clocks held and counted.

    Last the rises [step, level]; steps lead from waiting into the first operator, ..., and back to waiting.
    """

    asked: Question
    link: Link

    def __post_init__(self) -> None:
        """Count the columns."""
        asked = self.asked
        self.choices = [
            exchange(asked, self.link, index, precision)
            for index, precision in product(range(len(asked.cuts)), asked.precisions)
            if not asked.whole(index) or precision == asked.precisions[0]
        ]
        self.operators, self.nodes = asked.table.latency_s.shape
        self.levels = []
        costs_s, costs_j = [], []
        known = {each.domain: each.cost for each in asked.costs.switches}
        for domain in _DOMAINS:
            values = [point.clocks.of(domain) for point in asked.table.points]
            for level in sorted({each or 0.0 for each in values}):
                self.levels.append([float(each == level) for each in values])
                costs_s.append(known[domain].latency_s)
                costs_j.append(known[domain].energy_j or 0.0)
        self.stall_s, self.stall_j = np.array(costs_s), np.array(costs_j)
        first = len(self.choices)
        self.wait = first + np.arange(self.nodes)
        self.idle = self.wait + self.nodes
        cells = np.arange(self.operators * self.nodes).reshape(self.operators, self.nodes)
        self.held = cells + self.idle[-1] + 1
        self.used = self.held + cells.size
        steps = np.arange((self.operators + 1) * len(self.levels)).reshape(self.operators + 1, -1)
        self.rises = steps + self.used[-1, -1] + 1
        self.count = int(self.rises[-1, -1]) + 1

    def model(self, most_s: float) -> dict[str, Any]:
        """Return the arguments of `milp`."""
        asked, margin = self.asked, self.asked.margin
        cost = np.zeros(self.count)
        cost[: len(self.choices)] = [each.radio_j for each in self.choices]
        cost[self.wait], cost[self.idle] = asked.idle_w * asked.period_s, -asked.idle_w
        cost[self.used], cost[self.rises] = asked.table.energy_j, self.stall_j
        takes = np.zeros(self.count)
        takes[: len(self.choices)] = [(each.link_s + each.server_s) / margin for each in self.choices]
        takes[self.used], takes[self.rises[:-1]] = asked.table.latency_s, self.stall_s
        busy = np.zeros(self.count)
        busy[self.used], busy[self.rises], busy[self.idle] = asked.table.latency_s, self.stall_s, -1.0
        whole = np.zeros(self.count, bool)
        whole[: len(self.choices)], whole[self.wait], whole[self.held] = True, True, True
        limit_s = asked.deadline.latency_s / margin
        rows = [*self._linked(), (takes[None] / limit_s, -np.inf, 1.0), (busy[None], 0.0, 0.0)]
        upper = np.ones(self.count)
        upper[self.idle] = asked.period_s
        return {
            "c": cost,
            "integrality": whole.astype(int),
            "bounds": scipy.optimize.Bounds(0, upper),
            "constraints": [scipy.optimize.LinearConstraint(scipy.sparse.csr_array(a), lo, up) for a, lo, up in rows],
            "options": {"mip_rel_gap": 0.0, "time_limit": most_s},
        }

    def _linked(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield rows: one cut, one clock of waiting, one pair held; used where held and here; idle; rises."""
        chosen = scipy.sparse.lil_array((1, self.count))
        chosen[0, : len(self.choices)] = 1.0
        yield chosen, 1.0, 1.0
        waits = scipy.sparse.lil_array((1 + self.nodes, self.count))
        waits[0, self.wait] = 1.0
        for node in range(self.nodes):
            waits[1 + node, self.idle[node]], waits[1 + node, self.wait[node]] = 1.0, -self.asked.period_s
        yield waits, [1.0] + [-np.inf] * self.nodes, [1.0] + [0.0] * self.nodes
        held = scipy.sparse.lil_array((2 * self.operators, self.count))
        here = np.zeros((self.operators, len(self.choices)))
        for column, each in enumerate(self.choices):
            here[list(self.asked.cuts[each.index].local), column] = 1.0
        for row in range(self.operators):
            held[row, self.held[row]] = 1.0
            held[self.operators + row, self.used[row]] = 1.0
            there = np.flatnonzero(here[row])
            held[self.operators + row, there] = -1.0
        ones = np.repeat([1.0, 0.0], self.operators)
        yield held, ones, ones
        cells = self.held.size
        eye = scipy.sparse.coo_array(
            (
                np.repeat([1.0, -1.0], cells),
                (np.tile(np.arange(cells), 2), np.concatenate([self.used.ravel(), self.held.ravel()])),
            ),
            shape=(cells, self.count),
        )
        yield eye, -np.inf, 0.0
        levels = np.array(self.levels)
        steps = [self.wait, *self.held, self.wait]
        risen = scipy.sparse.lil_array((self.rises.size, self.count))
        for step, (before, after) in enumerate(pairwise(steps)):
            for level, at in enumerate(self.rises[step]):
                row = step * len(levels) + level
                on = np.flatnonzero(levels[level])
                risen[row, after[on]] = 1.0
                risen[row, before[on]] = -1.0
                risen[row, at] = -1.0
        yield risen, -np.inf, 0.0
