"""Simulated cores do what can be reckoned, and one front is not asked for more than it can do."""

from __future__ import annotations

import pytest

from bench.serve_cores.scaling import Stages, fronts_for, simulated_hz


@pytest.mark.parametrize("cores", [1, 2, 7, 32])
def test_no_core_idles_while_there_is_work_and_none_works_twice(cores: int) -> None:
    stages = Stages(0.4e-3, 5e-3)
    most_hz = cores / (stages.front_s + stages.engine_s)
    assert 0.97 * most_hz < simulated_hz(cores, stages) <= 1.001 * most_hz


def test_fronts_grow_with_their_share_of_the_work() -> None:
    assert [fronts_for(cores, Stages(1e-3, 9e-3)) for cores in (1, 4, 9, 32)] == [1, 1, 2, 7]
    assert fronts_for(32, Stages(0.1e-3, 50e-3)) == 1


def test_what_fronts_take_is_missing_from_engines() -> None:
    assert simulated_hz(8, Stages(5e-3, 5e-3)) == pytest.approx(simulated_hz(8, Stages(0.0, 5e-3)) / 2, rel=0.05)
