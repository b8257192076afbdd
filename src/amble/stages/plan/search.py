"""Trellis, budget -> the cheapest path, and a proof of how near to the optimum it is: the one solver of every planner.

Theory of operation
-------------------
The problem is a constrained shortest path: minimise the energy of a path through the trellis while its time (and its
loss) stay within budgets. It is NP-hard, but nearly easy, and five steps use that, each only if the one before has
left a gap.

1. *Relaxation* (`dual.py`, `sweep.py`). Give every second a price lambda and forget the budget. What remains is a
   shortest path: a Viterbi pass finds it, and its priced cost less lambda times the budget is a lower bound on the
   optimum, for every lambda >= 0. The best lambda is found in about three passes of several prices each. If its path
   keeps the budget with lambda = 0, or meets it exactly, it is optimal and we are done.
2. *Splicing* (`splice.py`). Otherwise two paths tie at the best price, one too slow and one too fast. Prefixes of one
   joined to suffixes of the other, with a detour through any one cell, give 4 N C candidates; the best in time is
   the incumbent. With hundreds of operators its gap is some 1e-5.
3. *Labels* (`exact.py`). If the gap is above `_GOOD`, or the optimum was asked for, labels run through the trellis
   and are cut by the bounds of step 1. Few operators, or dear switches, leave large gaps in 2 and few labels here.

Switching belongs to the path, so none of this sees it as special; a `DomainSwitch` only makes the passes fast.

*Waiting.* What follows the answer costs energy too: over a period, E = sum E_i + switches + idle_w (period - T), where
idle_w is that of the node p at which the device waits, entered after the last operator and left before the first of
the next request. For a fixed p this is the problem above with energies E_i - idle_w[p] T_i. So the prices differ
only by idle_w[p], and one pass without ends bounds the cost for every p: lambda_p = kappa + idle_w[p] for the same
kappa. Few p survive their bound against the best p found, and only those are solved.

*Two budgets.* With a limit on loss the prices are two, the linear programme over the paths known takes the place of
their hull, and labels carry three costs; splicing is left out.

Every bound is a dual value or the least bound among labels put aside, so `Solution.lower_bound_j` holds whatever the
heuristics did, up to rounding (1e-9 of the energy).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from amble.stages.plan.dual import SLACK, Dual, End, Found, Primal, climb
from amble.stages.plan.exact import Limits, close
from amble.stages.plan.splice import splice
from amble.stages.plan.sweep import FORBIDDEN, Lattice, Prices
from amble.stages.plan.through import look
from amble.stages.plan.trellis import DenseSwitch, DomainSwitch, Floats, Ints, Solution, Trellis, Wait, totals

__all__ = ["DenseSwitch", "DomainSwitch", "Solution", "Trellis", "Wait", "frontier", "solve", "totals"]

_GOOD = 9e-4  # gap at which the default stops
_FINE = 1e-4  # gap at which it does not even look for better paths
_EXACT = 1e-9  # and at which `exact` does: all that rounding allows
_LABELS = 1_000  # kept per column by default
_LABELS_EXACT = 200_000
_WAITS_AT_ONCE = 8  # waiting nodes bounded in one pass


_SEEDS = 24  # paths handed on to a similar problem


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """What was asked, over a lattice made once."""

    lattice: Lattice
    trellis: Trellis
    budget_s: float
    wait: Wait | None
    max_loss: float
    exact: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """The best path found with one waiting node (no path: empty), and the bound for that node."""

    cells: Ints  # [column]
    wait_node: int | None
    energy_j: float
    bound_j: float
    dual: Dual


def solve(
    trellis: Trellis,
    budget_s: float,
    *,
    wait: Wait | None = None,
    max_loss: float | None = None,
    exact: bool = False,
) -> Solution:
    """Find the path of least energy whose latency is at most `budget_s` and whose loss is at most `max_loss`.

    With `wait` the energy is that of a period, waiting included, and the next request starts where this one waited
    (unless the trellis has a start). By default the gap is at most 9e-4 nearly always; `exact` closes it to rounding
    wherever 200,000 labels a column suffice. The gap reached is in the solution. A budget that no path can keep gives
    a solution that says so. ValueError for a budget or loss that is no number, or for a wait of other nodes.
    """
    return frontier(trellis, [budget_s], wait=wait, max_loss=max_loss, exact=exact)[0]


def frontier(
    trellis: Trellis,
    budgets_s: Iterable[float],
    *,
    wait: Wait | None = None,
    max_loss: float | None = None,
    exact: bool = False,
) -> tuple[Solution, ...]:
    """Solve for one budget after another; each starts from the paths of the one before, so neighbours are cheap."""
    lattice = Lattice(trellis)
    limit = math.inf if max_loss is None else max_loss
    seeds: Ints | None = None
    solutions = []
    for budget_s in budgets_s:
        _check(trellis, budget_s, wait, max_loss)
        question = _Question(lattice, trellis, budget_s, wait, limit, exact)
        solution, seeds = _answer(question, seeds)
        solutions.append(solution)
    return tuple(solutions)


def _answer(question: _Question, seeds: Ints | None) -> tuple[Solution, Ints | None]:
    """Solve, and hand on paths for the next budget."""
    if np.isfinite(question.max_loss) and not (fastest := _fastest(question)).feasible:
        return fastest, seeds
    answer = _over_waits(question, seeds) if question.wait else _with_wait(question, None, seeds)
    if len(answer.cells):
        return _solution(question, answer), _near(answer.dual.found, question.budget_s)
    return _fallback(question, answer.bound_j), seeds


def _with_wait(question: _Question, wait_node: int | None, seeds: Ints | None, cutoff_j: float = np.inf) -> _Answer:
    """Solve for one waiting node (None: the run alone) by relaxation, splicing and labels, as far as needed.

    What is not below `cutoff_j` need not be found.
    """
    primal = _primal(question, wait_node)
    dual = climb(primal, seeds)
    found, bound_j = _only(dual.found, dual.found.best(primal)), dual.bound_j
    enough = _EXACT if question.exact else _GOOD
    if bound_j + primal.offset_j < cutoff_j and _excess(primal, found, bound_j) > (_EXACT if question.exact else _FINE):
        through = look(primal, dual)
        if not primal.limits_loss:
            found = found.joined(splice(through))
            found = _only(found, found.best(primal))
        if _excess(primal, found, bound_j) > enough:
            most = _LABELS_EXACT if question.exact else _LABELS
            tolerance_j = 0.95 * enough * abs(bound_j + primal.offset_j)
            limits = Limits(tolerance_j, most, cutoff_j - primal.offset_j)
            found, bound_j = close(through, dual, found, limits)
    if not len(found.cells):
        return _Answer(np.empty(0, np.int64), wait_node, np.inf, bound_j + primal.offset_j, dual)
    energy_j = float(found.cost_j[0]) + primal.offset_j
    return _Answer(found.cells[0], wait_node, energy_j, min(bound_j + primal.offset_j, energy_j), dual)


def _excess(primal: Primal, found: Found, bound_j: float) -> float:
    """Relative distance of the path found from the bound, infinite where none was found."""
    if not len(found.cells):
        return np.inf
    return _gap(float(found.cost_j[0]) + primal.offset_j, bound_j + primal.offset_j)


def _over_waits(question: _Question, seeds: Ints | None) -> _Answer:
    """Solve for the waiting nodes that their bounds leave: the calmest first, then the most promising."""
    wait = question.wait
    assert wait is not None
    calmest = int(np.argmin(wait.idle_w))
    best = _with_wait(question, calmest, seeds)
    kappa, loss = best.dual.time - float(wait.idle_w[calmest]), best.dual.loss
    bounds_j = _loose_bounds(question, kappa, loss, calm=best.dual.time == 0)
    bounds_j[calmest] = best.bound_j
    bounds_j[~_calmest_of_its_kind(question)] = np.inf
    left = np.isfinite(bounds_j)
    left[calmest], tightened = False, np.zeros(len(left), bool)
    margin = 0.95 * (_EXACT if question.exact else _GOOD)
    while True:
        left &= bounds_j < (best.energy_j - margin * abs(best.energy_j) if len(best.cells) else np.inf)
        if not left.any():
            return replace(best, bound_j=min(float(bounds_j.min()), best.energy_j))
        some = np.argsort(np.where(left, bounds_j, np.inf))[: min(_WAITS_AT_ONCE, int(left.sum()))]
        if not tightened[some].all():
            bounds_j[some] = np.maximum(bounds_j[some], _tight_bounds(question, some, kappa, loss))
            tightened[some] = True
            continue
        node = int(some[0])
        answer = _with_wait(question, node, _near(best.dual.found, question.budget_s), best.energy_j)
        left[node], bounds_j[node] = False, max(bounds_j[node], answer.bound_j)
        if answer.energy_j < best.energy_j:
            best, kappa, loss = answer, answer.dual.time - float(wait.idle_w[node]), answer.dual.loss
            tightened[:] = False


def _calmest_of_its_kind(question: _Question) -> NDArray[np.bool_]:
    """Whether a node may be waited at and none with the same ways in and out is calmer: [node]."""
    assert question.wait is not None
    idle_w, lattice = question.wait.idle_w, question.lattice
    out_of, into = lattice.into(0), lattice.into(lattice.num_columns)
    kinds: dict[bytes, int] = {}
    for node in np.flatnonzero(np.isfinite(idle_w)).tolist():
        cell = lattice.cell_of_node[node]
        ends = [table[cell] for table in out_of] + [table[:, cell] for table in into]
        kind = np.concatenate(ends).tobytes()
        if idle_w[node] < idle_w[kinds.setdefault(kind, node)]:
            kinds[kind] = node
    calmest = np.zeros(len(idle_w), bool)
    calmest[list(kinds.values())] = True
    return calmest


def _loose_bounds(question: _Question, kappa: float, loss: float, *, calm: bool) -> Floats:
    """Bound the energy for every waiting node [node] by one pass with free ends, then with one end at a time.

    `kappa` is the price of time less idle power. Where the deadline is `calm`, not pressing, other prices are tried
    as well. A waiting node that even the fastest path cannot leave in time has an infinite bound.
    """
    lattice, wait = question.lattice, question.wait
    assert wait is not None
    calmer = np.unique(-wait.idle_w[np.isfinite(wait.idle_w)])
    calmer = calmer[np.linspace(0, len(calmer) - 1, 7).astype(np.int64)] if calm else calmer[:0]
    kappas = np.unique(np.append(calmer, kappa))
    lanes, free = len(kappas), np.zeros((lattice.num_cells, len(kappas) + 1))
    prices = Prices(np.append(np.ones(lanes), 0.0), np.append(kappas, 1.0), np.append([loss] * lanes, 0.0), free, free)
    last = lattice.sweep(prices, lattice.num_columns)[-1]
    ahead, behind = last[:, : lanes + 1], last[:, lanes + 1 :]
    found = np.full(question.trellis.num_nodes, np.inf)
    for node in np.flatnonzero(np.isfinite(wait.idle_w)):
        primal = _primal(question, int(node))
        if (behind[:, -1] + primal.start.time_s + primal.start.never).min() > primal.latest_s:
            continue
        valid = np.flatnonzero(kappas + primal.idle_w >= 0)
        time, losses = kappas[valid] + primal.idle_w, np.full(len(valid), loss)
        priced = primal.prices(np.ones(len(valid)), time, losses)
        forward = (ahead[:, valid] + priced.end).min(axis=0) + priced.start.min(axis=0)
        backward = (behind[:, valid] + priced.start).min(axis=0) + priced.end.min(axis=0)
        bounds = np.maximum(forward, backward) - primal.spent(time, losses)
        found[node] = bounds.max(initial=-np.inf) + primal.offset_j
    return np.where(found > FORBIDDEN / 2, np.inf, found)


def _tight_bounds(question: _Question, nodes: Ints, kappa: float, loss: float) -> Floats:
    """Bound the energy for some waiting nodes [node] by a pass in which each has its own ends."""
    primals = [_primal(question, int(node)) for node in nodes]
    times = [max(kappa + primal.idle_w, 0.0) for primal in primals]
    each = [p.prices(np.ones(1), np.array([time]), np.array([loss])) for p, time in zip(primals, times, strict=True)]
    names = ("energy", "time", "loss", "start", "end")
    value, _ = question.lattice.paths(Prices(*(np.concatenate([getattr(p, name) for p in each], -1) for name in names)))
    spent = [p.spent(np.array([time]), np.array([loss]))[0] for p, time in zip(primals, times, strict=True)]
    bounds_j = value - spent + [primal.offset_j for primal in primals]
    return np.where(value > FORBIDDEN / 2, np.inf, bounds_j)


def _primal(question: _Question, wait_node: int | None) -> Primal:
    """Put together ends, idle power and budget for one waiting node (None: the run alone)."""
    lattice, wait = question.lattice, question.wait
    before = wait_node if question.trellis.start is None else question.trellis.start
    free = End(*np.zeros((3, lattice.num_cells)))
    start = free if before is None else End(*(table[lattice.cell_of_node[before]] for table in lattice.into(0)))
    if wait is None or wait_node is None:
        return Primal(lattice, question.budget_s, question.max_loss, start, free)
    idle_w = float(wait.idle_w[wait_node])
    park_s, park_j, never = (table[:, lattice.cell_of_node[wait_node]] for table in lattice.into(lattice.num_columns))
    held_up_s = np.maximum(park_s - (wait.period_s - question.budget_s), 0.0)  # what must be over by the next request
    end = End(held_up_s, park_j - idle_w * (park_s - held_up_s), never)
    return Primal(lattice, question.budget_s, question.max_loss, start, end, idle_w, idle_w * wait.period_s)


def _fallback(question: _Question, bound_j: float) -> Solution:
    """Answer where the search found no path: mostly there is none, and then the bound is infinite."""
    fastest = _fastest(question)
    if not fastest.feasible or bound_j == np.inf:
        return replace(fastest, feasible=False)
    cells = question.lattice.cell_of_node[fastest.path][None]
    primal = _primal(question, fastest.wait_node)
    if Found.of(primal, cells).best(primal) is None:
        return replace(fastest, feasible=False)
    gap = _gap(fastest.energy_j, bound_j)
    return replace(fastest, lower_bound_j=bound_j, gap=gap)


def _fastest(question: _Question) -> Solution:
    """Return the fastest path within the greatest loss; feasible only where that keeps the budget."""
    lattice = question.lattice
    if np.isfinite(question.max_loss):
        return _fastest_within(question)
    alone = _primal(replace(question, wait=None), None)
    value, cells = lattice.paths(alone.prices(np.zeros(1), np.ones(1), np.zeros(1)))
    if value[0] > FORBIDDEN / 2:
        return Solution(np.empty(0, np.int64), None, np.inf, np.inf, 0.0, np.inf, np.inf, feasible=False)
    return _unsolved(question, lattice.node_of_cell[cells[0]])


def _fastest_within(question: _Question) -> Solution:
    """As `_fastest`, where loss is limited: the same problem with time for energy and loss for time."""
    trellis, loss = question.trellis, question.trellis.loss
    assert loss is not None
    lost = np.where(trellis.allowed, loss, np.inf)
    base = lost.min(axis=1, keepdims=True)
    latency_s = np.where(trellis.allowed, trellis.latency_s, np.inf)
    quick = Trellis(lost - base, latency_s, _timed(trellis.switch), start=trellis.start)
    found = solve(quick, question.max_loss - float(base.sum()) + SLACK * abs(question.max_loss), exact=True)
    if not found.feasible:
        return _fastest(replace(question, max_loss=math.inf))
    solution = _unsolved(question, found.path)
    return replace(solution, feasible=solution.latency_s <= question.budget_s * (1 + SLACK))


def _timed(switch: DomainSwitch | DenseSwitch | None) -> DomainSwitch | DenseSwitch | None:
    """Switching whose energy is its time, and which takes none."""
    if switch is None:
        return None
    barred = np.isinf(switch.energy_j)
    return replace(switch, time_s=np.zeros_like(switch.time_s), energy_j=np.where(barred, np.inf, switch.time_s))


def _unsolved(question: _Question, path: Ints) -> Solution:
    """Tell what a path costs that does not keep the budgets; it waits where it would cost least."""
    wait_node = None
    if question.wait is not None:
        nodes = np.flatnonzero(np.isfinite(question.wait.idle_w))
        costs = [totals(question.trellis, path, question.wait, int(node)) for node in nodes]
        wait_node = int(nodes[np.lexsort(([c.energy_j for c in costs], [c.latency_s for c in costs]))[0]])
    cost = totals(question.trellis, path, question.wait, wait_node)
    return Solution(path, wait_node, cost.latency_s, cost.energy_j, cost.loss, np.inf, np.inf, feasible=False)


def _solution(question: _Question, answer: _Answer) -> Solution:
    path = question.lattice.node_of_cell[answer.cells]
    cost = totals(question.trellis, path, question.wait, answer.wait_node)
    bound_j = min(answer.bound_j, cost.energy_j)
    gap = _gap(cost.energy_j, bound_j)
    return Solution(path, answer.wait_node, cost.latency_s, cost.energy_j, cost.loss, bound_j, gap, feasible=True)


def _gap(energy_j: float, bound_j: float) -> float:
    """Relative distance, 0 where the bound is met."""
    above_j = max(energy_j - bound_j, 0.0)
    return above_j / abs(energy_j) if above_j and energy_j else (np.inf if above_j else 0.0)


def _only(found: Found, index: int | None) -> Found:
    """Keep one path, or none."""
    return found.some(slice(0, 0) if index is None else slice(index, index + 1))


def _near(found: Found, budget_s: float) -> Ints:
    """Paths worth handing on: those whose time is nearest to the budget."""
    return found.cells[np.argsort(np.abs(found.time_s - budget_s))[:_SEEDS]]


def _check(trellis: Trellis, budget_s: float, wait: Wait | None, max_loss: float | None) -> None:
    if not math.isfinite(budget_s):
        raise ValueError(f"budget_s must be finite, not {budget_s}")
    if wait is not None and len(wait.idle_w) != trellis.num_nodes:
        raise ValueError(f"idle_w must have one value per node: {trellis.num_nodes}, not {len(wait.idle_w)}")
    if max_loss is not None and (trellis.loss is None or math.isnan(max_loss)):
        raise ValueError("max_loss must be a number, and the trellis must say what each node loses")
