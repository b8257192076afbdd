"""What is believed of settings, which are closed and for how long, and who pays for what is late."""

from dataclasses import replace

import numpy as np
import pytest

from amble.services.govern.belief import Belief, load_class
from amble.services.govern.eyes import Look
from amble.services.govern.head import AS_FOUND, Head, Seen
from amble.services.govern.judging import Judge
from amble.services.govern.objective import Objective
from tests.services.govern.rehearsing import OBJECTIVES, SETTINGS, a_server, governed, poisson

EDGES_S = ((0.05, 0.1, 0.2),)
SLOW = tuple((1.0 + 0.2 * at,) for at in range(6))
GOOD, BAD = (40.0, 10.0, 0.0, 0.0), (30.0, 10.0, 9.0, 1.0)


def a_judge(extra=0.001):
    return Judge(OBJECTIVES, EDGES_S, (0.1,), SLOW, extra)


def test_a_load_keeps_its_class_at_the_border_and_leaves_it_beyond():
    middle = load_class(10.0)
    assert load_class(10.0 * 2**0.35, middle) == middle != load_class(10.0 * 2**0.35)
    assert load_class(20.0, middle) == load_class(20.0) != middle


def test_settings_are_compared_at_the_same_work_also_within_a_class():
    belief = Belief.blank(2, [4])
    for at in range(400):
        rate_hz = 9.2 if at % 2 else 11.0
        assert load_class(9.2) == load_class(11.0)
        power_w = 100.0 * (rate_hz / 10.0) ** 0.5
        belief = belief.with_power(rate_hz, at % 2, power_w, 1.0)
    even = belief.power_w(load_class(10.0))
    assert even[1] == pytest.approx(1.0, abs=0.01)


def learnt_power(ratio, seconds=30):
    """Return a belief of one load: the fastest for a second, row 2 for minutes, row 3 for some seconds at a ratio."""
    belief = Belief.blank(6, [4])
    for row, power_w, long_s in ((0, 140.0, 1), (1, 125.0, 1), (2, 100.0, 300), (3, 100.0 * ratio, seconds)):
        for _ in range(long_s):
            belief = belief.with_power(10.0, row, power_w, 1.0)
    return belief


def test_slow_settings_are_told_apart_though_the_fastest_was_seen_for_a_second_only():
    power_w = learnt_power(0.95).power_w(load_class(10.0))
    assert power_w[3] / power_w[2] == pytest.approx(0.95, abs=0.006)
    assert power_w[2] < 0.85 * power_w[0], "which is not taken for nearly as cheap as those"


def test_a_setting_is_changed_for_seven_tenths_of_a_percent_and_not_for_two():
    head = Head(OBJECTIVES, EDGES_S, (0.1,), SLOW, control=0.0)
    look = Look(500.0, 1.0, 10.0, 10.0, 0.0, None, 0.0, 0.0, ((10.0, 0.0, 0.0, 0.0),))
    for ratio, best in ((0.995, 3), (1.0, 2)):
        account = head._judge.blank().with_answers(((5000.0, 0.0, 0.0, 0.0),), 500.0)
        account = head._judge.charged(account, 0, (load_class(10.0), 3), (500.0, 0.0, 0.0, 0.0))
        account = replace(
            account.shut(1, 4, 499.0), belief=replace(account.belief, power=learnt_power(ratio, 900).power)
        )
        state = replace(head.init(0.0), account=account, setting=2, fast_hz=10.0, since_s=0.0)
        assert head._cheapest(state, look)[1] == best


