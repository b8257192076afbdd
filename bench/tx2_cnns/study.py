"""The simulated TX2's predictions for whole networks at every core and memory clock, from their layer lists alone.

Writes `tx2-cnns.csv` in the recorded schema: FP32 and FP16, batch 1, `latency_s` of one inference without noise
and `power_w` of the board's input (VDD_IN) while it runs, warm, at the host's highest clock of the recordings. Nothing
in the chip's file was fitted to a network. Needs the graphs of `make models`.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from amble.core.graph import Graph
from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.core.table import Table, write_table
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.physics import Physics
from amble.runtimes import onnx
from bench.kit import document
from bench.kit.places import BENCH, BUILD

CHIP = "jetson-tx2"
NETWORKS = {
    "alexnet": "alexnet",
    "vgg-19": "vgg19",
    "resnet-50": "resnet50",
    "inception-v4": "inceptionv4",
    "mobilenetv2": "mobilenetv2",
    "tiny-yolov3": "tiny_yolov3",
}  # workload -> graph
PRECISIONS = ("fp32", "fp16")
MODELS = BUILD / "models"
OUT = BENCH / "tx2_cnns" / "tx2-cnns.csv"
_WARM_C = 50.0


def predicted(graph: Graph, precision: str, points: list[Clocks]) -> tuple[FloatArray, FloatArray]:
    """Time [s] and board power [W] of one inference → both [point]."""
    physics = Physics(catalogue.load(CHIP))
    launched = physics.launches(graph, precision)
    tables = [physics.table(launched, clocks) for clocks in points]
    latency_s = np.array([table.time_s.sum() for table in tables])
    work_w = np.array([table.dynamic_j.sum() for table in tables]) / latency_s
    return latency_s, work_w + [physics.busy_w(clocks, _WARM_C) for clocks in points]


def rows(name: str, precision: str, points: list[Clocks], latency_s: FloatArray, power_w: FloatArray) -> Table:
    """One network at one precision in the recorded schema."""
    count, empty = len(points), np.full(len(points), np.nan)

    def text(value: str) -> np.ndarray:
        return np.array([value] * count)

    return Table(
        source=str(OUT),
        line=np.arange(count) + 2,
        device=text(CHIP),
        workload=text(name),
        kernel=text(""),
        precision=text(precision),
        batch=text("1"),
        core_hz=np.array([clocks.core_hz for clocks in points], dtype=np.float64),
        memory_hz=np.array([clocks.memory_hz for clocks in points], dtype=np.float64),
        cpu_hz=np.array([clocks.cpu_hz for clocks in points], dtype=np.float64),
        power_limit_w=empty,
        latency_s=latency_s,
        power_w=power_w,
        repeat=empty,
        requested_core_hz=empty,
    )


def joined(tables: list[Table]) -> Table:
    """All rows of several tables as one."""
    names = [name for name in Table.__slots__ if name not in ("source", "notes", "unread")]
    arrays: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in tables]) for name in names}
    return Table(str(OUT), **arrays)


def main() -> None:
    """Predict, write the table, and print the ends of each network's range."""
    options = document.options("tx2_cnns", __doc__)
    chip = catalogue.load(CHIP)
    top = chip.fastest()
    grid = itertools.product(chip.ladder("core").tolist(), chip.ladder("memory").tolist())
    points = [Clocks(core_hz, memory_hz, top.cpu_hz) for core_hz, memory_hz in grid]
    results, tables = [], []
    for name, file in NETWORKS.items():
        if not (MODELS / f"{file}.onnx").exists():
            continue
        graph = onnx.load(MODELS / f"{file}.onnx", batch=1)
        for precision in PRECISIONS:
            latency_s, power_w = predicted(graph, precision, points)
            tables.append(rows(name, precision, points, latency_s, power_w))
            results.append(
                {
                    "network": name,
                    "precision": precision,
                    "points": len(points),
                    "fastest_s": float(latency_s.min()),
                    "slowest_s": float(latency_s.max()),
                    "power_at_fastest_w": float(power_w[latency_s.argmin()]),
                    "calibration": chip.calibration,
                }
            )
    if tables and not options.quick:
        write_table(joined(tables), OUT)
    pairs = len(NETWORKS) * len(PRECISIONS)
    target = document.target(
        "networks and precisions predicted at 143 clock pairs",
        want=f">= {pairs}",
        value=len(results) if results else None,
        unit="1",
    )
    document.finish(options, results, [target])
