"""Every planner by its name, from a network to a verdict on a simulated chip."""

from functools import cache

import pytest

import amble
from amble.core.graph import Graph
from amble.core.schedule import Deadline
from amble.stages.fit.costs import Costs

DEVICE = "sim:jetson-tx2"


@cache
def known() -> tuple[Graph, Costs]:
    graph = amble.load("synthetic:60")
    return graph, amble.fit(amble.measure(graph, amble.open(DEVICE), points=8, repeats=10), model="p-norm")


def planned(planner: str, factor: float = 1.6) -> amble.Schedule:
    graph, costs = known()
    fastest_s = float(costs.arrays().latency_s.sum(axis=0).min()) * costs.margin(0.99)
    return amble.plan(graph, costs, deadline=Deadline(factor * fastest_s), planner=planner)


@pytest.mark.parametrize("planner", ["trellis", "punctual", "greedy", "single", "max"])
def test_a_plan_of_every_planner_says_who_made_it(planner: str) -> None:
    assert planned(planner).planner == planner


def test_a_check_compares_with_the_chip_s_governor_and_with_sysscale() -> None:
    evidence = amble.check(planned("trellis"), DEVICE, arrivals="periodic:40ms:60", traced=0)
    names = [each.policy for each in evidence.report.policies]
    assert names == ["amble", "maximum clocks", "best single clocks", "simple_ondemand", "sysscale"]


def test_baselines_of_a_punctual_plan_stay_at_their_one_setting() -> None:
    evidence = amble.check(planned("punctual"), DEVICE, arrivals="periodic:40ms:60", traced=0)
    changes = {each.policy: each.changes_per_inference for each in evidence.report.policies}
    assert changes["maximum clocks"] == changes["best single clocks"] == 0.0


def test_an_unknown_planner_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="punctual"):
        planned("clever")
