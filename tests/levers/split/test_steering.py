"""Steering decides purely: the cut follows the link, with hysteresis and a bound; the server is left when it fails."""

from itertools import pairwise

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.levers.split.link import Radio
from amble.levers.split.ran import Journal
from amble.levers.split.steering import LOCAL, Belief, Look, Option, Rules, Seen, State, Steering, replay

RADIO = Radio("test", 0.5)
OPTIONS = (
    Option("", None, 0.0, 0.0, ((0.05, 1.0), (0.08, 0.8))),
    Option("small", 0.005, 1e5, 1e3, ((0.02, 0.5), (0.04, 0.4))),
    Option("large", 0.008, 2e6, 1e3, ((0.0, 0.1),)),
)
DUE_S = 0.1


def steering(**rules: float) -> Steering:
    return Steering(OPTIONS, (1e7, 0.002), RADIO, Rules(**rules))  # type: ignore[arg-type]


def proved(of: Steering, now_s: float = 0.0) -> State:
    state = of.init(now_s)
    for option in (1, 2):
        state = of.see(state, Seen(now_s, "proved", option))
    return state


def exchanged(of: Steering, state: State, rate_bit_s: float, *, option: int = 1, now_s: float = 0.0) -> State:
    bits_s = OPTIONS[option].sent_bit / rate_bit_s
    return of.see(state, Seen(now_s, "exchange", option, 0.002 + bits_s, 1e3 / rate_bit_s, server_s=0.005))


def after(
    of: Steering, state: State, rate_bit_s: float, requests: int, start_s: float = 0.0
) -> tuple[State, list[int]]:
    """Let so many requests pass over a link of one rate, one every 0.1 s → the options that answered."""
    chosen = []
    for index in range(requests):
        now_s = start_s + 0.1 * index
        state, decision = of.decide(state, now_s, now_s + DUE_S)
        chosen.append(decision.option)
        state = exchanged(of, state, rate_bit_s, option=decision.option or 1, now_s=now_s)
    return state, chosen


def test_nothing_is_sent_before_a_half_is_proved() -> None:
    of = steering()
    _, chosen = after(of, of.init(0.0), 1e9, 20)
    assert set(chosen) == {LOCAL}


def test_the_cut_follows_the_link_both_ways() -> None:
    of = steering()
    state, fast = after(of, proved(of), 1e9, 30)
    assert fast[-1] == 2
    state, slower = after(of, state, 1e7, 30, 3.0)
    assert slower[-1] == 1
    state, slowest = after(of, state, 2e5, 30, 6.0)
    assert slowest[-1] == LOCAL
    _, again = after(of, state, 1e9, 120, 90.0)
    assert again[-1] == 2


def test_a_move_needs_several_requests_that_want_it() -> None:
    of = steering()
    state = proved(of)
    for _ in range(20):
        state = exchanged(of, state, 1e9, option=2)
    _, chosen = after(of, state, 1e9, 10)
    assert chosen[: of.rules.agree - 1] == [LOCAL] * (of.rules.agree - 1)
    assert chosen[of.rules.agree - 1] != LOCAL


def test_a_gain_that_is_not_worth_it_moves_nothing() -> None:
    state, chosen = after(steering(gain=0.95), proved(steering()), 1e9, 30)
    assert set(chosen) == {LOCAL}
    assert state.num_moves == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([1e9, 3e7, 1e6, 5e4]), min_size=1, max_size=40), st.integers(0, 5))
def test_moves_to_the_server_are_bounded_in_every_minute(rates: list[float], failing: int) -> None:
    """Whatever the link does: a rate drawn for each second, and failures that are repaired at once."""
    of = steering(agree=1)
    state, moved_s, moves = proved(of), [], 0
    for second, rate in enumerate(rates * 4):
        if failing and second % 7 == failing:
            state = proved_again(of, of.see(state, Seen(float(second), "failure", 1)), float(second))
        for tenth in range(10):
            before, now_s = state.chosen, second + 0.1 * tenth
            state, decision = of.decide(state, now_s, now_s + DUE_S)
            moves += decision.option != before
            if decision.option not in (before, LOCAL):
                moved_s.append(now_s)
            state = exchanged(of, state, rate, option=decision.option or 1, now_s=now_s)
    for at_s in moved_s:
        assert sum(at_s <= each < at_s + 60 for each in moved_s) <= of.rules.most_moves
    assert moves <= state.num_moves


def proved_again(of: Steering, state: State, now_s: float) -> State:
    for option in (1, 2):
        state = of.see(state, Seen(now_s, "proved", option))
    return state


