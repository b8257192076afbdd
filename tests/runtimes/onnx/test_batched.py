"""One open session for every batch size, open axes told as they are, and bfloat16 by another way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from amble import bundled
from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.graph import Operator
from amble.core.point import Clocks, OperatingPoint
from amble.runtimes import onnx as networks
from amble.runtimes.onnx.batched import BatchedRunner

POINT = OperatingPoint()


def identity(path: Path, kind: int, shape: list[int | str]) -> Path:
    ports = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    made = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def test_any_batch_size_runs_and_rows_do_not_depend_on_their_neighbours() -> None:
    runner = BatchedRunner()
    found = runner.open(bundled.model_path())
    assert found.batched
    assert found.inputs[0].shape == (-1, 1, 28, 28)
    graph = networks.load(bundled.model_path())
    images = bundled.model_input(bundled.fashion_mnist("test")[0][:3])
    together = runner.run(graph, POINT, {"image": images})["logits"]
    alone = runner.run(graph, POINT, {"image": images[:1]})["logits"]
    assert together.shape == (3, 10)
    assert np.allclose(together[:1], alone, atol=1e-4)
    assert np.allclose(alone, networks.OnnxRunner().run(graph, POINT, {"image": images[:1]})["logits"], atol=1e-4)


def test_segments_and_runs_without_inputs_go_to_a_runner_that_is_bound() -> None:
    runner = BatchedRunner()
    graph = networks.load(bundled.model_path())
    image = {"image": bundled.model_input(bundled.fashion_mnist("test")[0][:1])}
    half = len(graph.operators) // 2
    between = runner.run(graph.segment(0, half), POINT, image)
    logits = runner.run(graph.segment(half, len(graph.operators)), POINT, between)["logits"]
    assert np.allclose(logits, runner.run(graph, POINT, image)["logits"], atol=1e-4)
    assert runner.run(graph, POINT, {}) == {}
    assert len(runner.profile(graph, POINT, 3).operators) == len(graph.operators)


def test_axes_that_are_not_open_are_no_batch(tmp_path: Path) -> None:
    found = BatchedRunner().open(identity(tmp_path / "fixed.onnx", TensorProto.FLOAT, [1, "length"]))
    assert not found.batched
    assert found.inputs[0].shape == (1, -1)


def test_bfloat16_goes_through_bit_by_bit(tmp_path: Path) -> None:
    path = identity(tmp_path / "bf16.onnx", TensorProto.BFLOAT16, ["n", 2])
    runner = BatchedRunner()
    runner.open(path)
    sent = np.array([[1.5, -2.0]], dtype=helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
    graph = networks.load(identity(tmp_path / "g.onnx", TensorProto.FLOAT, [1, 2]))
    found = runner.run(replace(graph, source=str(path)), POINT, {"x": sent})["y"]
    assert found.dtype == sent.dtype
    assert np.array_equal(found.astype(np.float32), sent.astype(np.float32))


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        BatchedRunner().open(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(Refused, match=r"bad\.onnx"):
        BatchedRunner().open(tmp_path / "bad.onnx")


def test_inputs_that_do_not_fit_are_refused() -> None:
    graph = networks.load(bundled.model_path())
    with pytest.raises(Refused, match="run on these inputs"):
        BatchedRunner().run(graph, POINT, {"image": np.zeros((1, 1, 2, 28), np.float32)})


def test_a_network_taken_as_one_operator_is_timed_as_it_is_served_and_its_energy_is_the_meters() -> None:
    class Ticks:
        """A meter that counts its readings."""

        joules = 0.0

        def read(self) -> Reading:
            self.joules += 5.0
            return Reading(0.0, self.joules)

    runner, whole = BatchedRunner(), networks.load(bundled.model_path(), batch=1)
    one = replace(whole, operators=(Operator("net", "Network", 1.0, 1.0, 1.0),), batch=2)
    unknown = runner.profile(one, OperatingPoint(), 15)
    assert unknown.whole.energy_j is None
    assert 5 <= unknown.repeats <= 15
    assert unknown.whole.latency_s > 0
    assert len(unknown.operators) == 1
    runner.watch(Ticks(), lambda: Clocks(cpu_hz=1e9))
    metered = runner.profile(one, OperatingPoint(), 15)
    assert metered.whole.energy_j == pytest.approx(5.0 / metered.repeats)
    assert metered.ran_at == Clocks(cpu_hz=1e9)
    assert len(runner.profile(whole, OperatingPoint(), 5).operators) == len(whole.operators)
