from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from amble.core.point import Clocks
from amble.core.schedule import FrontierPoint
from amble.stages.check import figures
from amble.stages.check.evidence import Pair
from amble.stages.check.report import assess
from tests.stages.check.builders import IDLE_W, KINDS, MAX, NAMES, PLAN, costs, log, schedule, without_meter

REPORT = assess([log(), log(MAX)], schedule(), idle_w=IDLE_W)


def read(figure: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a figure's traces by name, and its layout."""
    document = json.loads(figure)
    return {each.get("name", ""): each for each in document["data"]}, document["layout"]


def values(trace: dict[str, Any], axis: str) -> list[float]:
    """Return a trace's numbers, which plotly may have packed."""
    packed = trace[axis]
    if isinstance(packed, dict):
        packed = np.frombuffer(base64.b64decode(packed["bdata"]), dtype=packed["dtype"]).tolist()
    return list(packed)


def test_the_frontier_holds_plan_baselines_bound_and_measured() -> None:
    points = (FrontierPoint(0.03, 0.14, 0.139), FrontierPoint(0.02, 0.18, 0.178))
    traces, _ = read(figures.frontier_figure(replace(schedule(), frontier=points), REPORT))
    assert list(traces)[:3] == ["best plans", "lower bound", "plan, predicted"]
    assert values(traces["plan, predicted"], "y") == [schedule().predicted.energy_j]
    assert values(traces["lower bound"], "y") == [0.178, 0.139]
    assert traces["measured"]["text"] == ["amble", "maximum clocks"]


def on_the_line(figure: str) -> float:
    """Return the line's energy at the time of the plan: between two points the earlier one's."""
    traces, _ = read(figure)
    assert traces["best plans"]["line"]["shape"] == "hv"
    (star_s,) = values(traces["plan, predicted"], "x")
    line = zip(values(traces["best plans"], "x"), values(traces["best plans"], "y"), strict=True)
    return [energy_j for time_s, energy_j in line if time_s <= star_s][-1]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_the_star_lies_on_the_line_wherever_the_plan_falls_between_the_points_of_the_frontier(share: float) -> None:
    plan = schedule()
    early_s, late_s = plan.predicted.latency_s * (1 - share), plan.predicted.latency_s * (2 - share)
    points = (FrontierPoint(late_s, 0.5 * (plan.predicted.energy_j or 0.0)), FrontierPoint(early_s, 1.0))
    figure = figures.frontier_figure(replace(plan, frontier=points), REPORT)
    assert on_the_line(figure) == plan.predicted.energy_j
    traces, _ = read(figure)
    assert values(traces["best plans"], "x") == [early_s, plan.predicted.latency_s, late_s]


def test_the_line_leaves_out_what_a_faster_plan_undercuts() -> None:
    points = (FrontierPoint(0.001, 0.001), FrontierPoint(0.002, 0.002))
    traces, _ = read(figures.frontier_figure(replace(schedule(), frontier=points)))
    assert values(traces["best plans"], "x") == [0.001]


def test_a_bound_holds_for_every_plan_as_fast_as_its_own() -> None:
    points = (FrontierPoint(0.02, 0.18, 0.178), FrontierPoint(0.03, 0.14, 0.139))
    traces, _ = read(figures.frontier_figure(replace(schedule(), frontier=points)))
    assert traces["lower bound"]["line"]["shape"] == "vh"


def test_an_empty_frontier_and_unknown_energies_draw_nothing() -> None:
    dark = replace(schedule(), baselines=(), predicted=replace(schedule().predicted, energy_j=None))
    traces, _ = read(figures.frontier_figure(dark))
    assert traces == {}


def test_the_timeline_covers_each_operator_once_in_order() -> None:
    plan = schedule()
    document = json.loads(figures.timeline_figure(plan, KINDS * 3))
    bars = [each for each in document["data"] if each["type"] == "bar"]
    assert {each["name"] for each in bars} == set(KINDS)
    starts = sorted(start for each in bars for start in values(each, "base"))
    assert len(starts) == len(NAMES)
    assert starts[0] == 0
    assert sum(width for each in bars for width in values(each, "x")) == pytest.approx(plan.predicted.latency_s)
    steps = [each for each in document["data"] if each["type"] == "scatter"]
    assert values(steps[0], "y")[:9] == [854.25] * 8 + [420.75]
    assert len(steps) == 2  # core and memory; there is no cpu clock


def test_a_timeline_without_kinds_has_one_colour() -> None:
    document = json.loads(figures.timeline_figure(schedule()))
    assert len([each for each in document["data"] if each["type"] == "bar"]) == 1


def test_a_device_without_clocks_has_operators_only() -> None:
    fixed = tuple(replace(step, point=step.point.at(Clocks())) for step in schedule().steps)
    document = json.loads(figures.timeline_figure(replace(schedule(), steps=fixed)))
    assert {each["type"] for each in document["data"]} == {"bar"}


def test_kinds_beyond_the_palette_are_drawn_as_other() -> None:
    kinds = tuple(f"kind{index}" for index in range(12)) * 2
    document = json.loads(figures.timeline_figure(schedule(), kinds))
    names = [each["name"] for each in document["data"] if each["type"] == "bar"]
    assert names == ["kind0", "kind1", "kind2", "kind3", "kind4", "kind5", "other"]
    assert len(values(next(each for each in document["data"] if each.get("name") == "other"), "x")) == 12


def test_predictions_are_drawn_over_what_was_measured() -> None:
    traces, layout = read(figures.prediction_figure([Pair("a", "Conv", 1.1e-3, 1e-3), Pair("b", "Add", 9e-6, 1e-5)]))
    assert values(traces["Conv"], "x") == [1e-3]
    assert values(traces["Conv"], "y") == [1.1e-3]
    assert values(traces[""], "x") == pytest.approx([0.1, -0.1])
    assert layout["xaxis"]["type"] == layout["yaxis"]["type"] == "log"


def test_the_latency_curve_rises_to_one_and_keeps_the_tail() -> None:
    whole = log(requests=5000, traced=0)
    traces, layout = read(figures.latency_figure([whole], deadline_s=0.028, percentile=0.99))
    shares = values(traces["amble"], "y")
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) < 700
    slowest = sorted(each.latency_s for each in whole.served)[-50:]
    assert values(traces["amble"], "x")[-50:] == slowest
    assert {each["text"] for each in layout["annotations"]} == {"deadline", "p99"}


