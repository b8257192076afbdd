"""In virtual time a cut moves as it would: rates are followed, outages cost no request, and nobody beats hindsight."""

import pytest

from amble.levers.split.link import Radio
from amble.levers.split.steering import Option
from bench.split_run.moving import held_out
from bench.split_run.virtual import Load, Played, Rates, clairvoyant, played

RADIO = Radio("test", 0.1)
OPTIONS = (
    Option("here", None, 0.0, 0.0, ((0.003, 0.09), (0.01, 0.045))),
    Option("small", 0.001, 2e4, 500.0, ((0.002, 0.09), (0.005, 0.040))),
    Option("large", 0.001, 3e5, 500.0, ((0.0005, 0.07), (0.001, 0.033))),
    Option("all", 0.001, 9e5, 500.0, ((0.0, 0.032),)),
)
LOAD = Load(600, 0.05, 0.05)
PLANNED = (2e7, 0.005)


def play(rates: list[float], options: tuple[Option, ...] = OPTIONS) -> Played:
    return played(options, Rates(rates, 0.005), LOAD, planned=PLANNED, radio=RADIO, wait_j=0.032)


def test_bits_take_the_time_that_the_rates_leave_them() -> None:
    rates = Rates([10.0, 0.0, 20.0], 0.0)
    assert rates.sent_s(0.0, 5.0) == 0.5
    assert rates.sent_s(0.5, 10.0) == pytest.approx(2.25)
    assert rates.sent_s(2.5, 60.0) == pytest.approx(3 * 2 + 2.5)
    with pytest.raises(ValueError, match="nothing can ever be sent"):
        Rates([0.0], 0.0)


def test_over_a_steady_link_all_but_the_first_are_answered_by_the_best_cut() -> None:
    found, fixed = play([3e7] * 30), play([3e7] * 30, (OPTIONS[0], OPTIONS[2]))
    assert found.late == found.fallen_back == 0
    assert found.together > 590
    assert found.above_j == pytest.approx(fixed.above_j, rel=0.02)


def test_an_outage_costs_a_few_answers_here_and_none_that_is_late() -> None:
    found = play([3e7] * 10 + [0.0] * 5 + [3e7] * 15)
    assert found.late == 0
    assert found.fallen_back == 1
    assert 400 < found.together < 500


def test_a_cut_that_moves_takes_less_than_any_that_stays_where_rates_change_slowly() -> None:
    rates = [6e7] * 10 + [1e6] * 10 + [2e7] * 10
    moved = play(rates)
    for fixed in ((OPTIONS[0],), *((OPTIONS[0], each) for each in OPTIONS[1:])):
        other = play(rates, fixed)
        assert moved.above_j + moved.radio_j < other.above_j + other.radio_j
    bound = clairvoyant(OPTIONS, Rates(rates, 0.005), LOAD, radio=RADIO, wait_j=0.032)
    assert bound.late == 0
    assert bound.above_j + bound.radio_j < moved.above_j + moved.radio_j


def test_no_trace_is_both_chosen_on_and_told_of() -> None:
    known = {name: [1.0] for name in "abcde"}
    told, tuned = held_out(known), held_out(known, tuned=True)
    assert sorted(told + tuned) == sorted(known)
    assert told
    assert tuned
