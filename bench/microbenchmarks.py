"""Micro-benchmarks that chips were measured with -> the kernels that the simulated chips' physics runs, and the data.

mixbench reads a buffer once and does a given number of operations on every element. The time at low intensity and low
core clock (62 bytes a clock, below the 64 of the two L2 ports) shows that a kernel reads half of the 256 MB buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from amble.core.ports import FloatArray
from amble.devices.kernels import Launches

__all__ = ["INTENSITIES", "SEQUENCE", "mixbench", "saturated", "table"]

BUFFER_BYTES = 2.0**27
INTENSITIES = (0, 1, 2, 4, 8, 12, 16, 24, 32, 64, 128, 256)  # the ones recorded
SEQUENCE = (*range(19), 20, 22, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 256)  # mixbench's own
_BLOCKS = 16384.0
_WARPS = 8.0
_RESIDENT = 8.0
_OTHER_SLOTS = 2.73  # instructions for each element that are no multiply-add: fitted with the chip
_LONG_LOOP = 256  # unrolled beyond the instruction cache
_LONG_LOOP_STRETCH = 1.118  # fitted with the chip
_FP64_LANES = 4.0  # per SM, 1/32 of FP32 (CUDA C programming guide, capability 6.2)


def table(path: Path) -> pd.DataFrame:
    """Read a file of the recorded schema."""
    return pd.read_csv(path, dtype={"device": str, "workload": str, "kernel": str, "precision": str})


def mixbench(
    precision: str, intensities: Sequence[int], lanes: Mapping[str, float], efficiency: Mapping[str, float]
) -> Launches:
    """Return one kernel for each intensity; ``lanes`` and ``efficiency`` are the chip's, for fp32 and fp16.

    For fp64, which networks do not use, the kernel counts as fp32 with the cycles of the fp64 units.
    """
    steps = np.asarray(intensities, dtype=np.float64)
    per_byte = {"fp32": 0.25 + 0.5 * steps, "fp16": 0.5 + steps, "fp64": 0.125 + 0.25 * steps}[precision]
    fma = per_byte * BUFFER_BYTES / 2
    counted = "fp16" if precision == "fp16" else "fp32"
    rate = _FP64_LANES if precision == "fp64" else lanes[precision] * efficiency[precision]
    stretch = np.where(steps >= _LONG_LOOP, _LONG_LOOP_STRETCH, 1.0)
    cycles = fma / rate * stretch + _OTHER_SLOTS * BUFFER_BYTES / 4 / lanes["fp32"]
    return _launches(counted, cycles / _BLOCKS, fma)


def saturated(lanes: Mapping[str, float], efficiency: Mapping[str, float], fma: float = 1e12) -> Launches:
    """Return one kernel of nothing but FP32 multiply-adds."""
    cycles = np.array([fma / (lanes["fp32"] * efficiency["fp32"])])
    return _launches("fp32", cycles / _BLOCKS, np.array([fma]), moved_bytes=1e6)


def _launches(precision: str, cycles: FloatArray, fma: FloatArray, moved_bytes: float = BUFFER_BYTES) -> Launches:
    one = np.ones(len(fma))
    return Launches(
        classes=np.array(["stream"] * len(fma)),
        precision=precision,
        blocks=_BLOCKS * one,
        cycles=cycles,
        l2_bytes=moved_bytes / _BLOCKS * one,
        dram_bytes=moved_bytes * one,
        fma=fma,
        resident=_RESIDENT * one,
        warps=_WARPS * one,
        stages=one,
        access=one,
    )
