"""The rehearsed plants of the bench, and the rebuilt governors beside ours."""

import numpy as np
import pytest

from amble.core.point import Clocks
from amble.services.govern.objective import Objective
from amble.services.govern.rehearsal import Batcher, BatchingPlant, Engine, EnginePlant, Requests
from bench.govern.baselines import Bandit, Ladder, Utilisation
from bench.govern.plants import Case, governed, held
from bench.govern.traffic import poisson

SPEEDS = np.array([1.0, 0.8, 0.6])
SETTINGS = tuple(Clocks(core_hz=1e9 * speed) for speed in SPEEDS)
WANTED = (Objective.parse("latency p99 < 100ms"),)
PLANT = BatchingPlant(
    SETTINGS, 0.01 / SPEEDS[:, None] * np.ones(4), 20.0 + 80.0 * SPEEDS[:, None] ** 3 * np.ones(4), 10.0 * SPEEDS
)


def a_case(rate_hz=10.0, duration_s=120.0):
    requests = Requests.plain(poisson(rate_hz, duration_s, 0))
    slowness = tuple((float(1.0 / speed),) for speed in SPEEDS)
    return Case(lambda: Batcher(PLANT, requests, WANTED), WANTED, duration_s, slowness)


def test_the_energy_of_a_fixed_setting_is_that_of_its_busy_and_idle_time():
    case = a_case()
    server = case.server()
    server.sleep(120.0)
    expected_j = server.busy_s * 100.0 + (server.now_s() - server.busy_s) * 10.0
    assert server.read().energy_j == pytest.approx(expected_j)
    assert held(case, 2).energy_j < held(case, 0).energy_j


@pytest.mark.parametrize("kind", ["utilisation", "bandit", "ladder"])
def test_a_rebuilt_governor_lowers_the_clocks(kind):
    case = a_case()
    server = case.server()
    heads = {"utilisation": Utilisation(server, SPEEDS), "bandit": Bandit(3), "ladder": Ladder(server, 3, 4.0)}
    outcome = governed(case, server=server, head=lambda _: heads[kind])
    assert outcome.log is not None
    assert max(each.decided for each in outcome.log.periods) > 0
    assert outcome.energy_j < held(case, 0).energy_j


def test_an_engine_answers_every_request_with_every_token():
    ones = np.ones(2)
    settings = SETTINGS[:2]
    plant = EnginePlant(settings, 1e-4 * ones, 0.02 * ones, 1e-4 * ones, 300.0 * ones, 200.0 * ones, 50.0 * ones)
    requests = Requests(np.array([0.0, 0.1, 5.0]), np.array([700.0, 100.0, 50.0]), np.array([20.0, 5.0, 1.0]))
    engine = Engine(plant, requests, (Objective.parse("ttft p99 < 1s"),))
    engine.sleep(20.0)
    assert engine.finished == 3
    assert engine.output_tokens == 26.0
    assert engine.prompt_tokens == 850.0
    first_s = engine.tallies["ttft"].sum_s
    assert 0.07 + 0.01 + 0.005 <= first_s <= 0.3
    assert engine.tallies["itl"].total == 23