def test_power_is_drawn_where_it_was_traced() -> None:
    traces, layout = read(figures.power_figure([log(), without_meter(log(MAX))]))
    assert list(traces) == ["amble"]
    assert values(traces["amble"], "y")[:2] == [PLAN.power_w, PLAN.wait_w]
    assert layout["xaxis"]["range"][0] == 0


def test_clocks_that_ran_have_gaps_where_nothing_ran() -> None:
    document = json.loads(figures.ran_at_figure(log()))
    core = values(document["data"][0], "y")
    assert core[:2] + core[3:5] == [854.25, 854.25, 420.75, 420.75]
    assert core[2] is None or np.isnan(core[2])


def test_the_energy_of_each_policy_has_its_interval() -> None:
    document = json.loads(figures.energy_figure(REPORT))
    (bars,) = document["data"]
    assert bars["x"] == ["amble", "maximum clocks"]
    assert min(values(bars["error_y"], "array")) > 0


def test_costs_are_drawn_where_the_energy_is_known() -> None:
    table = costs().table
    some = table.energy_j.copy()
    some[0, :5] = np.nan
    points = figures.total_points(replace(table, energy_j=some))
    assert len(points) == len(table.points) - 5
    traces, _ = read(figures.cost_figure(points, what="predicted"))
    assert len(values(traces["predicted"], "x")) == len(points)


def test_the_operators_figure_is_relative_to_the_fastest_point() -> None:
    document = json.loads(figures.operators_figure(NAMES, costs().table))
    packed = document["data"][0]["z"]
    z = np.frombuffer(base64.b64decode(packed["bdata"]), dtype=packed["dtype"])
    assert z.min() == 0.0  # doublings
    assert document["data"][0]["colorbar"]["ticktext"][:2] == ["1", "2"]


def test_colours_are_left_to_the_page_and_text_cannot_end_the_script() -> None:
    evil = replace(schedule(), steps=tuple(replace(s, operator="</script><b>") for s in schedule().steps))
    drawn = figures.timeline_figure(evil)
    assert "</script" not in drawn
    assert not re.search(r'"#[0-9a-f]{6}"', drawn)
    assert "var(--accent)" in drawn
