"""Micro-benchmarks that real chips were measured with -> the kernels that a simulated chip runs for them, and the data.

mixbench reads a buffer once and does a given number of operations on every element. Its time at low intensity and low
core clock (62 bytes a clock, just below the 64 of the TX2's two L2 ports) shows that a kernel reads half of the 256 MB.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amble.core.graph import Gemm, Graph, Operator
from amble.core.ports import FloatArray
from amble.core.table import read_table
from amble.devices.simulated.chip import Chip
from amble.devices.simulated.kernels import Launches

__all__ = [
    "A100_FMA",
    "INTENSITIES",
    "SEQUENCE",
    "TX2_MIXBENCH",
    "TX2_RAILS",
    "V100_COUNTERS",
    "Counters",
    "counted",
    "counters",
    "heavy_network",
    "mixbench",
    "mixbench_s",
    "rail_w",
    "saturated",
]

TX2_MIXBENCH = Path("recorded/jetson-tx2-osldvfs-mixbench.csv.gz")
TX2_RAILS = Path("osldvfs_tx2_three_clock/power_rails_mW.csv.gz")
V100_COUNTERS = Path("hkbu_nv_dvfs_benchmark/v100_from_705mhz.csv.gz")
A100_FMA = Path("recorded/a100-pcie-kerneltuner-fma.csv.gz")

INTENSITIES = (0, 1, 2, 4, 8, 12, 16, 24, 32, 64, 128, 256)  # the ones recorded
SEQUENCE = (*range(19), 20, 22, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 256)  # mixbench's own 32
BUFFER_BYTES = 2.0**27

_BLOCKS, _WARPS, _RESIDENT = 16384.0, 8.0, 8.0
_OTHER_SLOTS = 2.73  # issue slots for each element that are no multiply-add: fitted with the TX2
_LONG_LOOP, _LONG_LOOP_STRETCH = 256, 1.118  # unrolled beyond the instruction cache: fitted with the TX2
_FP64_LANES = 4.0  # per SM, 1/32 of FP32 (CUDA C programming guide, capability 6.2)


@dataclass(frozen=True, slots=True)
class Counters:
    """Programs on the V100 at its seven clocks. clock_hz: [clock]; time_s, power_w: [program, clock].

    dram, fp32, occupancy: [program], shares of the units' peak at the highest clock.
    """

    names: tuple[str, ...]
    clock_hz: FloatArray
    time_s: FloatArray
    power_w: FloatArray
    dram: FloatArray
    fp32: FloatArray
    occupancy: FloatArray


def mixbench(chip: Chip, precision: str, intensities: Sequence[int]) -> Launches:
    """Return one kernel for each intensity.

    For fp64, which networks do not use, the kernel counts as fp32 with the cycles of the fp64 units.
    """
    steps = np.asarray(intensities, dtype=np.float64)
    per_byte = {"fp32": 0.25 + 0.5 * steps, "fp16": 0.5 + steps, "fp64": 0.125 + 0.25 * steps}[precision]
    fma, compute = per_byte * BUFFER_BYTES / 2, chip.compute
    if precision == "fp64":
        return launched("fp32", fma / _FP64_LANES, 0.0 * fma)  # an active cycle takes issue_pj: fitted so
    stretch = np.where(steps >= _LONG_LOOP, _LONG_LOOP_STRETCH, 1.0)
    work = fma / (compute.fma_per_clock[precision] * compute.issue_efficiency[precision]) * stretch
    return launched(precision, work + _OTHER_SLOTS * BUFFER_BYTES / 4 / compute.fma_per_clock["fp32"], fma)


def saturated(chip: Chip) -> Launches:
    """Return one kernel of FP32 multiply-adds and next to nothing else."""
    fma = np.array([1e12])
    rate = chip.compute.fma_per_clock["fp32"] * chip.compute.issue_efficiency["fp32"]
    return launched("fp32", fma / rate, fma, moved_bytes=np.array([1e6]))


def heavy_network() -> Graph:
    """Convolutions of a large network at batch 256: long kernels, few of them bound by memory."""
    layers = ((128, 56, 9), (256, 28, 1), (256, 28, 9), (512, 14, 1), (512, 14, 9), (1024, 7, 1))
    operators = []
    for index, (channels, side, window) in enumerate(layers):
        product = Gemm(256 * side * side, channels, channels * window)
        size, weights = 4.0 * product.m * channels, 4.0 * channels * channels * window
        flops = 2.0 * product.m * product.n * product.k
        operators.append(Operator(f"conv{index}", "Conv", flops, size + weights, size, weights, gemm=product))
    return Graph("heavy", tuple(operators), 256, "heavy")


def counted(chip: Chip, found: Counters, cycles: FloatArray) -> Launches:
    """Return the programs as kernels with the DRAM traffic and multiply-adds that were counted at the top clock.

    cycles: [program], issue cycles of the whole kernel.
    """
    time_s, clock_hz = found.time_s[:, -1], found.clock_hz[-1]
    dram_bytes = found.dram * chip.memory.dram_bytes_per_cycle * chip.memory_mhz[-1] * 1e6 * time_s
    fma = found.fp32 * chip.compute.fma_per_clock["fp32"] * chip.compute.units * clock_hz * time_s
    warps = np.maximum(1.0, _WARPS * found.occupancy)
    return launched("fp32", cycles, fma, moved_bytes=np.maximum(dram_bytes, 1e4), warps=warps)


def mixbench_s(data: Path, precision: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Read mixbench's times on the TX2, medians over the CPU clocks.

    Returns core_hz: [core], memory_hz: [memory], time_s: [intensity, core, memory].
    """
    table = read_table(data / TX2_MIXBENCH)
    table = table.rows(table.precision == precision)
    steps = np.array([int(name[1:]) for name in table.kernel.tolist()])
    core_hz, memory_hz, cpu_hz = (np.unique(each) for each in (table.core_hz, table.memory_hz, table.cpu_hz))
    time_s = np.full((len(INTENSITIES), len(core_hz), len(memory_hz), len(cpu_hz)), np.nan)
    where = np.searchsorted(INTENSITIES, steps), np.searchsorted(core_hz, table.core_hz)
    time_s[(*where, np.searchsorted(memory_hz, table.memory_hz), np.searchsorted(cpu_hz, table.cpu_hz))] = (
        table.latency_s
    )
    return core_hz, memory_hz, np.nanmedian(time_s, axis=3)


