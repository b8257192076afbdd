"""A mapping to approximate memory takes part in the plan: its energy counts, its partitions stand in every step."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from amble.core import files
from amble.core.errors import Refused
from amble.core.graph import Graph, Layer
from amble.core.ports import CostModel
from amble.core.schedule import Deadline, Schedule
from amble.levers.memory.joint import AT_RATINGS, layers_of, moving, with_memory
from amble.levers.memory.partitions import FORMAT, DramPlan, LayerMemory, Placed
from amble.levers.memory.profiles import MemoryPoint
from amble.stages.plan.clocks import per_operator
from tests.stages.plan.test_clocks import made_up

FIRST, SECOND = Layer("first", "first.weight", 20, "x"), Layer("second", "second.weight", 20, "y")
LAYERS = (
    LayerMemory(FIRST, ("bank0",), moved_j=2e-3, nominal_j=3e-3),
    LayerMemory(SECOND, ("bank0", "bank1"), moved_j=1e-3, nominal_j=1.5e-3),
)
MAPPING = DramPlan(
    placed=(Placed("w", "bank0", 0, 1e-6),),
    settings={"bank0": MemoryPoint(0.9)},
    energy_j=4e-3,
    nominal_j=6e-3,
    lower_bound_j=4e-3,
    saved_s=1e-6,
    method="exact",
    labels=("energy and time are predicted",),
    layers=LAYERS,
    precision="fp32",
    held_w=0.1,
    nominal_held_w=0.15,
)


def network() -> tuple[Graph, CostModel]:
    """Five operators, of which the second and the fourth compute layers of as many weights."""
    graph, costs = made_up()
    layers = {1: FIRST, 3: SECOND}
    operators = tuple(replace(each, layer=layers.get(index)) for index, each in enumerate(graph.operators))
    return replace(graph, operators=operators), costs


def planned(mapping: DramPlan | None, deadline_s: float = 0.08) -> Schedule:
    graph, costs = network()
    plan = partial(per_operator, graph, deadline=Deadline(deadline_s))
    return plan(costs) if mapping is None else with_memory(graph, costs, mapping, lambda known: plan(known))


def test_the_energy_of_a_plan_is_that_of_the_device_and_of_the_memory() -> None:
    alone, joint = planned(None), planned(MAPPING)
    assert alone.predicted.energy_j is not None
    expected = alone.predicted.energy_j + 3e-3 + 0.1 * joint.period_s
    assert joint.predicted.energy_j == pytest.approx(expected, rel=2e-3)
    assert joint.predicted.latency_s <= joint.budget_s
    assert joint.lower_bound_j is not None
    assert alone.lower_bound_j is not None
    assert alone.lower_bound_j + 3e-3 < joint.lower_bound_j <= expected
    assert sum(step.predicted.energy_j or 0.0 for step in joint.steps) == pytest.approx(
        sum(step.predicted.energy_j or 0.0 for step in alone.steps) + 3e-3, rel=2e-3
    )


def test_steps_say_where_their_tensors_live_and_others_nothing() -> None:
    assert [step.point.dram for step in planned(MAPPING).steps] == [None, "bank0", None, "bank0+bank1", None]
    assert {step.point.dram for step in planned(None).steps} == {None}


def test_every_baseline_pays_for_the_memory_and_ratings_are_one_of_them() -> None:
    alone, joint = planned(None), planned(MAPPING)
    ratings = joint.baseline(AT_RATINGS).predicted.energy_j
    assert ratings is not None
    assert joint.predicted.energy_j is not None
    assert ratings - joint.predicted.energy_j == pytest.approx(1.5e-3 + 0.05 * joint.period_s)
    for each in alone.baselines:
        with_it = joint.baseline(each.name).predicted.energy_j
        assert with_it == pytest.approx((each.predicted.energy_j or 0.0) + 3e-3 + 0.1 * joint.period_s)


def test_without_a_period_every_plan_holds_the_memory_for_as_long_as_it_runs() -> None:
    graph, costs = network()
    alone = replace(planned(None), accounting="gross")
    joint = with_memory(graph, costs, MAPPING, lambda known: alone)
    fastest = alone.baselines[0]
    assert fastest.predicted.latency_s != alone.predicted.latency_s
    pairs = [(alone.predicted, joint.predicted), (fastest.predicted, joint.baseline(fastest.name).predicted)]
    for before, after in pairs:
        assert after.energy_j == pytest.approx((before.energy_j or 0.0) + 0.1 * before.latency_s)
    assert joint.lower_bound_j == alone.lower_bound_j


def test_notes_say_what_is_only_predicted() -> None:
    notes = " ".join(planned(MAPPING).notes)
    assert "of memory an inference, predicted and not measured" in notes
    assert "not counted on" in notes
    assert "energy and time are predicted" in notes


def test_partitions_split_no_run_of_equal_clocks() -> None:
    def runs(schedule: Schedule) -> list[tuple[int, int]]:
        return [(each.start, each.stop) for each in schedule.segments]

    assert runs(planned(MAPPING)) == runs(planned(None))


def test_a_cost_model_with_memory_is_the_same_elsewhere() -> None:
    graph, costs = network()
    joint = moving(costs, {"op1": 1.0})
    table, before = joint.table(graph), costs.table(graph)
    assert (table.energy_j - before.energy_j).round(9).tolist() == [[0.0] * 4, [1.0] * 4, *[[0.0] * 4] * 3]
    assert (table.latency_s == before.latency_s).all()
    assert joint.margin(0.99) == costs.margin(0.99)
    assert joint.idle_w(table.points[0].clocks) == costs.idle_w(table.points[0].clocks)
    assert (joint.where, joint.switches) == (costs.where, costs.switches)


def test_layers_find_their_operators_by_name_whatever_the_order_and_however_read() -> None:
    graph, _ = network()
    checked = replace(LAYERS[0], layer=replace(FIRST, input="x_checked"))
    swapped = replace(MAPPING, layers=(LAYERS[1], checked))
    assert layers_of(graph, swapped) == {"op1": checked, "op3": LAYERS[1]}


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (replace(MAPPING, precision="int8"), "the mapping is of int8, the plan runs fp32"),
        (replace(MAPPING, layers=()), "make it anew"),
        (
            replace(MAPPING, layers=(LAYERS[0], replace(LAYERS[1], layer=replace(SECOND, num_weights=7)))),
            r"another network: .* has no operator of its own for second \(7 weights\); map it anew with amble dram",
        ),
        (replace(MAPPING, layers=LAYERS[:1]), r"the mapping has no layer for second \(20 weights\)"),
    ],
)
def test_mappings_that_do_not_fit_are_refused(mapping: DramPlan, said: str) -> None:
    with pytest.raises(Refused, match=said):
        planned(mapping)


def test_graphs_that_name_no_layers_are_refused() -> None:
    with pytest.raises(Refused, match="name no layers of a file"):
        layers_of(made_up()[0], MAPPING)


def test_mappings_without_names_are_read_but_not_planned_with(tmp_path: Path) -> None:
    path = tmp_path / "mapping.json"
    files.save(MAPPING, path, FORMAT)
    document = json.loads(path.read_text())
    for each in document["dram"]["layers"]:
        layer = each.pop("layer")
        each |= {"name": layer["name"], "num_weights": layer["num_weights"]}
    path.write_text(json.dumps(document | {"format": 1}))
    older = files.load(path, FORMAT)
    assert older == replace(MAPPING, layers=())
    with pytest.raises(Refused, match="or not by name; make it anew with amble dram"):
        planned(older)
