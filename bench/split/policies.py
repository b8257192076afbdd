"""One network, link and deadline → what each way of choosing a cut and clocks takes, and how often it is late.

All choose from the same cuts and precisions, know the same link and server, and are priced by the same physics:

    amble              the planner, core and memory clocks
    amble-core         the planner, core clocks only, memory at its top: what the next two may choose from
    cpu-dvfs           the same planner and powers, but times are cycles over the core clock, by least squares
    cpu-dvfs-top       ... by its time at the highest clock
    local-planned      everything on the device, clocks planned
    local-max          everything on the device at the highest clocks
    remote             everything on the server, in the precision that takes least; waits at the calmest clocks
    fastest            least latency of all cuts at the highest clocks (what Neurosurgeon's latency mode chooses)

Who finds nothing in time takes what `fastest` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from amble.core.errors import Infeasible
from amble.core.ports import FloatArray
from amble.levers.split.link import Link
from amble.levers.split.planning import Choice, Question, best, choice, exchange
from amble.stages.plan.problem import highest
from amble.stages.plan.trellis import Ints
from bench.split.physics import Truth, truth
from bench.split.problems import RADIO, Case, Thinned, ladder, question, top_s

__all__ = ["AWARE", "CPU", "POLICIES", "RIVALS", "judged"]

Record = dict[str, Any]

POLICIES = (
    "amble", "amble-core", "cpu-dvfs", "cpu-dvfs-top", "local-planned", "local-max", "remote", "fastest",
)  # fmt: skip
RIVALS = POLICIES[2:]
AWARE, CPU = "amble-core", ("cpu-dvfs", "cpu-dvfs-top")
ROUND_TRIP_S = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What goes over the link, and the device's path over its blocks; no path where it runs nothing."""

    asked: Question
    costs: Thinned
    made: Choice
    path: Ints
    wait_node: int
    fell_back: bool = False


def judged(
    of: Case, rates: tuple[float, ...], looseness: tuple[float, ...], specimens: int, spread: float
) -> Iterator[Record]:
    """Plan each way for every link rate and deadline, and price all by the physics of the board and its specimens."""
    wide, core = ladder(of, 10, 3), ladder(of, 10, 1)
    table = of.costs.table(of.graph)
    for loose in looseness:
        deadline_s = loose * top_s(of)
        sets = {"wide": Thinned(of.costs, table, wide), "core": Thinned(of.costs, table, core)}
        sets |= {name: _cycles(of, sets["core"], top=name.endswith("top")) for name in CPU}
        asked = {name: question(of, costs, deadline_s) for name, costs in sets.items()}
        for rate in rates:
            link = Link(rate, ROUND_TRIP_S, RADIO)
            plans = {name: _planned(name, asked, sets, link) for name in POLICIES}
            for specimen in range(specimens + 1):
                yield from _priced(of, plans, truth(of.name, specimen, spread), loose, rate, specimen)


def _cycles(of: Case, core: Thinned, *, top: bool) -> Thinned:
    """Return costs whose times are cycles over the core clock; powers stay as they were fitted."""
    known = core.table(of.graph)
    clock_hz = np.array([point.clocks.core_hz or 0.0 for point in known.points])
    if top:
        work = known.latency_s[:, clock_hz.argmax()] * clock_hz.max()
    else:
        work = (known.latency_s / clock_hz).sum(axis=1) / (1 / clock_hz**2).sum()
    latency_s: FloatArray = work[:, None] / clock_hz
    power_w = known.energy_j / np.where(known.latency_s > 0, known.latency_s, 1.0)
    return replace(core, latency_s=latency_s, energy_j=latency_s * power_w)


