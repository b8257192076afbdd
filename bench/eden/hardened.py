"""A retrained network -> ONNX as it would be deployed: FP32, or INT8 of ONNX Runtime's static quantisation.

The base network is exported once; a retrained one has its tensors replaced, by their names in torch. Cut feature maps
become Clip nodes behind the tensors that layers read, so that what lies in memory is what was trained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime import quantization
from torch import Tensor, nn

from amble.runtimes.onnx.quantizing import refusing
from amble.runtimes.onnx.stored import layers
from bench.bases.base import KEPT, data_of, learning, trained
from bench.bases.export import export

Limits = Mapping[str, tuple[float, float]]

NUM_CALIBRATED = 500


def base_path(name: str, seed: int) -> Path:
    """Return the ONNX file of a base network; made when it is not there."""
    path = KEPT / "onnx" / f"{name}-{seed}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        export(trained(name, seed), path, shape=data_of(name).shape)
    return path


def write_fp32(base: Path, network: nn.Module | None, limits: Limits, output: Path) -> None:
    """Write the base with this network's tensors, if there is one; ``limits`` of feature maps, by layer in order."""
    model = onnx.load(base)
    if network is not None:
        replace_tensors(model, network)
    if limits:
        cut(model, list(limits.values()))
    onnx.checker.check_model(model)
    output.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, output)


def write_int8(source: Path, output: Path, *, asymmetric: bool, images: Tensor | None = None) -> None:
    """Quantise an FP32 file: weights symmetric for every channel, or asymmetric and unsigned for every layer.

    ``images``: uint8 [N, H, W] to calibrate on, of which the first NUM_CALIBRATED are used; None for Fashion-MNIST's.
    """
    with tempfile.TemporaryDirectory() as folder, refusing(source.name, "quantised"):
        model = onnx.load(source)
        del model.graph.value_info[:]
        lean = Path(folder) / "lean.onnx"
        onnx.save(model, lean)
        quantization.quantize_static(
            lean,
            output,
            Images(learning().inputs if images is None else images),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=not asymmetric,
            weight_type=quantization.QuantType.QUInt8 if asymmetric else quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )


def replace_tensors(model: onnx.ModelProto, network: nn.Module) -> None:
    """Store a network's tensors in the initialisers of their names; all must be there, in the same shape."""
    stored = {each.name: each for each in model.graph.initializer}
    for name, value in network.state_dict().items():
        array = value.detach().contiguous().numpy()
        found = stored.get(name)
        if found is None or tuple(found.dims) != array.shape:
            raise SystemExit(f"{name} {array.shape} is not in the base network; delete its ONNX file")
        found.CopyFrom(numpy_helper.from_array(array, name))


def cut(model: onnx.ModelProto, limits: list[tuple[float, float]]) -> None:
    """Put a Clip behind every tensor that layers read; one that several read gets the widest of their limits."""
    asked: dict[str, tuple[float, float]] = {}
    for layer, (low, high) in zip(layers(model), limits, strict=True):
        known = asked.get(layer.input, (low, high))
        asked[layer.input] = (min(low, known[0]), max(high, known[1]))
    for name, bounds in asked.items():
        at = next((i + 1 for i, node in enumerate(model.graph.node) if name in node.output), 0)
        for node in model.graph.node:
            node.input[:] = [f"{name}_cut" if each == name else each for each in node.input]
        for part, value in zip(("low", "high"), bounds, strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.float32(value), f"{name}_{part}"))
        clip = helper.make_node("Clip", [name, f"{name}_low", f"{name}_high"], [f"{name}_cut"], name=f"cut_{name}")
        model.graph.node.insert(at, clip)


class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
    """The first of these images [N, H, W] to calibrate on, in batches."""

    def __init__(self, images: Tensor) -> None:
        scaled = images[:NUM_CALIBRATED].unsqueeze(1).float().div(255.0)
        self.left: Iterator[Tensor] = iter(scaled.split(100))

    def get_next(self) -> dict[str, np.ndarray] | None:
        part = next(self.left, None)
        return None if part is None else {"image": part.numpy()}
