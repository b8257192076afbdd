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


@pytest.mark.parametrize("planner", ["trellis", "punctual", "greedy", "single", "max"])
def test_a_deadline_below_the_fastest_is_infeasible_whatever_the_planner(planner: str) -> None:
    with pytest.raises(amble.Infeasible, match=r"25 % too long; allow that much") as caught:
        planned(planner, 0.8)
    fastest = caught.value.fastest
    assert fastest is not None
    assert fastest.deadline.latency_s * 1.24 < caught.value.fastest_s < fastest.deadline.latency_s * 1.26
    assert fastest.predicted.latency_s * fastest.margin == pytest.approx(caught.value.fastest_s, rel=0.05)
    assert fastest.predicted.latency_s > fastest.budget_s


@pytest.mark.parametrize("planner", ["trellis", "punctual", "greedy", "single", "max"])
def test_requests_faster_than_any_plan_are_infeasible_whatever_the_planner(planner: str) -> None:
    graph, costs = known()
    fastest_s = float(costs.arrays().latency_s.sum(axis=0).min())
    with pytest.raises(amble.Infeasible, match="cannot answer a request every"):
        amble.plan(graph, costs, deadline=Deadline(5 * fastest_s), planner=planner, period_s=fastest_s / 2)


def test_a_greedy_plan_that_switching_makes_late_is_infeasible_and_says_which_planner_keeps_it() -> None:
    with pytest.raises(
        amble.Infeasible, match=r"of --planner greedy .* misses .* --planner trellis keeps it"
    ) as caught:
        planned("greedy", 1.02)
    assert caught.value.fastest is not None
    assert caught.value.fastest.predicted.latency_s <= caught.value.fastest.budget_s


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
