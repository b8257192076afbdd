"""A ladder keeps what pays, in the accounting that it names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amble.core.cost import Cost
from amble.core.errors import Infeasible
from amble.core.graph import Graph, Operator
from amble.core.ladder import Ladder, Rung
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import CostTable
from amble.core.profile import SwitchCost
from amble.core.schedule import Accounting
from amble.stages.plan.ladder import Variant, build, every_rung, floor, objective

# a published sweep of one network on a Tesla P40: t = 19.1 / f + 11.5 ms, busy 82.5 + 29.6 f^3 W, idle 44.3 + 3.2 f^3 W
GHZ = (0.544, 0.632, 0.734, 0.835, 0.949, 1.063, 1.189, 1.303, 1.430, 1.531)


def published(variant: str = "fp32", *, factor: float = 1.0, power: float = 1.0, accuracy: float = 1.0) -> list[Rung]:
    found = []
    for ghz in GHZ:
        time_s = (19.1 / ghz + 11.5) * 1e-3 / factor
        joules = (82.5 + 29.6 * ghz**3) * power * time_s
        found.append(Rung(variant, Clocks(core_hz=ghz * 1e9), (time_s,), (joules,), accuracy, 44.3 + 3.2 * ghz**3))
    return found


def made(rungs: list[Rung], accounting: Accounting = "period") -> Ladder:
    return build(rungs, graph="net", device="p40", accounting=accounting)


def test_the_floor_depends_on_the_accounting_as_published() -> None:
    gross = floor(published(), accounting="gross", idle_w=45.4)
    period = floor(published(), accounting="period", idle_w=45.4)
    assert (gross.clocks.core_hz, period.clocks.core_hz) == (949e6, 734e6)


@pytest.mark.parametrize(("accounting", "lowest_hz"), [("gross", 949e6), ("period", 734e6), ("above_idle", 734e6)])
def test_no_rung_is_below_the_floor_of_the_same_accounting(accounting: Accounting, lowest_hz: float) -> None:
    rungs = made(published(), accounting).levels[0].rungs
    assert rungs[-1].clocks.core_hz == lowest_hz
    assert min(rung.clocks.core_hz or 0.0 for rung in rungs) == lowest_hz


def test_rungs_go_from_fast_to_frugal() -> None:
    rungs = made(published()).levels[0].rungs
    assert np.all(np.diff([rung.latency_s[0] for rung in rungs]) > 0)
    assert np.all(np.diff([objective(rung, "period", 45.4)[0] for rung in rungs]) < 0)


def test_there_is_one_level_for_each_accuracy_the_best_first() -> None:
    steps = made(published("int8", factor=1.1, accuracy=0.994) + published())
    assert [(level.variant, level.accuracy) for level in steps.levels] == [("fp32", 1.0), ("int8", 0.994)]
    assert [rung.index for rung in steps.rungs] == list(range(len(steps.rungs)))


def test_a_variant_that_is_neither_faster_nor_cheaper_is_left_out() -> None:
    steps = made(published() + published("int8", factor=0.8, accuracy=0.994))
    assert [level.variant for level in steps.levels] == ["fp32"]


def test_of_two_equal_accuracies_both_keep_their_level_when_each_is_better_at_something() -> None:
    steps = made(published() + published("fp16", factor=1.5, power=2.0))
    assert {level.variant for level in steps.levels} == {"fp32", "fp16"}


def test_clocks_are_parked_where_idling_costs_least() -> None:
    steps = made(published())
    assert steps.park.core_hz == 544e6
    assert steps.park_w == pytest.approx(44.8, abs=0.1)


def test_a_change_costs_what_its_domains_cost() -> None:
    switches = (
        SwitchCost("core", Cost(0.001, 0.5), 0.010),
        SwitchCost("memory", Cost(0.002, None), 0.020),
    )
    steps = build(published(), graph="net", device="p40", switches=switches)
    slow, fast = Clocks(1e9, 1e9), Clocks(2e9, 2e9)
    assert steps.stall_s(slow, fast) == pytest.approx(0.003)
    assert steps.settle_s(slow, fast) == 0.020
    assert steps.stall_j(slow, fast) == 0.5
    assert steps.stall_s(slow, slow) == 0.0


def test_nothing_to_choose_from_is_infeasible() -> None:
    with pytest.raises(Infeasible, match="measure at least one variant"):
        made([])


costs = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8)), min_size=1)


@given(costs)
def test_every_rung_left_out_is_dominated_and_every_rung_kept_is_not(found: list[tuple[int, int, int, int]]) -> None:
    rungs = [
        Rung("fp32", Clocks(core_hz=float(place + 1)), (float(a), float(a + b)), (float(c), float(c + d)))
        for place, (a, b, c, d) in enumerate(found)
    ]
    kept = made(rungs, "gross").levels[0].rungs
    clocks = {rung.clocks for rung in kept}

    def as_good(one: Rung, other: Rung) -> bool:
        return all(x <= y for x, y in zip(one.latency_s + one.energy_j, other.latency_s + other.energy_j, strict=True))

    for rung in rungs:
        rivals = [each for each in kept if each.clocks != rung.clocks and as_good(each, rung)]
        assert (rung.clocks in clocks) == (not rivals)


@pytest.mark.parametrize(
    ("latency_s", "energy_j"), [((), ()), ((1.0,), (1.0, 2.0)), ((0.0,), (1.0,))], ids=["empty", "unequal", "no time"]
)
def test_a_rung_that_cannot_be_is_refused(latency_s: tuple[float, ...], energy_j: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="fp32"):
        Rung("fp32", Clocks(), latency_s, energy_j)


def test_a_rung_knows_its_best_batch() -> None:
    assert Rung("fp32", Clocks(), (0.010, 0.012, 0.030), (1.0, 1.0, 1.0)).capacity_hz == pytest.approx(2 / 0.012)


@dataclass(frozen=True)
class Priced:
    """Costs by batch: every operator takes 1 ms a row at 1 GHz, and half of that at 2 GHz."""

    metered: bool = True
    switches: tuple[SwitchCost, ...] = ()

    def table(self, graph: Graph) -> CostTable:
        points = tuple(
            OperatingPoint(Clocks(core_hz=ghz * 1e9), precision) for ghz in (1.0, 2.0) for precision in ("fp32", "int8")
        )
        time_s = np.array([[1e-3 * graph.batch / (point.clocks.core_hz or 1.0) * 1e9 for point in points]] * 2)
        energy_j = time_s * 10.0 if self.metered else time_s * np.nan
        return CostTable(points, time_s, energy_j)

    def idle_w(self, clocks: Clocks) -> float | None:
        return (clocks.core_hz or 0.0) / 1e9

    def margin(self, percentile: float) -> float:
        return 1.0


def graphs(*sizes: int, precision: str = "fp32") -> dict[int, Graph]:
    operators = (Operator("a", "Conv", 1.0, 1.0, 1.0), Operator("b", "Conv", 1.0, 1.0, 1.0))
    return {size: Graph("net", operators, size, f"net {size}", precision=precision) for size in sizes}


def test_a_rung_sums_operators_and_fills_batch_sizes_in_between() -> None:
    rungs = every_rung([Variant("fp32", graphs(1, 4), cast(Any, Priced()))], max_batch=4)
    assert [rung.clocks.core_hz for rung in rungs] == [1e9, 2e9]
    assert rungs[0].latency_s == pytest.approx((0.002, 0.004, 0.006, 0.008))
    assert rungs[1].energy_j == pytest.approx((0.01, 0.02, 0.03, 0.04))
    assert rungs[1].idle_w == 2.0


def test_rungs_end_at_the_largest_batch_asked_for() -> None:
    (rung, _) = every_rung([Variant("fp32", graphs(1, 2, 8), cast(Any, Priced()))], max_batch=2)
    assert rung.max_batch == 2


def test_rungs_need_batch_size_one() -> None:
    with pytest.raises(ValueError, match="batch size 1"):
        every_rung([Variant("fp32", graphs(2), cast(Any, Priced()))], max_batch=4)


def test_energies_that_a_table_lacks_stay_unknown() -> None:
    rungs = every_rung([Variant("fp32", graphs(1, 4), cast(Any, Priced(metered=False)))], max_batch=4)
    assert [rung.energy_j for rung in rungs] == [None, None]
    assert rungs[0].latency_s == pytest.approx((0.002, 0.004, 0.006, 0.008))


def test_where_no_energy_is_known_rungs_are_ranked_by_time_and_have_no_joules() -> None:
    slow, fast = (
        Rung("fp32", Clocks(core_hz=hz), (time_s, 1.5 * time_s), None) for hz, time_s in ((1e9, 2.0), (2e9, 1.0))
    )
    steps = build([slow, fast], graph="net", device="unmetered")
    assert not steps.metered
    assert [rung.clocks for rung in steps.rungs] == [fast.clocks], "slower saves nothing that anybody knows of"
    assert steps.objective(steps.rungs[0]) == (1.0, 2.0)
    with pytest.raises(ValueError, match="nothing is known of its energy"):
        _ = slow.joules


def test_rungs_with_and_without_energies_are_not_compared() -> None:
    rungs = [Rung("fp32", Clocks(), (1.0,), None), Rung("int8", Clocks(), (0.5,), (1.0,))]
    with pytest.raises(ValueError, match="cannot be compared"):
        build(rungs, graph="net", device="half metered")
