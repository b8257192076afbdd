"""The queue keeps its order and its promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amble.core.ladder import Rung
from amble.stages.control.batcher import Pace, Queue, Request, fitting_batch, lateness_s
from tests.stages.control.ladders import FAST

RUNG = Rung("fp32", FAST, (0.010, 0.015, 0.020, 0.025), (1.0, 1.5, 2.0, 2.5))
ONE = Pace(RUNG, RUNG)
FOUR = Pace(RUNG, RUNG, max_batch=4)


def filled(*due_s: float, pace: Pace = ONE) -> Queue:
    queue = Queue(100)
    for each in due_s:
        assert queue.offer(Request(0.0, each), 0.0, pace) is None
    return queue


def test_the_earliest_deadline_is_served_first() -> None:
    queue = filled(0.3, 0.1, 0.2)
    assert [request.due_s for request in queue.take(3)] == [0.1, 0.2, 0.3]


def test_equal_deadlines_are_served_in_order_of_arrival() -> None:
    queue = Queue(10)
    for ticket in "abc":
        queue.offer(Request(0.0, 1.0, ticket=ticket), 0.0, ONE)
    assert [request.ticket for request in queue.take(3)] == ["a", "b", "c"]


def test_priority_one_goes_before_any_deadline() -> None:
    queue = filled(0.1)
    queue.offer(Request(0.0, 5.0, priority=1), 0.0, ONE)
    assert queue.head.priority == 1


def test_a_request_that_cannot_make_it_is_refused_with_how_late_it_would_be() -> None:
    refusal = Queue(10).offer(Request(0.0, 0.008), 0.0, ONE)
    assert refusal is not None
    assert refusal.cause == "deadline"
    assert "2.0 ms late" in refusal.text


def test_a_newcomer_must_not_make_an_admitted_one_late() -> None:
    queue = filled(0.020, 0.021)
    refusal = queue.offer(Request(0.0, 0.015), 0.0, ONE)
    assert refusal is not None, "the newcomer alone would be on time, but the others not"
    assert len(queue) == 2


def test_a_higher_priority_may_displace_a_lower_one_which_is_then_refused_in_its_turn() -> None:
    queue = filled(0.010)
    assert queue.offer(Request(0.0, 0.012, priority=1), 0.0, ONE) is None
    assert queue.take(1)[0].priority == 1
    assert [request.due_s for request in queue.expire(0.010, ONE)] == [0.010]


def test_a_full_queue_says_its_size() -> None:
    queue = Queue(1)
    queue.offer(Request(0.0), 0.0, ONE)
    refusal = queue.offer(Request(0.0), 0.0, ONE)
    assert refusal is not None
    assert refusal.text.startswith("exceeds maximum queue size of 1")


def test_more_rows_than_a_batch_holds_are_refused() -> None:
    refusal = Queue(10).offer(Request(0.0, rows=5), 0.0, FOUR)
    assert refusal is not None
    assert refusal.cause == "rows"


def test_a_request_without_deadline_waits_behind_all_that_have_one() -> None:
    queue = Queue(10)
    queue.offer(Request(0.0, ticket="patient"), 0.0, ONE)
    queue.offer(Request(0.0, 9.0), 0.0, ONE)
    assert [request.ticket for request in queue.take(2)] == [None, "patient"]


def test_rows_are_taken_whole() -> None:
    queue = Queue(10)
    for rows in (2, 2, 3):
        queue.offer(Request(0.0, rows=rows), 0.0, FOUR)
    assert queue.rows == 7
    assert [request.rows for request in queue.take(4)] == [2, 2]
    assert queue.rows == 3


def test_one_request_is_taken_even_when_it_is_larger_than_asked_for() -> None:
    queue = Queue(10)
    queue.offer(Request(0.0, rows=3), 0.0, FOUR)
    assert [request.rows for request in queue.take(1)] == [3]


def test_deadlines_are_listed_once_a_row() -> None:
    queue = Queue(10)
    queue.offer(Request(0.0, 1.0, rows=2), 0.0, FOUR)
    queue.offer(Request(0.0, 2.0), 0.0, FOUR)
    assert queue.due_s() == (1.0, 1.0, 2.0)


@pytest.mark.parametrize(("due_s", "size"), [(0.025, 4), (0.024, 3), (0.015, 2), (0.010, 1), (0.001, 1)])
def test_a_batch_is_as_large_as_its_earliest_deadline_allows(due_s: float, size: int) -> None:
    assert fitting_batch([due_s, 1.0, 1.0, 1.0], 0.0, RUNG, limit=4) == size


def test_a_batch_heeds_the_slow_down() -> None:
    assert fitting_batch([0.025] * 4, 0.0, RUNG, limit=4, factor=1.1) == 3


def test_a_batch_ends_by_the_tightest_deadline_of_its_members_wherever_it_stands() -> None:
    for due_s in ([1.0, 0.02, 1.0, 1.0], [1.0, 1.0, 0.02, 1.0], [1.0, 1.0, 1.0, 0.02]):
        size = fitting_batch(due_s, 0.0, RUNG, limit=4)
        assert RUNG.latency_s[size - 1] <= min(due_s[:size])
    assert fitting_batch([1.0, 0.02, 1.0, 1.0], 0.0, RUNG, limit=4) == 3
    assert fitting_batch([1.0, 1.0, 0.012, 1.0], 0.0, RUNG, limit=4) == 2


def test_a_batch_is_as_late_as_its_tightest_member_wherever_it_stands() -> None:
    assert lateness_s([1.0, 0.02, 1.0], 0.0, FOUR) == pytest.approx(0.0)
    assert lateness_s([1.0, 0.03, 1.0], 0.0, FOUR) == pytest.approx(-0.01)
    assert lateness_s([1.0, 0.02, 1.0], 0.0, FOUR, first=2) == pytest.approx(0.02 - 1.0)


def test_an_urgent_request_behind_a_patient_one_of_higher_priority_is_refused_when_the_batch_would_miss_it() -> None:
    queue = Queue(10)
    assert queue.offer(Request(0.0, 1.0, priority=1, rows=2), 0.0, FOUR) is None
    refusal = queue.offer(Request(0.0, 0.012), 0.0, FOUR)
    assert refusal is not None
    assert refusal.cause == "deadline"
    assert queue.offer(Request(0.0, 0.021), 0.0, FOUR) is None, "three rows take 20 ms"


def test_those_ahead_of_a_newcomer_are_late_without_it_too_and_are_no_reason_to_refuse_it() -> None:
    queue = Queue(10)
    assert queue.offer(Request(0.0, 0.030, priority=1, rows=3), 0.0, FOUR) is None
    assert queue.offer(Request(0.0, 1.0), 0.050, FOUR) is None, "the others are late by now, this one is not"
    assert queue.offer(Request(0.0, 0.9, rows=2), 0.050, FOUR) is None
    refusal = queue.offer(Request(0.0, 0.066), 0.050, FOUR)
    assert refusal is not None
    assert "24.0 ms late" in refusal.text, "those that are late anyhow go one by one: 50 + 3 x 10 + 10 ms"


def test_a_request_of_many_rows_expires_when_all_of_them_cannot_be_in_time() -> None:
    queue = Queue(10)
    queue.offer(Request(0.0, 0.030, rows=4), 0.0, FOUR)
    assert queue.expire(0.004, FOUR) == []
    assert len(queue.expire(0.006, FOUR)) == 1, "four rows take 25 ms, one would take 10"


def test_few_quick_rows_make_a_pace_slower() -> None:
    quick = Rung("int8", FAST, (0.005,), (0.5,))
    due_s = [0.012] * 2
    assert lateness_s(due_s, 0.0, Pace(quick, RUNG, 2.0)) == pytest.approx(-0.002)
    assert lateness_s(due_s, 0.0, Pace(quick, RUNG, 1.0)) == pytest.approx(0.003)


def test_a_pace_counts_the_change_of_clocks_once() -> None:
    assert lateness_s([0.020] * 2, 0.0, ONE._replace(switch_s=0.004)) == pytest.approx(0.004)


QUICK = Rung("int8", FAST, (0.004, 0.006), (0.4, 0.6))


@pytest.mark.parametrize(
    ("left", "times_s"),
    [
        (math.inf, (0.006, 0.006, 0.004)),
        (4.0, (0.006, 0.006, 0.010)),
        (3.0, (0.006, 0.004, 0.015)),
        (2.0, (0.006, 0.020)),
        (1.0, (0.004, 0.025)),
        (0.0, (0.025, 0.010)),
    ],
)
def test_batches_are_quick_for_as_many_rows_as_are_left_and_steady_after(
    left: float, times_s: tuple[float, ...]
) -> None:
    pace = FOUR._replace(quick=QUICK, quick_left=left)  # a quick batch has two rows at most, a steady one four
    assert lateness_s([1.0] * 5, 0.5, pace) == pytest.approx(0.5 + sum(times_s) - 1.0)


def test_until_new_clocks_run_work_goes_on_at_those_before_and_the_sooner_end_counts() -> None:
    slow, steady = (
        Rung("int8", FAST, tuple(factor * each for each in RUNG.latency_s), RUNG.energy_j) for factor in (2, 3)
    )
    pace = Pace(QUICK, RUNG, 2.0, switch_s=0.1, meanwhile=(slow, steady))
    ends_s = [0.020, 0.040, 0.070, 0.100]  # two at the quick level and two at the steady one, at the clocks before
    for rows, end_s in enumerate(ends_s, start=1):
        assert lateness_s([0.0] * rows, 0.0, pace) == pytest.approx(end_s)
        assert lateness_s([0.0] * rows, 0.0, pace._replace(switch_s=0.0)) == pytest.approx(
            [0.004, 0.008, 0.018, 0.028][rows - 1]
        )
    assert lateness_s([0.0] * 2, 1.0, pace) == pytest.approx(1.040)
    assert lateness_s([0.0] * 2, 0.0, pace._replace(factor=2.0)) == pytest.approx(0.080)


def test_a_slow_down_makes_batches_smaller_when_lateness_is_foreseen() -> None:
    assert lateness_s([0.025, 0.025, 1.0], 0.0, FOUR._replace(max_batch=2, factor=1.7)) == pytest.approx(0.034 - 0.025)
    assert lateness_s([0.025, 0.025, 1.0], 0.0, FOUR._replace(max_batch=2)) == pytest.approx(0.015 - 0.025)


def test_the_later_batches_are_filled_by_their_own_deadlines() -> None:
    due_s = [0.010, 1.0, 1.0, 0.030]  # the first goes alone, then two rows and not three, which would end at 0.030
    assert lateness_s(due_s, 0.0, FOUR) == pytest.approx(max(0.0, 0.030 - 0.030))
    assert lateness_s([0.010, 0.026, 1.0, 1.0], 0.0, FOUR, first=1) == pytest.approx(0.025 - 0.026)


def test_only_rows_from_the_first_asked_on_count_also_inside_a_batch() -> None:
    assert lateness_s([0.015, 0.5], 0.0, FOUR) == pytest.approx(0.0)
    assert lateness_s([0.015, 0.5], 0.0, FOUR, first=1) == pytest.approx(0.015 - 0.5)
    assert lateness_s([0.5, 0.015], 0.0, FOUR, first=1) == pytest.approx(0.0)
    assert lateness_s([0.5, 0.6], 0.0, FOUR, first=2) == -float("inf")


deadlines = st.lists(st.floats(0.005, 0.3), min_size=1, max_size=12)


@given(deadlines, st.integers(1, 4))
def test_all_that_were_admitted_together_can_be_served_on_time(due_s: list[float], size: int) -> None:
    pace = Pace(RUNG, RUNG, max_batch=size)
    queue = Queue(100)
    for each in due_s:
        queue.offer(Request(0.0, each), 0.0, pace)
    now_s = 0.0
    while queue:
        waiting = queue.due_s()
        rows = fitting_batch(waiting, now_s, RUNG, limit=size)
        now_s += RUNG.latency_s[rows - 1]
        assert all(now_s <= request.due_s + 1e-9 for request in queue.take(rows))


@given(deadlines)
def test_lateness_one_at_a_time_is_that_of_the_running_sum(due_s: list[float]) -> None:
    ordered = sorted(due_s)
    finish_s = 0.010 * np.arange(1, len(ordered) + 1)
    assert lateness_s(ordered, 0.0, ONE) == pytest.approx(float(np.max(finish_s - ordered)))
