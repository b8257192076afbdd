"""What is unloaded leaves nothing open: networks live as long as a model, or a batch of it that still runs."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from amble.core.point import OperatingPoint
from amble.inputs import open_for_serving
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found, Model
from amble.services.serve.models.options import Options
from amble.services.serve.models.shelf import Shelf
from amble.services.serve.processes.engine import Keeping
from amble.services.serve.processes.workshop import Workshop
from tests.services.serve.processes.test_crew import double


def loader() -> tuple[Shelf, ModelLoader]:
    device, runner, by_size = open_for_serving("host", make=Shelf)
    assert isinstance(runner, Shelf)
    return runner, ModelLoader(device, runner, Options(max_batch=1), None, by_size)


def test_an_engine_that_loads_and_unloads_ten_times_holds_what_it_held_before(tmp_path: Path) -> None:
    shelf, loading = loader()
    workshop, keeping = Workshop(loading.device, tmp_path / "engine"), Keeping(loading)
    computing = threading.Thread(target=workshop.lanes.run)
    computing.start()
    try:
        for turn in range(10):
            found = Found("m", str(turn), double(tmp_path / str(turn) / "model.onnx", 4))
            model = Model(found, keeping.load(found, workshop))
            filled = keeping.filled(model)
            workshop.open(filled, 1)
            del filled
            assert len(shelf.sources) == 1
            keeping.close(workshop, model.key)
            workshop.lanes.do(lambda: None)  # the engine's thread has come round
        assert len(shelf.sources) <= 1, "the last one goes with whatever is opened next"
    finally:
        workshop.lanes.close()
        computing.join(20)
        workshop.end()


def test_a_network_stays_open_while_somebody_has_it(tmp_path: Path) -> None:
    shelf, loading = loader()
    found = Found("m", "1", double(tmp_path / "model.onnx", 4))
    made = loading.load(found, lambda work: work())
    other = replace(made)
    del made
    graph, rows = other.graph("fp32", 1), np.ones((1, 4), np.float32)
    point = OperatingPoint(loading.device.actuator.current(), "fp32")
    assert shelf.sources == {str(found.path)}
    assert np.array_equal(shelf.run(graph, point, {"x": rows})["y"], 2 * rows)
    del other
    assert shelf.sources == set()