def test_a_setting_with_too_many_late_answers_is_closed_longer_every_time_and_without_credit_for_good():
    judge = a_judge()
    account = judge.blank().with_answers(((100_000.0, 0.0, 0.0, 0.0),), 1000.0)
    load = 20
    for begin_s, for_s in ((0.0, 60.0), (100.0, 120.0)):
        account = judge.charged(account, 0, (load, 3), BAD)
        account = judge.closing(account, 0, (load, 3), begin_s)
        assert judge.open_to(account, load, begin_s + for_s - 1.0) == 3
        assert judge.open_to(account, load - 1, begin_s) == 6, "a lighter load is another matter"
        assert judge.open_to(account, load, begin_s + for_s + 1.0) == 6
    for _ in range(20):
        account = judge.charged(account, 0, (load, 3), BAD)
    assert judge.credit(account, 0) < 0.0
    assert judge.open_to(account, load, 1e6) == 3


def test_a_slower_setting_is_safe_by_the_answers_of_a_faster_one_but_not_far_beyond():
    judge = a_judge()
    account = judge.blank().with_answers(((500.0, 0.0, 0.0, 0.0),), 100.0)
    account = judge.charged(account, 0, (20, 0), (2000.0, 0.0, 0.0, 0.0))
    assert judge.slowest_safe(account, 20, 0.0) == 2
    account = judge.charged(account, 0, (20, 0), (0.0, 500.0, 0.0, 0.0))
    assert judge.slowest_safe(account, 20, 0.0) < 2, "those near the limit would be late"


def test_what_is_late_in_a_danger_is_charged_to_the_setting_that_led_there():
    head = Head(OBJECTIVES, EDGES_S, (0.1,), SLOW, period_s=0.25, control=0.0)
    state = head.init(0.0)
    for at in range(1, 80):
        look = Look(0.25 * at, 0.25, 50.0, 50.0, 0.0, None, 0.0, 0.0, (GOOD,))
        state, choice = head.step(state, Seen(look, 100.0, max(0, state.setting)))
    led = choice.setting
    assert led > 0
    look = Look(20.0, 0.25, 50.0, 30.0, 40.0, None, 0.0, 0.0, (GOOD,))
    state, choice = head.step(state, Seen(look, 100.0, led))
    assert (choice.setting, choice.reason) == (0, "the queue grows")
    for at in range(1, 4):
        look = Look(20.0 + 0.25 * at, 0.25, 50.0, 60.0, 30.0, None, 0.0, 0.0, (BAD,))
        state, choice = head.step(state, Seen(look, 300.0, 0))
        assert choice.setting == 0
    counts = state.account.belief.counts[0]
    assert counts[:, 0, 2].sum() == 0.0, "nothing of it at the fastest"
    assert state.account.overdrawn[0] >= 30.0
    assert state.account.belief.power[:, 0, 1].sum() < 100.0 * 80.0, "nor what it drew"


def a_judge_of_tokens():
    kinds = ("ttft p99 < 100ms", "itl p99 < 100ms")
    return Judge(tuple(map(Objective.parse, kinds)), 2 * EDGES_S, (0.1, 0.1), tuple(2 * each for each in SLOW), 0.001)


def test_a_setting_that_kept_one_objective_stays_open_when_that_one_is_overdrawn_and_the_other_has_few_answers():
    judge = a_judge_of_tokens()
    account = judge.blank().with_answers(((30.0, 0.0, 0.0, 0.0), (5000.0, 0.0, 0.0, 0.0)), 100.0)
    for row, counts in ((0, (15.0, 0.0, 0.0, 0.0)), (2, (15.0, 0.0, 0.0, 0.0))):
        account = judge.charged(account, 0, (20, row), counts)
        account = judge.charged(account, 1, (20, row), tuple(400.0 * each for each in counts))
    account = judge.charged(account, 1, (20, 5), BAD)
    assert judge.credit(account, 1) < 0.0
    assert judge.slowest_safe(account, 20, 0.0) == 2