def test_a_failure_sends_everything_to_the_device_at_once_and_one_proof_is_not_enough() -> None:
    of = steering()
    state, _ = after(of, proved(of), 1e9, 30)
    state = of.see(state, Seen(3.0, "failure", 2))
    assert of.decide(state, 3.0, 3.1)[1].option == LOCAL
    assert state.proved == ("+", "?", "?")
    state = of.see(state, Seen(3.5, "proved", 1))
    assert state.away
    state, chosen = after(of, state, 1e9, 10, 3.6)
    assert set(chosen) == {LOCAL}
    state = of.see(state, Seen(5.0, "proved", 2))
    assert not state.away
    assert after(of, state, 1e9, 10, 70.0)[1][-1] == 2


def test_a_late_answer_leaves_the_server_teaches_the_link_and_unproves_nothing() -> None:
    """A large cut that a slow link made late says nothing of what the server holds, nor of a smaller cut."""
    of = steering()
    state, _ = after(of, proved(of), 1e9, 30)
    rate_bit_s = of.rate_bit_s(state)
    state = of.see(state, Seen(3.0, "late", 2, 0.05))
    assert of.decide(state, 3.0, 3.1)[1].option == LOCAL
    assert state.proved == ("+", "+", "+")
    assert of.rate_bit_s(state) < 0.5 * rate_bit_s
    assert of.rate_bit_s(of.see(state, Seen(3.0, "late", 2, 0.0))) == of.rate_bit_s(state)
    for now_s in (4.0, 5.0):
        state = of.see(state, Seen(now_s, "proved", 1))
    _, chosen = after(of, state, 2e7, 30, 5.0)
    assert chosen[-1] == 1


def test_who_may_move_no_more_goes_home_from_a_cut_that_got_dear() -> None:
    of = steering(most_moves=1)
    state, chosen = after(of, proved(of), 1e9, 30)
    assert chosen[-1] == 2
    state, chosen = after(of, state, 1e7, 30, 3.0)
    assert chosen[-1] == LOCAL, "the smaller cut would be better, and is one move too many"
    assert after(of, state, 1e7, 30, 70.0)[1][-1] == 1


def test_a_half_that_was_refuted_is_never_used_while_others_are() -> None:
    of = steering()
    state = of.see(of.see(of.init(0.0), Seen(0.0, "proved", 1)), Seen(0.0, "refuted", 2))
    _, chosen = after(of, state, 1e9, 30)
    assert set(chosen) == {LOCAL, 1}


def test_probes_are_rarer_after_each_failure_and_ask_for_what_is_unproved_first() -> None:
    of = steering()
    state, now_s, gaps = of.init(0.0), 0.0, []
    for _ in range(8):
        asked_s = now_s
        while (found := of.probe(state, now_s))[1] is None:
            now_s += 0.01
        state, look = found
        assert look == Look(1, in_use=False)  # the smallest of those that are unknown
        gaps.append(now_s - asked_s)
        state = of.see(state, Seen(now_s, "failure", 1))
    assert all(later > earlier - 0.05 for earlier, later in pairwise(gaps[1:]))
    assert gaps[-1] <= of.rules.most_away_s + 0.02
    assert gaps[-1] > 3 * gaps[1]
    state = of.see(state, Seen(now_s, "proved", 1))
    assert of.probe(state, now_s + 100)[1] == Look(2, in_use=False)


def served(of: Steering, state: State, start_s: float, end_s: float, holds: str) -> tuple[State, list[float]]:
    """Let time pass beside a server that holds nothing of these halves (``absent``), them all, or answers nothing.

    Returns when requests were answered by it.
    """
    used_s: list[float] = []
    for tick in range(round(100 * (end_s - start_s))):
        now_s = start_s + 0.01 * tick
        state, look = of.probe(state, now_s)
        if look is not None:
            if holds == "proved" and not look.in_use:
                state = exchanged(of, state, 1e9, option=look.option, now_s=now_s)
            state = of.see(state, Seen(now_s, holds, look.option))
        if tick % 10 == 0:
            state, decision = of.decide(state, now_s, now_s + DUE_S)
            if decision.option != LOCAL and holds != "proved":
                state = of.see(state, Seen(now_s, "failure", decision.option))
            elif decision.option != LOCAL:
                state = exchanged(of, state, 1e9, option=decision.option, now_s=now_s)
                used_s.append(now_s)
    return state, used_s


def test_a_server_that_is_started_again_is_used_again_within_a_few_seconds() -> None:
    """Killed, then up without a model for as long as it loads them: an absence is no last word."""
    of = steering()
    state, used_s = served(of, of.init(0.0), 0.0, 10.0, "proved")
    assert len(used_s) > 80
    state, _ = served(of, state, 10.0, 18.0, "failure")
    state, used_s = served(of, state, 18.0, 20.0, "absent")
    assert not used_s
    state, used_s = served(of, state, 20.0, 40.0, "proved")
    assert used_s[0] < 24.0
    assert len(used_s) > 150
    assert len(state.moves_s) <= of.rules.most_moves


