"""What the retraining script reads out of its losses, and which modules it keeps apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")

DATA = Path(__file__).parents[4] / "shared" / "data" / "chang2016_dram_latency"


@pytest.fixture
def judging(retrain: ModuleType) -> ModuleType:
    found: ModuleType = retrain.judging
    return found


@pytest.fixture
def retrain(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("bench.eden.retrain")


def test_a_rate_is_borne_until_the_loss_takes_all_that_is_left(judging: ModuleType) -> None:
    losses = {rate: [10.0 * rate] * 5 for rate in (1e-4, 3e-4, 1e-3, 3e-3)}
    assert judging.tolerable(losses, 0.01) == pytest.approx(1e-3, rel=1e-3)
    assert judging.tolerable(losses, 0.005) == pytest.approx(5e-4, rel=1e-3)


def test_a_single_noisy_mean_moves_the_rate_little(judging: ModuleType) -> None:
    losses = {rate: [10.0 * rate, 10.0 * rate] for rate in (1e-4, 2e-4, 4e-4, 1e-3, 3e-3)}
    losses[4e-4] = [0.0, 0.03]
    assert judging.tolerable(losses, 0.01) == pytest.approx(1e-3, rel=0.15)


def test_no_rate_is_borne_where_nothing_is_left(judging: ModuleType) -> None:
    assert judging.tolerable({1e-4: [0.0, 0.0], 1e-3: [0.02, 0.02]}, 0.0) == 0.0


def test_the_highest_rate_is_borne_where_none_costs_what_is_left(judging: ModuleType) -> None:
    assert judging.tolerable({1e-4: [0.0, 0.0], 1e-3: [0.004, 0.006]}, 0.01) == pytest.approx(1e-3)


@pytest.mark.skipif(not DATA.exists(), reason="the measurements are not here")
def test_modules_that_are_fitted_and_left_out_have_none_in_common(judging: ModuleType) -> None:
    fitted, left_out = judging.half_of_dimms()
    assert not set(fitted) & set(left_out)
    assert set(fitted) | set(left_out) == set(judging.measured())
    vendors = [{judging.measured()[name][0] for name in part} for part in (fitted, left_out)]
    assert vendors[0] == vendors[1]


@pytest.mark.skipif(not DATA.exists(), reason="the measurements are not here")
def test_errors_of_fitted_modules_have_the_rate_that_was_asked_for(retrain: ModuleType, judging: ModuleType) -> None:
    errors = retrain.Dimms(judging.half_of_dimms()[0][:2])
    torch.manual_seed(0)
    found = [len(errors.positions(name, 200_000, 1, 2e-3)) for _ in range(4) for name in "abcdefgh"]
    assert sum(found) / (200_000 * len(found)) == pytest.approx(2e-3, rel=0.5)


def test_the_log_is_there_and_says_by_a_digest_what_made_it(retrain: ModuleType) -> None:
    assert {case.network for case in retrain.known()} >= {"lenet", "vgg"}
    assert len(retrain.provenance()["code_sha256"]) == len("0" * 64)