def test_a_setting_that_was_helped_in_the_few_seconds_it_ran_does_not_close_the_slower_ones():
    judge = a_judge()
    account = judge.blank().with_answers(((5000.0, 0.0, 0.0, 0.0),), 100.0)
    account = judge.charged(account, 0, (20, 0), (2000.0, 0.0, 0.0, 0.0))
    account = judge.charged(account, 0, (20, 2), (100.0, 0.0, 0.0, 0.0))
    few = account.belief.with_help(20, 2, 7.0, helped=False).with_help(20, 2, 2.0, helped=True)
    many = few.with_help(20, 2, 70.0, helped=False).with_help(20, 2, 20.0, helped=True)
    assert judge.slowest_safe(replace(account, belief=few), 20, 0.0) > 2
    assert judge.slowest_safe(replace(account, belief=many), 20, 0.0) == 2


def test_what_a_language_model_draws_at_the_fastest_setting_is_never_learnt_as_that_of_the_one_that_needed_help():
    judge = a_judge_of_tokens()
    slow = judge.slowness
    head = Head(
        judge.objectives,
        judge.edges_s,
        judge.judged_s,
        slow,
        0.25,
        control=0.0,
        draws=tuple(0.9**at for at in range(6)),
    )
    state = replace(head.init(0.0), setting=3, danger_until_s=9.0, blamed=(12, 3), blamed_until_s=9.0, load=12)
    for at in range(1, 30):
        nothing = (0.0, 0.0, 0.0, 0.0)
        look = Look(0.25 * at, 0.25, 1.0, 1.0, 0.0, 2.0, 100.0, 20.0, (nothing, (20.0, 0.0, 0.0, 0.0)))
        state, _ = head.step(state, Seen(look, 400.0, 0))
    assert state.phases.busy[0, 0] > 5.0
    assert state.phases.busy[3, 0] == 0.0
    assert state.account.belief.help_share(12, 3) > 0.1
    power_w = head._power_w(state, 12)
    assert power_w is not None
    assert power_w[4] < power_w[3] < power_w[0]
    alone = state.phases.power_w(head._phase_slowness, None, head.draws)
    assert power_w[3] > alone[3], "it needs the fastest a part of the time"


def test_a_crowd_that_fills_the_memory_of_a_language_model_is_met_at_the_fastest_setting_before_anybody_waits():
    judge = a_judge_of_tokens()
    head = Head(judge.objectives, judge.edges_s, judge.judged_s, judge.slowness, 0.25, control=0.0)
    nothing = (0.0, 0.0, 0.0, 0.0)

    def met(running: float) -> list[int]:
        state, chosen = head.init(0.0), []
        for at in range(1, 160):
            together = 10.0 if at < 120 else running if at < 140 else 10.0
            look = Look(
                0.25 * at, 0.25, 1.0, 1.0, 0.0, together, 100.0, 5.0 * together, ((1.0, 0.0, 0.0, 0.0), nothing)
            )
            state = replace(state, setting=3 if at == 120 else state.setting)
            state, choice = head.step(state, Seen(look, 300.0, max(0, state.setting)))
            chosen.append(choice.setting if choice.reason.startswith(("far more", "until the queue")) else -1)
        return chosen

    assert 0 not in met(13.0), "as many as chance brings"
    crowd = met(30.0)
    assert crowd[119:139] == [0] * 20, "from the first look until they have gone"
    assert 0 not in crowd[144:]


def test_a_prompt_that_is_long_in_coming_to_its_first_token_is_met_at_the_fastest_setting():
    judge = a_judge_of_tokens()
    head = Head(judge.objectives, judge.edges_s, judge.judged_s, judge.slowness, 0.01, control=0.0)
    nothing, one = (0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)

    def answered(came: float, firsts: tuple[float, ...], at: int) -> Look:
        return Look(0.01 * at, 0.01, came, came, 0.0, 3.0, came, 3.0, (firsts, (3.0, 0.0, 0.0, 0.0)))

    state, chosen = head.init(0.0), list[str]()
    for at in range(1, 420):
        look = answered(1.0, one, at) if at < 400 and at % 10 == 0 else answered(float(at == 400), nothing, at)
        state = replace(state, setting=3 if at >= 400 else state.setting)
        state, choice = head.step(state, Seen(look, 300.0, max(0, state.setting)))
        chosen.append(choice.reason if choice.setting == 0 else "")
    assert "the queue grows" not in chosen[:398]
    assert set(chosen[404:]) == {"the queue grows"}, "from a quarter of the limit on"


