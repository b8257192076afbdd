"""Runs that are no cells, and how records are judged."""

from dataclasses import asdict, replace

import pytest

from bench.govern.judged import targets
from bench.govern.plants import governed
from bench.govern.study import SEEDS, TUNED
from bench.govern.trials import loaded_idle, truth
from tests.bench.govern.test_plants import a_case

CELL = {
    "server": "engine", "plant": "p", "trace": "t", "load": 0.5, "maximum_keeps": True, "keeps": True,
    "late_more": 0.0, "saving": 0.3, "finished": 400,
}  # fmt: skip


def test_the_true_saving_is_that_of_the_same_arrivals_in_the_governed_periods():
    case = a_case(rate_hz=20.0, duration_s=60.0)
    log = governed(case).log
    idle = case.server()
    idle.sleep(60.0)
    mine_j = sum(each.energy_j for each in log.periods)
    assert truth(case, log) == pytest.approx(1.0 - mine_j / idle.read().energy_j, abs=0.02)
    assert truth(case, replace(log, periods=log.periods[:1])) == 0.0


def test_loaded_idle_tells_power_and_percentile_beside_those_as_found():
    (found,) = loaded_idle(0.3, 60.0, 7)
    assert 0.0 < found["saved"] < 0.5
    assert found["p95_longer"] < 0.5
    assert 0.1 < found["least_idle_saves"] < 0.3


def test_a_cell_is_judged_by_the_best_that_keeps_the_objective_and_by_hindsight():
    records: list[dict[str, object]] = [
        {"part": "about", "left_out": ["cost"]},
        {**CELL, "policy": "amble", "energy_j": 105.0},
        {**CELL, "policy": "ladder", "energy_j": 80.0, "keeps": False},
        {**CELL, "policy": "best fixed", "energy_j": 100.0},
        {**CELL, "policy": "hindsight", "energy_j": 98.0},
    ]
    found = {each.target: each for each in targets(records)}
    assert found["cost: run"].met is None
    assert found["p t at 0.5: energy over best that keeps"].value == pytest.approx(0.05)
    assert found["p t at 0.5: energy over best that keeps"].met is False
    assert found["p t at 0.5: energy over hindsight"].value == pytest.approx(105.0 / 98.0 - 1.0)
    assert found["stated saving holds the truth"].met is None


def test_the_governor_is_reported_on_seeds_that_it_was_not_tuned_on():
    tuned, seeds = asdict(TUNED), asdict(SEEDS)
    assert all(tuned[name] != seeds[name] for name in tuned)
    assert tuned["recorded_s"] + 600 * 0.2 < min(seeds["recorded_s"], seeds["busiest_s"])
    assert not set(range(tuned["proofs"], tuned["proofs"] + 200)) & set(range(seeds["proofs"], seeds["proofs"] + 200))
    assert not set(range(tuned["faults"], tuned["faults"] + 80)) & set(range(seeds["faults"], seeds["faults"] + 80))
