"""The best path with hindsight: that of every path tried, on a cell small enough to try them all."""

from itertools import product

import numpy as np
import pytest

from amble.services.govern.rehearsal import Batcher, Requests
from bench.govern.hindsight import _by_turns, _Label, best_path
from bench.govern.plants import Case, governed, held
from tests.bench.govern.test_plants import PLANT, SETTINGS, WANTED, a_case, poisson

LATE_J = 3.0


def a_small_cell():
    crowd = 1.1 + 0.003 * np.arange(150)  # which the slowest setting does not serve on time
    requests = Requests.plain(np.concatenate([[0.05, 0.6], crowd, [2.2, 2.3]]))
    slowness = tuple((float(SETTINGS[0].core_hz / each.core_hz),) for each in SETTINGS)
    return Case(lambda: Batcher(PLANT, requests, WANTED), WANTED, 3.0, slowness, 0.5)


def gone(case, settings):
    """Return the cost of one path."""
    server, before = case.server(), None
    for step, setting in enumerate(settings):
        if setting != before:
            server.apply(SETTINGS[setting])
        before = setting
        server.sleep(max(0.0, (step + 1) * case.period_s - server.now_s()))
    return server.read().energy_j + LATE_J * server.tallies["latency"].late


def test_the_path_is_the_cheapest_of_all_paths():
    case = a_small_cell()
    path = best_path(case, late_j=(LATE_J,), width=10_000, grain_s=0.0)
    every = [gone(case, settings) for settings in product(range(3), repeat=6)]
    assert path.exact
    assert gone(case, path.settings) == pytest.approx(min(every))
    assert min(every) < 0.999 * min(gone(case, (setting,) * 6) for setting in range(3)), "else nothing is to be found"


def test_with_few_states_it_is_a_path_that_can_be_gone_and_says_that_it_may_not_be_the_best():
    case = a_small_cell()
    best = best_path(case, late_j=(LATE_J,), width=10_000, grain_s=0.0)
    path = best_path(case, late_j=(LATE_J,), width=2, grain_s=0.05)
    assert not path.exact
    assert path.energy_j + LATE_J * path.late[0] * 154 == pytest.approx(gone(case, path.settings))
    assert gone(case, path.settings) >= gone(case, best.settings) - 1e-9


def test_hindsight_is_cheaper_than_any_fixed_setting_and_than_the_governor():
    case = a_case(rate_hz=40.0, duration_s=30.0)
    path = best_path(case, late_j=(50.0,), width=6, grain_s=0.02, period_s=0.5)
    most = held(case, 0)
    fixed = [each.energy_j for each in (held(case, at) for at in range(3)) if each.late[0] <= most.late[0] + 0.001]
    assert path.late[0] <= most.late[0] + 0.001
    assert path.energy_j <= 1.005 * min(fixed)
    assert path.energy_j <= governed(case).energy_j


def test_a_fork_goes_on_as_the_server_itself_does():
    server = a_case(rate_hz=60.0).server()
    server.sleep(1.0)
    again = server.fork()
    again.apply(SETTINGS[2])
    again.sleep(1.0)
    server.sleep(5.0)
    straight = a_case(rate_hz=60.0).server()
    straight.sleep(1.0)
    straight.sleep(5.0)
    assert (server.read(), server.finished, server.tallies["latency"].counts) == (
        straight.read(),
        straight.finished,
        straight.tallies["latency"].counts,
    )
    assert poisson(60.0, 10.0, 0).size > 0


def test_the_state_that_waits_least_is_kept_beside_cheaper_ones():
    case, labels = a_case(rate_hz=300.0, duration_s=5.0), []
    for setting in (0, 2):
        server = case.server()
        server.apply(SETTINGS[setting])
        server.sleep(5.0)
        labels.append(_Label(server, server.read().energy_j, None))
    fast, slow = labels
    more = fast.server.finished - slow.server.finished
    assert more > 0
    worth_j = (fast.cost_j - slow.cost_j) / more / 8.0
    slower = [_Label(slow.server, slow.cost_j + 1e-6 * at, None) for at in range(20)]
    kept = _by_turns([*slower, fast], 8, (0.0, worth_j))
    assert len(kept) == 8
    assert kept[0] is slower[0]
    assert fast in kept