def test_a_governor_that_cannot_see_asks_for_the_clocks_as_they_were_found():
    head = Head(OBJECTIVES, EDGES_S, (0.1,), SLOW, control=0.0)
    state = replace(head.init(0.0), setting=4)
    blind = Look(10.0, 1.0, 0.0, 0.0, None, None, 0.0, 0.0, ((0.0, 0.0, 0.0, 0.0),), usable=False, note="it is gone")
    state, choice = head.step(state, Seen(blind, 100.0, 4))
    assert (choice.setting, choice.reason, choice.control) == (AS_FOUND, "it is gone", False)
    assert state.setting == AS_FOUND


def test_one_crowd_closes_what_is_slower_once_and_not_one_setting_after_the_other():
    head = Head(OBJECTIVES, EDGES_S, (0.1,), SLOW, period_s=0.25, control=0.0)
    state = replace(head.init(0.0), load=18, fast_hz=10.0, setting=4)
    closed = []
    for time_s, setting in ((10.0, 4), (10.8, 3), (60.0, 3)):
        crowd = Look(time_s, 0.25, 3.0, 3.0, 40.0, None, 0.0, 0.0, ((3.0, 0.0, 0.0, 0.0),))
        ran = replace(state, setting=setting, danger_until_s=None, since_s=0.0)
        state, choice = head.step(ran, Seen(crowd, 100.0, setting))
        assert (choice.setting, choice.reason) == (0, "the queue grows")
        closed.append([each[1] for each in state.account.closed])
    assert closed == [[5], [5], [5, 4]]


def test_at_a_high_load_a_server_stays_on_time_and_still_saves():
    times_s = poisson(80.0, 200.0, 3)
    fastest, server = a_server(times_s=times_s), a_server(times_s=times_s)
    fastest.sleep(200.0)
    governed(server, 200.0, control=0.0, period_s=0.25)
    late, before = (each.tallies["latency"].late / each.tallies["latency"].total for each in (server, fastest))
    assert late <= before + 0.001
    assert server.read().energy_j < 0.85 * fastest.read().energy_j
    assert np.isfinite(late)
    assert len(SETTINGS) == 6


def test_a_server_that_idles_keeps_for_parking_what_the_time_without_work_has_earned():
    judge = a_judge(extra=0.02)
    account = judge.blank().with_answers(((10_000.0, 0.0, 0.0, 0.0),), 1000.0)
    account = judge.charged(account, 0, (20, 0), (2000.0, 0.0, 0.0, 0.0))
    account = judge.charged(account, 0, (20, 2), (100.0, 0.0, 0.0, 150.0))
    idle = replace(account, belief=account.belief.with_idleness(0, 30.0, 800.0))
    assert judge.credit(idle, 0) == judge.credit(account, 0) > 0.0
    assert judge.slowest_safe(account, 20, 0.0) == 1
    assert judge.slowest_safe(idle, 20, 0.0) == 0, "four fifths of what may be late is for waking"
    assert judge.open_to(judge.closing(idle, 0, (0, 2), 0.0), 0, 0.0) == 6, "parking itself is not closed"


def test_what_is_late_after_waking_is_that_of_parking_and_not_of_a_light_load():
    judge = a_judge()
    belief = judge.blank().belief.with_latencies(0, 1, 3, GOOD).with_latencies(0, 0, 3, BAD)
    assert belief.seen(0, 0, 3).tolist() == list(BAD)
    assert belief.seen(0, 1, 3).tolist() == list(GOOD)
    account = replace(judge.blank(), belief=belief).with_answers((BAD,), 1.0)
    assert judge.open_to(judge.closing(account, 0, (0, 3), 0.0), 0, 1.0) == 3, "parking there is closed"
