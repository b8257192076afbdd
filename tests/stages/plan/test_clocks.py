"""Clock plans against brute force, their baselines, and what they promise."""

from dataclasses import dataclass, field, replace
from itertools import pairwise, product

import numpy as np
import pytest

from amble.core.cost import Cost
from amble.core.errors import Infeasible
from amble.core.graph import Graph, Operator
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import CostTable, FloatArray
from amble.core.profile import SwitchCost
from amble.core.schedule import Deadline, Schedule, Step
from amble.core.subject import Where
from amble.stages.plan.clocks import fastest, frontier, per_operator, single
from amble.stages.plan.problem import highest

POINTS = tuple(OperatingPoint(Clocks(core, memory)) for core, memory in product((1e9, 2e9), (4e8, 8e8)))


@dataclass(frozen=True)
class MadeUp:
    """A cost model whose numbers are given: latency_s, power_w [operator, point]."""

    latency_s: FloatArray
    power_w: FloatArray
    idle: tuple[float | None, ...] = (1.0, 1.2, 1.5, 2.0)
    switches: tuple[SwitchCost, ...] = (SwitchCost("core", Cost(1e-4, 1e-3)), SwitchCost("memory", Cost(2e-4, 2e-3)))
    spread: float = 1.0
    where: Where = field(default=Where("made:up", "uncalibrated"))
    points: tuple[OperatingPoint, ...] = field(default=POINTS)

    def table(self, graph: Graph) -> CostTable:
        energy = self.latency_s * self.power_w
        return CostTable(self.points, self.latency_s, energy)

    def switch(self, before: Step, after: Step) -> Cost:
        changed = [s.cost for s in self.switches if before.point.clocks.of(s.domain) != after.point.clocks.of(s.domain)]
        return sum(changed, Cost())

    def idle_w(self, clocks: Clocks) -> float | None:
        return self.idle[[point.clocks for point in self.points].index(clocks)]

    def margin(self, percentile: float) -> float:
        return self.spread


def made_up(num_operators: int = 5, seed: int = 0, **fields: object) -> tuple[Graph, MadeUp]:
    random = np.random.default_rng(seed)
    core, memory = (np.array([clock(point) for point in POINTS]) for clock in (_core, _memory))
    compute, traffic = random.uniform(0.2, 2.0, (2, num_operators, 1))
    latency = np.maximum(compute / core, traffic / memory) * 1e-2 + 1e-4
    power = 2.0 + 3.0 * core**2.5 + 1.0 * memory + np.zeros_like(latency)
    operators = tuple(Operator(f"op{i}", "MatMul", 1.0, 1.0, 1.0) for i in range(num_operators))
    return Graph("made", operators, 1, "d"), MadeUp(latency, power, **fields)  # type: ignore[arg-type]


def _core(point: OperatingPoint) -> float:
    return (point.clocks.core_hz or 0) / 2e9


def _memory(point: OperatingPoint) -> float:
    return (point.clocks.memory_hz or 0) / 8e8


def energy_of(graph: Graph, costs: MadeUp, path: tuple[int, ...], wait: int, period_s: float) -> tuple[float, float]:
    """Reckon a path's latency and energy over a period, as the accounting `period` is defined."""
    table = costs.table(graph)
    steps = [Step("wait", POINTS[wait]), *(Step("", POINTS[node]) for node in path), Step("wait", POINTS[wait])]
    changes = [costs.switch(before, after) for before, after in pairwise(steps)]
    busy = sum(table.latency_s[row, node] for row, node in enumerate(path)) + sum(c.latency_s for c in changes[:-1])
    spent = sum(table.energy_j[row, node] for row, node in enumerate(path)) + sum(c.energy_j or 0 for c in changes)
    return float(busy), float(spent + (costs.idle[wait] or 0) * (period_s - busy - changes[-1].latency_s))


