"""Who serves a request: in time first, then least energy; many at once come to the same as one after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.services.cluster.routing import Queues, allot, choose, level, turns

QUEUES = Queues(np.array([0.0, 0.5, 0.0]), np.array([0.3, 0.2, 0.1]), np.array([1.0, 2.0, 5.0]))


@pytest.mark.parametrize(
    ("due_s", "device", "finish_s"), [(1.0, 0, 0.3), (0.2, 2, 0.1), (0.05, None, 0.1)], ids=["cheap", "quick", "none"]
)
def test_the_cheapest_that_finishes_in_time_serves(due_s, device, finish_s):
    found = choose(QUEUES, 0.0, due_s)
    assert found.device == device
    assert found.finish_s == pytest.approx(finish_s)


def test_a_queue_counts_and_a_device_without_work_is_never_chosen():
    assert choose(QUEUES._replace(free_s=np.array([0.8, 0.5, 0.0])), 0.0, 1.0).device == 1
    assert choose(QUEUES._replace(row_s=np.array([np.inf, 0.2, 0.1])), 0.0, 1.0).device == 1
    assert choose(QUEUES, 0.0, 1.0, rows=4).device == 2


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_many_at_once_are_handed_out_as_one_after_the_other(count, seed):
    random = np.random.default_rng(seed)
    row_s, row_j = random.uniform(0.05, 0.4, 5), random.permutation(5).astype(float)
    room = np.floor(2.0 / row_s)
    free_s, one_by_one = np.zeros(5), np.zeros(5)
    for _ in range(count):
        device = choose(Queues(free_s, row_s, row_j), 0.0, 2.0 + 1e-9).device
        if device is not None:
            free_s[device] += row_s[device]
            one_by_one[device] += 1
    assert allot(count, room, row_j) == pytest.approx(one_by_one)


@settings(deadline=None)
@given(st.floats(0.0, 500.0), st.integers(0, 2**32 - 1))
def test_least_loaded_makes_the_waits_of_all_who_take_something_equal(count, seed):
    random = np.random.default_rng(seed)
    waiting, rate_hz = random.uniform(0, 50, 7), random.uniform(1, 20, 7)
    rate_hz[random.integers(7)] = 0.0
    taken = level(count, waiting, rate_hz)
    assert taken.sum() == pytest.approx(count, abs=1e-6)
    assert taken[rate_hz == 0].sum() == 0
    able = rate_hz > 0
    waits_s = (waiting + taken)[able] / rate_hz[able]
    if count > 1e-6:
        highest = waits_s[taken[able] > 1e-9].max()
        assert (waits_s >= highest - 1e-6).all()


def test_turns_are_taken_by_those_who_are_able():
    assert turns(7, np.array([0, 2, 3]), 4, 1).tolist() == [2, 0, 3, 2]
    assert turns(7, np.array([], dtype=np.int64), 4, 0).sum() == 0
