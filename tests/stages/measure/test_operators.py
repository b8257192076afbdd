"""Measuring asks for points until enough is known, resumes, and puts clocks back."""

from dataclasses import replace

import pytest

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.profile import Profile
from amble.core.subject import Where
from amble.stages.measure import design, operators, platform
from tests.fakes import LEVELS, FakeDevice, graph

GRAPH = graph(1e7, 3e7)
SLOW, FAST = (OperatingPoint(clocks) for clocks in LEVELS)


def test_every_operator_is_sampled_at_every_point_asked_for() -> None:
    profile = operators.operators(GRAPH, FakeDevice().device(), next_point=design.farthest(2), repeats=3)
    found = {(s.operator, s.point): s.latency_s for s in profile.samples}
    assert found == pytest.approx(
        {("op0", SLOW): 0.01, ("op1", SLOW): 0.03, ("op0", FAST): 0.005, ("op1", FAST): 0.015}
    )
    assert [total.latency_s for total in profile.totals] == pytest.approx([0.02, 0.04])


def test_the_first_points_are_the_highest_and_the_lowest() -> None:
    profile = operators.operators(GRAPH, FakeDevice().device(), next_point=design.farthest(2))
    assert [total.point for total in profile.totals] == [FAST, SLOW]


def test_clocks_are_put_back_after_measuring() -> None:
    fake = FakeDevice()
    operators.operators(GRAPH, fake.device(), next_point=design.farthest(2))
    assert fake.asked == LEVELS[-1]


def test_an_interrupted_measurement_goes_on_where_it_stopped() -> None:
    kept: list[Profile] = []

    def interrupt(profile: Profile) -> None:
        kept.append(profile)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        operators.operators(GRAPH, FakeDevice().device(), next_point=design.farthest(2), on_point=interrupt)
    fake = FakeDevice()
    rest = operators.operators(GRAPH, fake.device(), next_point=design.farthest(2), so_far=kept[0])
    whole = operators.operators(GRAPH, FakeDevice().device(), next_point=design.farthest(2))
    assert rest == whole
    assert fake.applied == [LEVELS[0], LEVELS[-1]]


def test_a_profile_of_another_model_is_not_continued() -> None:
    begun = operators.begin(GRAPH, FakeDevice().device())
    with pytest.raises(Refused, match="start it anew"):
        operators.operators(graph(5.0), FakeDevice().device(), next_point=design.farthest(1), so_far=begun)
    with pytest.raises(Refused, match="device"):
        operators.operators(
            GRAPH, FakeDevice().device(), next_point=design.farthest(1), so_far=replace(begun, where=Where("other"))
        )


def test_operators_that_share_a_name_are_refused() -> None:
    twice = Graph("twice", (GRAPH.operators[0],) * 2, 1, "d")
    with pytest.raises(ValueError, match="share a name"):
        operators.begin(twice, FakeDevice().device())


def test_more_clock_domains_want_more_points_but_never_more_than_there_are() -> None:
    assert design.enough((SLOW, FAST)) == 2
    assert design.enough((FAST,)) == 1


def test_idle_power_is_measured_at_each_setting_and_unknown_without_a_meter() -> None:
    idle = platform.idle_power(FakeDevice().device(), LEVELS)
    assert [(each.clocks, round(each.power_w, 9)) for each in idle] == [(LEVELS[0], 1.0), (LEVELS[1], 1.0)]
    assert platform.idle_power(FakeDevice(metered=False).device(), LEVELS) == ()


def test_idle_power_that_is_known_is_not_measured_again() -> None:
    fake = FakeDevice()
    first = operators.operators(GRAPH, fake.device(), next_point=design.farthest(1))
    known = platform.with_idle(first, fake.device())
    both = operators.operators(GRAPH, fake.device(), next_point=design.farthest(2), so_far=known)
    told = replace(both, idle=tuple(replace(each, power_w=77.0) for each in both.idle))
    assert [(each.clocks, each.power_w) for each in platform.with_idle(told, fake.device()).idle] == [
        (LEVELS[1], 77.0),
        (LEVELS[0], pytest.approx(1.0)),
    ]


def test_a_switch_costs_its_stall_and_settles_later() -> None:
    fake = FakeDevice(settle_s=0.004, stall_s=0.0005)
    (switch,) = platform.switch_costs(fake.device())
    assert switch.domain == "core"
    assert switch.cost.latency_s == pytest.approx(0.0005)
    assert switch.cost.energy_j == pytest.approx(0.0025)
    assert switch.settle_s == pytest.approx(0.0045, abs=2e-4)


def test_operators_are_timed_only_after_the_clocks_have_settled() -> None:
    fake = FakeDevice(settle_s=0.3)
    profile = operators.operators(GRAPH, fake.device(), next_point=design.farthest(2), repeats=1)
    assert all(sample.ran_at == sample.point.clocks for sample in profile.samples)


def test_clocks_that_never_come_are_not_waited_for_forever() -> None:
    fake = FakeDevice(settle_s=1e9)
    profile = operators.operators(GRAPH, fake.device(), next_point=design.farthest(2), repeats=1)
    assert {sample.ran_at for sample in profile.samples} == {LEVELS[-1]}
    assert fake.time_s < 3.0


def test_a_single_level_has_no_switch_to_measure() -> None:
    assert platform.switch_costs(FakeDevice(settings=LEVELS[1:]).device()) == ()