def brute_force(graph: Graph, costs: MadeUp, deadline_s: float) -> float:
    found = [
        energy_of(graph, costs, path, wait, deadline_s)
        for path in product(range(4), repeat=len(graph.operators))
        for wait in range(4)
    ]
    return min(energy for latency, energy in found if latency <= deadline_s / costs.spread)


def reckoned(graph: Graph, costs: MadeUp, plan: Schedule) -> tuple[float, float]:
    path = tuple(POINTS.index(step.point) for step in plan.steps)
    wait = [point.clocks for point in POINTS].index(plan.wait)
    return energy_of(graph, costs, path, wait, plan.period_s)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("factor", [1.02, 1.3, 2.5])
def test_an_exact_plan_is_the_best_of_all_schedules(seed: int, factor: float) -> None:
    graph, costs = made_up(seed=seed, spread=1.1)
    deadline = Deadline(factor * 1.1 * float(costs.latency_s.sum(axis=0).min()))
    plan = per_operator(graph, costs, deadline, exact=True)
    assert plan.predicted.energy_j == pytest.approx(brute_force(graph, costs, deadline.latency_s), rel=1e-9)
    assert plan.gap == pytest.approx(0.0, abs=1e-8)


def test_a_plan_that_keeps_one_setting_since_little_is_saved_is_no_optimum_and_says_so() -> None:
    short = 0
    for seed in range(12):
        graph, costs = made_up(seed=seed, switches=(), idle=(1.0,) * 4)
        alike = replace(costs, power_w=2.0 + 0.05 * costs.power_w / costs.power_w.max())
        deadline = Deadline(2.0 * float(alike.latency_s.sum(axis=0).min()))
        plan, best = (per_operator(graph, alike, deadline, exact=exact) for exact in (False, True))
        assert plan.predicted.energy_j is not None
        assert best.predicted.energy_j is not None
        assert plan.lower_bound_j is not None
        assert plan.lower_bound_j <= best.predicted.energy_j * (1 + 1e-9)
        short += best.predicted.energy_j * (1 + 1e-7) < plan.predicted.energy_j
    assert short >= 3


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_costs_what_it_says_and_keeps_its_budget(seed: int) -> None:
    graph, costs = made_up(12, seed, spread=1.2)
    plan = per_operator(graph, costs, Deadline(1.6 * float(costs.latency_s.sum(axis=0).min())))
    latency_s, energy_j = reckoned(graph, costs, plan)
    assert plan.predicted.latency_s == pytest.approx(latency_s)
    assert plan.predicted.energy_j == pytest.approx(energy_j)
    assert latency_s <= plan.budget_s * (1 + 1e-9)
    assert (plan.lower_bound_j or 0) <= energy_j


@pytest.mark.parametrize("factor", [1.1, 1.5, 3.0])
def test_a_plan_never_needs_more_than_its_baselines(factor: float) -> None:
    graph, costs = made_up(20, 3)
    plan = per_operator(graph, costs, Deadline(factor * float(costs.latency_s.sum(axis=0).min())))
    for baseline in plan.baselines:
        assert (plan.predicted.energy_j or 0) <= (baseline.predicted.energy_j or 0) * (1 + 1e-9)


def test_a_looser_deadline_at_the_same_period_never_costs_more() -> None:
    graph, costs = made_up(15, 5)
    fast_s = float(costs.latency_s.sum(axis=0).min())
    energies = [
        per_operator(graph, costs, Deadline(factor * fast_s), period_s=4 * fast_s, exact=True).predicted.energy_j or 0
        for factor in (1.0, 1.1, 1.5, 2.0, 4.0)
    ]
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(energies))


def test_a_deadline_that_cannot_be_kept_says_what_could() -> None:
    graph, costs = made_up(spread=1.25)
    fast_s = float(costs.latency_s.min(axis=1).sum())
    with pytest.raises(Infeasible, match=r"cannot keep .* fastest schedule takes") as caught:
        per_operator(graph, costs, Deadline(fast_s))
    assert caught.value.fastest_s == pytest.approx(1.25 * fast_s)


