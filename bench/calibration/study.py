"""How far simulated chips are from real ones: times and powers on clocks and workloads that no number was fitted to.

`tools/chips.py` fits on every second clock (and some of the intensities, or every second program); the errors
here are on the rest. Chips without any data are listed as uncalibrated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.core.table import read_table
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.chip import Chip
from amble.devices.simulated.physics import Physics, Points
from bench.calibration import microbenchmarks as micro
from bench.calibration import orin
from bench.kit import document

FITTED_INTENSITIES = (0, 2, 8, 16, 32, 128, 256)
P40_BUSY = (82.5, 29.6)  # curves through the two tables of watts below: a + b (GHz)^3
P40_IDLE = (44.3, 3.2)
# read from the run logs of batchdvfs_p40, one value a clock: heavy networks at 95 % of utilisation or more, and idle
P40_BUSY_W = (86.0, 88.0, 91.0, 102.0, 114.0, 117.0, 133.0, 149.0, 165.0, 190.0)
P40_IDLE_W = (45.4, 45.4, 45.9, 46.2, 46.6, 47.5, 49.2, 51.0, 53.5, 56.5)
_SLOW_MEMORY_HZ = 200e6  # below it the recording is "another, noisy regime" by its own description
_REFERENCE_C = 45.0
CURVE = "against its own curve"  # no measurement: what the numbers were fitted to
_WANT = {"time": "<= 5", "power": "<= 10", "idle": "<= 10"}


def held_out(count: int) -> npt.NDArray[np.intp]:
    """Indices of the clocks or programs that were not fitted."""
    return np.arange(1, count, 2, dtype=np.intp)


def tx2_time(data: Path) -> dict[str, FloatArray]:
    """Ratios of simulated to measured time of mixbench at other intensities and other core clocks."""
    chip, found = catalogue.load("jetson-tx2"), {}
    steps = [each for each in micro.INTENSITIES if each not in FITTED_INTENSITIES]
    rows = [micro.INTENSITIES.index(each) for each in steps]
    for precision in ("fp32", "fp16"):
        core_hz, memory_hz, time_s = micro.mixbench_s(data, precision)
        ratio = grid_s(chip, precision, steps, core_hz, memory_hz) / time_s[rows]
        ratio = ratio[:, held_out(len(core_hz))]
        fast = memory_hz > _SLOW_MEMORY_HZ
        found[f"time {precision}, memory from 204 MHz"] = ratio[:, :, fast]
        found[f"time {precision}, memory below 204 MHz"] = ratio[:, :, ~fast]
    return found


def grid_s(chip: Chip, precision: str, steps: list[int], core_hz: FloatArray, memory_hz: FloatArray) -> FloatArray:
    """Simulated time of mixbench [s] → [intensity, core, memory]."""
    core, memory = (each.ravel() for each in np.meshgrid(core_hz, memory_hz, indexing="ij"))
    launched = micro.mixbench(chip, precision, steps)
    time_s = Physics(chip).kernel_s(launched, Points(core, memory, core))
    return np.asarray(time_s.reshape(len(steps), len(core_hz), len(memory_hz)))


def tx2_power(data: Path) -> dict[str, FloatArray]:
    """Ratios of simulated to measured board input during mixbench's own sequence, at other core clocks."""
    chip = catalogue.load("jetson-tx2")
    physics = Physics(chip)
    core_hz, memory_hz, cpu_hz = (chip.ladder(domain) for domain in ("core", "memory", "cpu"))
    launched = micro.mixbench(chip, "fp64", micro.SEQUENCE)
    time_s = grid_s(chip, "fp64", list(micro.SEQUENCE), core_hz, memory_hz).sum(axis=0)
    work_w = physics.dynamic_j(launched, core_hz).sum(axis=0)[:, None] / time_s
    rest_w = [
        [[physics.busy_w(Clocks(core, memory, cpu), _REFERENCE_C) for cpu in cpu_hz] for memory in memory_hz]
        for core in core_hz
    ]
    ratio = (np.array(rest_w) + work_w[:, :, None]) / micro.rail_w(data, "VDD_IN_act_mean")
    held: FloatArray = ratio[held_out(len(core_hz))]
    return {"power VDD_IN": held}


