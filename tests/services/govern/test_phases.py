"""What a language model's server draws at each setting, learnt from its tokens."""

import numpy as np
import pytest

from amble.services.govern.eyes import Look
from amble.services.govern.phases import Phases

STEP_S, MORE_S, PROMPT_S = 0.03, 0.001, 0.0002
SLOW = np.array([[1.0, 1.0], [1.2, 1.1], [2.0, 1.8]])
BUSY_W = (300.0, 220.0, 170.0)
IDLE_W = np.array([50.0, 50.0, 50.0])


def a_look(span_s=1.0, arrivals=0.0, running=2.0, prompts=0.0, outputs=0.0, waiting=0.0):
    return Look(0.0, span_s, arrivals, 0.0, waiting, running, prompts, outputs, ())


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
    assert phases.wait_s(SLOW, 2) == 0.0
    phases = phases.after(a_look(arrivals=4.0, running=6.0, prompts=4000.0, outputs=20.0), 0, 300.0, 1.0)
    assert phases.unfirst == 3.0
    assert phases.wait_s(SLOW, 2) > 1.5 * phases.wait_s(SLOW, 0) > 0.0
    phases = phases.after(a_look(arrivals=0.0, running=2.0, outputs=20.0), 0, 300.0, 0.0)
    assert phases.unfirst == 2.0, "no more wait than are inside"
