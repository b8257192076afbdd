"""What a chip's file says about its distance from reality is what the bench finds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from amble.devices.simulated import chip as catalogue
from bench.calibration import microbenchmarks as micro
from bench.calibration import study as calibration

DATA = Path(os.environ.get("AMBLE_DATA") or Path(__file__).parents[4] / "shared" / "data")


@pytest.mark.parametrize("name", catalogue.chips())
def test_a_chip_declares_the_error_that_the_bench_finds(name: str) -> None:
    if name in calibration.COMPARED and not (DATA / calibration.COMPARED[name][1]).exists():
        pytest.skip("the recorded data are not here")
    assert catalogue.load(name).calibration == calibration.statement(name, DATA)


def test_a_chip_without_its_data_is_listed_as_not_measured(tmp_path: Path) -> None:
    (record,) = calibration.records("jetson-tx2", tmp_path)
    assert record["what"] == "data not here"
    assert record["median_percent"] is None


def test_no_clock_is_both_fitted_and_judged() -> None:
    assert set(calibration.held_out(13).tolist()) & set(range(0, 13, 2)) == set()
    assert not set(calibration.FITTED_INTENSITIES) >= set(micro.INTENSITIES)


def test_mixbench_counts_its_operations() -> None:
    chip = catalogue.load("jetson-tx2")
    single, half = (micro.mixbench(chip, precision, (0, 64)) for precision in ("fp32", "fp16"))
    assert single.fma[1] == pytest.approx((0.25 + 32) * 2**27 / 2)
    assert half.fma == pytest.approx(2 * single.fma)
    assert np.all(single.blocks * single.dram_bytes / single.blocks == 2**27)


def test_the_distance_from_a_chip_s_own_curve_is_told_beside_that_from_the_watts() -> None:
    found = calibration.p40(DATA)
    busy, curve = found["power heavy networks, table of watts"], found[f"{calibration.CURVE}: power heavy networks"]
    assert busy.size == len(calibration.P40_BUSY_W)
    assert np.median(np.abs(busy - 1)) > 2 * np.median(np.abs(curve - 1))
    said = calibration.statement("tesla-p40", DATA)
    watts, _, fitted = said.partition("power median error ")[2].partition(f", {calibration.CURVE} ")
    assert float(watts.split()[0]) == pytest.approx(100 * np.median(np.abs(busy - 1)), abs=0.05)
    assert float(fitted.split()[2]) == pytest.approx(100 * np.median(np.abs(curve - 1)), abs=0.05)
