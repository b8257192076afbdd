"""The default governor keeps its constraints, and its parts keep theirs."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.core.schedule import Deadline
from amble.stages.control.governor import Done, Observation
from amble.stages.control.governors import Amble, Budget, Dvfs, Pit, Tuning, max_clocks
from amble.stages.control.governors.gears import gears
from amble.stages.control.governors.policy import Load, baseline_refusals, solve
from amble.stages.control.governors.rate import arrive, fresh
from amble.stages.control.governors.shifts import Shifts
from amble.stages.control.slowdown import Slowdown, observe
from tests.stages.control.ladders import FAST, MIDDLE, SLOW, Notes, every_rung, ladder, open_device, poisson, serve

SLO_S = 0.1
BUDGET = Budget()
FREE = ladder()
COSTLY = ladder(stall_s=0.0002, settle_s=0.02)


def amble(steps=FREE, *, budget: Budget = BUDGET, clumps: tuple[int, ...] = (1,), grid: int = 12) -> Amble:  # type: ignore[no-untyped-def]
    return Amble(steps, Deadline(SLO_S, 0.95), budget, Tuning(grid=grid, clumps=clumps))


def losses(notes: Notes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([1.0 - batch.rung.accuracy for batch in notes.batches for _ in batch.requests])


@pytest.mark.parametrize("rate_hz", [20.0, 90.0, 140.0])
@pytest.mark.parametrize("loss", [0.006, 0.05])
def test_no_sliding_window_loses_more_than_the_budget(rate_hz: float, loss: float) -> None:
    rungs = every_rung(loss=loss)
    budget = Budget(window=200, cap_share=0.06)
    notes, _ = serve(open_device(rungs), amble(ladder(rungs), budget=budget), poisson(rate_hz, 3000), SLO_S)
    lost = np.cumsum(np.concatenate([[0.0], losses(notes)]))
    assert (lost[200:] - lost[:-200] <= 0.005 * 200 + 1e-9).all()
    assert (lost <= 0.005 * np.arange(len(lost)) + 1e-9).all(), "nor does any beginning of the run"
    assert lost[-1] > 0.8 * 0.94 * 0.005 * len(lost), "and what may be lost is put to use"


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 8)), max_size=200), st.floats(0.0, 0.1))
def test_an_account_that_pays_only_what_it_affords_keeps_every_window(
    wishes: list[tuple[bool, int]], loss: float
) -> None:
    budget = Budget(window=50, cap_share=0.1)
    saved, lost = 0.0, [0.0]
    for wish, rows in wishes:
        spent = loss if wish and budget.affords(saved, loss, rows) else 0.0
        saved = budget.after(saved, spent, rows)
        lost += [spent] * rows
    total = np.cumsum(lost)
    assert (total[50:] - total[:-50] <= 0.005 * 50 + 1e-9).all()


def test_an_account_says_how_many_rows_it_pays_for() -> None:
    budget = Budget(window=100, cap_share=0.1)
    left = int(budget.rows_left(budget.cap, 0.02))
    assert budget.affords(budget.cap, 0.02, left)
    assert not budget.affords(budget.cap, 0.02, left + 1)


def test_an_overdrawn_account_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="overdraw"):
        Budget().after(0.0, 0.5, 1)


@pytest.mark.parametrize("steps", [FREE, COSTLY], ids=["free changes", "slow changes"])
@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_amble_needs_no_more_energy_than_the_others_and_misses_no_more_than_max(steps, load: float) -> None:  # type: ignore[no-untyped-def]
    arrivals_s = poisson(load / 0.010, 4000, seed=1)
    spent, missed = {}, {}
    for governor in (max_clocks(steps), Dvfs(steps), Pit(steps), amble(steps)):
        slow = steps is COSTLY
        device = open_device(noise=0.01, stall_s=0.0002 * slow, settle_s=0.02 * slow)
        notes, totals = serve(device, governor, arrivals_s, SLO_S)
        on_time = notes.num_answered - notes.num_late
        spent[governor.name] = ((totals.active_j or 0.0) + (totals.idle_j or 0.0)) / on_time
        missed[governor.name] = 1.0 - on_time / len(arrivals_s)
    assert spent["amble"] <= min(spent["dvfs"], spent["pit"], spent["max"])
    assert missed["amble"] <= missed["max"] + 0.001


def test_a_device_that_slows_down_is_served_with_more_care() -> None:
    governor = amble()
    device = open_device(slow=lambda time_s: 1.0 if time_s < 20.0 else 1.6)
    notes, _ = serve(device, governor, poisson(40.0, 2000), SLO_S)
    later = [batch for batch in notes.batches if batch.start_s > 22.0]
    late = sum(batch.finish_s > request.due_s for batch in later for request in batch.requests)
    assert late / len(later) < 0.01


def test_a_slow_down_is_found_within_a_few_runs_and_noise_alone_is_not_one() -> None:
    random = np.random.default_rng(0)
    state = Slowdown()
    for _ in range(200):
        state = observe(state, float(random.normal(1.0, 0.02)), 0.0)
    assert state.mean == pytest.approx(1.0, abs=0.01)
    assert sqrt(state.noise) == pytest.approx(0.02, rel=0.5)
    for _ in range(10):
        state = observe(state, 1.5, 0.0)
    assert state.mean == pytest.approx(1.5, abs=0.05)


def test_a_slow_down_that_is_no_ratio_is_refused() -> None:
    for ratio in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            observe(Slowdown(), ratio, 0.0)


def test_gears_go_from_frugal_to_fast_and_share_their_clocks() -> None:
    found = gears(FREE, Budget())
    assert [gear.rungs[0].clocks for gear in found] == [MIDDLE, FAST]
    for gear in found:
        assert {rung.clocks for rung in gear.rungs} == {gear.rungs[0].clocks}
    assert np.all(np.diff([gear.latency_s[0] for gear in found]) < 0)
    assert np.all(np.diff([gear.objective[0] for gear in found]) > 0)


@pytest.mark.parametrize("rate_hz", [30.0, 80.0, 110.0])
def test_a_stricter_goal_costs_more_energy_and_refuses_less(rate_hz: float) -> None:
    load = Load(rate_hz, SLO_S)
    found = [solve(gears(FREE, Budget()), FREE, load, goal=goal) for goal in (0.2, 0.02, 0.002)]
    assert np.all(np.diff([policy.refused for policy in found]) <= 1e-12)
    assert np.all(np.diff([policy.power_w for policy in found]) >= -1e-9)


@pytest.mark.parametrize("rate_hz", [60.0, 90.0, 120.0])
@pytest.mark.parametrize("clump", [1, 4])
def test_the_model_foresees_how_many_are_refused_at_one_fixed_rung(rate_hz: float, clump: int) -> None:
    steps = ladder(every_rung(int8=False))
    expected = baseline_refusals(steps.levels[0].rungs[0], steps, Load(rate_hz, SLO_S, clump))
    arrivals_s = np.repeat(poisson(rate_hz / clump, 20_000 // clump, seed=2), clump)
    _, totals = serve(open_device(every_rung(int8=False)), max_clocks(steps), arrivals_s, SLO_S)
    assert sum(totals.refused.values()) / len(arrivals_s) == pytest.approx(expected, rel=0.3, abs=0.003)


def test_a_policy_runs_faster_for_a_longer_queue() -> None:
    policy = solve(gears(FREE, Budget()), FREE, Load(120.0, SLO_S), goal=0.01)
    assert np.all(np.diff(policy.gear[0]) >= 0)
    assert policy.choose(0, 1) < policy.choose(0, 99)


def test_slow_changes_are_planned_with() -> None:
    fast, slow = (ladder(settle_s=settle_s) for settle_s in (0.0, 0.05))
    load = Load(120.0, SLO_S)
    costs = [solve(gears(each, Budget()), each, load, goal=0.005).power_w for each in (fast, slow)]
    assert costs[0] < costs[1]


def test_the_rate_is_known_after_a_while_and_a_change_is_seen_soon() -> None:
    rate = fresh(0.0, fast_s=0.6, slow_s=10.0, window_s=0.1)
    times_s = poisson(50.0, 3000)
    for time_s in times_s:
        rate = arrive(rate, float(time_s), 1)
    fast_hz, slow_hz = rate.hz(float(times_s[-1]))
    assert slow_hz == pytest.approx(50.0, rel=0.15)
    assert fast_hz == pytest.approx(50.0, rel=0.6)
    silent_hz, _ = rate.hz(float(times_s[-1]) + 3.0)
    assert silent_hz < 1.0


@pytest.mark.parametrize("clump", [1, 4, 8])
def test_how_many_come_at_a_time_is_told_from_the_counts(clump: int) -> None:
    rate = fresh(0.0, fast_s=1.0, slow_s=10.0, window_s=0.2)
    for time_s in poisson(50.0 / clump, 4000):
        rate = arrive(rate, float(time_s), clump)
    assert rate.clump == pytest.approx(clump, rel=0.4)


def test_going_up_costs_time_and_staying_costs_none() -> None:
    shifts = Shifts(COSTLY, gears(COSTLY, Budget()))
    assert shifts.own_s[0][0] == shifts.own_s[1][1] == 0.0
    assert shifts.own_s[0][1] > 0.0
    assert shifts.climb_s(1, 1, 0.0) == 0.0
    assert shifts.climb_s(1, 0, 0.01) == pytest.approx(0.01 * (1 - 10 / 15))
    assert shifts.climb_s(0, 0, 0.0) > shifts.climb_s(1, 0, 0.01)


def test_the_next_lower_gear_stands_for_clocks_that_no_gear_has() -> None:
    shifts = Shifts(FREE, gears(FREE, Budget()))
    assert [shifts.gear_of(clocks) for clocks in (None, SLOW, MIDDLE, FAST)] == [0, 0, 0, 1]


def test_an_idle_device_parks_once_waiting_has_cost_as_much() -> None:
    steps = ladder(stall_s=0.010)
    governor = amble(steps)
    state = governor.init(0.0)
    for step in range(400):
        state, _ = governor.step(state, Observation(0.02 * step, (), 0, 1, asked=MIDDLE))
    idle = state._replace(idle_s=8.0)
    state, first = governor.step(idle, Observation(8.0, asked=MIDDLE))
    assert first.clocks is None
    assert 8.0 < first.wake_s < 10.0
    _, later = governor.step(state, Observation(first.wake_s, asked=MIDDLE))
    assert later.clocks == SLOW


def test_requests_are_held_back_for_a_larger_batch_while_there_is_time() -> None:
    rungs = every_rung(max_batch=4)
    governor = amble(ladder(rungs))
    state = governor.init(0.0)
    for step in range(200):
        state, _ = governor.step(state, Observation(0.02 * step, (), 0, 1, asked=MIDDLE))
    now_s = 4.0
    _, early = governor.step(state, Observation(now_s, (now_s + SLO_S,), 1, 1, asked=MIDDLE))
    assert early.rung is None
    assert now_s < early.wake_s < now_s + SLO_S - 0.015
    _, late = governor.step(state, Observation(early.wake_s, (now_s + SLO_S,), 1, 0, asked=MIDDLE))
    assert late.rung is not None


def test_nobody_is_held_back_beyond_the_tightest_deadline_of_the_batch_wherever_it_stands() -> None:
    governor = amble(ladder(every_rung(max_batch=4)))
    state = governor.init(0.0)
    for step in range(200):
        state, _ = governor.step(state, Observation(0.02 * step, (), 0, 1, asked=MIDDLE))
    now_s = 4.0
    wakes_s = []
    for due_s in ((SLO_S, 9.0), (9.0, SLO_S)):
        _, decision = governor.step(
            state, Observation(now_s, tuple(now_s + each for each in due_s), 2, 2, asked=MIDDLE)
        )
        assert decision.rung is None
        wakes_s.append(decision.wake_s)
    assert wakes_s[0] == wakes_s[1] < now_s + SLO_S - 0.030, "three rows take 30 ms"


def test_a_batch_is_not_cut_to_what_the_account_pays_for() -> None:
    rungs = every_rung(max_batch=4)
    governor = amble(ladder(rungs))
    state = governor.init(0.0)._replace(saved=0.002)  # one row at INT8, not four
    waiting = Observation(0.0, (0.06,) * 4, 4, 4, asked=FAST)
    _, decision = governor.step(state, waiting)
    assert decision.rung is not None
    assert (decision.rung.variant, decision.rows) == ("fp32", 4)
    _, rich = governor.step(state._replace(saved=0.5), waiting)
    assert rich.rung is not None
    assert (rich.rung.variant, rich.rows) == ("int8", 4)


@pytest.mark.parametrize(("waiting", "variant"), [(3, "fp32"), (7, "int8")])
def test_a_small_account_is_left_for_when_one_batch_does_not_serve_all(waiting: int, variant: str) -> None:
    governor = amble(ladder(every_rung(max_batch=4)))
    state = governor.init(0.0)._replace(saved=0.03)
    _, decision = governor.step(state, Observation(0.0, (0.07,) * waiting, waiting, waiting, asked=FAST))
    assert decision.rung is not None
    assert decision.rung.variant == variant


def test_a_batch_larger_than_any_account_pays_for_still_goes_at_the_quick_level() -> None:
    rungs = every_rung(max_batch=4)
    budget = Budget(window=100, cap_share=0.01)  # a full account pays for four rows at INT8
    governor = amble(ladder(rungs), budget=budget)
    state = governor.init(0.0)._replace(saved=budget.cap)
    assert budget.rows_left(budget.cap, 0.006) < 8
    _, decision = governor.step(state, Observation(0.0, (0.02,) * 4, 4, 4, asked=FAST))
    assert decision.rung is not None
    assert decision.rung.variant == "int8"


@pytest.mark.parametrize("rows_paid", [5, 6, 7, 8])
def test_a_batch_that_no_full_account_pays_for_takes_what_this_one_pays_for(rows_paid: int) -> None:
    rungs = every_rung(max_batch=8)
    budget = Budget(window=100, cap_share=0.02)  # half of a full account pays for some rows at INT8, not for eight
    assert 2 <= budget.rows_left(0.5 * budget.cap, 0.006) < rows_paid
    saved = rows_paid * (0.006 - budget.income) + 1e-6
    assert saved <= budget.cap
    governor = amble(ladder(rungs), budget=budget)
    state = governor.init(0.0)._replace(saved=saved)
    _, decision = governor.step(state, Observation(0.0, (0.025,) * 8, 8, 8, asked=FAST))
    assert decision.rung is not None
    assert decision.rung.variant == "int8"
    assert decision.rows == rows_paid
    after = governor.step(state, Observation(1.0, done=Done(decision.rung, decision.rows, 1.0, 0.02), asked=FAST))[0]
    assert after.saved >= 0.0


@pytest.mark.parametrize(("rates_hz", "some"), [((40.0, 40.0), False), ((20.0, 90.0), True)])
def test_accuracy_is_put_by_when_more_come_than_did(rates_hz: tuple[float, float], some: bool) -> None:
    governor = amble()
    early_s = np.arange(1, 1200) / rates_hz[0]
    late_s = early_s[-1] + np.arange(1, 200) / rates_hz[1]
    state = governor.init(0.0)
    for now_s in [*early_s, *late_s]:
        done = Done(FREE.levels[0].rungs[0], 1, now_s, FREE.levels[0].rungs[0].latency_s[0])
        state, _ = governor.step(state, Observation(now_s, (), 0, 1, done, asked=MIDDLE))
    assert (state.kept > 0.0) == some


def test_holding_back_saves_energy_and_misses_nothing() -> None:
    rungs = every_rung(max_batch=4)
    arrivals_s = poisson(40.0, 1000)
    joules = {}
    for name, tuning in (("held", Tuning(grid=12, clumps=(1,))), ("at once", Tuning(grid=12, clumps=(1,), worth=2.0))):
        governor = Amble(ladder(rungs), Deadline(SLO_S, 0.95), tuning=tuning)
        notes, totals = serve(open_device(rungs), governor, arrivals_s, SLO_S)
        joules[name] = (totals.active_j or 0.0) + (totals.idle_j or 0.0)
        assert notes.num_late == 0
        assert len(notes.refusals) <= 1
    assert joules["held"] < 0.97 * joules["at once"]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.3, 0.7, 1.1]))
def test_any_trace_is_served_within_the_budget_and_what_is_admitted_is_hardly_ever_late(seed: int, load: float) -> None:
    steps, budget = ladder(stall_s=0.0002, settle_s=0.01), Budget(window=100)
    governor = Amble(steps, Deadline(SLO_S, 0.95), budget, Tuning(grid=4, clumps=(1,)))
    device = open_device(stall_s=0.0002, settle_s=0.01)
    notes, _ = serve(device, governor, poisson(load / 0.010, 300, seed), SLO_S)
    assert notes.num_late <= 3
    assert np.cumsum(losses(notes))[-1] <= 0.005 * notes.num_answered + 1e-9


def test_without_a_choice_every_request_is_served_at_once_and_slow_downs_are_still_learnt() -> None:
    rung = replace(every_rung()[0], latency_s=every_rung()[0].latency_s[:1], energy_j=every_rung()[0].energy_j[:1])
    governor = amble(replace(ladder((rung,)), park=rung.clocks))
    assert governor.only == rung
    state = governor.init(0.0)
    for number in range(20):
        now_s = 0.1 * number
        done = Done(rung, 1, now_s, 1.5 * rung.latency_s[0]) if number else None
        state, decision = governor.step(state, Observation(now_s, (now_s + SLO_S,) * 3, 3, 1, done, rung.clocks))
        assert (decision.rung, decision.rows) == (rung, 1)
    assert decision.pace.factor == pytest.approx(1.5, abs=0.15)
    assert decision.pace.quick == rung


def test_without_energies_it_serves_by_time_alone_and_never_holds_back() -> None:
    rungs = tuple(replace(rung, energy_j=None, idle_w=0.0) for rung in every_rung())
    steps = ladder(rungs)
    governor = Amble(steps, Deadline(0.1), tuning=Tuning(grid=6, clumps=(1,), worth=1.0))
    notes, totals = serve(open_device(every_rung()), governor, poisson(40.0, 300), 0.1)
    assert totals.answered + sum(totals.refused.values()) == 300
    assert {batch.rung.clocks for batch in notes.batches} == {FAST}
