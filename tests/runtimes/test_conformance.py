"""What every runner must do, over all six. A new runner is one more entry of ``RUNNERS``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from amble.core.graph import Graph, Operator, Port
from amble.core.ports import Device, Runner
from amble.devices import host, recorded, simulated
from amble.devices.recorded.tabled import open_table
from amble.devices.simulated.paced import paced
from amble.runtimes.onnx import OnnxRunner, example_inputs, load
from amble.runtimes.onnx.batched import BatchedRunner
from amble.testing import RunnerCase, RunnerConformance
from tests.devices import fake_sys
from tests.runtimes import models
from tests.stages.control.ladders import every_rung

COLUMNS = "device,workload,kernel,precision,batch,core_hz,memory_hz,cpu_hz,power_limit_w,latency_s,power_w,repeat"


def a_network(root: Path) -> Graph:
    return load(models.saved(root, models.cnn()), batch=2)


def here(root: Path, runner: Runner) -> Device:
    """This machine, with made-up files for its clocks."""
    fake_sys.cpufreq(root)
    return host.open(runner, sysfs_root=root)


def on_this_cpu(root: Path) -> RunnerCase:
    graph = a_network(root)
    return RunnerCase(here(root, OnnxRunner()), graph, example_inputs(graph, seed=3))


def at_open_batch_sizes(root: Path) -> RunnerCase:
    graph = a_network(root)
    return RunnerCase(here(root, BatchedRunner()), graph, example_inputs(graph, seed=3))


def on_a_simulated_chip(root: Path) -> RunnerCase:
    graph = a_network(root)
    return RunnerCase(simulated.open("jetson-tx2", compute=OnnxRunner().run), graph, example_inputs(graph, seed=3))


def in_real_time(root: Path) -> RunnerCase:
    case = on_a_simulated_chip(root)
    return replace(case, device=paced(case.device))


def recorded_of_a_network(root: Path) -> RunnerCase:
    """A table of the very operators that are computed: two clocks, two runs of each."""
    graph = a_network(root)
    rows = [COLUMNS]
    for core_hz in (1e9, 2e9):
        for number, operator in enumerate(graph.operators, start=1):
            for repeat in range(2):
                latency_s = number * 1e6 * (1 + 0.1 * repeat) / core_hz
                rows.append(f"d,{operator.name},,fp32,2,{core_hz},,,,{latency_s},{10 + repeat},{repeat}")
    table = root / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    return RunnerCase(recorded.open(table, compute=OnnxRunner()), graph, example_inputs(graph, seed=3))


def recorded_without_power(root: Path) -> RunnerCase:
    return RunnerCase(recorded.open("v100-ttu-kernels"), recorded.graph("v100-ttu-kernels", "all"))


def looked_up(root: Path) -> RunnerCase:
    """What comes in goes out of it; its network is known by its precision."""
    ports = (Port("x", (1, 3), "float"),)
    graph = Graph("net", tuple(Operator(f"op{at}", "Whole", 0.0, 0.0, 0.0) for at in range(3)), 1, "net", ports, ports)
    return RunnerCase(open_table("rungs", every_rung()), graph, {"x": np.ones((1, 3), np.float32)})


RUNNERS: dict[str, Callable[[Path], RunnerCase]] = {
    "onnx": on_this_cpu,
    "batched": at_open_batch_sizes,
    "simulated": on_a_simulated_chip,
    "paced": in_real_time,
    "recorded": recorded_of_a_network,
    "recorded, no power": recorded_without_power,
    "tabled": looked_up,
}


class TestEveryRunner(RunnerConformance):
    @pytest.fixture(params=RUNNERS)
    def case(self, request: pytest.FixtureRequest, tmp_path: Path) -> RunnerCase:
        return RUNNERS[request.param](tmp_path)
