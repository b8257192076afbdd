"""The trellis: adding up a path by hand, and arguments that cannot be meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amble.stages.plan.trellis import DenseSwitch, DomainSwitch, Trellis, Wait, totals

LEVELS = np.array([[0, 0], [0, 1], [1, 1]])  # [node, domain]
SWITCH = DomainSwitch(LEVELS, np.array([0.1, 0.02]), np.array([1.0, 0.5]))
LATENCY_S = np.array([[1.0, 2, 3], [4, 5, 6]])
ENERGY_J = np.array([[10.0, 20, 30], [40, 50, 60]])


def test_a_change_costs_the_sum_over_the_domains_that_change() -> None:
    cost = totals(Trellis(LATENCY_S, ENERGY_J, SWITCH, loss=LATENCY_S / 10), [0, 2])
    assert cost.latency_s == pytest.approx(1 + 6 + 0.1 + 0.02)
    assert cost.energy_j == pytest.approx(10 + 60 + 1.0 + 0.5)
    assert cost.loss == pytest.approx(0.7)


def test_the_start_is_charged_only_where_there_is_one() -> None:
    assert totals(Trellis(LATENCY_S, ENERGY_J, SWITCH), [0, 0]).latency_s == pytest.approx(5)
    assert totals(Trellis(LATENCY_S, ENERGY_J, SWITCH, start=1), [0, 0]).latency_s == pytest.approx(5.02)


def test_a_period_counts_the_way_back_the_idle_time_and_the_return() -> None:
    wait = Wait(np.array([0.5, 9, 9]), period_s=20.0)
    cost = totals(Trellis(LATENCY_S, ENERGY_J, SWITCH), [1, 1], wait, 0)
    assert cost.latency_s == pytest.approx(2 + 5 + 0.02)
    assert cost.energy_j == pytest.approx(20 + 50 + 0.5 + 0.5 + 0.5 * (20 - 7.02 - 0.02))


def test_domains_that_are_not_set_between_requests_are_free_at_the_ends() -> None:
    switch = DomainSwitch(LEVELS, SWITCH.time_s, SWITCH.energy_j, at_ends=np.array([True, False]))
    trellis = Trellis(LATENCY_S, ENERGY_J, switch)
    wait = Wait(np.zeros(3), period_s=20.0)
    assert totals(trellis, [0, 0], wait, 1).latency_s == pytest.approx(5)
    assert totals(trellis, [0, 1], wait, 1).latency_s == pytest.approx(6.02)


def test_tables_and_sums_over_domains_agree_along_a_path() -> None:
    table = DenseSwitch(*SWITCH.into(1, 2))
    for path in ([0, 1], [1, 2], [2, 0], [1, 1]):
        sums = [totals(Trellis(LATENCY_S, ENERGY_J, switch, start=0), path) for switch in (SWITCH, table)]
        assert sums[0] == sums[1]


def test_each_step_may_have_its_own_table() -> None:
    time_s = np.zeros((3, 3, 3))
    time_s[1, 0, 1], time_s[0, 2, 0], time_s[2] = 0.5, 0.25, 7.0
    trellis = Trellis(LATENCY_S, ENERGY_J, DenseSwitch(time_s, np.zeros((3, 3, 3))), start=2)
    assert totals(trellis, [0, 1]).latency_s == pytest.approx(1 + 5 + 0.5 + 0.25)
    wrong = Trellis(LATENCY_S, ENERGY_J, DenseSwitch(np.zeros((2, 3, 3)), np.zeros((2, 3, 3))))
    with pytest.raises(ValueError, match="one switching table per step: 3 wanted, 2 given"):
        wrong.into(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(3), np.ones(3)), r"must be \[operator, node\]"),
        ((np.ones((0, 3)), np.ones((0, 3))), "not empty"),
        ((np.ones((2, 3)), np.ones((2, 2))), "of one shape"),
        ((-np.ones((2, 3)), np.ones((2, 3))), "latency_s holds a negative value"),
        ((np.ones((2, 3)), np.full((2, 3), np.nan)), "energy_j holds NaN"),
        ((np.ones((2, 3)), np.full((2, 3), np.inf)), "operator 0 has no node"),
        ((np.ones((2, 4)), np.ones((2, 4)), SWITCH), "the switch knows 3 nodes, the operators 4"),
        ((np.ones((2, 3)), np.ones((2, 3)), None, np.ones(3)), "loss must be"),
        ((np.ones((2, 3)), np.ones((2, 3)), None, None, 3), "start must be a node, 0..2, not 3"),
    ],
)
def test_a_trellis_that_cannot_be_meant_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trellis(*arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DomainSwitch(LEVELS, np.ones(3), np.ones(3)), r"levels must be \[node, domain\]"),
        (lambda: DomainSwitch(LEVELS, -np.ones(2), np.ones(2)), "negative"),
        (lambda: DenseSwitch(np.ones((2, 3)), np.ones((2, 3))), "must both be"),
        (lambda: Wait(np.array([np.inf, np.inf]), 1.0), "at least one node to wait at"),
        (lambda: Wait(np.ones(2), 0.0), "period_s must be above 0"),
    ],
)
def test_switches_and_waits_that_cannot_be_meant_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
