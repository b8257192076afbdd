"""What the retraining script reads out of its losses, and which modules it keeps apart."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")

DATA = Path(__file__).parents[3] / "shared" / "data" / "chang2016_dram_latency"


@pytest.fixture
def retrain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("onnxscript")
    root = Path(__file__).parents[2]
    monkeypatch.setattr(sys, "path", [str(root / "train"), str(root / "bench"), *sys.path])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch warns of what it imports itself
        import retrain as module
    return module


def test_a_rate_is_borne_until_the_loss_takes_all_that_is_left(retrain: ModuleType) -> None:
    assert retrain.crossing({1e-4: 0.0, 1e-3: 0.01, 1e-2: 0.2}, 0.01) == pytest.approx(1e-3)
    assert retrain.crossing({1e-4: 0.0, 1e-2: 0.02}, 0.01) == pytest.approx(1e-3)


def test_a_lower_loss_at_a_higher_rate_takes_nothing_back(retrain: ModuleType) -> None:
    assert retrain.crossing({1e-4: 0.0, 1e-3: 0.02, 1e-2: 0.0}, 0.01) == pytest.approx(10**-3.5)


def test_no_rate_is_borne_where_nothing_is_left(retrain: ModuleType) -> None:
    assert retrain.crossing({1e-4: 0.0, 1e-3: 0.02}, 0.0) == 0.0
    assert retrain.crossing({1e-4: 0.02, 1e-3: 0.03}, 0.01) == 0.0


def test_the_highest_rate_is_borne_where_none_costs_what_is_left(retrain: ModuleType) -> None:
    assert retrain.crossing({1e-4: 0.0, 1e-3: 0.005}, 0.01) == pytest.approx(1e-3)


@pytest.mark.skipif(not DATA.exists(), reason="the measurements are not here")
def test_modules_that_are_fitted_and_left_out_have_none_in_common(retrain: ModuleType) -> None:
    fitted, left_out = retrain.half_of_dimms()
    assert not set(fitted) & set(left_out)
    assert set(fitted) | set(left_out) == set(retrain.measured())
    vendors = [{retrain.measured()[name][0] for name in part} for part in (fitted, left_out)]
    assert vendors[0] == vendors[1]


@pytest.mark.skipif(not DATA.exists(), reason="the measurements are not here")
def test_errors_of_fitted_modules_have_the_rate_that_was_asked_for(retrain: ModuleType) -> None:
    errors = retrain.Dimms(retrain.half_of_dimms()[0][:2])
    torch.manual_seed(0)
    found = [len(errors.positions(name, 200_000, 1, 2e-3)) for _ in range(4) for name in "abcdefgh"]
    assert sum(found) / (200_000 * len(found)) == pytest.approx(2e-3, rel=0.5)
