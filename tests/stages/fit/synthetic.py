"""A device that is made up, measured at will: laws that no model of amble is written for, and noise with a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amble.core.table import SCHEMA, Table, read_table

CORES_HZ = np.array([500e6, 700e6, 900e6, 1100e6, 1300e6, 1500e6])
MEMORIES_HZ = np.array([800e6, 1600e6, 3200e6])


def time_s(core_hz: float, memory_hz: float, share: float) -> float:
    """Time of a kernel whose memory traffic waits for the core now and then; share 1 is all memory."""
    compute, traffic = (1 - share) * 1.5e9 / core_hz, share * 3.2e9 / memory_hz
    return float(0.01 * (0.05 + max(compute, traffic) + 0.15 * min(compute, traffic)))


def power_w(core_hz: float, memory_hz: float, share: float) -> float:
    """Power with a voltage that rises from 1.05 GHz on."""
    voltage = max(0.72, 0.72 + 0.65 * (core_hz / 1e9 - 1.05))
    return float(18 + 6 * memory_hz / 1e9 + (60 - 25 * share) * voltage**2 * core_hz / 1e9)


def rows(num_workloads: int, *, noise: float = 0.0, memories_hz: np.ndarray = MEMORIES_HZ) -> list[dict[str, str]]:
    """Rows of the recorded schema on the full grid."""
    rng = np.random.default_rng(7)
    found = []
    for workload in range(num_workloads):
        share = (workload + 0.5) / num_workloads
        for memory_hz in memories_hz:
            for core_hz in CORES_HZ:
                jitter = np.exp(noise * rng.standard_normal(2))
                found.append(
                    {
                        "device": "made-up",
                        "workload": f"kernel{workload}",
                        "core_hz": f"{core_hz:.0f}",
                        "memory_hz": f"{memory_hz:.0f}",
                        "latency_s": f"{time_s(core_hz, memory_hz, share) * jitter[0]:.7g}",
                        "power_w": f"{power_w(core_hz, memory_hz, share) * jitter[1]:.7g}",
                    }
                )
    return found


def table(folder: Path, measured: list[dict[str, str]], *, columns: tuple[str, ...] = SCHEMA) -> Table:
    """Write rows as a file and read it."""
    path = folder / "measured.csv"
    lines = [",".join(columns), *(",".join(row.get(name, "") for name in columns) for row in measured)]
    path.write_text("\n".join(lines) + "\n")
    return read_table(path)
