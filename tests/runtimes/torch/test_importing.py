"""What is read into torch answers as ONNX Runtime does."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from amble.core.errors import Refused
from amble.runtimes.torch.importing import to_torch

BUNDLED = Path(__file__).parents[3] / "src" / "amble" / "bundled" / "fashion-resnet.onnx"
RANDOM = np.random.default_rng(0)


def constant(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(RANDOM.standard_normal(shape).astype(np.float32) / 4, name)


def positive(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(RANDOM.uniform(0.5, 2.0, shape).astype(np.float32), name)


def whole(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def scalar(name: str, value: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)


def written(
    folder: Path,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    shape: tuple[int | str, ...] = ("batch", 4, 9, 9),
    opset: int = 20,
) -> Path:
    """A network from `x` to the last node's output."""
    graph = helper.make_graph(
        nodes,
        "made up",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    path = folder / "made-up.onnx"
    onnx.save(model, path)
    return path


def assert_answers_alike(path: Path, *shape: int) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = RANDOM.standard_normal(shape).astype(np.float32)
    wanted = session.run(None, {session.get_inputs()[0].name: given})[0]
    with torch.inference_mode():
        found = to_torch(path)(torch.from_numpy(given)).numpy()
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def test_the_bundled_network_answers_alike_at_any_batch() -> None:
    assert_answers_alike(BUNDLED, 1, 1, 28, 28)
    assert_answers_alike(BUNDLED, 5, 1, 28, 28)


def test_layers_keep_the_names_of_their_nodes() -> None:
    module = to_torch(BUNDLED)
    assert {"conv_1", "conv_15", "gemm_1"} <= dict(module.named_modules()).keys()


def test_branches_that_are_concatenated_answer_alike(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w1 b1", "a", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("MaxPool", "x", "p", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Concat", "a p", "c", axis=1),
        node("LeakyRelu", "c", "l", alpha=0.2),
        node("AveragePool", "l", "v", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        node("Flatten", "v", "f"),
        node("Gemm", "f w2 b2", "y", transB=1, alpha=0.5, beta=2.0),
    ]
    constants = [constant("w1", 6, 4, 3, 3), constant("b1", 6), constant("w2", 3, 90), constant("b2", 3)]
    assert_answers_alike(written(tmp_path, nodes, constants), 2, 4, 9, 9)


def test_inverted_residuals_with_gates_answer_alike(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w1", "up"),
        node("BatchNormalization", "up s h m v", "n", epsilon=1e-3),
        node("HardSwish", "n", "u"),
        node("Conv", "u w2", "d", pads=[1, 1, 1, 1], group=8),
        node("Clip", "d zero six", "d6"),
        node("GlobalAveragePool", "d6", "pool"),
        node("Conv", "pool w3 b3", "r"),
        node("Relu", "r", "r1"),
        node("Conv", "r1 w4 b4", "g"),
        node("HardSigmoid", "g", "gate", alpha=1 / 6, beta=0.5),
        node("Mul", "d6 gate", "gated"),
        node("Conv", "gated w5", "down"),
        node("Add", "x down", "y"),
    ]
    constants = [
        *(constant("w1", 8, 4, 1, 1), constant("w2", 8, 1, 3, 3), constant("w5", 4, 8, 1, 1)),
        *(constant("s", 8), constant("h", 8), constant("m", 8), positive("v", 8)),
        *(constant("w3", 2, 8, 1, 1), constant("b3", 2), constant("w4", 8, 2, 1, 1), constant("b4", 8)),
        *(scalar("zero", 0.0), scalar("six", 6.0)),
    ]
    assert_answers_alike(written(tmp_path, nodes, constants), 2, 4, 9, 9)


@pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_padding_that_the_file_leaves_open_is_worked_out(tmp_path: Path, automatic: str) -> None:
    nodes = [
        node("Conv", "x w", "a", strides=[2, 2], auto_pad=automatic, dilations=[1, 1]),
        node("MaxPool", "a", "y", kernel_shape=[2, 2], auto_pad=automatic),
    ]
    assert_answers_alike(written(tmp_path, nodes, [constant("w", 6, 4, 4, 3)], ("batch", 4, 10, 9)), 2, 4, 10, 9)


def test_padding_may_differ_between_the_sides(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "a", pads=[0, 1, 2, 0], group=2),
        node("MaxPool", "a", "y", kernel_shape=[3, 3], pads=[1, 0, 0, 1]),
    ]
    assert_answers_alike(written(tmp_path, nodes, [constant("w", 6, 2, 3, 3)]), 2, 4, 9, 9)