def test_a_period_that_cannot_be_kept_is_named_in_place_of_the_deadline() -> None:
    graph, costs = made_up()
    fast_s = float(costs.latency_s.min(axis=1).sum())
    with pytest.raises(Infeasible, match=r"cannot answer a request every .* fastest schedule takes"):
        per_operator(graph, costs, Deadline(5 * fast_s), period_s=0.5 * fast_s)


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_period_is_a_positive_time(period_s: float) -> None:
    graph, costs = made_up()
    with pytest.raises(ValueError, match="the time from one request to the next must be positive"):
        per_operator(graph, costs, Deadline(1.0), period_s=period_s)


def test_the_highest_setting_has_the_highest_power_limit_too() -> None:
    settings = [
        OperatingPoint(Clocks(core_hz=hz, power_limit_w=watts))
        for hz in (1.2e9, 6e8)
        for watts in (100.0, 250.0, 150.0)
    ]
    assert highest(settings) == 1
    assert highest([OperatingPoint(Clocks(power_limit_w=watts)) for watts in (100.0, 250.0, 150.0)]) == 1


def test_the_fastest_schedule_runs_and_waits_at_the_highest_clocks() -> None:
    graph, costs = made_up()
    plan = fastest(graph, costs, Deadline(1.0))
    assert {step.point for step in plan.steps} == {POINTS[-1]}
    assert plan.wait == POINTS[-1].clocks


@pytest.mark.parametrize("seed", range(4))
def test_the_single_point_is_the_best_of_all_single_points(seed: int) -> None:
    graph, costs = made_up(6, seed)
    deadline = Deadline(1.5 * float(costs.latency_s.sum(axis=0).min()))
    found = [energy_of(graph, costs, (node,) * 6, node, deadline.latency_s) for node in range(4)]
    best = min(energy for latency, energy in found if latency <= deadline.latency_s)
    assert single(graph, costs, deadline).predicted.energy_j == pytest.approx(best)


def test_without_a_meter_the_plan_is_the_fastest_and_says_so() -> None:
    graph, costs = made_up()
    unmetered = MadeUp(costs.latency_s, np.full_like(costs.power_w, np.nan), idle=(None,) * 4)
    plan = per_operator(graph, unmetered, Deadline(1.0))
    assert plan.predicted.energy_j is None
    assert plan.lower_bound_j is None
    assert any("energy is unknown" in note for note in plan.notes)


def test_without_idle_power_the_accounting_is_gross() -> None:
    graph, costs = made_up(idle=(None,) * 4)
    plan = per_operator(graph, costs, Deadline(1.0))
    assert plan.accounting == "gross"
    assert made_up()[1].idle_w(plan.wait) is not None


def test_clocks_change_no_more_often_than_they_settle() -> None:
    settle_s = 0.02
    switches = (SwitchCost("core", Cost(), settle_s), SwitchCost("memory", Cost(), settle_s))
    graph, costs = made_up(30, 2, switches=switches)
    plan = per_operator(graph, costs, Deadline(1.3 * float(costs.latency_s.sum(axis=0).min())))
    least_s = costs.latency_s.min(axis=1)
    assert all(least_s[each.start : each.stop].sum() >= settle_s for each in plan.segments)


@pytest.mark.parametrize("seed", range(6))
def test_a_plan_lies_on_the_frontier_for_its_own_deadline(seed: int) -> None:
    graph, costs = made_up(6, seed)
    deadline = Deadline(1.37 * float(costs.latency_s.min(axis=1).sum()))
    plan = per_operator(graph, costs, deadline, period_s=0.2)
    found = [(point.latency_s, point.energy_j) for point in frontier(graph, costs, deadline, period_s=0.2)]
    assert any(place == pytest.approx((plan.predicted.latency_s, plan.predicted.energy_j)) for place in found)
