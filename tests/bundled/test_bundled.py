"""The bundled images and network are what the training log says they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from amble import bundled
from bench.kit import code

ROOT = Path(__file__).parents[2]
DIGESTS = {
    "fashion-mnist-train.npz": "6610068e3b3037a3db9c99e6a213e05ffe69bba835a357665feda9c7b7766f8f",
    "fashion-mnist-test.npz": "aba4de42375ca7961344c1ee53677f0736f1d08c794c612151b71911818f9a3c",
}


def log() -> list[dict[str, float | str]]:
    lines = (ROOT / "tools" / "bundled" / "fashion-resnet.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(bundled.model_path(), providers=["CPUExecutionProvider"])


def multiply_adds() -> int:
    """Of the bundled network for one image."""
    model = onnx.shape_inference.infer_shapes(onnx.load(bundled.model_path()))
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    values = [*model.graph.value_info, *model.graph.output]
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values}
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    return sum(int(np.prod(weights[node.input[1]]) * np.prod(shapes[node.output[0]][2:])) for node in convolutions)


@pytest.mark.parametrize(("split", "count"), [("train", 10_000), ("held_out", 5_000), ("test", 5_000)])
def test_every_split_has_its_images_and_all_ten_classes(split: str, count: int) -> None:
    images, labels = bundled.fashion_mnist(split)  # type: ignore[arg-type]
    assert images.shape == (count, 28, 28)
    assert labels.shape == (count,)
    assert images.dtype == labels.dtype == np.uint8
    assert images.max() == 255
    shares = np.bincount(labels, minlength=len(bundled.CLASSES)) / count
    assert shares.min() > 0.085
    assert shares.max() < 0.115


def test_held_out_images_are_the_second_half_of_the_training_images() -> None:
    images, labels = bundled.fashion_mnist("train")
    held_out_images, held_out_labels = bundled.fashion_mnist("held_out")
    np.testing.assert_array_equal(held_out_images, images[5_000:])
    np.testing.assert_array_equal(held_out_labels, labels[5_000:])


def test_no_test_image_is_a_training_image() -> None:
    train, test = bundled.fashion_mnist("train")[0], bundled.fashion_mnist("test")[0]
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}


def test_an_unknown_split_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="not 'validation'"):
        bundled.fashion_mnist("validation")  # type: ignore[arg-type]


def test_files_have_not_changed_since_they_were_made() -> None:
    found = {name: hashlib.sha256((bundled.model_path().parent / name).read_bytes()).hexdigest() for name in DIGESTS}
    assert found == DIGESTS
    assert hashlib.sha256(bundled.model_path().read_bytes()).hexdigest() == log()[-1]["onnx_sha256"]


def test_files_stay_small_enough_to_be_bundled() -> None:
    assert sum(file.stat().st_size for file in bundled.model_path().parent.glob("*.*")) < 14e6


def test_licence_of_the_images_is_beside_them() -> None:
    text = (bundled.model_path().parent / "LICENSE-fashion-mnist.txt").read_text()
    assert "Zalando" in text
    assert "Permission is hereby granted, free of charge" in text


def test_model_input_scales_bytes_to_one() -> None:
    images = np.array([[[0, 51, 255]]], np.uint8)
    made = bundled.model_input(images)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, [[[[0.0, 0.2, 1.0]]]], rtol=1e-6)


@pytest.mark.parametrize("images", [np.zeros((28, 28), np.uint8), np.zeros((2, 28, 28), np.float32)])
def test_model_input_refuses_what_is_not_a_stack_of_bytes(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="images must be uint8"):
        bundled.model_input(images)


def test_network_says_what_it_takes_and_gives() -> None:
    model = session()
    (image,), (logits,) = model.get_inputs(), model.get_outputs()
    assert (image.name, image.shape) == ("image", ["batch", 1, 28, 28])
    assert (logits.name, logits.shape) == ("logits", ["batch", 10])


def test_network_is_as_accurate_on_the_bundled_test_images_as_logged() -> None:
    images, labels = bundled.fashion_mnist("test")
    model = session()
    parts = np.array_split(bundled.model_input(images), 20)
    answers = np.concatenate([model.run(["logits"], {"image": part})[0].argmax(1) for part in parts])
    assert np.mean(answers == labels) == pytest.approx(log()[-1]["onnx_bundled_test_accuracy"], abs=0.002)
    assert float(log()[-1]["test_accuracy"]) >= 0.925


def test_answer_for_an_image_does_not_depend_on_its_batch() -> None:
    images = bundled.model_input(bundled.fashion_mnist("test")[0][:3])
    model = session()
    alone = [model.run(["logits"], {"image": image[None]})[0][0] for image in images]
    np.testing.assert_allclose(model.run(["logits"], {"image": images})[0], alone, atol=1e-4)


def test_network_has_no_batch_normalisation_left_and_the_size_that_was_promised() -> None:
    model = onnx.load(bundled.model_path())
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer) < 3e6
    assert 150e6 < multiply_adds() < 200e6


def test_log_was_made_by_the_code_that_is_here() -> None:
    files = (ROOT / f"{name}.py" for name in ("bench/bases/architecture", "bench/bases/data", "tools/bundled/train"))
    digest = code.whole(*files)
    assert {line["code_sha256"] for line in log()} == {digest}


def test_log_has_one_line_an_epoch_and_a_last_one() -> None:
    *epochs, last = log()
    assert [line["epoch"] for line in epochs] == list(range(1, int(last["epochs"]) + 1))
    assert abs(float(last["test_accuracy"]) - float(last["onnx_test_accuracy"])) <= 0.0005