def test_a_half_that_would_be_late_is_not_asked_for_and_keeps_no_other_from_use() -> None:
    """The proof of a large one on a slow link would be no answer in time, and count as a failure of the server."""
    of = steering()
    state = of.see(proved(of), Seen(0.0, "failure", 1))
    state, asked = of.decide(state, 0.0, DUE_S)[0], []
    for tick in range(1000):
        now_s = 0.01 * tick
        state, look = of.probe(state, now_s)
        if look is not None:
            asked.append(look.option)
            state = of.see(exchanged(of, state, 5e6, option=look.option, now_s=now_s), Seen(now_s, "proved", 1))
        state, decision = of.decide(state, now_s, now_s + DUE_S)
    assert set(asked) == {1}
    assert decision.option == 1


def test_a_half_that_stays_absent_is_asked_for_rarely_and_keeps_no_other_from_use() -> None:
    of = steering()
    state, now_s, asked_s = of.see(of.init(0.0), Seen(0.0, "proved", 1)), 0.0, []
    for tick in range(6000):
        now_s = 0.01 * tick
        state, look = of.probe(state, now_s)
        if look is not None and look.option == 2:
            asked_s.append(now_s)
            state = of.see(state, Seen(now_s, "absent", 2))
        elif look is not None:
            state = of.see(state, Seen(now_s, "proved", look.option))
        state, decision = of.decide(state, now_s, now_s + DUE_S)
        state = exchanged(of, state, 1e9, option=decision.option or 1, now_s=now_s)
    assert decision.option == 1
    assert 2 <= len(asked_s) <= 60 / of.rules.most_probe_s + 1


def test_a_half_in_use_is_proved_again_and_again() -> None:
    of = steering()
    state, _ = after(of, proved(of), 1e9, 20)
    state, asked = after(of, state, 1e9, 60, 2.0)[0], []
    state, look = of.probe(state, 8.0)
    assert look == Look(2, in_use=True)
    state = of.see(state, Seen(8.0, "proved", 2))
    assert of.probe(state, 8.1)[1] != look
    for tick in range(200):
        now_s = 8.1 + 0.1 * tick
        state, look = of.probe(exchanged(of, state, 1e9, option=2, now_s=now_s), now_s)
        if look == Look(2, in_use=True):
            asked.append(now_s)
            state = of.see(state, Seen(now_s, "proved", 2))
    assert 3 <= len(asked) <= 5


def test_one_that_was_swapped_under_its_name_is_left_and_the_others_are_doubted() -> None:
    of = steering()
    state, chosen = after(of, proved(of), 1e9, 20)
    assert chosen[-1] == 2
    state = of.see(state, Seen(3.0, "refuted", 2))
    assert state.proved == ("+", "?", "-")
    assert of.decide(state, 3.0, 3.1)[1].option == LOCAL


def test_probes_of_a_link_that_stays_as_it_is_become_rare_and_news_make_them_frequent() -> None:
    of = steering()
    state, now_s, asked_s = proved(of), 0.0, []
    while now_s < 60:
        state, look = of.probe(state, now_s)
        if look is not None and not look.in_use:
            asked_s.append(now_s)
            state = exchanged(of, state, 1e7, now_s=now_s)
        now_s += 0.05
    assert len(asked_s) < 14
    assert asked_s[-1] - asked_s[-2] > 0.9 * of.rules.most_probe_s
    state = exchanged(of, state, 1e5, now_s=now_s)
    assert of.probe(state, now_s + of.rules.probe_s)[1] is not None


def test_a_request_is_given_up_while_the_device_can_still_answer() -> None:
    of = steering()
    state, _ = after(of, proved(of), 1e9, 30)
    state, decision = of.decide(state, 10.0, 10.0 + DUE_S)
    assert decision.option == 2
    assert decision.give_up_s == 10.0 + DUE_S - OPTIONS[LOCAL].paces[0][0]


def test_one_that_could_not_be_answered_here_any_more_is_waited_for_until_its_deadline() -> None:
    slow = (Option("", None, 0.0, 0.0, ((0.2, 1.0),)), *OPTIONS[1:])
    of = Steering(slow, (1e7, 0.002), RADIO)
    state, _ = after(of, proved(of), 1e9, 30)
    assert of.decide(state, 10.0, 10.1)[1].give_up_s == 10.1


def test_the_pace_is_the_most_frugal_that_link_and_server_leave_time_for() -> None:
    of = steering()
    state = proved(of)
    for _ in range(50):
        state = exchanged(of, state, 2.5e6)
    state, _ = after(of, state, 2.5e6, 20)
    assert of.decide(state, 10.0, 10.0 + 0.1)[1] == of.decide(state, 10.0, 10.0 + 0.1)[1]
    roomy, tight = (of.decide(state, 10.0, 10.0 + left_s)[1] for left_s in (0.12, 0.085))
    assert (roomy.option, roomy.pace) == (1, 1)
    assert (tight.option, tight.pace) == (1, 0)


