"""What a language model's server draws at each setting, learnt from its tokens."""

import numpy as np
import pytest

from amble.services.govern.eyes import Look
from amble.services.govern.phases import Phases

STEP_S, MORE_S, PROMPT_S = 0.03, 0.001, 0.0002
SLOW = np.array([[1.0, 1.0], [1.2, 1.1], [2.0, 1.8]])
BUSY_W = (300.0, 220.0, 170.0)
IDLE_W = np.array([50.0, 50.0, 50.0])


def a_look(span_s=1.0, arrivals=0.0, running=2.0, prompts=0.0, outputs=0.0, waiting=0.0, time_s=0.0):
    return Look(time_s, span_s, arrivals, 0.0, waiting, running, prompts, outputs, ())


def seen(phases, row, together, prompts=400.0, seconds=20):
    """Run one setting for some seconds with so many requests at once."""
    slow, slow_prompt = SLOW[row]
    phases = phases.after(a_look(running=together), row, BUSY_W[row], None)
    for at in range(seconds):
        prompt = prompts * (1.0 + 0.5 * (at % 2))
        left_s = 1.0 - prompt * PROMPT_S * slow_prompt
        steps = left_s / (slow * (STEP_S + MORE_S * together))
        look = a_look(running=together, prompts=prompt, outputs=steps * together)
        phases = phases.after(look, row, BUSY_W[row], None)
    return phases


def learnt():
    phases = Phases.blank(3)
    for together in (2.0, 6.0):
        phases = seen(phases, 0, together)
        phases = seen(phases, 1, together)
    return phases


def test_nothing_is_said_before_it_was_busy_for_a_while():
    phases = Phases.blank(3).after(a_look(), 0, 300.0, None)
    assert phases.power_w(SLOW, IDLE_W, None) is None


def test_a_light_load_takes_the_least_energy_for_its_work_and_a_full_server_the_least_power():
    phases = seen(learnt(), 2, 4.0)
    for _ in range(2000):
        phases = phases.after(a_look(running=0.0, outputs=3.0), 0, 55.0, None)
    light = phases.power_w(SLOW, IDLE_W, None)
    # above idle, per step: 250 x 1, 170 x 1.2, 120 x 2
    assert int(np.argmin(light)) == 1
    for _ in range(2000):
        phases = phases.after(a_look(running=0.0, outputs=150.0), 0, None, None)
    full = phases.power_w(SLOW, IDLE_W, None)
    assert int(np.argmin(full)) == 2
    assert full[0] == pytest.approx(300.0, rel=0.05)


def test_a_setting_that_was_not_tried_is_believed_by_the_table_or_a_little_less():
    phases = seen(Phases.blank(3), 0, 6.0, seconds=60)
    for _ in range(2000):
        phases = phases.after(a_look(running=0.0, outputs=300.0), 0, None, None)
    told = phases.power_w(SLOW, IDLE_W, (1.0, 0.7, 0.5))
    untold = phases.power_w(SLOW, IDLE_W, None)
    assert told[1:] == pytest.approx([210.0, 150.0], rel=0.03)
    assert 210.0 < untold[1] < 300.0


def test_prompts_that_came_and_have_no_first_token_wait_longer_at_a_slower_setting():
    phases = learnt()
    assert phases.wait_s(SLOW, 2, 0.0) == 0.0
    phases = phases.after(a_look(arrivals=4.0, running=6.0, prompts=4000.0, outputs=20.0), 0, 300.0, 1.0)
    assert phases.unfirst == ((-0.5, 3.0),)
    assert phases.wait_s(SLOW, 2, 0.0) > 1.5 * phases.wait_s(SLOW, 0, 0.0) > 0.0
    phases = phases.after(a_look(arrivals=0.0, running=2.0, outputs=20.0), 0, 300.0, 0.0)
    assert phases.unfirst == ((-0.5, 2.0),), "no more wait than are inside"


def test_a_first_token_that_is_long_in_coming_is_that_of_no_usual_prompt():
    phases = learnt()
    for _ in range(600):
        phases = phases.after(a_look(arrivals=1.0, running=3.0, prompts=100.0, outputs=60.0), 0, 300.0, 1.0)
    phases = phases.after(a_look(arrivals=1.0, running=3.0, prompts=100.0, outputs=20.0, time_s=1.0), 0, 300.0, 0.0)
    assert phases.wait_s(SLOW, 0, 1.0) == pytest.approx(0.5), "half a period at least"
    phases = phases.after(a_look(arrivals=1.0, running=4.0, prompts=100.0, outputs=20.0, time_s=3.0), 0, 300.0, 0.0)
    assert phases.wait_s(SLOW, 0, 3.0) == pytest.approx(2.5), "as long again as the first has waited"
    phases = phases.after(a_look(arrivals=0.0, running=4.0, prompts=100.0, outputs=20.0, time_s=4.0), 0, 300.0, 1.0)
    assert phases.wait_s(SLOW, 0, 4.0) == pytest.approx(1.5), "the first got its own"
    phases = phases.after(a_look(running=4.0, outputs=20.0, time_s=80.0), 0, 300.0, 0.0)
    assert phases.unfirst == (), "one that went away without any is forgotten"


def a_crowd(phases, running, seconds, waiting=0.0):
    """Return the belief after that, and how many looks of a second found a crowd."""
    found = 0
    for _ in range(seconds):
        phases = phases.after(a_look(running=running, outputs=60.0, waiting=waiting), 0, 300.0, None)
        found += phases.crowded(1.25)
    return phases, found


def test_a_crowd_is_none_once_it_has_shown_to_have_room():
    phases, _ = a_crowd(learnt(), 4.0, 600)
    phases, at_first = a_crowd(phases, 30.0, 60)
    assert 10 <= at_first <= 45, "until so many have run together for a while"
    phases, _ = a_crowd(phases, 4.0, 300)
    phases, again = a_crowd(phases, 28.0, 20)
    assert again == 0
    phases, _ = a_crowd(phases, 4.0, 300)
    assert a_crowd(phases, 60.0, 3)[1] == 3, "more than had room before"


def test_what_waits_says_that_there_was_no_room():
    phases, _ = a_crowd(learnt(), 4.0, 600)
    phases, _ = a_crowd(phases, 30.0, 120)
    phases, _ = a_crowd(phases, 30.0, 1, waiting=3.0)
    phases, _ = a_crowd(phases, 4.0, 300)
    assert a_crowd(phases, 28.0, 1)[1] == 1
    assert a_crowd(phases, 22.0, 1)[1] == 0
