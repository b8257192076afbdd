"""The sweeps: a function and the items that it is done on, the same in every process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import amble
from amble.core.spreading import OnProgress
from amble.inputs.examples import images
from amble.jobs.costing import Measure
from amble.jobs.surveying import Measuring
from amble.levers.memory.ahead import AtRates
from amble.levers.memory.proving import Faulty
from amble.runtimes.onnx.faulty import FaultyOnnx

Function = Callable[[Any, OnProgress], Any]

NAMES = ("errors in memory", "simulated devices")
_CHIPS = ("sim:v100", "sim:a100", "sim:h200", "sim:tesla-p40", "sim:jetson-tx2", "sim:jetson-orin-nano")


def work(name: str, *, quick: bool) -> tuple[Function, Sequence[Any]]:
    """Return a sweep: trials of a network with bit errors, by seed; or profiles of simulated devices."""
    if name == "errors in memory":
        graph = amble.load("fashion-resnet")
        network = Faulty.of(FaultyOnnx(Path(graph.source)), images("held_out", "image").rows(0, 50))
        rates = dict.fromkeys(network.types, 1e-3)
        return AtRates(network), [(rates, seed) for seed in range(6 if quick else 120)]
    graph = amble.load("synthetic:200")
    devices = [f"{chip}?seed={seed}" for seed in range(1 if quick else 10) for chip in _CHIPS]
    return Measuring(Measure(points=16 if quick else 60)), [(graph, uri) for uri in devices]


def untold(what: str, done: int, total: int) -> None:
    """Tell nobody."""
