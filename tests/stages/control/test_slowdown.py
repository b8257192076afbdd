"""The slow-down follows what lasts, forgets what does not, and never shuts the door for good."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amble.core.schedule import Deadline
from amble.stages.control.batcher import Queue, Request
from amble.stages.control.governor import Observation, replay
from amble.stages.control.governors import Amble, Tuning
from amble.stages.control.slowdown import Slowdown, aged, observe
from tests.stages.control.ladders import FAST, every_rung, ladder, open_device, poisson, serve

ONE_CLOCK = tuple(rung for rung in every_rung() if rung.clocks == FAST)
SLO_S = 0.050
FRESH = Slowdown()


def after(ratios: list[float], state: Slowdown = FRESH, *, gap_s: float = 0.02) -> Slowdown:
    for place, ratio in enumerate(ratios, start=1):
        state = observe(state, ratio, max(0.0, state.at_s) + gap_s * min(place, 1))
    return state


def lone(steps=None) -> Amble:  # type: ignore[no-untyped-def]
    return Amble(steps or ladder(ONE_CLOCK), Deadline(SLO_S, 0.95), tuning=Tuning(grid=4, clumps=(1,)))


@given(st.floats(1.5, 1000.0))
def test_one_run_that_was_preempted_moves_nothing(ratio: float) -> None:
    calm = after([1.0] * 50)
    hit = after([ratio, 1.0, 1.0], calm)
    assert hit.mean == pytest.approx(calm.mean, abs=0.01)
    assert sqrt(hit.noise) < 2.0 * sqrt(calm.noise) + 0.01


@pytest.mark.parametrize("ratio", [0.7, 1.1, 1.4])
def test_a_mild_outlier_that_no_clip_cuts_moves_nothing_either(ratio: float) -> None:
    calm = after([1.0] * 50)
    assert after([ratio], calm).mean == calm.mean
    assert after([ratio, 1.0, 1.0], calm).mean == calm.mean
    assert after([ratio, ratio], calm).mean != calm.mean, "two of three are no outlier"


@given(st.floats(1.5, 1000.0))
def test_not_even_the_first_run_of_all_moves_it_beyond_a_half(ratio: float) -> None:
    assert after([ratio]).mean <= 1.5
    assert after([ratio, 1.0]).mean <= 1.5
    assert after([ratio, 1.0, 1.0, 1.0, 1.0]).mean < 1.2


@pytest.mark.parametrize("ratio", [0.6, 1.6, 3.0])
def test_what_lasts_is_learnt_within_a_few_runs(ratio: float) -> None:
    assert after([ratio] * 12, after([1.0] * 50)).mean == pytest.approx(ratio, rel=0.05)


def test_what_is_not_confirmed_is_forgotten_with_time() -> None:
    slow = after([3.0] * 20)
    later = [aged(slow, slow.at_s + passed_s).mean for passed_s in (0.0, 5.0, 20.0, 200.0)]
    assert np.all(np.diff(later) < 0)
    assert later[0] == slow.mean
    assert later[-1] == pytest.approx(1.0, abs=0.01)
    assert aged(slow, slow.at_s + 200.0).variance == pytest.approx(Slowdown().variance, rel=0.01)


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=6))
def test_how_often_one_looks_does_not_change_what_is_forgotten(steps_s: list[float]) -> None:
    slow = state = after([2.0] * 20)
    now_s = slow.at_s
    for step_s in steps_s:
        now_s += step_s
        state = aged(state, now_s)
    assert state.mean == pytest.approx(aged(slow, now_s).mean)


def test_only_what_three_runs_in_a_row_exceeded_is_beyond_doubt_and_only_for_a_while() -> None:
    assert after([9.0, 9.0]).sure(0.05, 1.0) == 1.0
    assert Slowdown().sure(0.0, 1.0) == 1.0
    assert after([9.0, 9.0, 1.0]).sure(0.1, 1.0) == 1.0
    slow = after([4.0, 3.0, 5.0])
    assert slow.sure(slow.at_s + 0.5, 1.0) == 3.0
    assert slow.sure(slow.at_s + 1.0, 1.0) == 1.0
    assert after([0.5] * 3).sure(0.1, 1.0) == 1.0


def preempted(at_s: float, lasts_s: float, factor: float = 40.0):  # type: ignore[no-untyped-def]
    return lambda time_s: factor if at_s <= time_s < at_s + lasts_s else 1.0


@pytest.mark.parametrize("lasts_s", [0.001, 0.5])
def test_an_idle_server_refuses_nobody_after_batches_that_were_preempted(lasts_s: float) -> None:
    arrivals_s = poisson(8.0, 200, seed=3)
    device = open_device(ONE_CLOCK, slow=preempted(float(arrivals_s[20]), lasts_s))
    notes, _ = serve(device, lone(), arrivals_s, SLO_S)
    over_s = float(arrivals_s[20]) + lasts_s + 1.5
    refused = [request.arrival_s for request, _ in notes.refusals]
    assert sum(at > over_s for at in refused) == 0, "it has recovered a second later"
    assert len(refused) <= 0.03 * len(arrivals_s)


def test_forty_a_second_are_served_again_soon_after_one_preempted_batch() -> None:
    arrivals_s = poisson(41.0, 171, seed=1)
    device = open_device(ONE_CLOCK, noise=0.05, slow=preempted(float(arrivals_s[5]), 0.002, 20.0))
    notes, _ = serve(device, lone(), arrivals_s, SLO_S)
    assert len(notes.refusals) <= 12, "those that came while it lasted"


def test_while_a_slow_down_lasts_somebody_is_let_through_every_second_to_see() -> None:
    arrivals_s = np.arange(400, dtype=np.float64) * 0.05
    device = open_device(ONE_CLOCK, slow=lambda time_s: 14.0 if time_s > 2.0 else 1.0)
    notes, _ = serve(device, lone(), arrivals_s, SLO_S)
    slow = [batch.start_s for batch in notes.batches if batch.start_s > 4.0]
    assert len(slow) >= 12, "probes"
    assert len(slow) <= 25, "and most of those that would be late are refused at once"
    assert notes.num_answered + len(notes.refusals) == 400


def test_an_idle_governor_asks_to_be_woken_when_its_doubts_are_due() -> None:
    governor = lone()
    state = governor.init(0.0)._replace(slowdown=after([6.0] * 3))
    at_s = state.slowdown.at_s
    state, decision = governor.step(state, Observation(at_s + 0.01, asked=FAST))
    assert decision.pace.sure == 6.0
    assert decision.wake_s == pytest.approx(at_s + 1.0)
    state, decision = governor.step(state, Observation(decision.wake_s, asked=FAST))
    assert decision.pace.sure == 1.0


@pytest.mark.parametrize("rows", [1, 2])
def test_whoever_comes_first_is_refused_only_for_what_is_beyond_doubt(rows: int) -> None:
    governor = lone(ladder(tuple(rung for rung in every_rung(max_batch=2) if rung.clocks == FAST)))
    pace = governor.pace(governor.init(0.0))._replace(factor=30.0)
    request = Request(0.0, 0.020, rows=rows)
    assert Queue(8).offer(request, 0.0, pace) is None
    refusal = Queue(8).offer(request, 0.0, pace._replace(sure=30.0))
    assert refusal is not None
    assert refusal.cause == "deadline"


def test_whoever_was_let_through_is_not_thrown_out_again() -> None:
    governor = lone()
    pace = governor.pace(governor.init(0.0))._replace(factor=30.0)
    queue = Queue(8)
    assert queue.offer(Request(0.0, SLO_S), 0.0, pace) is None
    assert queue.expire(0.001, pace) == []
    assert len(queue.expire(0.049, pace)) == 1


@given(st.lists(st.tuples(st.floats(0.001, 3.0), st.integers(0, 2)), max_size=40))
def test_the_same_observations_lead_to_the_same_decisions(steps: list[tuple[float, int]]) -> None:
    now_s, seen = 0.0, []
    for passed_s, waiting in steps:
        now_s += passed_s
        seen.append(Observation(now_s, (now_s + SLO_S,) * waiting, waiting, waiting, asked=FAST))
    assert replay(GOVERNOR, 0.0, seen) == replay(GOVERNOR, 0.0, seen)


GOVERNOR = lone()
