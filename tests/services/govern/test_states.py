"""States in which a governor would stand still for long, or end."""

from dataclasses import replace

import numpy as np

from amble.services.govern.belief import Belief
from amble.services.govern.eyes import Eyes, Look
from amble.services.govern.head import Seen
from amble.services.govern.maps import recognise
from amble.services.govern.page import names_of
from amble.services.govern.phases import Phases
from tests.services.govern.rehearsing import OBJECTIVES, a_head, a_server, governed, poisson


def test_a_server_whose_answers_are_one_token_has_a_power_at_every_setting():
    gram, work, busy = np.zeros((3, 3, 3)), np.zeros((3, 3)), np.zeros((3, 3))
    gram[0, 2, 2], work[0, 2], busy[0] = 1e7, 1e4, (10.0, 1000.0, 10.0)  # all of its time goes to prompts
    phases = Phases(gram, work, busy, prompt_hz=500.0, output_hz=0.5)
    found = phases.power_w(np.array([[1.0, 1.0], [1.2, 1.5], [1.4, 2.0]]), None, None)
    assert np.isfinite(found).all()


def test_a_meter_that_stands_still_tells_no_power():
    assert Belief.blank(3, [4]).with_power(5.0, 0, 0.0, 1.0).power_w(9) is None


def test_a_clock_that_goes_back_ends_nothing():
    page = a_server().page()
    eyes = Eyes.open(recognise(names_of(page)), OBJECTIVES, page)
    head = a_head(eyes, control=0.0)
    nothing = tuple((0.0,) * (len(each) + 1) for each in eyes.edges_s)
    state = head.init(100.0)
    for at in range(30):
        look = Look(100.0 + at, 1.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0, nothing)
        state, choice = head.step(state, Seen(look, 50.0, max(0, state.setting)))
    state, choice = head.step(
        replace(state, setting=2), Seen(Look(90.0, -40.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0, nothing), None, 2)
    )
    assert choice.setting >= -1


def test_what_a_cap_makes_late_is_not_charged_to_slow_settings():
    def watts(cap):
        base = poisson(30.0, 305.0)
        crowd = np.random.default_rng(2).uniform(100.0, 130.0, 30 * 90)
        server = a_server(times_s=np.sort(np.concatenate([base, crowd])), duration_s=300.0)
        floor = (lambda: 5 if 95.0 < server.now_s() < 140.0 else 0) if cap else (lambda: 0)
        log, _ = governed(server, 300.0, control=0.0, floor=floor)
        return sum(each.energy_j for each in log.periods if each.start_s > 200.0) / 100.0

    assert watts(True) < 1.1 * watts(False)


def test_an_overload_that_has_passed_is_forgotten():
    base = poisson(20.0, 905.0)
    crowd = np.random.default_rng(3).uniform(100.0, 115.0, 3000)
    server = a_server(times_s=np.sort(np.concatenate([base, crowd])), duration_s=900.0)
    log, _ = governed(server, 900.0, control=0.0)
    missed = [each for each in log.periods if each.start_s > 700.0 and each.decided == 0]
    assert len(missed) < 100, "the fastest setting is not held for what was late ten minutes before"