def v100(data: Path) -> dict[str, FloatArray]:
    """Ratios for programs known by their counters at the top clock: time at all others, power of other programs."""
    chip, found = catalogue.load("v100"), micro.counters(data)
    physics = Physics(chip)
    launched = micro.counted(chip, found, top_cycles(chip, found))
    memory_hz = np.full(len(found.clock_hz), chip.memory_mhz[-1] * 1e6)
    time_s = physics.kernel_s(launched, Points(found.clock_hz, memory_hz, found.clock_hz))
    rest_w = np.array([physics.busy_w(Clocks(each), _REFERENCE_C) for each in found.clock_hz])
    power_w = rest_w + physics.dynamic_j(launched, found.clock_hz) / time_s
    others = held_out(len(found.names))
    return {
        "time programs, from one clock to the others": (time_s / found.time_s)[:, :-1],
        "power programs": (power_w / found.power_w)[others],
    }


def top_cycles(chip: Chip, found: micro.Counters) -> FloatArray:
    """Issue cycles that give each program its time at the top clock, by bisection → [program]."""
    physics, target_s = Physics(chip), found.time_s[:, -1]
    top = physics.points([chip.fastest()])
    low, high = np.zeros(len(target_s)), 1.2 * target_s * found.clock_hz[-1] * chip.compute.units
    for _ in range(40):
        middle = (low + high) / 2
        short = physics.kernel_s(micro.counted(chip, found, middle), top)[:, 0] < target_s
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.asarray((low + high) / 2)


def p40(data: Path) -> dict[str, FloatArray]:
    """Ratios of heavy networks, busy, and of an idle card: to the watts in the logs, and to curves.

    The chip's numbers were fitted to curves through the watts, so that the distance from the curves (at every second
    clock) says how well six numbers follow two formulas; how far the chip is from the card, the watts say (at every
    clock: the curves were drawn through all of them, so none was left out). Of times there is the curve a/f alone.
    """
    chip = catalogue.load("tesla-p40")
    physics, core_hz = Physics(chip), chip.ladder("core")
    launched = physics.launches(micro.heavy_network(), "fp32")
    memory_hz = np.full(len(core_hz), chip.memory_mhz[-1] * 1e6)
    time_s = physics.sequence_s(launched, Points(core_hz, memory_hz, core_hz)).sum(axis=0)
    work_w = physics.dynamic_j(launched, core_hz).sum(axis=0) / time_s
    busy_w = np.array([physics.busy_w(Clocks(each), _REFERENCE_C) for each in core_hz]) + work_w
    idle_w = np.array([physics.idle_w(Clocks(each), _REFERENCE_C) for each in core_hz])
    cube = (core_hz / 1e9) ** 3
    others = held_out(len(core_hz))
    return {
        "power heavy networks, table of watts": busy_w / P40_BUSY_W,
        "idle power, table of watts": idle_w / P40_IDLE_W,
        f"{CURVE}: time heavy networks, less what does not follow the clock": (
            time_s * core_hz / (time_s * core_hz)[-1]
        )[others],
        f"{CURVE}: power heavy networks": (busy_w / (P40_BUSY[0] + P40_BUSY[1] * cube))[others],
        f"{CURVE}: idle power": (idle_w / (P40_IDLE[0] + P40_IDLE[1] * cube))[others],
    }


