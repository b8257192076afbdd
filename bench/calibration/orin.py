"""What was measured on a Jetson Orin Nano Super, and the same loads on its simulated chip: proxies over both clocks.

`proxy` is known: 12 products of a vector with a 4096 x 4096 matrix in FP16, which stream 400 MB. Of the compute-bound
`cproxyv2` only times are known, so it counts as a kernel of so many issue cycles and bytes: two numbers that are fitted
with the chip's, and tell overlap and memory rates, not how fast the tensor cores are. One cell is left out: at 1020 and
3199 MHz the board slows `cproxyv2` down by 8 % (its power or current limit, by the data's own description).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from amble.core.graph import Graph
from amble.core.layers import Shape
from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.chip import Chip
from amble.devices.simulated.kernels import Launches
from amble.devices.simulated.physics import Physics, Points
from amble.runtimes.probing import operator_of
from bench.calibration import microbenchmarks as micro

CELLS = Path("dankang_orin_nano") / "cells.csv"
POWER = Path("dankang_orin_nano") / "periodic_power.csv"
NAME = "jetson-orin-nano-super"
CPU_HZ = 1728e6
COMPUTE = {"cproxyv1": (1.131e7, 7.730e8), "cproxyv2": (1.495e7, 9.130e8)}
"""Issue cycles of all SMs at once, and DRAM bytes, of a run: fitted by `tools/orin.py`."""
_SLOWED = ("cproxyv2", 1020e6, 3199e6)
_VECTORS, _SIDE = 12, 4096


@dataclass(frozen=True, slots=True)
class Cells:
    """Median times [s] of one load: core_hz, memory_hz, time_s, all [cell]."""

    core_hz: FloatArray
    memory_hz: FloatArray
    time_s: FloatArray


def cells(data: Path, load: str) -> Cells:
    """Read a load's cells at the top CPU clock, the median of repeated campaigns."""
    found = defaultdict(list)
    with (data / CELLS).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["workload"] == load and float(row["cpu_mhz"]) * 1e6 == CPU_HZ:
                at = float(row["gpu_mhz"]) * 1e6, float(row["emc_mhz"]) * 1e6
                if (load, *at) != _SLOWED:
                    found[at].append(float(row["p50_ms"]) * 1e-3)
    core_hz, memory_hz = (np.array(each) for each in zip(*sorted(found), strict=True))
    return Cells(core_hz, memory_hz, np.array([median(found[at]) for at in sorted(found)]))


def is_fitted(found: Cells) -> npt.NDArray[np.bool_]:
    """Every second core clock, the top one among them; where only the top one was measured, it is fitted [cell]."""
    ladder = catalogue.load(NAME).ladder("core")
    return np.asarray((len(ladder) - 1 - np.searchsorted(ladder, found.core_hz)) % 2 == 0)


def simulated_s(chip: Chip, load: str, at: Cells, compute: dict[str, tuple[float, float]]) -> FloatArray:
    """Return a load's simulated times [cell]."""
    physics = Physics(chip)
    points = Points(at.core_hz, at.memory_hz, np.full_like(at.core_hz, CPU_HZ))
    return np.asarray(physics.sequence_s(_launches(chip, load, compute), points).sum(axis=0))


def _launches(chip: Chip, load: str, compute: dict[str, tuple[float, float]]) -> Launches:
    if load == "proxy":
        return Physics(chip).launches(vectors(), "fp16")
    cycles, moved_bytes = compute[load]
    cycles *= chip.compute.units
    fma = np.array([cycles * chip.compute.fma_per_clock["fp16"] * chip.compute.issue_efficiency["fp16"]])
    return micro.launched("fp16", np.array([cycles]), fma, moved_bytes=np.array([moved_bytes]))


@cache
def vectors() -> Graph:
    """Return the products of the known proxy."""
    one = operator_of(Shape("gemm", _SIDE, _SIDE), _SIDE, _SIDE, 1, "fp16")
    operators = tuple(replace(one, name=f"{one.name} {index}") for index in range(_VECTORS))
    return Graph("proxy", operators, 1, "proxy", precision="fp16")


def time(data: Path) -> dict[str, FloatArray]:
    """Ratios of simulated to measured times at core clocks that were not fitted."""
    chip, found = catalogue.load(NAME), {}
    for load in ("proxy", "cproxyv2"):
        at = cells(data, load)
        left = ~is_fitted(at)
        found[f"time {load}"] = (simulated_s(chip, load, at, COMPUTE) / at.time_s)[left]
    return found


@dataclass(frozen=True, slots=True)
class Periods:
    """Runs at a fixed rate: load, rate [Hz], memory clock and power at the board's input [W], all [run]."""

    load: tuple[str, ...]
    hz: FloatArray
    memory_hz: FloatArray
    power_w: FloatArray


def periods(data: Path) -> Periods:
    """Read the runs whose memory nobody else loaded."""
    with (data / POWER).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if "adv4" not in row["run"] and float(row["cpu_mhz"]) == 1728]
    rows = [row for row in rows if not (row["workload"] == "proxy" and float(row["p50_ms"]) > 1.1 * _usual(rows, row))]
    memory = {"204": 204e6, "665": 665.6e6, "2133": 2133e6, "3199": 3199e6}
    return Periods(
        tuple(row["workload"] for row in rows),
        np.array([float(row["hz"]) for row in rows]),
        np.array([memory[row["emc_mhz"]] for row in rows]),
        np.array([float(row["VDD_IN_mean_mw"]) * 1e-3 for row in rows]),
    )


def _usual(rows: list[dict[str, str]], like: dict[str, str]) -> float:
    return min(float(row["p50_ms"]) for row in rows if all(row[k] == like[k] for k in ("workload", "emc_mhz")))


def simulated_w(chip: Chip, at: Periods, compute: dict[str, tuple[float, float]]) -> FloatArray:
    """Return the mean power of the same runs, idle gaps included [run]; the chip at 50 degrees, as the board was."""
    physics, found = Physics(chip), []
    for load, hz, memory_hz in zip(at.load, at.hz.tolist(), at.memory_hz.tolist(), strict=True):
        clocks = Clocks(1020e6, memory_hz)
        launched = _launches(chip, load, compute)
        table = physics.table(launched, clocks)
        busy_s = float(table.time_s.sum())
        energy_j = busy_s * physics.busy_w(clocks, 50.0) + float(table.dynamic_j.sum())
        found.append(hz * energy_j + (1 - hz * busy_s) * physics.idle_w(clocks, 50.0))
    return np.array(found)


def power(data: Path) -> dict[str, FloatArray]:
    """Ratios of simulated to measured mean powers: of the runs that no number was fitted to."""
    at = periods(data)
    left = np.arange(len(at.hz)) % 2 == 1
    return {"power of periodic loads": (simulated_w(catalogue.load(NAME), at, COMPUTE) / at.power_w)[left]}
