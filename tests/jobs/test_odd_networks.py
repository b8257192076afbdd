"""Other people's networks through the doors: every verb succeeds, or refuses in one line that names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

import amble
from amble.control.server.model import Found
from amble.core.errors import Infeasible, Refused
from amble.core.graph import Graph
from amble.core.schedule import Deadline
from amble.jobs.serving import Kitchen, Options, open_for_serving
from amble.runtimes.onnx import example_inputs
from tests.runtimes.odd import REFUSED, RUNNING, Odd

T = TypeVar("T")
_EXAMPLES = 40


def at_once(work: Callable[[], T]) -> T:
    return work()


def examples(graph: Graph, path: Path) -> Path:
    """As many examples as are needed, each drawn for itself, with labels of two classes."""
    drawn = [example_inputs(graph, seed) for seed in range(_EXAMPLES)]
    arrays: dict[str, Any] = {}
    for port in graph.inputs:
        rows = [each[port.name] for each in drawn]
        found = np.concatenate(rows) if port.shape else np.stack(rows)
        arrays[port.name] = found.astype(str) if port.dtype == "string" else found.astype(_saved(port.dtype))
    labels = np.arange(_EXAMPLES) % 2
    np.savez(path, **arrays, labels=labels)
    return path


def _saved(dtype: str) -> str:
    """The type an .npz file can have."""
    return {"bfloat16": "float32", "float": "float32", "double": "float64"}.get(dtype, dtype)


def measured(each: Odd, path: Path, folder: Path) -> None:
    graph = amble.load(path, shapes=each.shapes)
    assert len(amble.measure(graph, amble.open("host"), points=1, repeats=3).samples) >= len(graph.operators)


def planned(each: Odd, path: Path, folder: Path) -> None:
    deadline = Deadline(1.0)
    graph, costs = amble.costs_for(
        str(path), "sim:jetson-tx2", graph=lambda: amble.load(path, shapes=each.shapes), deadline=deadline
    )
    assert len(amble.plan(graph, costs, deadline=deadline).steps) == len(graph.operators)


def quantized(each: Odd, path: Path, folder: Path) -> None:
    graph = amble.load(path, shapes=each.shapes)
    found = amble.quantize(
        path, data=examples(graph, folder / "data.npz"), device="host", output=folder / "kept", rounds=6, shapes=each.shapes
    )
    assert found.variants[0].verdict == "reference"
    assert all(variant.why and "\n" not in variant.why for variant in found.variants)


def mapped(each: Odd, path: Path, folder: Path) -> None:
    graph = amble.load(path, shapes=each.shapes)
    amble.dram(path, data=examples(graph, folder / "data.npz"), examples=8)


def served(each: Odd, path: Path, folder: Path) -> None:
    device, runner, by_size = open_for_serving("host")
    kitchen = Kitchen(device, runner, Options(max_batch=2, shapes=each.shapes), None, by_size)
    loaded = kitchen.load(Found("net", "1", path), at_once)
    assert loaded.ladder.rungs[0].latency_s[0] > 0


DOORS = (measured, planned, quantized, mapped, served)
NOT_ALL = {  # what is no fault of the network, by the verb that says so
    ("quantized", "scalar input"): "has 0 axes",
    ("quantized", "only a scalar"): "has 0 axes",
    ("quantized", "no inputs"): "takes no inputs",
    ("served", "no inputs"): "takes no inputs",
    ("served", "maps"): "cannot carry",
    ("served", "optional output"): "cannot carry",
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMBLE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("each", RUNNING, ids=lambda each: each.name)
def test_what_can_run_goes_through_every_door(
    each: Odd, door: Callable[[Odd, Path, Path], None], tmp_path: Path
) -> None:
    path = each.make(tmp_path)
    try:
        door(each, path, tmp_path)
    except (Refused, Infeasible) as refusal:
        print(f"SAID {door.__name__} {each.name}: {refusal}")
        assert "\n" not in str(refusal)
