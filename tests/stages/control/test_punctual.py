"""A device that looks at the clock goes on by the time left: slower when early, fastest when late."""

from dataclasses import replace

import pytest

from amble.core.schedule import Choice, Rest
from amble.stages.control.commands import Command
from amble.stages.control.loop import serve
from amble.stages.control.punctual import follow, punctual
from tests.fakes import FakeDevice
from tests.stages.control.test_loop import FAST, GRAPH, SLOW, requests, schedule

# Three operators, 10 ms each at the slow clock and 5 ms at the fast one; 30 ms are allowed.
REST = Rest(
    (SLOW, FAST),
    (
        Choice(0, 0, (0.0149, 0.0299), (1, 0)),
        Choice(1, 0, (0.0099, 0.0199), (1, 0)),
        Choice(1, 1, (0.0099, 0.0199), (1, 0)),
        Choice(2, 0, (0.0049, 0.0099), (1, 0)),
        Choice(2, 1, (0.0049, 0.0099), (1, 0)),
    ),
)


@pytest.mark.parametrize(("left_s", "asked"), [(0.0, FAST), (0.0098, FAST), (0.0198, FAST), (0.020, SLOW), (9.0, SLOW)])
def test_the_time_left_decides(left_s: float, asked: object) -> None:
    assert punctual(REST)(1, FAST, left_s) == asked


def test_where_nothing_is_known_nothing_is_asked() -> None:
    assert punctual(REST)(7, FAST, 1.0) is None
    assert punctual(REST)(0, FAST, 1.0) is None
    assert punctual(REST)(0, None, 1.0) is None


def test_following_a_plan_ignores_the_time() -> None:
    pick = follow((Command(0, SLOW), Command(2, FAST)))
    assert [pick(index, SLOW, left_s) for index, left_s in ((0, 9.0), (1, 0.0), (2, 9.0))] == [SLOW, None, FAST]


def test_a_request_in_time_runs_as_slowly_as_it_may() -> None:
    fake = FakeDevice()
    log = serve(fake.device(), GRAPH, requests(0.0), schedule=replace(schedule(0, 0, 0), rest=REST))
    assert [clocks for _, _, clocks in fake.ran] == [SLOW, SLOW, SLOW]
    assert log.served[0].latency_s == pytest.approx(0.030)


def test_a_request_that_had_to_queue_catches_up() -> None:
    fake = FakeDevice()
    plan = replace(schedule(0, 0, 0), rest=REST)
    log = serve(fake.device(), GRAPH, requests(0.0, 0.016), schedule=plan)
    assert [clocks for _, _, clocks in fake.ran[3:]] == [FAST, FAST, FAST]
    assert log.served[1].latency_s == pytest.approx(0.014 + 0.015)


def test_a_segment_that_took_too_long_is_made_up_for() -> None:
    class Slowed(FakeDevice):
        def _pass(self, duration_s: float, power_w: float) -> None:
            slow = 0.004 if duration_s == pytest.approx(0.010) and not self.ran else 0.0
            super()._pass(duration_s + slow, power_w)

    fake = Slowed()
    log = serve(fake.device(), GRAPH, requests(0.0), schedule=replace(schedule(0, 0, 0), rest=REST))
    assert [clocks for _, _, clocks in fake.ran] == [SLOW, FAST, SLOW]
    assert not log.served[0].late
