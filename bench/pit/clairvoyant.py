"""A ladder and arrivals -> a lower bound on the energy of whoever knows all arrivals, and the exact optimum of a few.

The relaxation, in the order in which it gives things away for nothing:

1. a request may be served in fractions, each at another rung and another batch size (the clocks change inside a run,
   and free of charge); a share of a batch of b takes 1/b of its time and energy, whether or not b requests are there,
   as long as b of them could be: none waits beyond the one's deadline or comes after it;
2. idle time costs what the cheapest clocks cost;
3. every time is the table's: no noise, no settling.

What stays: nobody starts before it arrives or ends after it is due, the device does one thing at a time, the mean loss
of accuracy is within the budget, and no more requests are dropped than the policy that is judged dropped. With equal
deadlines an optimal order is that of arrival (an exchange argument), which makes all of this a linear programme in
the completion times C_i and the shares x_io:

    C_i >= C_(i-1) + sum_o t_o x_io,    C_i >= a_i + sum_o t_o x_io,    C_i <= d_i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, hstack, vstack

from amble.core.ladder import Ladder
from amble.core.point import Clocks
from amble.core.ports import FloatArray
from bench.pit.relaxed import Case, Prices, priced_j

__all__ = ["Bound", "Case", "exact_j", "lower_bound"]

STEPS = (1.1, 1.03)  # by which prices are tried higher and lower


@dataclass(frozen=True, slots=True)
class _Option:
    time_s: float  # a request's share of the batch
    whole_s: float
    objective_j: float
    loss: float
    batch: int


class Bound(NamedTuple):
    """Two lower bounds [J]: of the linear programme, and of whole requests at prices; and the prices."""

    linear_j: float
    whole_j: float
    prices: Prices

    @property
    def least_j(self) -> float:
        """Return the tighter one."""
        return max(self.linear_j, self.whole_j)


def lower_bound(case: Case, ladder: Ladder) -> Bound:
    """Return both bounds; the prices begin at the programme's own and are improved by turns."""
    linear_j, prices = _programme(case, ladder)
    if linear_j == float("inf"):
        return Bound(linear_j, linear_j, prices)
    best_j = priced_j(case, ladder, prices)
    for step in STEPS:
        for name in ("loss_j", "drop_j") if case.drops else ("loss_j",):
            for factor in (step, 1.0 / step):
                tried = prices._replace(**{name: factor * getattr(prices, name)})
                found_j = priced_j(case, ladder, tried)
                if found_j > best_j:
                    best_j, prices = found_j, tried
                    break
    return Bound(linear_j, best_j, prices)


def _programme(case: Case, ladder: Ladder) -> tuple[float, Prices]:
    """Return the least energy [J] of the programme, idle until ``end_s`` included, and what its limits cost."""
    options = _hull(_options(ladder, case.deadline_s))
    most = _company(case, min(o.whole_s for o in options))
    count = len(case.arrivals_s)
    pairs = [(i, o) for i in range(count) for o in range(len(options)) if options[o].batch <= most[i]]
    who = np.array([i for i, _ in pairs])
    what = np.array([o for _, o in pairs])
    time_s = np.array([o.time_s for o in options])[what]
    cost_j = np.array([o.objective_j for o in options])[what]
    over = np.array([o.loss - case.allowed for o in options])[what]
    columns = np.arange(len(pairs))
    share = coo_array((np.ones(len(pairs)), (who, columns)), (count, len(pairs)))
    taken = coo_array((time_s, (who, columns)), (count, len(pairs)))
    eye = coo_array(np.eye(count)) if count < 50 else _identity(count)
    before = coo_array((np.ones(count - 1), (np.arange(1, count), np.arange(count - 1))), (count, count))
    none = coo_array((count, count))
    follows = hstack([taken, none, before - eye])
    arrives = hstack([taken, none, -eye])
    accuracy = coo_array((over, (np.zeros(len(pairs), int), columns)), (1, len(pairs) + 2 * count))
    dropped = coo_array((np.ones(count), (np.zeros(count, int), len(pairs) + np.arange(count))), accuracy.shape)
    found = linprog(
        np.concatenate([cost_j, np.zeros(2 * count)]),
        A_ub=vstack([follows, arrives, accuracy, dropped]).tocsr(),
        b_ub=np.concatenate([np.zeros(count), -case.arrivals_s, [0.0, case.drops]]),
        A_eq=hstack([share, eye, none]).tocsr(),
        b_eq=np.ones(count),
        bounds=[(0, None)] * len(pairs) + [(0, 1)] * count + [(0, due) for due in case.arrivals_s + case.deadline_s],
        method="highs",
    )
    if found.status != 0:
        return float("inf"), Prices(0.0, 0.0)
    loss_j, drop_j = -found.ineqlin.marginals[-2:]
    return float(found.fun) + ladder.park_w * case.end_s, Prices(float(loss_j), float(drop_j))


