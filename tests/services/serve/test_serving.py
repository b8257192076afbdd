"""The verb ``serve``: models measured on their device, variants and schedules taken up, wrong wishes refused."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

import amble
from amble import bundled
from amble.core import files
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.report import Estimate, Share
from amble.core.schedule import Deadline
from amble.core.subject import Subject, Where
from amble.core.variants import FORMAT as VARIANTS
from amble.core.variants import Allowance, Variant, Variants
from amble.inputs import open_for_serving
from amble.services.serve.explaining import explain
from amble.services.serve.front import Addresses, Doors
from amble.services.serve.models.configuration import Config
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found
from amble.services.serve.models.options import Options
from amble.services.serve.serving import Serve, by_name, named
from amble.stages.control.governors.named import GOVERNORS
from tests.jobs.serving_process import WIDTH, slow_network

T = TypeVar("T")
DOORS = Doors(http_port=0, grpc_port=None, metrics_port=None)
FOUND = Found("net", "1", bundled.model_path())


def at_once(work: Callable[[], T]) -> T:
    return work()


def loader(uri: str = "host", objective: Deadline | None = None, **options: Any) -> ModelLoader:
    device, runner, by_size = open_for_serving(uri)
    return ModelLoader(device, runner, Options(max_batch=2, **options), objective, by_size)


@contextmanager
def serving(*models: str, **options: Any) -> Iterator[Addresses]:
    """Serve in a thread."""
    ready: list[Any] = []
    opened = threading.Event()

    def on_ready(addresses: Addresses, stop: Callable[[], object]) -> None:
        ready.extend((addresses, stop))
        opened.set()

    thread = threading.Thread(
        target=amble.serve, args=(models,), kwargs={"doors": DOORS, "on_ready": on_ready, **options}
    )
    thread.start()
    assert opened.wait(60), "the server did not start"
    try:
        yield ready[0]
    finally:
        ready[1]()
        thread.join(30)


def infer(at: Addresses, model: str) -> dict[str, Any]:
    image = bundled.model_input(bundled.fashion_mnist("test")[0][:1])
    tensor = {"name": "image", "datatype": "FP32", "shape": list(image.shape), "data": image.ravel().tolist()}
    asked = urllib.request.Request(  # noqa: S310
        f"{at.http}/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}).encode()
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
        return dict(json.load(answer))


def test_a_model_is_measured_at_every_batch_size_on_the_machine_that_serves_it() -> None:
    found = loader().load(FOUND, at_once)
    (rung,) = found.ladder.rungs
    assert (rung.variant, len(rung.latency_s)) == ("fp32", 2)
    assert rung.latency_s[1] >= rung.latency_s[0] > 0
    assert found.batched
    assert found.timeout_s is None


def test_a_simulated_device_gives_a_ladder_of_clocks_with_joules() -> None:
    found = loader("sim:jetson-orin-nano", Deadline(0.05)).load(FOUND, at_once)
    assert len(found.ladder.rungs) > 1
    assert all(rung.energy_j[0] > 0 and rung.idle_w > 0 for rung in found.ladder.rungs)
    assert found.timeout_s == 0.05


@pytest.mark.parametrize("governor", GOVERNORS)
def test_every_governor_can_be_asked_for(governor: str) -> None:
    assert loader(governor=governor).load(FOUND, at_once).governor.name == governor


def test_a_configuration_without_batching_serves_single_requests() -> None:
    found = loader().load(Found("net", "1", bundled.model_path(), Config("net", max_batch_size=0)), at_once)
    assert not found.batched
    assert found.ladder.max_batch == 1


def test_a_batch_that_could_not_be_tried_in_any_time_is_refused() -> None:
    wanted = Found("net", "1", bundled.model_path(), Config("net", max_batch_size=1_000_000))
    with pytest.raises(Refused, match="net: a batch of 1000000 is larger than can be tried here; ask for 4096 at most"):
        loader().load(wanted, at_once)


def variants(folder: Path, digest: str) -> Path:
    """A folder with a network and a variant of it (the same file, called INT8, a point less accurate)."""
    for name in ("model.onnx", "int8.onnx"):
        shutil.copy(bundled.model_path(), folder / name)
    return described(folder, digest, {"image": (1, 1, 28, 28)})


def described(folder: Path, digest: str, shapes: dict[str, tuple[int, ...]]) -> Path:
    """Write what is known of the variants in a folder."""
    whole = Share(90, 100, Estimate(0.9, 0.85, 0.95))
    made = Variants(
        Subject("net", str(folder / "model.onnx"), digest, 1, shapes), Where("host"),
        allowed=Allowance(1.0), allowed_points=1.0, metric="accuracy", data="d",
        num_calibration=1, num_judged=100, clock="wall",
        variants=(
            Variant("fp32", "fp32", "as given", "reference", "", "model.onnx", quality=whole),
            Variant("int8-u8s8", "int8", "", "kept", "", "int8.onnx", loss=Estimate(0.9, 0.0, 1.0)),
            Variant("fp16", "fp16", "", "refused", "slower"),
        ),
        chosen="int8-u8s8",
    )  # fmt: skip
    files.save(made, folder / "variants.json", VARIANTS)
    return folder / "model.onnx"


def test_variants_that_were_kept_are_rungs_with_their_accuracy(tmp_path: Path) -> None:
    path = variants(tmp_path, amble.load(bundled.model_path()).digest)
    for each in (path, tmp_path / "variants.json"):
        found = loader(governor="int8-max").load(Found("net", "1", each), at_once)
        accuracies = {rung.variant: rung.accuracy for rung in found.ladder.rungs}
        assert accuracies.keys() <= {"fp32", "int8"}
        assert accuracies.get("int8", 0.99) == pytest.approx(0.99)
        assert found.graph("int8", 2).source.endswith("int8.onnx")


@pytest.mark.parametrize(
    ("max_loss", "precision"), [("5%", "int8"), ("0.95pt", "int8"), ("0.95%", "fp32"), ("0%", "fp32")]
)
def test_on_this_machine_the_quicker_variant_answers_where_its_accuracy_is_enough(
    tmp_path: Path, max_loss: str, precision: str
) -> None:
    slow = slow_network(tmp_path / "model.onnx", layers=1000)
    slow_network(tmp_path / "int8.onnx", layers=50)
    path = described(tmp_path, amble.load(slow).digest, {"x": (1, WIDTH)})
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": [0.5] * WIDTH}
    with serving(f"slow={path}", options=Options(max_batch=1, max_loss=Allowance.parse(max_loss))) as at:
        body = json.dumps({"inputs": [tensor]}).encode()
        with urllib.request.urlopen(f"{at.http}/v2/models/slow/infer", body, timeout=30) as answer:  # noqa: S310
            assert json.load(answer)["parameters"]["precision"] == precision


class Forbidden:
    """Clocks that this user may not set."""

    def available(self) -> tuple[Clocks, ...]:
        return (Clocks(cpu_hz=1e9), Clocks(cpu_hz=2e9))

    def current(self) -> Clocks:
        return Clocks()

    def apply(self, clocks: Clocks) -> None:
        if clocks != Clocks():
            raise Refused("cannot write scaling_max_freq: Permission denied; run as root")


def test_without_the_right_to_set_clocks_it_serves_at_those_there_are_and_says_which_right_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ready = loader()
    ready = replace(ready, device=replace(ready.device, actuator=Forbidden()))
    assert [rung.clocks for rung in ready.load(FOUND, at_once).ladder.rungs] == [Clocks()]
    assert "serving at the clocks as they are" in caplog.text
    assert "run as root" in caplog.text


def test_variants_of_another_network_are_not_used_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = loader().load(Found("net", "1", variants(tmp_path, "another")), at_once)
    assert [rung.variant for rung in found.ladder.rungs] == ["fp32"]
    assert "is of another network" in caplog.text


def test_the_bundled_network_is_served_as_a_repository_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "net" / "3").mkdir(parents=True)
    shutil.copy(bundled.model_path(), tmp_path / "net" / "3" / "model.onnx")
    with serving("fashion-resnet", f"other={bundled.model_path()}", repository=tmp_path) as at:
        assert set(at.models) == {"fashion-resnet 1", "other 1", "net 3"}
        logits = [infer(at, model)["outputs"][0]["data"] for model in ("fashion-resnet", "other", "net")]
    label = int(bundled.fashion_mnist("test")[1][0])
    assert [int(np.argmax(each)) for each in logits] == [label] * 3


def test_a_schedule_is_served_as_it_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMBLE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "plan.json"
    graph, costs = amble.costs_for(
        "fashion-resnet", "sim:jetson-orin-nano", graph=lambda: amble.load("fashion-resnet"), deadline=Deadline(0.05)
    )
    amble.save(amble.plan(graph, costs, deadline=Deadline(0.05)), path)
    with serving(f"planned={path}", device="sim:jetson-orin-nano") as at:
        found = infer(at, "planned")
    assert found["parameters"]["energy_j"] > 0
    assert int(np.argmax(found["outputs"][0]["data"])) == int(bundled.fashion_mnist("test")[1][0])
    for other in ("sim:v100", "host"):
        with pytest.raises(Refused, match="planned for sim:jetson-orin-nano; serve it with --device sim:jetson-orin"):
            loader(other).load(Found("planned", "1", path), at_once)
    cut = json.loads(path.read_text())
    cut["schedule"]["steps"].pop()
    path.write_text(json.dumps(cut))
    with pytest.raises(Refused, match=r"plans \d+ operators, and .* has \d+; plan it anew"):
        loader("sim:jetson-orin-nano").load(Found("planned", "1", path), at_once)


@pytest.mark.parametrize(
    ("models", "options", "names"),
    [
        ((), {}, "nothing to serve"),
        (("none.onnx",), {}, "no model none"),
        (("fashion-resnet",), {"device": "ssh:me@board/host"}, "cannot serve"),
        (("fashion-resnet",), {"options": Options(governor="best")}, "unknown governor"),
        (("fashion-resnet",), {"repository": Path("/nowhere/at/all")}, "is no folder"),
        (("fashion-resnet",), {"objective": "50"}, "has no unit"),
    ],
)
def test_wrong_wishes_are_refused_with_a_way_out(models: tuple[str, ...], options: dict[str, Any], names: str) -> None:
    with pytest.raises((Refused, ValueError), match=names):
        amble.serve(models, **options)


def test_paths_with_equals_signs_are_served_by_themselves_and_under_a_name(tmp_path: Path) -> None:
    path = tmp_path / "lr=0.1,bs=32" / "model.onnx"
    path.parent.mkdir()
    shutil.copy(bundled.model_path(), path)
    assert named(str(path))[:2] == ("model", path)
    assert named(f"m={path}")[:2] == ("m", path)
    with pytest.raises(Refused, match="there is no model"):
        named("m=lr=0.1,bs=32/none.onnx")


def test_two_models_of_one_name_are_refused_and_not_one_of_them_forgotten(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "model.onnx", tmp_path / "b" / "model.onnx"
    for each in (one, other):
        each.parent.mkdir()
        shutil.copy(bundled.model_path(), each)
    paths, _ = by_name((str(one), f"other={other}"), None)
    assert paths == {"model": one, "other": other}
    for call in (amble.serve, lambda models: explain(Serve(models))):
        with pytest.raises(Refused, match="both called model; give one another name"):
            call((str(one), str(other)))
    with pytest.raises(Refused, match="both called a"):
        by_name((f"a={one}",), tmp_path)
