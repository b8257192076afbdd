"""A log is a profile of what ran in it: only of runs that say what a setting costs, and only where all of it ran."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from amble.core.cost import Cost
from amble.core.errors import Refused
from amble.core.log import Known, Log, Served, Slice
from amble.core.point import OperatingPoint
from amble.core.profile import IdlePower
from amble.core.schedule import Step
from amble.core.subject import Subject, Where
from amble.stages.fit.costs import costs
from amble.stages.fit.logs import as_measured, profile_of
from tests.fakes import LEVELS

SLOW, FAST = LEVELS
SUBJECT = Subject("net", "net.onnx", "digest")
STEPS = tuple(Step(f"op{i}", OperatingPoint(SLOW), Cost(each, each)) for i, each in enumerate((0.001, 0.003)))
KNOWN = Known(STEPS, (IdlePower(SLOW, 1.0),))


def whole(time_s: float, *, request: int = 0, **more: object) -> Slice:
    return replace(Slice(request, 0, 2, 0.0, time_s, SLOW, 10.0 * time_s), **more)  # type: ignore[arg-type]


def log(*slices: Slice, known: Known | None = KNOWN) -> Log:
    served = (Served(0.0, 0.0, 0.01, 1.0),)
    return Log(SUBJECT, Where("fake"), "serve", "as it came", served, 0.0, 1.0, None, slices, known=known)


def test_a_sum_is_measured_and_divided_as_was_expected() -> None:
    profile = profile_of(log(*(whole(each) for each in (0.007, 0.008, 0.009))))
    assert [(each.operator, each.latency_s) for each in profile.samples] == [
        ("op0", pytest.approx(0.002)),
        ("op1", pytest.approx(0.006)),
    ]
    assert profile.totals[0].latency_s == pytest.approx(0.008)
    assert profile.totals[0].energy_j == pytest.approx(0.08)
    assert profile.ratios == pytest.approx((7 / 8, 1.0, 9 / 8))
    found = costs(profile, as_measured)
    assert found.arrays().latency_s.sum() == pytest.approx(0.008)
    assert found.idle_w(SLOW) == 1.0


def test_pieces_are_divided_each_by_itself() -> None:
    pieces = [
        whole(time_s, start=start, stop=start + 1) for start, time_s in ((0, 0.004), (1, 0.001)) for _ in range(3)
    ]
    assert [each.latency_s for each in profile_of(log(*pieces)).samples] == pytest.approx([0.004, 0.001])


@pytest.mark.parametrize("more", [{"steady": False}, {"rows": 2}, {"precision": "int8"}, {"stop": 9}, {"stop": 1}])
def test_runs_that_say_nothing_of_the_whole_network_at_one_setting_do_not_count(more: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="no setting at which every operator"):
        profile_of(log(*(whole(0.008, **more) for _ in range(5))))
    kept = profile_of(log(*(whole(0.008) for _ in range(3)), *(whole(0.1, **more) for _ in range(5))))
    assert kept.totals[0].latency_s == pytest.approx(0.008)


def test_too_few_runs_of_a_setting_are_left_out() -> None:
    profile = profile_of(log(*(whole(0.008) for _ in range(3)), *(whole(0.004, ran_at=FAST) for _ in range(2))))
    assert [point.clocks for point in profile.points] == [SLOW]


def test_energy_that_is_unknown_in_one_run_is_unknown() -> None:
    found = costs(profile_of(log(*(whole(0.008, energy_j=each) for each in (0.1, None, 0.1)))), as_measured)
    assert found.energy_j == ()


def test_idle_power_that_is_known_at_some_settings_only_is_unknown() -> None:
    both = [whole(0.008, ran_at=clocks) for clocks in LEVELS for _ in range(3)]
    assert profile_of(log(*both)).idle == ()


def test_a_log_that_does_not_say_what_ran_is_refused() -> None:
    with pytest.raises(Refused, match="does not say what ran"):
        profile_of(log(whole(0.008), known=None))
