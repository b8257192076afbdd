"""Requests are held back for company that may be expected, for as long as it may be, and not where it never comes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from amble.core.ports import Device
from amble.core.schedule import Deadline
from amble.stages.control.batcher import Request
from amble.stages.control.engine import Engine
from amble.stages.control.governor import NEVER_S, Observation
from amble.stages.control.governors import Amble, Tuning
from amble.stages.control.governors.company import Company, held, hold, unheld
from amble.stages.control.governors.rate import Rate, arrive, fresh
from tests.stages.control.ladders import Notes, every_rung, ladder, lane, open_device, poisson, serve

SLO_S = 0.1
BATCHED = every_rung(max_batch=4)


def amble(*, worth: float = 0.02) -> Amble:
    return Amble(ladder(BATCHED), Deadline(SLO_S, 0.95), tuning=Tuning(grid=12, clumps=(1,), worth=worth))


def steady(rate_hz: float, until_s: float = 20.0) -> Rate:
    rate = fresh(0.0, fast_s=1.0, slow_s=10.0, window_s=1.0)
    for time_s in np.arange(0.0, until_s, 1.0 / rate_hz):
        rate = arrive(rate, float(time_s), 1)
    return rate


def test_nobody_is_held_where_company_is_not_expected_in_time() -> None:
    seen = Observation(20.0, (20.1,), 1, 1)
    state = held(Company(), seen)
    assert hold(state, seen, steady(5.0), 20.09) == 20.0
    assert hold(state, seen, steady(40.0), 20.09) > 20.0


def test_a_hold_ends_two_expected_gaps_after_the_last_arrival_or_when_serving_must_begin() -> None:
    seen = Observation(20.0, (20.1,), 1, 1)
    state = held(Company(), seen)
    assert hold(state, seen, steady(40.0), 20.09) == pytest.approx(20.0 + 2 / 40.0, rel=1e-3)
    assert hold(state, seen, steady(40.0), 20.03) == 20.03


def test_nobody_is_waited_for_twice() -> None:
    seen = Observation(20.0, (20.1,), 1, 1)
    state = held(Company(), seen)._replace(waiting=1, until_s=20.02)
    later = Observation(20.02, (20.1,), 1)
    state = held(state, later)
    assert hold(state, later, steady(40.0), 20.09) <= 20.02
    assert state.luck < 1.0


def test_who_comes_ends_a_hold_and_may_begin_another() -> None:
    state = Company(20.0, 1, 20.05, 0.8)
    seen = Observation(20.01, (20.1, 20.11), 2, 1)
    state = held(state, seen)
    assert state.until_s == -NEVER_S
    assert state.luck > 0.8
    assert hold(state, seen, steady(40.0), 20.09) > 20.01


def test_holds_that_bring_nobody_are_given_up_and_tried_again_much_later() -> None:
    state, vain = Company(arrived_s=0.0), 0
    while state.luck > 0.0:
        state = held(state._replace(waiting=1, until_s=0.05), Observation(0.05, (0.1,), 1))
        vain += 1
    assert vain <= 20
    batches = 0
    while state.luck < 0.4:
        state = unheld(state)
        batches += 1
    assert batches >= 80


class OneClient:
    """Sends its next request as soon as the last one was answered: company never comes."""

    def __init__(self, device: Device, count: int, notes: Notes) -> None:
        self._device, self._left, self._notes = device, count, notes

    @property
    def closed(self) -> bool:
        return self._left == 0

    def take(self, now_s: float) -> Sequence[Request]:
        sent = self._notes.num_answered + len(self._notes.refusals)
        if self.closed or sent < self._sent:
            return ()
        self._sent += 1
        self._left -= 1
        return [Request(now_s, now_s + SLO_S)]

    _sent = 0

    def wait(self, until_s: float) -> None:
        now_s = self._device.clock.now_s()
        if now_s < until_s < NEVER_S:
            self._device.clock.sleep(until_s - now_s)


def test_a_client_that_waits_for_its_answer_is_hardly_ever_held_back() -> None:
    device, notes = open_device(BATCHED), Notes()
    Engine(device, [lane(amble())], notes).run(OneClient(device, 1500, notes))
    waited_s = np.array([batch.start_s - batch.requests[0].arrival_s for batch in notes.batches])
    assert len(waited_s) == 1500
    assert np.mean(waited_s[100:] > 0.001) < 0.25
    assert np.median(waited_s[100:]) < 0.001


@pytest.mark.parametrize("rate_hz", [2.0, 5.0, 10.0])
def test_rare_requests_are_answered_as_soon_as_without_holding(rate_hz: float) -> None:
    arrivals_s, p95_s = poisson(rate_hz, 1500), []
    for worth in (0.02, 2.0):
        notes, _ = serve(open_device(BATCHED), amble(worth=worth), arrivals_s, SLO_S)
        taken_s = [batch.finish_s - request.arrival_s for batch in notes.batches for request in batch.requests]
        p95_s.append(np.quantile(taken_s, 0.95))
    assert p95_s[0] <= p95_s[1] + 1e-9


@pytest.mark.parametrize("rate_hz", [40.0, 80.0, 120.0])
def test_where_it_lengthens_the_tail_holding_saves_energy(rate_hz: float) -> None:
    arrivals_s, joules = poisson(rate_hz, 1500), []
    for worth in (0.02, 2.0):
        notes, totals = serve(open_device(BATCHED), amble(worth=worth), arrivals_s, SLO_S)
        joules.append((totals.active_j or 0.0) + (totals.idle_j or 0.0))
        assert notes.num_late == 0
        assert len(notes.refusals) <= 1
    assert joules[0] < 0.98 * joules[1]
