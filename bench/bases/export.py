"""The trained network -> ONNX with batch normalisation folded in, checked against torch on all test images."""

from __future__ import annotations

import copy
import hashlib
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from amble.runtimes.torch.exporting import OPSET, tidy
from bench.bases.data import original
from bench.kit.places import ROOT

MODEL = ROOT / "src" / "amble" / "bundled" / "fashion-resnet.onnx"
NUM_BUNDLED_TEST = 5_000  # the first test images are bundled with amble


def folded(model: nn.Module) -> nn.Module:
    """A copy in which every convolution has taken in the batch normalisation that follows it."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        parts = list(module.children())
        if isinstance(module, nn.Sequential) and [type(part) for part in parts] == [nn.Conv2d, nn.BatchNorm2d]:
            module[0], module[1] = fuse_conv_bn_eval(parts[0], parts[1]), nn.Identity()
    return model


def export(model: nn.Module, path: Path, *, shape: tuple[int, int] = (28, 28)) -> None:
    """Write `image [batch, 1, height, width] -> logits [batch, 10]`; ``shape``: height and width."""
    height, width = shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            folded(model).to(memory_format=torch.contiguous_format),
            (torch.rand(2, 1, height, width),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    proto = program.model_proto
    proto.doc_string = f"image [batch, 1, {height}, {width}] in [0, 1] -> logits [batch, 10]"
    tidy(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    partial = path.with_suffix(".partial")
    onnx.save(proto, partial)
    partial.replace(path)


def accuracy(path: Path, num_images: int) -> float:
    """Share of right answers of ONNX Runtime on the first test images."""
    images, labels = original("t10k")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = images[:num_images, None].astype(np.float32) / np.float32(255)
    logits = [session.run(["logits"], {"image": part})[0] for part in np.array_split(pixels, 20)]
    return float(np.mean(np.concatenate(logits).argmax(1) == labels[:num_images]))


def finish(model: nn.Module, test_accuracy: float) -> dict[str, object]:
    """Export, and say what was exported; refuse when ONNX Runtime answers worse than torch did."""
    export(model, MODEL)
    exported = accuracy(MODEL, len(original("t10k")[1]))
    if abs(exported - test_accuracy) > 5e-4:
        raise SystemExit(f"ONNX is right for {exported:.2%} of the test images, torch for {test_accuracy:.2%}")
    return {
        "test_accuracy": test_accuracy,
        "onnx_test_accuracy": exported,
        "onnx_bundled_test_accuracy": accuracy(MODEL, NUM_BUNDLED_TEST),
        "onnx_sha256": hashlib.sha256(MODEL.read_bytes()).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
