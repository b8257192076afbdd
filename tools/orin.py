"""Fit the Orin Nano Super's numbers to its proxies and print them, for the chip's file and `orin.py`.

    python -m tools.orin

Fits on every second core clock and every second run of the power; `bench.calibration` judges on the rest.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from scipy.optimize import least_squares

from amble.core.ports import FloatArray
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.chip import Chip
from bench.calibration import orin
from bench.kit import places

DATA = places.data()
LOADS = ("proxy", "cproxyv1", "cproxyv2")
_LEAST_CLOCK_W_PER_GHZ = 0.1  # the fit would have none: a core that waits for memory is gated
Compute = dict[str, tuple[float, float]]


def _timed(chip: Chip, x: FloatArray) -> tuple[Chip, Compute]:
    memory = replace(chip.memory, dram_efficiency=x[:4].tolist())
    compute = {"cproxyv1": (x[5] * 1e7, x[6] * 1e9), "cproxyv2": (x[7] * 1e7, x[8] * 1e9)}
    return replace(chip, memory=memory, efficiency={**chip.efficiency, "gemv": float(x[4])}), compute


def fit_time() -> tuple[Chip, Compute]:
    """Each memory clock's efficiency, that of matrix-vector kernels, and what the other proxies do."""
    chip, found = catalogue.load(orin.NAME), {load: orin.cells(DATA, load) for load in LOADS}

    def residuals(x: FloatArray) -> FloatArray:
        tried, compute = _timed(chip, x)
        logs = [
            np.log(orin.simulated_s(tried, load, at, compute) / at.time_s)[orin.is_fitted(at)]
            for load, at in found.items()
        ]
        return np.asarray(np.concatenate(logs))

    start = np.array([0.9, 0.9, 0.9, 0.9, 0.1, 1.1, 0.7, 1.4, 0.8])
    low, high = [0.5] * 4 + [0.01, 0.5, 0.3, 0.5, 0.3], [1.0] * 4 + [2.0, 2.0, 2.0, 3.0, 2.0]
    x = least_squares(residuals, start, bounds=(low, high), loss="soft_l1", f_scale=0.03, x_scale=start).x
    return _timed(chip, x)


def fit_power(chip: Chip, compute: Compute) -> Chip:
    """The board and its memory at rest, a busy core's clock, and a byte; only the top core clock was metered."""
    at = orin.periods(DATA)
    fitted = np.arange(len(at.hz)) % 2 == 0

    def tried(x: FloatArray) -> Chip:
        power = replace(
            chip.power,
            board_w=float(x[0]),
            dram_w=[chip.power.dram_w[0], *x[1:4].tolist()],
            clock_w_per_ghz=float(x[4]),
            dram_pj_per_byte=float(x[5]),
        )
        return replace(chip, power=power)

    def residuals(x: FloatArray) -> FloatArray:
        logs = np.log(orin.simulated_w(tried(x), at, compute) / at.power_w)
        return np.asarray(logs[fitted])

    start, high = np.array([2.0, 0.8, 0.8, 1.2, 0.5, 55.0]), [5.0] * 5 + [300.0]
    bounds = ([0.0] * 4 + [_LEAST_CLOCK_W_PER_GHZ, 5.0], high)
    return tried(least_squares(residuals, start, bounds=bounds, x_scale=start).x)


def main() -> None:
    """Print what to write into the chip's file."""
    chip, compute = fit_time()
    chip = fit_power(chip, compute)
    power = chip.power
    numbers = {
        "dram_efficiency": chip.memory.dram_efficiency,
        "efficiency.gemv": chip.efficiency["gemv"],
        "COMPUTE": compute,
        "board_w": power.board_w,
        "dram_w": power.dram_w,
        "clock_w_per_ghz": power.clock_w_per_ghz,
        "dram_pj_per_byte": power.dram_pj_per_byte,
    }
    print(json.dumps(numbers, indent=1))
    for load in LOADS[::2]:
        at = orin.cells(DATA, load)
        error = np.abs(orin.simulated_s(chip, load, at, compute) / at.time_s - 1)[~orin.is_fitted(at)]
        print(load, "left out: median", np.median(error).round(4), "worst", error.max().round(4))
    runs = orin.periods(DATA)
    error = np.abs(orin.simulated_w(chip, runs, compute) / runs.power_w - 1)[np.arange(len(runs.hz)) % 2 == 1]
    print("power left out: median", np.median(error).round(4), "worst", error.max().round(4))


if __name__ == "__main__":
    main()
