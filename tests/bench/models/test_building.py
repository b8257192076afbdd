"""The graphs for benches and examples have the published sizes, and a missing one is built whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from bench.models.building import MODELS, free, listing, write
from examples.resnet50 import resnet50

PUBLISHED_PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet152": 60_192_808,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "mobilenetv2": 3_504_872,
    "alexnet": 61_100_840,
    "inceptionv4": 42_679_816,
    "tiny_yolov3": 8_858_734,  # floats in darknet's file of weights, which has the running statistics too
}


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(resnet50())


def multiply_adds(model: onnx.ModelProto) -> int:
    """Of convolutions and dense layers, for one image."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    values = [*model.graph.value_info, *model.graph.output]
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    return sum(int(np.prod(weights[node.input[1]]) * np.prod(shapes[node.output[0]][2:])) for node in layers)


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": images})[0])


def test_resnet50_without_torch_has_the_published_size(graph: onnx.ModelProto) -> None:
    parameters = sum(int(np.prod(tensor.dims)) for tensor in graph.graph.initializer)
    scale_and_running_statistics = 26_560  # channels that are normalised: folding leaves one number each of two
    assert parameters == PUBLISHED_PARAMETERS["resnet50"] - scale_and_running_statistics
    assert multiply_adds(graph) == pytest.approx(4.089e9, rel=0.001)
    assert sum(node.op_type == "Conv" for node in graph.graph.node) == 53


def test_resnet50_without_torch_runs_and_tells_images_apart(graph: onnx.ModelProto) -> None:
    onnx.checker.check_model(graph, full_check=True)
    images = np.random.default_rng(0).random((2, 3, 224, 224), np.float32)
    first, second = run(graph, images)
    assert first.shape == (1_000,)
    assert 0.01 < first.std() < 100
    assert np.abs(first - second).max() > 1e-3


def test_resnet50_without_torch_is_the_same_for_the_same_seed(graph: onnx.ModelProto) -> None:
    def stem_weight(model: onnx.ModelProto) -> bytes:
        return bytes(model.graph.initializer[0].raw_data)

    assert stem_weight(resnet50(0)) == stem_weight(graph)
    assert stem_weight(resnet50(1)) != stem_weight(graph)


def test_list_names_every_graph_and_where_trained_weights_come_from() -> None:
    lines = listing().splitlines()
    assert [line.split()[0] for line in lines] == list(MODELS)
    assert sum("silero-vad (MIT)" in line for line in lines) == 2


def test_a_graph_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "vgg19.onnx").write_bytes(b"mine")
    assert write("vgg19", tmp_path).read_bytes() == b"mine"


def test_free_makes_a_fixed_axis_symbolic() -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [10, 3, 32])
    free(value, {0: "batch", 2: "width"})
    axes = value.type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in axes] == ["batch", 3, "width"]


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_network_has_the_published_number_of_parameters(name: str) -> None:
    torch = pytest.importorskip("torch")
    from bench.models import architectures

    build, side = architectures.IMAGE_NETWORKS[name]
    with torch.device("meta"):
        model = build()
        model.eval()(torch.empty(1, 3, side, side))  # the shapes fit
    counted = list(model.parameters())
    if name == "tiny_yolov3":
        counted += [buffer for buffer in model.buffers() if buffer.ndim]
    assert sum(tensor.numel() for tensor in counted) == PUBLISHED_PARAMETERS[name]


def test_exported_network_takes_any_batch_and_keeps_activations_finite(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    model = onnx.load(write("mobilenetv2", tmp_path))
    assert not list(tmp_path.glob("*.partial"))
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization" or node.metadata_props]
    for batch in (1, 3):
        logits = run(model, np.random.default_rng(batch).random((batch, 3, 224, 224), np.float32))
        assert logits.shape == (batch, 1_000)
        assert 0.01 < logits.std() < 100
