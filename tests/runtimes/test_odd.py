"""Other people's networks through the readers: answers equal to ONNX Runtime's, or one line that names the file."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from onnx import numpy_helper

from amble.core.errors import Refused
from amble.core.point import OperatingPoint
from amble.runtimes.onnx import OnnxRunner, compute, example_inputs, load
from amble.runtimes.onnx.batched import BatchedRunner
from amble.runtimes.onnx.reading import plain, read
from tests.runtimes import odd
from tests.runtimes.odd import REFUSED, RUNNING, Odd


def by_runtime(path: Path, inputs: dict[str, Any]) -> list[Any]:
    """What ONNX Runtime answers to the file as it is, weights read by onnx from where they really are."""
    content = onnx.load(str(path), load_external_data=False)
    for tensor in content.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entry = {each.key: each.value for each in tensor.external_data}
            linked = (path.parent / path.readlink()).parent if path.is_symlink() else path.parent
            beside = [folder / entry["location"] for folder in (path.parent, linked, path.resolve().parent)]
            whole = next(each for each in beside if each.is_file()).read_bytes()
            start = int(entry.get("offset", 0))
            tensor.raw_data = whole[start : start + int(entry["length"])]
            tensor.ClearField("data_location")
            del tensor.external_data[:]
    for each in content.graph.input:
        for dim in each.type.tensor_type.shape.dim:
            dim.Clear()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    opened = onnxruntime.InferenceSession(content.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(opened.run(None, inputs))


def same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, np.ndarray) and theirs.dtype.kind == "f":
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    elif isinstance(theirs, np.ndarray):
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize("each", RUNNING, ids=lambda each: each.name)
def test_what_can_run_answers_as_the_runtime_does_and_can_be_timed(each: Odd, tmp_path: Path) -> None:
    path = each.make(tmp_path)
    graph = load(path, shapes=each.shapes)
    inputs = example_inputs(graph, seed=1)
    assert {port.name for port in graph.inputs} == set(inputs)
    assert len(OnnxRunner().profile(graph, OperatingPoint(precision=graph.precision), 3).operators) > 0
    if each.name in ("no inputs", "input of bfloat16", "input of float8", "answers of half precision"):
        return  # drawn anew each time; no numpy array for the plain interface
    point = OperatingPoint(precision=graph.precision)
    for ours, theirs in zip(compute(graph, point, inputs).values(), by_runtime(path, inputs), strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("each", RUNNING, ids=lambda each: each.name)
def test_a_plain_copy_is_read_alike_and_opened_by_the_runtime(each: Odd, tmp_path: Path) -> None:
    path = each.make(tmp_path)
    copy = plain(path, tmp_path / "copy")
    assert copy.name == path.name
    ours, theirs = onnx.load(str(copy)).graph, read(path)[0].graph
    assert list(ours.node) == list(theirs.node)
    for one, other in zip(ours.initializer, theirs.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))
    runner = BatchedRunner()
    runner.open(path)
    graph = load(path, shapes=each.shapes)
    inputs = example_inputs(graph, seed=1)
    point = OperatingPoint(precision=graph.precision)
    for ours, theirs in zip(
        runner.run(graph, point, inputs).values(), compute(graph, point, inputs).values(), strict=True
    ):
        same(ours, theirs)


@pytest.mark.parametrize("each", REFUSED, ids=lambda each: each.name)
def test_what_cannot_be_used_is_refused_in_one_line_that_names_the_file(each: Odd, tmp_path: Path) -> None:
    path = each.make(tmp_path)
    with pytest.raises(Refused, match=each.refusal) as refusal:
        load(path)
    text = str(refusal.value)
    assert path.name in text
    assert "\n" not in text
    assert "/onnxruntime_src/" not in text
    assert ";" in text or "cannot be" in text or "update onnxruntime" in text, "a remedy, or the library's own reason"


def test_a_bfloat16_network_answers_what_its_casts_say(tmp_path: Path) -> None:
    path = next(each for each in RUNNING if each.name == "input of bfloat16").make(tmp_path)
    graph = load(path)
    inputs = example_inputs(graph, seed=1)
    assert inputs["x"].dtype.name == "bfloat16"
    weights = onnx.numpy_helper.to_array(onnx.load(str(path)).graph.initializer[0])
    expected = inputs["x"].astype(np.float32) @ weights
    np.testing.assert_allclose(compute(graph, OperatingPoint(), inputs)["y"], expected, rtol=1e-5)


def test_a_conversion_that_changes_the_answers_is_refused(tmp_path: Path) -> None:
    """A flattening softmax under the wrong opset stands for a converter that errs."""
    from amble.runtimes.onnx.network import check_converted

    written, path = odd.old(11), odd.saved(tmp_path, odd.old(11))
    inputs = example_inputs(load(path), seed=0)
    answers = by_runtime(path, inputs)
    check_converted(written, str(path), tmp_path, inputs, answers)
    with pytest.raises(Refused, match="answers otherwise"):
        check_converted(written, str(path), tmp_path, inputs, [answers[0] * 1.01])


_CHAIN = st.lists(
    st.sampled_from(["softmax", "squeeze", "sum", "clip", "slice", "pad", "split", "dropout", "norm"]), max_size=6
)


def chained(kinds: list[str], opset: int) -> onnx.ModelProto:
    """A chain of operators that were written otherwise before opset 13; each leaves [2, 3, 4] as it is."""
    nodes, weights, x = [], [odd.constant(each, [1.0, 0.5, 2.0], np.float32) for each in "smbv"], "x"
    for at, kind in enumerate(kinds):
        y, z = f"y{at}", f"z{at}"
        if kind == "softmax":
            nodes.append(odd.node("Softmax", [x], [y], axis=1))
        elif kind == "squeeze":
            nodes += [odd.node("Unsqueeze", [x], [z], axes=[0]), odd.node("Squeeze", [z], [y], axes=[0])]
        elif kind == "sum":
            nodes += [odd.node("ReduceSum", [x], [z], axes=[1], keepdims=1), odd.node("Add", [x, z], [y])]
        elif kind == "clip":
            nodes += [odd.node("Clip", [x], [y], min=-0.5, max=0.5)]
        elif kind == "slice":
            nodes += [
                odd.node("Concat", [x, x], [z], axis=2),
                odd.node("Slice", [z], [y], axes=[2], starts=[2], ends=[6]),
            ]
        elif kind == "pad":
            nodes += [odd.node("Pad", [x], [z], pads=[0, 0, 0, 0, 0, 2])]
            nodes += [odd.node("Slice", [z], [y], axes=[2], starts=[2], ends=[6])]
        elif kind == "split":
            nodes += [odd.node("Split", [x], [f"{z}a", f"{z}b"], axis=2, split=[1, 3])]
            nodes += [odd.node("Concat", [f"{z}b", f"{z}a"], [y], axis=2)]
        elif kind == "dropout":
            nodes.append(odd.node("Dropout", [x], [y], ratio=0.5))
        else:
            nodes.append(odd.node("BatchNormalization", [x, *"smbv"], [y]))
        x = y
    nodes.append(odd.node("Exp", [x], ["answer"]))
    return odd.model(nodes, [odd.value("x", [2, 3, 4])], [odd.value("answer", None)], weights, opset=opset)


@settings(max_examples=25, deadline=None)
@given(kinds=_CHAIN, opset=st.integers(7, 9), order=st.randoms())
def test_old_and_shuffled_networks_answer_as_they_did(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], opset: int, order: Random
) -> None:
    content = chained(kinds, opset)
    nodes = [onnx.NodeProto.FromString(each.SerializeToString()) for each in content.graph.node]
    order.shuffle(nodes)
    del content.graph.node[:]
    content.graph.node.extend(nodes)
    path = odd.saved(tmp_path_factory.mktemp("chain"), content)
    graph = load(path, batch=2)
    inputs = example_inputs(graph, seed=0)
    for ours, theirs in zip(compute(graph, OperatingPoint(), inputs).values(), by_runtime(path, inputs), strict=True):
        same(ours, theirs)
