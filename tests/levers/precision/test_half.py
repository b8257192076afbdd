"""Half precision inside, the same inputs and outputs outside."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from amble.levers.precision.half import halved
from tests.runtimes import models


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_answers_stay_almost_the_same_and_fp32() -> None:
    given = models.cnn()
    (theirs,), (ours,) = run(given, x=pixels(2, 16, 8, 8)), run(halved(given, "fp16"), x=pixels(2, 16, 8, 8))
    assert ours.dtype == np.float32
    assert 0 < np.abs(ours - theirs).max() < 0.01 * np.abs(theirs).max()


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_every_weight_is_half(precision: str, dtype: int) -> None:
    made = halved(models.cnn(), precision)  # type: ignore[arg-type]
    assert {each.data_type for each in made.graph.initializer} == {dtype}


def test_the_model_that_was_given_is_not_changed() -> None:
    given = models.cnn()
    before = given.SerializeToString()
    halved(given, "fp16")
    assert given.SerializeToString() == before


def test_values_out_of_range_become_the_largest() -> None:
    huge = models.constant("w", [[1e6, -1e6, 2.0]], np.float32)
    nodes = [models.node("Add", ["x", "w"], ["y"])]
    made = halved(models.model(nodes, [models.value("x", [1, 3])], [models.value("y", [1, 3])], [huge]), "fp16")
    np.testing.assert_array_equal(numpy_helper.to_array(made.graph.initializer[0]), [[65504, -65504, 2]])


def test_infinities_and_nan_stay_what_they_are() -> None:
    mask = models.constant("w", [[-np.inf, np.inf, np.nan]], np.float32)
    nodes = [models.node("Add", ["x", "w"], ["y"])]
    made = halved(models.model(nodes, [models.value("x", [1, 3])], [models.value("y", [1, 3])], [mask]), "fp16")
    np.testing.assert_array_equal(numpy_helper.to_array(made.graph.initializer[0]), [[-np.inf, np.inf, np.nan]])


def test_operators_of_other_domains_are_no_obstacle() -> None:
    gelu = onnx.helper.make_node("BiasGelu", ["a", "b"], ["c"], name="g", domain="com.microsoft")
    nodes = [models.node("MatMul", ["x", "w"], ["a"]), gelu, models.node("MatMul", ["c", "v"], ["y"])]
    weights = [models.weight("w", 8, 8), models.weight("b", 8), models.weight("v", 8, 4)]
    given = models.model(nodes, [models.value("x", [2, 8])], [models.value("y", [2, 4])], weights)
    (theirs,), (ours,) = run(given, x=pixels(2, 8)), run(halved(given, "fp16"), x=pixels(2, 8))
    np.testing.assert_allclose(ours, theirs, atol=0.02 * float(np.abs(theirs).max()))


def functional() -> onnx.ModelProto:
    """A network of two blocks, each a function of its own with a constant and a cast in it."""
    body = [
        models.node("MatMul", ["a", "b"], ["t"]),
        onnx.helper.make_node("Constant", [], ["half"], value=models.constant("", 0.5, np.float32)),
        models.node("Mul", ["t", "half"], ["m"]),
        onnx.helper.make_node("Cast", ["m"], ["o"], to=TensorProto.FLOAT),
    ]
    block = onnx.helper.make_function("mine", "Block", ["a", "b"], ["o"], body, [onnx.helper.make_opsetid("", 17)])
    nodes = [
        onnx.helper.make_node("Block", ["x", "w"], ["h"], domain="mine"),
        onnx.helper.make_node("Block", ["h", "v"], ["y"], domain="mine"),
    ]
    weights = [models.weight("w", 8, 8), models.weight("v", 8, 4)]
    made = models.model(nodes, [models.value("x", [2, 8])], [models.value("y", [2, 4])], weights)
    made.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    made.functions.append(block)
    return made


def test_functions_of_the_networks_own_become_half_too() -> None:
    made = halved(functional(), "fp16")
    (theirs,), (ours,) = run(functional(), x=pixels(2, 8)), run(made, x=pixels(2, 8))
    np.testing.assert_allclose(ours, theirs, atol=0.02 * float(np.abs(theirs).max()))
    held = [each.t.data_type for node in made.graph.node for each in node.attribute if each.name == "value"]
    assert held == [TensorProto.FLOAT16] * 2


def test_whole_numbers_stay_whole() -> None:
    made = halved(models.attention(), "fp16")
    assert [each.type.tensor_type.elem_type for each in made.graph.input] == [TensorProto.INT64] * 2
    ids = np.array([[1, 2, 3]])
    theirs, ours = (run(model, ids=ids, attention_mask=np.ones_like(ids)) for model in (models.attention(), made))
    np.testing.assert_allclose(ours[0], theirs[0], atol=0.02)
    np.testing.assert_array_equal(ours[1], theirs[1])


def test_kinds_that_ask_for_32_bits_keep_them() -> None:
    scales = models.constant("scales", [1, 1, 2, 2], np.float32)
    nodes = [
        models.node("Relu", ["x"], ["r"]),
        models.node("Resize", ["r", "", "scales"], ["big"], mode="nearest"),
        models.node("Tanh", ["big"], ["y"]),
    ]
    given = models.model(nodes, [models.value("x", [1, 2, 4, 4])], [models.value("y", [1, 2, 8, 8])], [scales])
    made = halved(given, "fp16")
    (theirs,), (ours,) = run(given, x=pixels(1, 2, 4, 4)), run(made, x=pixels(1, 2, 4, 4))
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    (resize,) = [node for node in made.graph.node if node.op_type == "Resize"]
    assert resize.input[0] != "r"


def test_branches_are_half_too() -> None:
    given = models.branching()
    made = halved(given, "fp16")
    for flag in (True, False):
        inputs = {"x": 0.1 * pixels(2, 64), "flag": np.array(flag)}
        for ours, theirs in zip(run(made, **inputs), run(given, **inputs), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_casts_to_fp32_become_casts_to_half() -> None:
    nodes = [models.node("Cast", ["n"], ["f"], to=TensorProto.FLOAT), models.node("Tanh", ["f"], ["y"])]
    given = models.model(nodes, [models.value("n", [2], models.INT64)], [models.value("y", [2])])
    (ours,) = run(halved(given, "fp16"), n=np.array([0, 1]))
    np.testing.assert_allclose(ours, np.tanh([0, 1]), atol=1e-3)


def test_a_halved_network_can_be_saved_and_read(tmp_path: Path) -> None:
    onnx.save(halved(models.cnn(), "bf16"), str(tmp_path / "bf16.onnx"))
    onnx.checker.check_model(str(tmp_path / "bf16.onnx"))
