"""Fit the simulated chips' numbers to the recorded tables and print them, to be put into the chips' files by hand.

    python -m tools.chips [jetson-tx2 | v100 | tesla-p40 | a100 ...]

Fits on every second clock (on the TX2 also seven of twelve intensities, on the V100 every second program);
`bench/calibration` judges on the rest. Nothing here looks at a network's time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import least_squares, nnls

from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.core.table import read_table
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.chip import Chip
from amble.devices.simulated.physics import Physics, Points
from bench.calibration import microbenchmarks as micro
from bench.calibration import study as calibration
from bench.kit import places

DATA = places.data()
Found = dict[str, float | list[float]]
_SLOW = 3  # memory clocks below 204 MHz come first on the TX2's ladder


def fit(
    residuals: Callable[[FloatArray], FloatArray], start: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> FloatArray:
    """Least squares of log ratios, robust against outliers beyond a few percent."""
    first = np.asarray(start, dtype=np.float64)
    found = least_squares(residuals, first, bounds=(low, high), loss="soft_l1", f_scale=0.03, x_scale=first)
    return np.asarray(found.x)


def tx2_time() -> Found:
    """Rates, latency and each memory clock's efficiency from mixbench's times."""
    chip, steps = catalogue.load("jetson-tx2"), list(calibration.FITTED_INTENSITIES)
    rows = [micro.INTENSITIES.index(each) for each in steps]
    core_hz, memory_hz, _ = micro.mixbench_s(DATA, "fp32")
    measured = {each: micro.mixbench_s(DATA, each)[2][rows][:, ::2] for each in ("fp32", "fp16")}

    def residuals(x: FloatArray) -> FloatArray:
        tried = _tx2(chip, x)
        ratios = [
            calibration.grid_s(tried, each, steps, core_hz[::2], memory_hz) / time_s
            for each, time_s in measured.items()
        ]
        return np.asarray(np.log(np.concatenate([ratio.ravel() for ratio in ratios])))

    start = [0.99, 0.96, 31.0, 0.4e-6, 4000.0, *chip.memory.dram_efficiency]
    x = fit(residuals, start, [0.8, 0.8, 25, 0.05e-6, 512, *[0.2] * 11], [1, 1, 34, 2e-6, 9000, *[1.0] * 11])
    names = ("issue_efficiency.fp32", "issue_efficiency.fp16", "l2_bytes_per_cycle", "latency_s", "visit_bytes")
    return dict(zip(names, x[:5].tolist(), strict=True)) | {"dram_efficiency": x[5:].tolist()}


def _tx2(chip: Chip, x: FloatArray) -> Chip:
    compute = replace(chip.compute, issue_efficiency={"fp32": float(x[0]), "fp16": float(x[1])})
    memory = replace(
        chip.memory,
        l2_bytes_per_cycle=float(x[2]),
        latency_s=float(x[3]),
        visit_bytes=float(x[4]),
        dram_efficiency=x[5:].tolist(),
    )
    return replace(chip, compute=compute, memory=memory)


def tx2_power() -> Found:
    """The GPU's rail over both clocks, the memory's over its traffic, the board's input over the sum of the rails."""
    chip = catalogue.load("jetson-tx2")
    core_hz, memory_hz = chip.ladder("core"), chip.ladder("memory")
    launched, saturated = micro.mixbench(chip, "fp64", micro.SEQUENCE), micro.saturated(chip)
    time_s = calibration.grid_s(chip, "fp64", list(micro.SEQUENCE), core_hz, memory_hz).sum(axis=0)
    mean_w, high_w, dram_w, board_w = (
        np.nanmedian(micro.rail_w(DATA, rail), axis=2)
        for rail in ("VDD_GPU_act_mean", "VDD_GPU_act_p90", "VDD_DDR_act_mean", "VDD_IN_act_mean")
    )
    cycles_hz = float((launched.cycles * launched.blocks).sum()) / time_s  # of all SMs
    l2_bytes_per_s = float((launched.l2_bytes * launched.blocks).sum()) / time_s
    full_hz = chip.compute.units * core_hz
    fma_hz = full_hz * float((saturated.fma / saturated.cycles / saturated.blocks)[0])
    ghz = core_hz / 1e9

    def rails(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        volts = np.interp(core_hz / 1e6, [726.75, 930.75, 1122.0, 1300.5], [1.0, *x[4:]])
        rest_w = x[0] * volts + volts**2 * ghz * x[1]
        l2_w = chip.power.l2_pj_per_byte * 1e-12 * l2_bytes_per_s
        mean = rest_w[:, None] + volts[:, None] ** 2 * (x[2] * 1e-12 * cycles_hz + l2_w)
        return mean, rest_w + volts**2 * 1e-12 * (x[2] * full_hz + x[3] * fma_hz)

    def residuals(x: FloatArray) -> FloatArray:
        mean, high = rails(x)
        several = (mean / mean_w)[::2].ravel(), (high[:, None] / high_w)[::2, _SLOW + 1 :].ravel()
        return np.log(np.concatenate(several))

    x = fit(residuals, [0.3, 0.3, 400, 1.5, 1.1, 1.2, 1.35], [0, 0.02, 10, 0, 1, 1, 1], [1, 2, 3e3, 9, 2, 2, 2])
    dram, fitted_w = _dram_w(float(launched.dram_bytes.sum()) / time_s, dram_w)
    rails_w = rails(x)[0] + fitted_w + np.asarray(chip.power.soc_w) + float(np.median(chip.power.cpu_busy_w))
    gain, board = _affine(rails_w[::2].ravel(), board_w[::2].ravel())
    names = ("leak_w", "clock_w_per_ghz", "issue_pj", "fma_pj.fp32")
    found: Found = dict(zip(names, x[:4].tolist(), strict=True))
    return found | {"voltage": [1.0, *x[4:].tolist()]} | dram | {"loss": gain - 1, "board_w": board}


def _dram_w(bytes_per_s: FloatArray, power_w: FloatArray) -> tuple[Found, FloatArray]:
    """Background of each memory clock and energy a byte, by non-negative least squares; and the rail they give."""
    fitted, count = bytes_per_s[::2], bytes_per_s.shape[1]
    rows = np.concatenate([np.tile(np.eye(count), (len(fitted), 1)), fitted.reshape(-1, 1) * 1e-9], axis=1)
    x, _ = nnls(rows / power_w[::2].reshape(-1, 1), np.ones(len(rows)))
    found: Found = {"dram_w": x[:-1].tolist(), "dram_pj_per_byte": float(x[-1]) * 1e3}
    return found, np.asarray(x[:-1] + x[-1] * 1e-9 * bytes_per_s)


def _affine(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Gain and offset of y over x, by relative errors."""
    found = np.linalg.lstsq(np.stack([x, np.ones_like(x)], axis=1) / y[:, None], np.ones_like(y), rcond=None)[0]
    return float(found[0]), float(found[1])


def v100_power() -> Found:
    """Static power, clock, issue, multiply-adds, traffic and voltage from every second program."""
    chip, found = catalogue.load("v100"), micro.counters(DATA)
    launched = micro.counted(chip, found, calibration.top_cycles(chip, found))
    memory_hz = np.full(len(found.clock_hz), chip.memory_mhz[-1] * 1e6)
    time_s = Physics(chip).kernel_s(launched, Points(found.clock_hz, memory_hz, found.clock_hz))
    cycles, l2_bytes = launched.cycles * launched.blocks, launched.l2_bytes * launched.blocks
    knots = [705.0, 945.0, 1087.0, 1237.0, 1380.0]

    def residuals(x: FloatArray) -> FloatArray:
        volts = np.interp(found.clock_hz / 1e6, knots, [1.0, *x[6:]])
        core_j = 1e-12 * (x[2] * cycles + x[3] * launched.fma + x[4] * l2_bytes)[:, None] * volts**2
        dram_j = 1e-12 * x[5] * launched.dram_bytes[:, None]
        power_w = x[0] * volts + x[1] * volts**2 * found.clock_hz / 1e9 + (core_j + dram_j) / time_s
        return np.asarray(np.log(power_w / found.power_w)[::2].ravel())

    # the same GPU's idle power (titan-v-ulisboa-idle, 30 W at 135 MHz) bounds what is static
    start = [31.0, 20.0, 200.0, 8.0, 5.0, 20.0, 1.05, 1.1, 1.2, 1.3]
    x = fit(residuals, start, [30, 2, 0, 0, 0, 0, 1, 1, 1, 1], [40, 60, 900, 20, 60, 90, 1.7, 1.7, 1.7, 1.7])
    names = ("leak_w + dram_w", "clock_w_per_ghz", "issue_pj", "fma_pj.fp32", "l2_pj_per_byte", "dram_pj_per_byte")
    return dict(zip(names, x[:6].tolist(), strict=True)) | {"voltage": [1.0, *x[6:].tolist()]}


def p40_power() -> Found:
    """Busy and idle power at every second clock; `work` scales issue_pj and fma_pj."""
    chip = catalogue.load("tesla-p40")
    launched, core_hz = Physics(chip).launches(micro.heavy_network(), "fp32"), chip.ladder("core")
    memory_hz = np.full(len(core_hz), chip.memory_mhz[-1] * 1e6)
    time_s = Physics(chip).sequence_s(launched, Points(core_hz, memory_hz, core_hz)).sum(axis=0)
    cube = (core_hz / 1e9) ** 3
    busy_w, idle_w = (a + b * cube for a, b in (calibration.P40_BUSY, calibration.P40_IDLE))

    def residuals(x: FloatArray) -> FloatArray:
        physics = Physics(_p40(chip, x))
        work_w = physics.dynamic_j(launched, core_hz).sum(axis=0) / time_s
        busy = np.array([physics.busy_w(Clocks(each), 45.0) for each in core_hz]) + work_w
        idle = np.array([physics.idle_w(Clocks(each), 45.0) for each in core_hz])
        weak = 0.01 * (x[3] - 0.6), 0.01 * (x[1] - 12) / 12  # holds what ten clocks cannot tell apart
        return np.concatenate([np.log(busy / busy_w)[::2], np.log(idle / idle_w)[::2], weak])

    start = [20, 12, 0.2, 0.6, 1, 34, 1.1, 1.22]
    x = fit(residuals, start, [2, 3, 0, 0, 0.2, 5, 1, 1], [60, 40, 1, 1, 3, 60, 1.6, 1.9])
    names = ("leak_w", "clock_w_per_ghz", "idle_share", "idle_leak_share", "work", "dram_w")
    return dict(zip(names, x[:6].tolist(), strict=True)) | {"voltage": [1.0, *x[6:].tolist()]}


def _p40(chip: Chip, x: FloatArray) -> Chip:
    power = chip.power
    tried = replace(
        power,
        leak_w=float(x[0]),
        clock_w_per_ghz=float(x[1]),
        idle_share=float(x[2]),
        idle_leak_share=float(x[3]),
        issue_pj=power.issue_pj * float(x[4]),
        fma_pj={name: value * float(x[4]) for name, value in power.fma_pj.items()},
        dram_w=[float(x[5])],
        voltage=[(835.0, 1.0), (1189.0, float(x[6])), (1531.0, float(x[7]))],
    )
    return replace(chip, power=tried)


def a100_power() -> Found:
    """Static and dynamic power of the full-load FMA kernel at every second clock and the top, and the voltage knee."""
    table = read_table(DATA / micro.A100_FMA)
    ghz, power_w = table.core_hz[::2] / 1e9, table.power_w[::2]
    top_ghz, top_w = table.core_hz[-1] / 1e9, table.power_w[-1]

    def residuals(x: FloatArray) -> FloatArray:
        clocks = np.append(ghz, top_ghz)
        volts = np.interp(clocks, [1.005, 1.275, 1.41], [1.0, *x[2:]])
        return np.asarray(np.log((x[0] * volts + x[1] * volts**2 * clocks) / np.append(power_w, top_w)))

    x = fit(residuals, [30, 40, 1.2, 1.3], [5, 5, 1, 1], [60, 90, 1.5, 1.9])
    return {"leak_w + dram_w": float(x[0]), "all dynamic, W per GHz": float(x[1]), "voltage": [1.0, *x[2:].tolist()]}


FITS: dict[str, tuple[Callable[[], Found], ...]] = {
    "jetson-tx2": (tx2_time, tx2_power),
    "v100": (v100_power,),
    "tesla-p40": (p40_power,),
    "a100": (a100_power,),
}


def main(names: Sequence[str]) -> None:
    """Print what fits, one line a number."""
    for name in names or tuple(FITS):
        print(f"# {name}")
        for each in FITS[name]:
            for key, value in each().items():
                shown = [f"{number:.4g}" for number in value] if isinstance(value, list) else f"{value:.4g}"
                print(f"{key} = {', '.join(shown) if isinstance(value, list) else shown}")


if __name__ == "__main__":
    main(sys.argv[1:])
