"""Operators told apart by timing segments, with ONNX Runtime's own CPU kernels as the provider that tells nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from amble.core.cost import Reading
from amble.core.point import Clocks, OperatingPoint
from amble.runtimes import onnx
from amble.runtimes.onnx.dissecting import settle
from amble.runtimes.onnx.providers import CPU
from tests.runtimes import models

SILENT = onnx.Execution(replace(CPU, name="silent", fuses=True))


class Meter:
    """Ten watts."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> Reading:
        self.reads += 1
        return Reading(float(self.reads), 10.0 * self.reads)


def test_every_operator_gets_a_share_of_the_whole_run_s_time_and_energy(tmp_path: Path) -> None:
    graph = onnx.load(models.saved(tmp_path, models.cnn()), batch=8, execution=SILENT)
    runner = onnx.OnnxRunner(SILENT, meter=Meter(), clocks=lambda: Clocks(cpu_hz=1e9))
    timings = runner.profile(graph, OperatingPoint(), 10)

    assert len(timings.operators) == len(graph.operators)
    assert sum(each.latency_s for each in timings.operators) == pytest.approx(timings.whole.latency_s)
    assert sum(each.energy_j or 0.0 for each in timings.operators) == pytest.approx(timings.whole.energy_j)
    assert timings.whole.energy_j == pytest.approx(10.0 / 10)
    assert timings.ran_at == Clocks(cpu_hz=1e9)
    assert any("off the whole run" in note for note in timings.notes)


def test_work_is_run_until_its_time_settles() -> None:
    times_s = iter([9.0] * 5 + [3.0] * 5 + [1.0] * 10 + [100.0] * 5)
    clock = [0.0]

    def work() -> None:
        clock[0] += next(times_s)

    assert settle(work, lambda: clock[0]) == 1.0