def _identity(count: int) -> coo_array:
    return coo_array((np.ones(count), (np.arange(count), np.arange(count))), (count, count))


def _options(ladder: Ladder, deadline_s: float) -> list[_Option]:
    return [
        _Option(whole_s / batch, whole_s, (energy_j - ladder.park_w * whole_s) / batch, 1.0 - rung.accuracy, batch)
        for rung in ladder.rungs
        for batch, (whole_s, energy_j) in enumerate(zip(rung.latency_s, rung.joules, strict=True), start=1)
        if whole_s <= deadline_s and batch <= ladder.max_batch
    ]


def _hull(options: Sequence[_Option]) -> list[_Option]:
    """Keep, for each loss and batch size, the lower convex hull of time and energy: a mix of others costs no less."""
    kept = []
    for loss, batch in sorted({(o.loss, o.batch) for o in options}):
        hull: list[_Option] = []
        for each in sorted((o for o in options if (o.loss, o.batch) == (loss, batch)), key=lambda o: o.time_s):
            while len(hull) > 1 and _above(hull[-2], hull[-1], each):
                hull.pop()
            if not hull or each.objective_j < hull[-1].objective_j:
                hull.append(each)
        kept += hull
    return kept


def _above(first: _Option, middle: _Option, last: _Option) -> bool:
    here = (middle.objective_j - first.objective_j) * (last.time_s - first.time_s)
    return here >= (last.objective_j - first.objective_j) * (middle.time_s - first.time_s)


def _company(case: Case, shortest_s: float) -> FloatArray:
    """Return, for each request, the most that could share a batch with it: all there before the first must start."""
    arrivals_s, room_s = case.arrivals_s, case.deadline_s - shortest_s
    ahead = np.searchsorted(arrivals_s, arrivals_s + room_s, side="right")
    index = np.arange(len(arrivals_s))
    first = np.searchsorted(arrivals_s, arrivals_s - room_s, side="left")
    together = ahead - index  # with this one as the oldest
    return np.array([together[a : i + 1].max() for i, a in zip(index, first, strict=True)])


def exact_j(case: Case, ladder: Ladder) -> float:
    """Return the exact optimum [J] of a few requests, none of them dropped; infinite where somebody must be late.

    Whole requests in real batches, in order of arrival; a change of clocks stands still and costs what the ladder says,
    whenever in a gap it is best made, a stay at the parking clocks included; idling costs what the clocks held cost.
    Only that a change settles at once remains of the relaxation. Labels (finish, energy, loss, clocks) are extended one
    batch at a time, and kept unless another one is as good in everything; those that cannot come below a first, greedy
    solution are cut.
    """
    greedy = _extended(case, ladder, float("inf"), beam=60)
    return _extended(case, ladder, greedy + 1e-9, beam=10**9)


@dataclass(frozen=True, slots=True)
class _Label:
    time_s: float
    above_j: float  # energy above the power of parked clocks until then
    loss: float
    clocks: Clocks


