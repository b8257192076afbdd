"""Other people's networks through the doors: every verb succeeds, or refuses in one line that names the file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

import amble
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.schedule import Deadline
from amble.inputs import open_for_serving
from amble.levers.widths.pruning import Wanted
from amble.runtimes.onnx import example_inputs
from amble.services.serve import front
from amble.services.serve.front import Doors
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found, Loaded
from amble.services.serve.models.options import Options
from amble.services.serve.pulse import Do
from amble.services.serve.serving import named
from amble.stages.measure.accuracy import read_labelled
from tests.runtimes.odd import REFUSED, RUNNING, Odd

T = TypeVar("T")
Door = Callable[[Odd, Path, Path], None]

_EXAMPLES = 40
_DEADLINE = Deadline(1.0)


def at_once(work: Callable[[], T]) -> T:
    return work()


def examples(graph: Graph, path: Path) -> Path:
    """Write examples, each drawn for itself: one array for each input."""
    drawn = [example_inputs(graph, seed) for seed in range(_EXAMPLES)]
    arrays: dict[str, Any] = {port.name: np.stack([each[port.name] for each in drawn]) for port in graph.inputs}
    for port in graph.inputs:
        if port.shape and port.shape[0] == 1:
            arrays[port.name] = arrays[port.name][:, 0]
        kept = {"string": "U1", "bfloat16": "f4"}  # what a file of arrays can hold
        arrays[port.name] = arrays[port.name].astype(kept.get(port.dtype, arrays[port.name].dtype))
    np.savez(path, **(arrays or {"other": np.zeros((_EXAMPLES, 2))}))
    return path


def measured(each: Odd, path: Path, folder: Path) -> None:
    graph = amble.load(path, shapes=each.shapes)
    assert len(amble.measure(graph, amble.open("host"), points=1, repeats=3).totals) == 1


def planned(each: Odd, path: Path, folder: Path) -> None:
    graph = amble.load(path, shapes=each.shapes)
    costs = amble.fit(amble.measure(graph, amble.open("sim:jetson-tx2"), points=4, repeats=3))
    assert len(amble.plan(graph, costs, deadline=_DEADLINE).steps) == len(graph.operators)


def quantized(each: Odd, path: Path, folder: Path) -> None:
    data = examples(amble.load(path, shapes=each.shapes), folder / "data.npz")
    found = amble.quantize(path, data=data, device="host", output=folder / "kept", rounds=6, shapes=each.shapes)
    assert found.variants[0].verdict == "reference"
    assert all("\n" not in variant.reason for variant in found.variants)


def served(each: Odd, path: Path, folder: Path) -> None:
    device, runner, by_size = open_for_serving("host")
    loader = ModelLoader(device, runner, Options(max_batch=2, shapes=each.shapes), None, by_size)
    loaded = loader.load(Found("net", "1", path), at_once)
    assert loaded.ladder.rungs[0].latency_s[0] > 0


def mapped(each: Odd, path: Path, folder: Path) -> None:
    amble.dram(
        path, data=folder / "none.npz", dram="ddr4-2400", module="vendorB", system="eyeriss", max_loss="5pt", examples=8
    )


SAID = {  # by verb and network: what that verb cannot do with it, and says
    ("quantized", "scalar input"): "without axes",
    ("quantized", "sequence inside"): r"examples of x are \[2, 4\] each, .* takes \[4\]",
    ("quantized", "no inputs"): "its inputs are none",
    ("served", "no inputs"): "takes no inputs",
    ("served", "input of float8"): "no way to send 'x', which is float8e4m3fn",
    ("served", "maps"): "no way to send 'maps', which is seq",
    ("served", "optional output"): "no way to send 'maybe', which is optional",
}
SOME = ("opset 9", "maps", "texts", "sequence inside", "partly constant", "cache of links", "scalar input", "no inputs")
NAMED = {each.name: each for each in RUNNING}


def through(door: Door, each: Odd, folder: Path) -> None:
    path = each.make(folder)
    said = SAID.get((door.__name__, each.name))
    if said is None:
        door(each, path, folder)
        return
    with pytest.raises(Refused, match=said) as refusal:
        door(each, path, folder)
    assert path.stem in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("each", RUNNING, ids=lambda each: each.name)
def test_what_can_run_is_served(each: Odd, tmp_path: Path) -> None:
    through(served, each, tmp_path)


@pytest.mark.parametrize("door", [measured, planned, quantized], ids=lambda door: door.__name__)
@pytest.mark.parametrize("name", SOME)
def test_the_oddest_are_measured_planned_and_quantized(name: str, door: Door, tmp_path: Path) -> None:
    through(door, NAMED[name], tmp_path)


@pytest.mark.parametrize("each", REFUSED, ids=lambda each: each.name)
def test_what_cannot_be_used_is_refused_at_every_door(each: Odd, tmp_path: Path) -> None:
    path = each.make(tmp_path)
    np.savez(tmp_path / "data.npz", x=np.zeros((8, 4), np.float32))
    doors: dict[str, Callable[[], object]] = {
        "load": lambda: amble.load(path),
        "quantize": lambda: amble.quantize(path, data=None, device="host", output=tmp_path / "kept"),
        "plan": lambda: amble.costs_for(str(path), "sim:jetson-tx2", graph=lambda: amble.load(path)),
        "prune": lambda: amble.prune(
            path, Wanted("0.7x"), data=tmp_path / "data.npz", device="host", output=tmp_path / "pruned"
        ),
        "dram": lambda: mapped(each, path, tmp_path),
        "serve": lambda: served(each, path, tmp_path),
    }
    for name, door in doors.items():
        with pytest.raises(Refused, match=each.refusal) as refusal:
            door()
        assert path.name in str(refusal.value), name
        assert "\n" not in str(refusal.value), name


@pytest.mark.parametrize(
    ("given", "name", "file"),
    [
        ("lr=0.1,bs=32/model.onnx", "model", "lr=0.1,bs=32/model.onnx"),
        ("m=lr=0.1,bs=32/model.onnx", "m", "lr=0.1,bs=32/model.onnx"),
        ("m=a=b.onnx", "m", "a=b.onnx"),
        ("m=n=plain.onnx", "m=n", "plain.onnx"),
        ("plain.onnx", "plain", "plain.onnx"),
        ("=odd.onnx", "=odd", "=odd.onnx"),
    ],
)
def test_paths_and_names_may_hold_equals_signs(
    given: str, name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for each in ("lr=0.1,bs=32/model.onnx", "a=b.onnx", "plain.onnx", "=odd.onnx"):
        Path(each).parent.mkdir(exist_ok=True)
        Path(each).touch()
    assert named(given)[:2] == (name, tmp_path / file)


@pytest.mark.parametrize("given", ["none.onnx", "m=none.onnx", "m=", "lr=0.1/none.onnx"])
def test_a_model_that_is_not_there_is_named(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=r"there is no model .*; name an ONNX file") as refusal:
        named(given)
    assert given in str(refusal.value) or given.partition("=")[2] in str(refusal.value)


@pytest.mark.parametrize(
    "error", [StopIteration(), KeyError("k"), TypeError("t")], ids=lambda each: type(each).__name__
)
@pytest.mark.parametrize("inside", [False, True], ids=["in its own thread", "in the engine's thread"])
def test_a_server_whose_loader_fails_ends_instead_of_waiting(error: Exception, inside: bool) -> None:
    def failing() -> Any:
        raise error

    def load(found: Found, do: Do) -> Loaded:
        loaded: Loaded = do(failing) if inside else failing()
        return loaded

    device, _, _ = open_for_serving("host")
    ended: list[BaseException] = []

    def serve() -> None:
        try:
            front.serve(device, load, Doors(http_port=0, grpc_port=None, metrics_port=None), named={"m": Path("m")})
        except (RuntimeError, KeyError, TypeError) as raised:
            ended.append(raised)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    thread.join(30)
    assert ended


def test_examples_for_a_network_without_inputs_are_refused(tmp_path: Path) -> None:
    path = NAMED["no inputs"].make(tmp_path)
    np.savez(tmp_path / "data.npz", x=np.zeros((8, 4), np.float32), labels=np.zeros(8, np.int64))
    with pytest.raises(Refused, match="model takes no inputs, so that no examples can be given"):
        mapped(NAMED["no inputs"], path, tmp_path)
    with pytest.raises(Refused, match="model takes no inputs, so that no examples can be given"):
        read_labelled(tmp_path / "data.npz", amble.load(path))