def a100(data: Path) -> dict[str, FloatArray]:
    """Ratios of the full-load FMA kernel: time from the top clock to the others, power at other clocks."""
    chip, table = catalogue.load("a100"), read_table(data / micro.A100_FMA)
    physics, core_hz = Physics(chip), table.core_hz
    launched = micro.saturated(chip)
    time_s = physics.kernel_s(launched, physics.points([Clocks(each) for each in core_hz]))[0]
    rest_w = np.array([physics.busy_w(Clocks(each), _REFERENCE_C) for each in core_hz])
    power_w = rest_w + physics.dynamic_j(launched, core_hz)[0] / time_s
    scale = time_s / table.latency_s
    return {
        "time FMA kernel, from one clock to the others": scale[:-1] / scale[-1],
        "power FMA kernel": (power_w / table.power_w)[held_out(len(core_hz) - 1)],
    }


COMPARED: dict[str, tuple[str, Path, tuple[Callable[[Path], dict[str, FloatArray]], ...]]] = {
    orin.NAME: ("proxies of an Orin Nano Super", orin.CELLS, (orin.time, orin.power)),
    "jetson-tx2": ("osldvfs mixbench", micro.TX2_MIXBENCH, (tx2_time, tx2_power)),
    "v100": ("hkbu programs", micro.V100_COUNTERS, (v100,)),
    "tesla-p40": ("BatchDVFS logs", Path(), (p40,)),
    "a100": ("Kernel Tuner FMA", micro.A100_FMA, (a100,)),
}


def records(name: str, data: Path) -> list[dict[str, object]]:
    """Errors of one chip against its data; a record without numbers where it has none, or they are not here."""
    if name not in COMPARED:
        return [{"chip": name, "against": "nothing", "what": "uncalibrated", **_errors(None)}]
    against, needed, comparisons = COMPARED[name]
    if not (data / needed).exists():
        return [{"chip": name, "against": against, "what": "data not here", **_errors(None)}]
    return [
        {"chip": name, "against": against, "what": what, **_errors(ratio)}
        for compare in comparisons
        for what, ratio in compare(data).items()
    ]


def statement(name: str, data: Path) -> str:
    """What the chip's file must say about itself: all times and all powers of busy chips pooled."""
    if name not in COMPARED:
        return "uncalibrated"
    against, _, comparisons = COMPARED[name]
    ratios = {what: ratio for compare in comparisons for what, ratio in compare(data).items()}
    parts = []
    for quantity in ("time", "power"):
        compared = {"": quantity, f"{CURVE} ": f"{CURVE}: {quantity}"}
        found = [
            f"{words}{_pooled(ratios, start)}"
            for words, start in compared.items()
            if any(what.startswith(start) for what in ratios)
        ]
        parts.append(f"{quantity} {', '.join(found)}")
    return f"calibrated: against {against}, {'; '.join(parts)}"


def _pooled(ratios: dict[str, FloatArray], start: str) -> str:
    found = _errors(np.concatenate([ratio.ravel() for what, ratio in ratios.items() if what.startswith(start)]))
    return f"median error {found['median_percent']:.2g} %, p95 {found['p95_percent']:.2g} %"


def _errors(ratio: FloatArray | None) -> dict[str, object]:
    if ratio is None:
        return {"cells": 0, "median_percent": None, "p95_percent": None, "bias_percent": None}
    error = 100 * (ratio[np.isfinite(ratio)] - 1)
    return {
        "cells": error.size,
        "median_percent": float(np.median(np.abs(error))),
        "p95_percent": float(np.percentile(np.abs(error), 95)),
        "bias_percent": float(np.median(error)),
    }


def _quantity(record: dict[str, object]) -> str:
    return str(record["what"]).removeprefix(f"{CURVE}: ").split()[0]


def main() -> None:
    """Print every chip's distance from reality."""
    options = document.options("calibration", __doc__)
    found = [record for name in catalogue.chips() for record in records(name, options.data)]
    found = [{**record, "declared": catalogue.load(str(record["chip"])).calibration} for record in found]
    targets = [
        document.target(
            f"{record['chip']}: median error of {record['what']}",
            want=_WANT[_quantity(record)],
            value=record["median_percent"],  # type: ignore[arg-type]  # a float or None
            unit="%",
        )
        for record in found
        if _quantity(record) in _WANT
    ]
    document.finish(options, found, targets)
