"""The verb ``dram`` with retraining: what it learns from, and what it refuses."""

import shutil
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from amble.core.errors import Refused
from amble.levers.memory.approximating import Faulty, _after, dram, halves
from amble.levers.memory.retraining import lesson, retrained
from amble.runtimes.onnx.faulty import FaultyOnnx
from amble.stages.measure.accuracy import Examples

NEEDS_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
CORNERS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=np.float32)


def examples(num: int, seed: int = 0) -> Examples:
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 4, num)
    return Examples({"x": (CORNERS[labels] + 0.3 * draws.standard_normal((num, 3))).astype(np.float32)}, labels)


def network(folder: Path, kind: str = "Relu") -> Path:
    """Two dense layers that know the corners already."""
    first = np.concatenate([CORNERS.T, -CORNERS.T], axis=1)
    second = np.concatenate([np.eye(4), np.zeros((4, 4))]).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node(kind, ["h"], ["a"], name="between"),
        helper.make_node("MatMul", ["a", "w2"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "corners",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(first, "w1"), numpy_helper.from_array(second, "w2")],
    )
    path = folder / "corners.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def right(path: Path) -> float:
    given = examples(400, seed=9)
    scores = next(iter(FaultyOnnx(path).run(given.inputs, 0).values()))
    return float((scores.argmax(1) == given.labels).mean())


def test_nothing_is_learned_from_examples_that_find_rates_or_verify() -> None:
    every = examples(2_000)
    given = lesson("some.npz", "x", 200, lambda: every)
    assert (len(given.learning), len(given.choosing)) == (720, 80)
    parts = [given.learning, given.choosing, *halves("some.npz", "x", 200, lambda: every)]
    seen = [{row.tobytes() for row in part.inputs["x"]} for part in parts]
    assert all(not one & other for at, one in enumerate(seen) for other in seen[:at])


def test_bundled_images_to_learn_from_are_not_those_held_out() -> None:
    given = lesson("bundled", "image", 200, lambda: examples(1))
    assert len(given.learning) + len(given.choosing) == 5_000


def test_too_few_examples_are_refused_with_how_many_there_must_be() -> None:
    with pytest.raises(Refused, match="at least 1200"):
        lesson("some.npz", "x", 100, lambda: examples(900))


def test_unlabelled_examples_are_refused() -> None:
    with pytest.raises(Refused, match="labelled"):
        lesson("some.npz", "x", 100, lambda: Examples({"x": examples(3_000).inputs["x"]}))


@NEEDS_TORCH
def test_a_retrained_network_is_a_file_that_answers_as_well(tmp_path: Path) -> None:
    before = network(tmp_path)
    given, epochs = lesson("some.npz", "x", 100, lambda: examples(2_000)), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch warns of what it imports itself
        after = retrained(
            before,
            given,
            tmp_path / "after.onnx",
            epochs=2,
            seed=1,
            on_progress=lambda what, done, total: epochs.append((what, done, total)),
        )
    assert epochs == [("epochs", 1, 2), ("epochs", 2, 2)]
    assert right(after) > right(before) - 0.02
    assert "Clip" in {node.op_type for node in onnx.load(after).graph.node}


@NEEDS_TORCH
def test_a_network_with_an_operator_that_torch_has_no_counterpart_of_is_refused(tmp_path: Path) -> None:
    given = lesson("some.npz", "x", 100, lambda: examples(2_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(Refused, match="between"):
            retrained(network(tmp_path, "Sinh"), given, tmp_path / "after.onnx", epochs=1, seed=1)


def test_retraining_without_a_file_to_write_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="--hardened"):
        dram(network(tmp_path), data="some.npz", dram="ddr4-2400", module="vendorB", retrain=1)


def test_what_retraining_costs_is_lost(tmp_path: Path) -> None:
    path = network(tmp_path)
    before = Faulty.of(FaultyOnnx(path), examples(400, seed=9))
    better = replace(before, clean=before.clean + 0.004)
    after, left = _after(better, lambda to: Path(shutil.copy(path, to)), 0.01, examples(400, seed=9))
    assert after.clean == before.clean
    assert left == pytest.approx(0.006)
    with pytest.raises(Refused, match="by itself"):
        _after(
            replace(before, clean=before.clean + 0.02),
            lambda to: Path(shutil.copy(path, to)),
            0.01,
            examples(400, seed=9),
        )


def test_what_retraining_costs_on_the_examples_that_verify_is_lost_too(tmp_path: Path) -> None:
    path = network(tmp_path)
    before = Faulty.of(FaultyOnnx(path), examples(400, seed=9))
    other = examples(400, seed=8)
    model = onnx.load(path)
    first = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(first * np.array([[-1], [1], [1]], "float32"), "w1"))

    def spoilt(to: Path) -> Path:
        onnx.save(model, to)
        return to

    easier = replace(before, clean=0.0)  # as if the half that finds rates had gained
    with pytest.raises(Refused, match="by itself"):
        _after(easier, spoilt, 0.01, other)


def refused(folder: Path, given: Examples) -> str:
    """Return why a network is not retrained with these examples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(Refused) as why:
            retrained(network(folder), lesson("some.npz", "x", 100, lambda: given), folder / "a.onnx", epochs=1, seed=1)
    return str(why.value)


@NEEDS_TORCH
def test_labels_that_are_no_classes_of_the_network_are_refused(tmp_path: Path) -> None:
    given = examples(2_000)
    assert given.labels is not None
    assert "labels has 1 to 4, the network's classes are 0 to 3" in refused(
        tmp_path, replace(given, labels=given.labels + 1)
    )
    assert "labels has -1 to 2" in refused(tmp_path, replace(given, labels=given.labels - 1))


@NEEDS_TORCH
def test_networks_with_several_inputs_are_refused(tmp_path: Path) -> None:
    given = examples(2_000)
    assert "2 inputs" in refused(tmp_path, replace(given, inputs={**given.inputs, "z": given.inputs["x"]}))
