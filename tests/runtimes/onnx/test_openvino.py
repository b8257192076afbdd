"""OpenVINO's provider for real, where it is installed; else in its own environment, which `make setup-peers` makes.

It and ONNX Runtime's CPU wheel have the same files, so one environment cannot have both.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import amble
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.layers import Shape
from amble.core.point import OperatingPoint
from amble.runtimes import onnx
from amble.runtimes.onnx.execution import cpu_flags
from amble.runtimes.onnx.layers import sandwich
from amble.runtimes.onnx.qdq import in_int8
from tests.runtimes import models

ROOT = Path(__file__).resolve().parents[3]
PEER = ROOT / ".venv-peer-openvino" / "bin" / "python"
HERE = "OpenVINOExecutionProvider" in onnxruntime.get_available_providers()
URI = "host?provider=openvino"

real = pytest.mark.skipif(not HERE, reason="OpenVINO's wheel is in an environment of its own")


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMBLE_CACHE", str(tmp_path / "cache"))


@pytest.mark.skipif(HERE, reason="OpenVINO is here")
def test_in_its_own_environment() -> None:
    if not PEER.exists():
        pytest.skip("make setup-peers makes .venv-peer-openvino")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/src", "OMP_NUM_THREADS": "1"}
    command = [str(PEER), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).relative_to(ROOT))]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout


@real
def test_it_answers_as_the_cpu_kernels_do_whole_and_in_segments() -> None:
    graph = amble.load("fashion-resnet", device=URI)
    device, inputs, point = amble.open(URI), onnx.example_inputs(graph, seed=1), OperatingPoint()
    expected = onnx.compute(amble.load("fashion-resnet"), point, inputs)
    name = graph.outputs[0].name

    assert np.allclose(device.runner.run(graph, point, inputs)[name], expected[name], rtol=1e-3, atol=1e-4)
    middle = len(graph.operators) // 2
    between = device.runner.run(graph.segment(0, middle), point, inputs)
    last = device.runner.run(graph.segment(middle, len(graph.operators)), point, between)
    assert np.allclose(last[name], expected[name], rtol=1e-3, atol=1e-4)


@real
def test_an_int8_network_runs_and_answers_nearly_as_the_cpu_kernels_do(tmp_path: Path) -> None:
    layer = Shape("conv", 16, 32, kernel=(3, 3), padding=(1, 1), size=(16, 16))
    path = models.saved(tmp_path, in_int8(sandwich(layer, 16, 32, batch=1)))
    graph = amble.load(path, device=URI)
    inputs = onnx.example_inputs(graph, seed=0)
    point = OperatingPoint(precision=graph.precision)

    ours = amble.open(URI).runner.run(graph, point, inputs)
    theirs = onnx.compute(amble.load(path), OperatingPoint(precision=amble.load(path).precision), inputs)
    name = graph.outputs[0].name
    assert np.abs(ours[name] - theirs[name]).max() <= 0.05 * np.abs(theirs[name]).max()


@real
def test_bf16_is_another_precision_with_other_answers_or_refused() -> None:
    uri = f"{URI}&precision=bf16"
    if not {"avx512_bf16", "amx_bf16"} & cpu_flags():
        with pytest.raises(Refused, match="no BF16"):
            amble.load("fashion-resnet", device=uri)
        return
    half, full = amble.load("fashion-resnet", device=uri), amble.load("fashion-resnet", device=URI)
    inputs, name = onnx.example_inputs(half, seed=1), half.outputs[0].name
    ours = amble.open(uri).runner.run(half, OperatingPoint(precision="bf16"), inputs)[name]
    theirs = amble.open(URI).runner.run(full, OperatingPoint(), inputs)[name]
    assert half.precision == "bf16"
    assert not np.array_equal(ours, theirs)
    assert np.abs(ours - theirs).max() < 0.1 * np.abs(theirs).max()


@real
def test_every_operator_is_timed_though_the_profiler_sees_one_and_the_times_add_up(tmp_path: Path) -> None:
    graph = amble.load(models.saved(tmp_path, models.cnn()), batch=8, device=URI)
    timings = amble.open(URI).runner.profile(graph, OperatingPoint(), 30)
    times_s = np.array([each.latency_s for each in timings.operators])

    assert times_s.sum() == pytest.approx(timings.whole.latency_s)
    heavy = np.array([each.kind == "Conv" for each in graph.operators])
    assert times_s[heavy].sum() > 0.5 * times_s.sum()
    assert "takes every operator" in timings.notes[1]
    assert "off the whole run" in timings.notes[2]


@real
def test_operators_that_it_does_not_take_are_listed_and_a_network_of_them_is_refused(tmp_path: Path) -> None:
    def network(first: str, size: int) -> Graph:
        nodes = [
            models.node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            if first == "Conv"
            else models.node("Relu", ["x"], ["c"]),
            models.node("Slice", ["c", "starts", "ends"], ["s"]),
            models.node("Det", ["s"], ["d"]),
        ]
        weights = [
            *([models.weight("w", 16, 16, 3, 3)] if first == "Conv" else []),
            models.constant("starts", [0, 0, 0, 0]),
            models.constant("ends", [1, 16, size, size]),
        ]
        content = models.model(nodes, [models.value("x", [1, 16, 64, 64])], [models.value("d", None)], weights)
        return amble.load(models.saved(tmp_path, content, f"det{size}.onnx"), device=URI)

    runner = amble.open(URI).runner
    listed = runner.profile(network("Conv", 2), OperatingPoint(), 5).notes[1]
    assert "these run on the CPU instead: 1 Det" in listed
    with pytest.raises(Refused, match=r"runs on the CPU for .*1 Det.*use provider=cpu"):
        runner.profile(network("Relu", 64), OperatingPoint(), 5)


@real
def test_a_plan_is_made_and_run(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.cnn(batch=1))
    graph = amble.load(path, device=URI)
    costs = amble.fit(amble.measure(graph, amble.open(URI), repeats=5))
    schedule = amble.plan(graph, costs, deadline=amble.Deadline(1.0))
    assert schedule.where.device == URI
    amble.save(schedule, tmp_path / "schedule.json")
    assert amble.check(tmp_path / "schedule.json", URI, arrivals="periodic:100/s:1s").report.policies


@real
def test_compiled_engines_are_kept_and_found_again(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.cnn(batch=1))
    graph = amble.load(path, device=URI)
    amble.open(URI).runner.run(graph, OperatingPoint(), onnx.example_inputs(graph, seed=0))
    assert list((tmp_path / "cache" / "amble" / "engines").rglob("*.blob"))