def _planned(name: str, asked: dict[str, Question], sets: dict[str, Thinned], link: Link) -> _Plan:
    which = {"amble": "wide", "amble-core": "core"}.get(name, name if name in CPU else "wide")
    one, costs = asked[which], sets[which]
    last = len(one.cuts) - 1
    try:
        if name == "local-planned":
            return _path(one, costs, link, _in_time(choice(one, link, last, "fp32")))
        if name == "remote":
            sent = [choice(one, link, 0, each) for each in one.precisions]
            in_time = [each for each in sent if each.fits] or [min(sent, key=lambda each: each.latency_s)]
            return _path(one, costs, link, min(in_time, key=lambda each: each.energy_j or 0.0))
        if name in ("local-max", "fastest"):
            return _at_top(one, costs, link, None if name == "fastest" else last)
        return _path(one, costs, link, best(one, link))
    except Infeasible:
        return replace(_at_top(asked["wide"], sets["wide"], link, None), fell_back=True)


def _in_time(of: Choice) -> Choice:
    if not of.fits:
        raise Infeasible("late", fastest_s=of.latency_s)
    return of


def _path(asked: Question, costs: Thinned, link: Link, made: Choice) -> _Plan:
    if not asked.cuts[made.index].local:
        return _Plan(asked, costs, made, np.empty(0, np.int64), int(asked.idle_w.argmin()))
    solution = asked.solved(made.index, made.link_s, link)
    assert solution is not None
    assert solution.wait_node is not None
    return _Plan(asked, costs, made, solution.path, solution.wait_node)


def _at_top(asked: Question, costs: Thinned, link: Link, index: int | None) -> _Plan:
    """Hold the highest clocks, waiting too, for one cut or the fastest."""
    node = highest(asked.table.points)
    each_s = asked.table.latency_s[:, node]
    indices = range(len(asked.cuts)) if index is None else [index]
    made = [exchange(asked, link, each, precision) for each in indices for precision in asked.precisions]
    chosen = min(made, key=lambda of: each_s[list(asked.cuts[of.index].local)].sum() + of.link_s + of.server_s)
    problem = asked.posed(chosen.index, link) if asked.cuts[chosen.index].local else None
    columns = 0 if problem is None else problem.trellis.num_operators
    return _Plan(asked, costs, chosen, np.full(columns, node), node)


def _priced(
    of: Case, plans: dict[str, _Plan], real: Truth, loose: float, rate: float, specimen: int
) -> Iterator[Record]:
    for name, plan in plans.items():
        rng = np.random.default_rng(7)  # the same jitter for all
        asked, made = plan.asked, plan.made
        rows = np.array(asked.cuts[made.index].local, dtype=np.int64)
        left_s = asked.deadline.latency_s - made.link_s - made.server_s
        link = Link(rate, ROUND_TRIP_S, RADIO)
        if len(rows):
            device_s, energy_j = _device(plan, real, rows, link)
        else:
            device_s, energy_j = 0.0, float(real.idle_w[plan.costs.keep[plan.wait_node]]) * asked.period_s
        late = real.late(device_s, left_s, rng)
        yield {
            "what": "policy",
            "network": of.name,
            "deadline": loose,
            "rate_bit_s": rate,
            "specimen": specimen,
            "policy": name,
            "cut": len(rows),
            "operators": len(of.graph.operators),
            "precision": made.precision,
            "fell_back": plan.fell_back,
            "latency_s": device_s + made.link_s + made.server_s,
            "energy_j": energy_j + made.radio_j,
            "late": late,
        }


def _device(plan: _Plan, real: Truth, rows: Ints, link: Link) -> tuple[float, float]:
    problem = plan.asked.posed(plan.made.index, link)
    if problem is None:  # no time at all is left for it: as one block
        keep = plan.costs.keep[plan.wait_node]
        device_s = float(real.latency_s[rows, keep].sum())
        idle_j = float(real.idle_w[keep]) * max(plan.asked.period_s - device_s, 0.0)
        return device_s, float(real.energy_j[rows, keep].sum()) + idle_j
    return real.run(plan.costs, problem, rows, plan.path, plan.wait_node)