def test_variance_of_the_link_is_kept_out_of_the_deadline() -> None:
    of, random = steering(), np.random.default_rng(1)
    calm = noisy = proved(of)
    for _ in range(200):
        calm = exchanged(of, calm, 5e6)
        noisy = exchanged(of, noisy, 5e6 / random.uniform(0.2, 1.8))
    assert of.link_s(calm, 1)[1] < 1.1 * of.link_s(calm, 1)[0]
    assert of.link_s(noisy, 1)[1] > 1.5 * of.link_s(noisy, 1)[0]


def test_the_time_of_a_bit_is_not_learned_from_what_took_no_longer_than_the_round_trip() -> None:
    """Small probes on a fast link say little: noise of the round trip must not become a rate."""
    of, random = steering(), np.random.default_rng(2)
    state = of.see(proved(of), Seen(0.0, "round_trip", up_s=0.02))
    state = of.see(state, Seen(0.0, "exchange", 2, 0.02 + 0.02, 0.0, server_s=0.008))
    learned = of.rate_bit_s(state)
    for _ in range(30):
        took_s = 0.02 + 1e5 / 1e8 + random.uniform(0, 0.001)
        state = of.see(state, Seen(0.0, "exchange", 1, took_s, 0.0, server_s=0.005))
    assert 0.5 * learned < of.rate_bit_s(state) < 2 * learned


def test_a_server_that_tells_no_time_is_believed_to_take_what_was_planned() -> None:
    of = steering()
    state = proved(of)
    for _ in range(50):
        state = of.see(state, Seen(0.0, "exchange", 1, 0.002 + 1e5 / 1e7 + 0.005, 1e-4))
    assert 0.8e7 < of.rate_bit_s(state) < 1.2e7
    assert state.server == Belief(1.0)


def test_a_slower_server_moves_the_cut_home() -> None:
    of = steering()
    state, _ = after(of, proved(of), 1e9, 30)
    for _ in range(20):
        state = of.see(state, Seen(4.0, "exchange", 2, 0.004, 1e-6, server_s=0.5))
    assert of.decide(state, 5.0, 5.1)[1].option == LOCAL


def test_a_journal_replays_to_the_same_decisions_also_from_its_file() -> None:
    of, random = steering(), np.random.default_rng(3)
    state, seen, made = of.init(0.0), [], []
    for index in range(400):
        now_s = 0.1 * index
        what = random.choice(["exchange", "failure", "proved", "request"], p=[0.4, 0.02, 0.18, 0.4])
        option = int(random.integers(1, 3))
        each = Seen(now_s, str(what), option, float(random.uniform(0.001, 0.2)), 1e-4, None, 0.0)
        if what == "request":
            each = Seen(now_s, "request", up_s=now_s + DUE_S)
            state, decision = of.decide(state, now_s, now_s + DUE_S)
            made.append(decision)
        else:
            state = of.see(state, each)
        seen.append(each)
    journal = Journal(of.options, of.planned, of.radio, of.rules, 0.0, tuple(seen), tuple(made))
    read = msgspec.json.decode(msgspec.json.encode(journal), type=Journal)
    assert len({each.option for each in made}) > 1
    assert replay(read.steering, read.start_s, read.seen) == list(read.decisions) == made


def queue(of: Steering, state: State, requests: int, *, behind_s: float, period_s: float) -> list[tuple[int, float]]:
    """Let requests wait for one another, the first of them ``behind_s`` [s] → who answered, and the latencies."""
    now_s, found = behind_s, []
    for index in range(requests):
        arrival_s = index * period_s
        now_s = max(now_s, arrival_s)
        state, decision = of.decide(state, now_s, arrival_s + DUE_S)
        option = decision.option
        if option != LOCAL:
            there_s = now_s + of.options[option].paces[decision.pace][0] + of.link_s(state, option)[0]
            now_s = min(there_s, max(decision.give_up_s, now_s + of.options[option].paces[decision.pace][0]))
            state = exchanged(of, state, 1e9, option=option, now_s=now_s)
            option = LOCAL if now_s < there_s else option
        if option == LOCAL:
            now_s += of.options[LOCAL].paces[0][0]
        found.append((option, now_s - arrival_s))
    return found


def test_a_queue_that_the_server_could_clear_is_cleared_by_it() -> None:
    """Late before they are begun, requests are the server's where it is quicker: the device would never catch up."""
    of = steering()
    state, _ = after(of, proved(of), 1e9, 30)
    answered = queue(of, state, 80, behind_s=1.0, period_s=0.04)
    assert answered[0][1] > DUE_S
    assert answered[-1][0] != LOCAL
    assert answered[-1][1] < DUE_S