def _extended(case: Case, ladder: Ladder, limit_j: float, *, beam: int) -> float:
    count = len(case.arrivals_s)
    least_j = min(o.objective_j for o in _options(ladder, case.deadline_s))
    idle_w = {rung.clocks: rung.idle_w - ladder.park_w for rung in ladder.rungs} | {ladder.park: 0.0}
    first = min(ladder.levels[0].rungs, key=lambda rung: rung.idle_w).clocks
    stages: list[list[_Label]] = [[] for _ in range(count + 1)]
    stages[0] = [_Label(0.0, 0.0, 0.0, clocks) for clocks in {first, ladder.park, *(r.clocks for r in ladder.rungs)}]
    budget = case.allowed * count + 1e-9
    for place in range(count):
        kept = _undominated(stages[place], idle_w, beam)
        for batch in range(1, min(ladder.max_batch, count - place) + 1):
            last_s, due_s = case.arrivals_s[place + batch - 1], case.arrivals_s[place] + case.deadline_s
            rest_j = (count - place - batch) * least_j + ladder.park_w * case.end_s
            for label in kept:
                for made in _served(label, ladder, idle_w, batch, float(last_s)):
                    if made.time_s <= due_s + 1e-12 and made.loss <= budget and made.above_j + rest_j <= limit_j:
                        stages[place + batch].append(made)
    energies = [label.above_j for label in stages[count]]
    return min(energies) + ladder.park_w * case.end_s if energies else float("inf")


def _served(label: _Label, ladder: Ladder, idle_w: Mapping[Clocks, float], batch: int, last_s: float) -> list[_Label]:
    """Extend a label by one batch at every rung."""
    found = []
    for rung in ladder.rungs:
        for start_s, waited_j in _waits(label, rung.clocks, ladder, idle_w, last_s):
            time_s = rung.latency_s[batch - 1]
            above_j = label.above_j + waited_j + rung.joules[batch - 1] - ladder.park_w * time_s
            found.append(_Label(start_s + time_s, above_j, label.loss + batch * (1.0 - rung.accuracy), rung.clocks))
    return found


def _waits(
    label: _Label, clocks: Clocks, ladder: Ladder, idle_w: Mapping[Clocks, float], last_s: float
) -> list[tuple[float, float]]:
    """Return when a batch may start at these clocks, and the energy above parking until then: every way to wait."""
    gap_s = max(0.0, last_s - label.time_s)
    found = []
    if clocks == label.clocks:
        found.append((label.time_s + gap_s, gap_s * idle_w[clocks]))
    else:
        stall_s = ladder.stall_s(label.clocks, clocks)
        stall_j = ladder.stall_j(label.clocks, clocks) - ladder.park_w * stall_s
        rest_s = max(0.0, gap_s - stall_s)
        cheaper_w = min(idle_w[clocks], idle_w[label.clocks])
        found.append((label.time_s + stall_s + rest_s, stall_j + rest_s * cheaper_w))
    down_s, up_s = ladder.stall_s(label.clocks, ladder.park), ladder.stall_s(ladder.park, clocks)
    if gap_s > down_s + up_s:
        parked_j = ladder.stall_j(label.clocks, ladder.park) + ladder.stall_j(ladder.park, clocks)
        found.append((label.time_s + gap_s, parked_j - ladder.park_w * (down_s + up_s)))
    return found


def _undominated(labels: list[_Label], idle_w: Mapping[Clocks, float], beam: int) -> list[_Label]:
    """Drop every label that another one of the same clocks is as good as, after idling until the same time."""
    kept: dict[Clocks, list[tuple[float, _Label]]] = {}
    for label in sorted(labels, key=lambda each: (each.time_s, each.above_j, each.loss)):
        same = kept.setdefault(label.clocks, [])
        waited_j = label.above_j - idle_w[label.clocks] * label.time_s
        if not any(other_j <= waited_j + 1e-12 and each.loss <= label.loss + 1e-12 for other_j, each in same):
            same.append((waited_j, label))
    flat = [label for each in kept.values() for _, label in each]
    return sorted(flat, key=lambda each: each.above_j)[:beam] if len(flat) > beam else flat