def test_arithmetic_with_constants_answers_alike(tmp_path: Path) -> None:
    nodes = [
        node("Constant", "", "half", value=scalar("", 0.5)),
        node("Sub", "x mean", "a"),
        node("Mul", "a half", "b"),
        node("Div", "b spread", "c"),
        node("ReduceMean", "c axes", "d", keepdims=0),
        node("Unsqueeze", "d two", "e"),
        node("Transpose", "e", "f", perm=[0, 2, 1]),
        node("Squeeze", "f one", "g"),
        node("MatMul", "g w", "h"),
        node("Tanh", "h", "i"),
        node("Sigmoid", "i", "j"),
        node("Dropout", "j", "k"),
        node("Identity", "k", "l"),
        node("Softmax", "l", "y"),
    ]
    constants = [
        *(constant("mean", 4, 1, 1), positive("spread", 1, 4, 1, 1), constant("w", 4, 5)),
        *(whole("axes", -1, -2), whole("two", 2), whole("one", 1)),
    ]
    assert_answers_alike(written(tmp_path, nodes, constants), 3, 4, 9, 9)


def test_a_layer_over_time_answers_alike(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1]),
        node("BatchNormalization", "a s h m v", "b"),
        node("AveragePool", "b", "c", kernel_shape=[3], pads=[1, 1], count_include_pad=1),
        node("MaxPool", "c", "d", kernel_shape=[2], strides=[2]),
        node("Reshape", "d shape", "y"),
    ]
    constants = [
        *(constant("w", 6, 4, 3), constant("s", 6), constant("h", 6), constant("m", 6), positive("v", 6)),
        whole("shape", 0, 3, -1),
    ]
    assert_answers_alike(written(tmp_path, nodes, constants, ("batch", 4, 10)), 2, 4, 10)


def test_older_files_keep_settings_in_attributes(tmp_path: Path) -> None:
    nodes = [node("Clip", "x", "a", min=-0.5, max=0.5), node("ReduceMean", "a", "y", axes=[2, 3])]
    assert_answers_alike(written(tmp_path, nodes, [], opset=9), 2, 4, 9, 9)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (node("Einsum", "x", "odd", equation="nchw->nhwc"), "no counterpart"),
        (node("Flatten", "x", "odd", axis=2), "batch"),
        (node("ReduceMean", "x", "odd"), "batch"),
        (node("AveragePool", "x", "odd", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), "differs"),
    ],
)
def test_an_operator_that_cannot_be_read_is_named(tmp_path: Path, made: onnx.NodeProto, why: str) -> None:
    with pytest.raises(Refused, match=f"operator odd \\({made.op_type}\\).*{why}"):
        to_torch(written(tmp_path, [made], []))


def test_weights_that_are_computed_are_refused(tmp_path: Path) -> None:
    nodes = [node("Add", "w w", "twice"), node("Conv", "x twice", "odd")]
    with pytest.raises(Refused, match="'twice' is computed"):
        to_torch(written(tmp_path, nodes, [constant("w", 6, 4, 3, 3)]))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no file"):
        to_torch(tmp_path / "missing.onnx")
    (tmp_path / "odd.onnx").write_text("not a network")
    with pytest.raises(Refused, match="export it again"):
        to_torch(tmp_path / "odd.onnx")
