"""The plans that are likely: both kinds for each deadline, from tight to loose, and none that is late."""

from __future__ import annotations

import pytest

from amble.core.schedule import Deadline
from amble.stages.plan.prospects import prospects
from tests.stages.plan.test_clocks import made_up


def test_one_clock_comes_before_clocks_by_operator_for_the_deadline_that_is_given() -> None:
    graph, costs = made_up()
    found = list(prospects(graph, costs, Deadline(1.0)))
    assert [plan.planner for plan in found] == ["single", "trellis"]
    assert {plan.deadline for plan in found} == {Deadline(1.0)}


def test_without_a_deadline_they_go_from_tight_to_loose_of_what_is_fastest_in_so_many_requests() -> None:
    graph, costs = made_up(spread=1.2)
    fastest_s = costs.table(graph).latency_s.sum(axis=0).min() * 1.2
    found = [plan.deadline.latency_s / fastest_s for plan in prospects(graph, costs)]
    assert found == pytest.approx([1.1, 1.1, 1.5, 1.5, 2.0, 2.0, 3.0, 3.0])


def test_a_deadline_that_cannot_be_kept_has_no_plan() -> None:
    graph, costs = made_up()
    assert list(prospects(graph, costs, Deadline(1e-6))) == []


def test_plans_are_made_only_when_they_are_asked_for() -> None:
    graph, costs = made_up()
    next(prospects(graph, costs))
    made = prospects(graph, None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        next(made)