def rail_w(data: Path, rail: str) -> FloatArray:
    """Read a rail's power on the TX2 during mixbench [W] → [core, memory, cpu]; ``rail`` as ``VDD_IN_act_mean``."""
    rows = [row for row in _rows(data / TX2_RAILS) if row["kind"] == "mixbench_gpu"]
    axes = [np.array([float(row[name]) for row in rows]) for name in ("gpu_mhz", "emc_mhz", "cpu_mhz")]
    levels = [np.unique(each) for each in axes]
    power_w = np.full([len(each) for each in levels], np.nan)
    power_w[tuple(np.searchsorted(level, axis) for level, axis in zip(levels, axes, strict=True))] = [
        float(row[rail]) / 1e3 for row in rows
    ]
    return power_w


def counters(data: Path) -> Counters:
    """Read the V100's programs."""
    rows = _rows(data / V100_COUNTERS)
    names = sorted({f"{row['benchmark']}/{row['argNo']}" for row in rows})
    mhz = sorted({float(row["core_frequency"]) for row in rows})
    columns = ("time", "average_power", "DRAMA", "FP32A", "SMOCC")
    cube = np.full((len(columns), len(names), len(mhz)), np.nan)
    for row in rows:
        place = names.index(f"{row['benchmark']}/{row['argNo']}"), mhz.index(float(row["core_frequency"]))
        cube[(slice(None), *place)] = [float(row[column]) for column in columns]
    time_s, power_w, dram, fp32, occupancy = cube[0] / 1e3, *cube[1:]
    return Counters(tuple(names), np.array(mhz) * 1e6, time_s, power_w, dram[:, -1], fp32[:, -1], occupancy[:, -1])


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def launched(
    precision: str,
    cycles: FloatArray,
    fma: FloatArray,
    *,
    moved_bytes: FloatArray | None = None,
    warps: FloatArray | None = None,
) -> Launches:
    one = np.ones(len(fma))
    moved_bytes = BUFFER_BYTES * one if moved_bytes is None else moved_bytes
    return Launches(
        classes=np.array(["stream"] * len(fma)),
        precision=precision,
        blocks=_BLOCKS * one,
        cycles=cycles / _BLOCKS,
        l2_bytes=moved_bytes / _BLOCKS,
        dram_bytes=moved_bytes,
        fma=fma,
        resident=_RESIDENT * one,
        warps=_WARPS * one if warps is None else warps,
        stages=one,
        access=one,
    )
