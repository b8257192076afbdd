"""The one solver: time, certified gap, agreement with trying every path and with HiGHS, and growth with operators.

All in one thread on one core. Times are of the processor, which are those of the clock on the wall where nothing else
runs; `wall_p50_s` stands beside them. What is promised of times are ratios, so that they hold on every CPU: to HiGHS on
the same thread, which at 1000 x 150 solves the linear relaxation alone, switching by domains, and no integers; it is
stopped after five minutes, which then count. `pass_s` is one pass of the numbers of the problem through memory.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.kit import document

document.on_one_core()

import numpy as np  # noqa: E402
import scipy.optimize  # noqa: E402
import scipy.sparse  # noqa: E402

from amble.stages.plan.replan import cost_to_go  # noqa: E402
from amble.stages.plan.search import DenseSwitch, DomainSwitch, Trellis, Wait, solve, totals  # noqa: E402
from amble.stages.plan.trellis import Floats  # noqa: E402

Records = list[dict[str, object]]

STALLS_S = {  # of the core clock and of the memory clock
    "free": (0.0, 0.0),
    "6 and 20 us": (6e-6, 20e-6),
    "60 and 200 us": (60e-6, 200e-6),
    "0.6 and 2 ms": (0.6e-3, 2e-3),
}
LOOSENESS = {"tight": 1.05, "medium": 1.3, "loose": 2.0}  # budget over the fastest, switches aside
FACTOR = 50  # times as fast as HiGHS
STALL_W = np.array([4.0, 5.0])  # power while the core or the memory clock settles


@dataclass(frozen=True, slots=True)
class Case:
    """One planning problem."""

    seed: int
    operators: int
    cores: int
    memories: int
    stalls: str
    looseness: str

    @property
    def record(self) -> dict[str, object]:
        return {
            "operators": self.operators,
            "pairs": self.cores * self.memories,
            "switching": self.stalls,
            "deadline": self.looseness,
            "seed": self.seed,
        }

    def made(self, *, dense: bool = False) -> tuple[Trellis, Floats, float]:
        """Trellis, idle power [node] and budget [s].

        Operators take the 4-norm of a compute part over the core clock and a memory part over the memory clock, plus a
        launch; power has a voltage knee at the core's lower clocks. With `dense`, every step has its own cost, within
        a fifth of the sum over the domains.
        """
        rng = np.random.default_rng(self.seed)
        grids = np.meshgrid(np.linspace(0.3, 1.4, self.cores), np.linspace(0.4, 1.9, self.memories), indexing="ij")
        core, memory = (grid.ravel() for grid in grids)
        work_s, intensity = rng.lognormal(-9.2, 1.0, self.operators), rng.lognormal(0.0, 1.2, self.operators)
        compute_s = (work_s * intensity / (1 + intensity))[:, None] / core
        memory_s = (work_s / (1 + intensity))[:, None] / memory
        launch_s = rng.uniform(5e-6, 3e-5, self.operators)[:, None] * (0.5 + 0.5 / core)
        latency_s = (compute_s**4 + memory_s**4) ** 0.25 + launch_s
        voltage = np.maximum(0.7, 0.45 + 0.36 * core)
        idle_w = 0.8 + 0.5 * voltage + 0.3 * voltage**2 * core + 0.4 * memory
        busy_w = 9 * compute_s / latency_s * voltage**2 * core + 2.5 * memory_s / latency_s * memory
        busy_w = busy_w + 0.8 + 0.9 * voltage**2 * core + 0.4 * memory
        levels = np.stack(np.unravel_index(np.arange(self.cores * self.memories), (self.cores, self.memories)), axis=1)
        stalls_s = np.array(STALLS_S[self.stalls])
        switch: DomainSwitch | DenseSwitch = DomainSwitch(levels, stalls_s, stalls_s * STALL_W)
        if dense:
            tables = Trellis(latency_s, latency_s, switch).into(1)
            spread = rng.uniform(0.8, 1.2, tables[0].shape)
            switch = DenseSwitch(tables[0] * spread, tables[1] * spread)
        budget_s = LOOSENESS[self.looseness] * float(latency_s.min(axis=1).sum())
        return Trellis(latency_s, (idle_w + busy_w) * latency_s, switch), idle_w, budget_s


def large(
    *, cases: list[tuple[str, int]], repeats: int, dense: bool, relaxed_s: Mapping[str, tuple[float, bool]]
) -> Records:
    """1,000 operators x 150 pairs: the run alone, and (by domains) with waiting until the next request.

    `relaxed_s`: for each kind of switching what HiGHS took for the relaxation, and whether it came to an end.
    """
    records: Records = []
    for stalls, (looseness, seed) in itertools.product(STALLS_S, cases):
        case = Case(seed, 1000, 15, 10, stalls, looseness)
        trellis, idle_w, budget_s = case.made(dense=dense)
        waits = [("gross", None)] if dense else [("gross", None), ("period", Wait(idle_w, budget_s))]
        for accounting, wait in waits:
            found = solve(trellis, budget_s, wait=wait)
            walls_s, times_s = _timed(partial(solve, trellis, budget_s, wait=wait), repeats)
            beside = _beside(relaxed_s.get(stalls), document.percentile(times_s, 50))
            records.append(
                {
                    "what": "large",
                    "edges": "table" if dense else "domains",
                    **case.record,
                    "accounting": accounting,
                    "time_p50_s": document.percentile(times_s, 50),
                    "time_p95_s": document.percentile(times_s, 95),
                    "wall_p50_s": document.percentile(walls_s, 50),
                    "pass_s": _pass_s(trellis),
                    **beside,
                    "gap": found.gap,
                    "energy_j": found.energy_j,
                    "lower_bound_j": found.lower_bound_j,
                    "switches": int(np.count_nonzero(np.diff(found.path))),
                }
            )
    return records


def relaxations(*, most_s: float) -> dict[str, tuple[float, bool]]:
    """Time HiGHS on the linear relaxation of a large problem [s], for each kind of switching; at most this long."""
    found = {}
    for stalls in STALLS_S:
        trellis, _, budget_s = Case(1, 1000, 15, 10, stalls, "medium").made()
        model = relaxation(trellis, budget_s)
        start_s = time.process_time()
        answer = scipy.optimize.linprog(**model, options={"time_limit": most_s})
        found[stalls] = (time.process_time() - start_s, answer.status == 0)
    return found


def relaxation(trellis: Trellis, budget_s: float) -> dict[str, Any]:
    """Return the arguments of `linprog`: shares [operator, node] of the nodes, then rises [step, level] of each level.

    Where shares are whole, one level of each domain that changes rises by 1, and carries the cost of the change.
    """
    operators, nodes = trellis.latency_s.shape
    switch = trellis.switch
    assert isinstance(switch, DomainSwitch)
    levels, costs_s, costs_j = [], [], []
    for each, time_s, energy_j in zip(switch.levels.T, switch.time_s, switch.energy_j, strict=True):
        levels.append(scipy.sparse.csr_array((np.ones(nodes), (each, np.arange(nodes)))))
        costs_s += [time_s] * levels[-1].shape[0]
        costs_j += [energy_j] * levels[-1].shape[0]
    steps = scipy.sparse.eye_array(operators - 1, operators, k=1) - scipy.sparse.eye_array(operators - 1, operators)
    risen = scipy.sparse.kron(steps, scipy.sparse.vstack(levels))
    rises = scipy.sparse.eye_array(risen.shape[0])
    times_s = np.concatenate([trellis.latency_s.ravel(), np.tile(costs_s, operators - 1)]) / budget_s
    energies_j = np.concatenate([trellis.energy_j.ravel(), np.tile(costs_j, operators - 1)])
    one = scipy.sparse.kron(scipy.sparse.eye_array(operators), np.ones((1, nodes)))
    return {
        "c": energies_j,
        "A_ub": scipy.sparse.vstack([scipy.sparse.hstack([risen, -rises]), times_s[None]], format="csr"),
        "b_ub": np.append(np.zeros(risen.shape[0]), 1.0),
        "A_eq": scipy.sparse.hstack([one, scipy.sparse.csr_array((operators, risen.shape[0]))], format="csr"),
        "b_eq": np.ones(operators),
        "method": "highs-ds",
    }


def _beside(relaxed: tuple[float, bool] | None, time_s: float) -> dict[str, object]:
    """Return how long HiGHS took beside this, where it was asked; no ratio where it was stopped too early to tell."""
    if relaxed is None:
        return {}
    (relaxed_s, ended), told = relaxed, relaxed[0] / time_s
    tells = ended or told >= FACTOR
    return {"relaxation_s": relaxed_s, "relaxation_ended": ended, "times_faster": told if tells else None}


def _pass_s(trellis: Trellis) -> float:
    """Time [s] of adding up every number of a problem once, the least of nine."""
    arrays = [trellis.latency_s, trellis.energy_j]
    if isinstance(trellis.switch, DenseSwitch):
        arrays += [trellis.switch.time_s, trellis.switch.energy_j]
    return min(document.durations_s(lambda: [each.sum() for each in arrays], repeats=9, clock=time.process_time))


def _timed(call: Callable[[], object], repeats: int) -> tuple[list[float], list[float]]:
    """Time on the wall and on the processor of each call."""
    times_s: list[float] = []
    walls_s: list[float] = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        times_s += document.durations_s(call, repeats=1, warmups=0, clock=time.process_time)
        walls_s.append(time.perf_counter() - start_s)
    return walls_s, times_s


def small(*, cases: int) -> Records:
    """Few operators and pairs: `exact` against trying every path, with waiting in every second case."""
    records: Records = []
    kinds = itertools.cycle(itertools.product(STALLS_S, LOOSENESS))
    for seed, (stalls, looseness) in zip(range(1, cases + 1), kinds, strict=False):
        case = Case(seed, 5, 3, 2, stalls, looseness)
        trellis, idle_w, budget_s = case.made()
        wait = Wait(idle_w, 1.5 * budget_s + 5e-3) if seed % 2 else None
        best_j = _by_trying(trellis, budget_s, wait)
        found = solve(trellis, budget_s, wait=wait, exact=True)
        off = 0.0 if math.isinf(best_j) and not found.feasible else abs(found.energy_j / best_j - 1)
        records.append({"what": "every path", **case.record, "waits": wait is not None, "best_j": best_j, "off": off})
    return records


def _by_trying(trellis: Trellis, budget_s: float, wait: Wait | None) -> float:
    waits = [None] if wait is None else list(range(trellis.num_nodes))
    paths = itertools.product(range(trellis.num_nodes), repeat=trellis.num_operators)
    costs = (totals(trellis, path, wait, node) for path in paths for node in waits)
    return min((cost.energy_j for cost in costs if cost.latency_s <= budget_s * (1 + 1e-12)), default=math.inf)


def programmes(*, seeds: int) -> Records:
    """40 operators x 12 pairs: the default and `exact` against HiGHS, whose model is built outside the clock."""
    records: Records = []
    for stalls, looseness, seed in itertools.product(list(STALLS_S)[:3], ["tight", "medium"], range(1, seeds + 1)):
        case = Case(seed, 40, 4, 3, stalls, looseness)
        trellis, _, budget_s = case.made()
        costs_j, model = _programme(trellis, budget_s)
        start_s = time.process_time()
        answer = scipy.optimize.milp(**model)
        highs_s = time.process_time() - start_s
        best_j = float(costs_j[answer.x > 0.5].sum())
        default, exact = solve(trellis, budget_s), solve(trellis, budget_s, exact=True)
        times_s = document.durations_s(partial(solve, trellis, budget_s), repeats=9, clock=time.process_time)
        exact_s = document.durations_s(
            partial(solve, trellis, budget_s, exact=True), repeats=3, clock=time.process_time
        )
        records.append(
            {
                "what": "programme",
                **case.record,
                "highs_s": highs_s,
                "highs_gap": float(answer.mip_gap),
                "default_p50_s": document.percentile(times_s, 50),
                "exact_p50_s": document.percentile(exact_s, 50),
                "times_faster": highs_s / document.percentile(times_s, 50),
                "exact_off": abs(exact.energy_j / best_j - 1),
                "default_off": default.energy_j / best_j - 1,
                "default_gap": default.gap,
            }
        )
    return records


def _programme(trellis: Trellis, budget_s: float) -> tuple[Floats, dict[str, Any]]:
    """Energy of each variable [J], and the arguments of `milp`: one unit flows from the first column to the last."""
    operators, nodes = trellis.latency_s.shape
    switch_s, switch_j = trellis.into(1)
    costs_j = np.concatenate([trellis.energy_j[0], *((switch_j + row).ravel() for row in trellis.energy_j[1:])])
    times_s = np.concatenate([trellis.latency_s[0], *((switch_s + row).ravel() for row in trellis.latency_s[1:])])
    into = scipy.sparse.csr_array(np.tile(np.eye(nodes), nodes))
    out_of = scipy.sparse.csr_array(-np.kron(np.eye(nodes), np.ones(nodes)))
    blocks: list[list[object]] = [[scipy.sparse.csr_array(np.ones((1, nodes))), *[None] * (operators - 1)]]
    for column in range(operators - 1):
        row: list[object] = [None] * operators
        row[column], row[column + 1] = (into if column else scipy.sparse.eye_array(nodes)), out_of
        blocks.append(row)
    flow = scipy.sparse.block_array(blocks, format="csr")
    once = np.append(1.0, np.zeros(flow.shape[0] - 1))
    balanced = scipy.optimize.LinearConstraint(flow, once, once)
    in_time = scipy.optimize.LinearConstraint(times_s[None] / budget_s, -np.inf, 1.0)
    model: dict[str, Any] = {
        "c": costs_j / costs_j.mean(),
        "integrality": np.ones(len(costs_j)),
        "bounds": scipy.optimize.Bounds(0, 1),
        "constraints": [balanced, in_time],
        "options": {"mip_rel_gap": 0.0},
    }
    return costs_j, model


def closing(*, seeds: int) -> Records:
    """100 operators x 72 pairs, `exact`, with waiting."""
    records: Records = []
    for stalls, looseness, seed in itertools.product(STALLS_S, LOOSENESS, range(1, seeds + 1)):
        case = Case(seed, 100, 12, 6, stalls, looseness)
        trellis, idle_w, budget_s = case.made()
        wait = Wait(idle_w, budget_s)
        found = solve(trellis, budget_s, wait=wait, exact=True)
        (time_s,) = document.durations_s(partial(solve, trellis, budget_s, wait=wait, exact=True), repeats=1, warmups=0)
        records.append({"what": "closing", **case.record, "time_s": time_s, "gap": found.gap})
    return records


def growth(*, repeats: int) -> Records:
    """Time against the number of operators, 150 pairs."""
    records: Records = []
    for operators in (125, 250, 500, 1000, 2000):
        times_s = []
        for seed in (1, 2, 3):
            trellis, _, budget_s = Case(seed, operators, 15, 10, "6 and 20 us", "medium").made()
            times_s += document.durations_s(partial(solve, trellis, budget_s), repeats=repeats, clock=time.process_time)
        records.append({"what": "growth", "operators": operators, "time_p50_s": document.percentile(times_s, 50)})
    return records


def look_ups() -> Records:
    """Re-planning the rest of 100 operators from the table of costs to go."""
    trellis, _, budget_s = Case(1, 100, 15, 10, "60 and 200 us", "medium").made()
    table_s = document.durations_s(lambda: cost_to_go(trellis), repeats=3)
    table = cost_to_go(trellis)
    asked = [(operator, node, budget_s * (1 - operator / 100)) for operator in range(100) for node in range(150)]
    times_s: list[float] = []
    for operator, node, left_s in asked:
        times_s += document.durations_s(partial(table.look_up, operator, node, left_s), repeats=1, warmups=0)
    quantiles = {f"time_p{percent}_s": document.percentile(times_s, percent) for percent in (50, 99)}
    return [{"what": "look-up", **quantiles, "table_s": document.percentile(table_s, 50)}]


def targets(records: Records) -> Iterator[document.Target]:
    """Compare what was found with what was promised; one entry for each kind of switching."""

    def values(field: str, **where: object) -> list[float]:
        kept = [record for record in records if all(record.get(key) == value for key, value in where.items())]
        return [float(str(record[field])) for record in kept if record.get(field) is not None]

    def worst(field: str, **where: object) -> float | None:
        return max(values(field, **where), default=None)

    def least(field: str, **where: object) -> float | None:
        return min(values(field, **where), default=None)

    for stalls in STALLS_S:
        for edges, factor in (("domains", FACTOR), ("table", 10)):
            where = {"what": "large", "edges": edges, "switching": stalls, "accounting": "gross"}
            name = f"1000 x 150, {edges}, switching {stalls}"
            yield document.target(
                f"faster than the relaxation by HiGHS, {name}, worst case",
                want=f">= {factor}",
                value=least("times_faster", **where),
                unit="1",
            )
            del where["accounting"]
            yield document.target(f"gap of {name}", want="<= 0.001", value=worst("gap", **where), unit="1")
        value = worst("gap", what="closing", switching=stalls)
        yield document.target(f"gap of exact, 100 x 72, switching {stalls}", want="<= 0.005", value=value, unit="1")
    for stalls in list(STALLS_S)[:3]:
        where = {"what": "programme", "switching": stalls}
        yield document.target(
            f"exact against HiGHS, 40 x 12, switching {stalls}",
            want="<= 1e-6",
            value=worst("exact_off", **where),
            unit="1",
        )
        kept = [float(str(r["times_faster"])) for r in records if r["what"] == "programme" and r["switching"] == stalls]
        value = document.percentile(kept, 50) if kept else None
        yield document.target(
            f"default faster than HiGHS, 40 x 12, switching {stalls}, median", want=">= 50", value=value, unit="1"
        )
    yield document.target("exact against every path", want="<= 1e-9", value=worst("off", what="every path"), unit="1")
    yield document.target("growth of time with operators, exponent", want="<= 1.1", value=exponent(records), unit="1")
    yield document.target(
        "re-planning by look-up, p99", want="< 20e-6", value=worst("time_p99_s", what="look-up"), unit="s"
    )


def exponent(records: Records) -> float | None:
    """Slope of log time over log operators: 1 is linear."""
    rows = [(float(str(r["operators"])), float(str(r["time_p50_s"]))) for r in records if r["what"] == "growth"]
    return _slope(np.log(np.array(rows))) if rows else None


def _slope(points: Floats) -> float:
    x, y = (points - points.mean(axis=0)).T
    return float((x * y).sum() / (x * x).sum())


def main() -> None:
    """Run all parts; `--quick` with fewer seeds and repeats."""
    options = document.options("search", __doc__)
    seeds = 1 if options.quick else 3
    every = [("tight", 1)] if options.quick else list(itertools.product(LOOSENESS, range(1, seeds + 1)))
    relaxed_s = relaxations(most_s=20.0 if options.quick else 300.0)
    records = large(cases=every, repeats=1 if options.quick else 7, dense=False, relaxed_s=relaxed_s)
    records += large(cases=every[::seeds], repeats=1 if options.quick else 5, dense=True, relaxed_s=relaxed_s)
    records += small(cases=6 if options.quick else 24) + programmes(seeds=1 if options.quick else 5)
    records += closing(seeds=seeds) + growth(repeats=1 if options.quick else 7) + look_ups()
    document.finish(options, records, list(targets(records)))
