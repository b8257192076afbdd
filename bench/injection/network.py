"""The bundled network in torch, built from its ONNX file, and the timing of injectors on it.

Imported both by the bench and by the peer's own environment, so it needs torch, numpy and onnx alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from bench.kit.places import ROOT

BUNDLED = ROOT / "src" / "amble" / "bundled"


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self, weights: dict[str, Tensor], prefix: str, stride: int) -> None:
        super().__init__()
        self.first = convolution(weights, f"{prefix}.first.0", stride)
        self.second = convolution(weights, f"{prefix}.second.0")
        shortcut = f"{prefix}.shortcut.0"
        self.shortcut = convolution(weights, shortcut, stride) if f"{shortcut}.weight" in weights else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


class Network(nn.Module):  # type: ignore[misc]
    """Image [B, 1, 28, 28] -> logits [B, 10]."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.stem = convolution(weights, "1.0")
        self.blocks = nn.Sequential(*(Block(weights, f"3.{index}", 2 if index in (2, 4) else 1) for index in range(6)))
        self.last = nn.Linear(*reversed(weights["6.weight"].shape))
        self.last.weight.data, self.last.bias.data = weights["6.weight"], weights["6.bias"]
        self.shift, self.scale = weights["val_1"], weights["val_2"]

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.stem((image - self.shift) * self.scale))
        out: Tensor = self.last(self.blocks(x).mean((2, 3)))
        return out


def convolution(weights: dict[str, Tensor], name: str, stride: int = 1) -> nn.Conv2d:
    weight = weights[f"{name}.weight"]
    made = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, weight.shape[2] // 2)
    made.weight.data, made.bias.data = weight, weights[f"{name}.bias"]
    return made


def network() -> Network:
    """The bundled network with its trained weights."""
    stored = onnx.load(BUNDLED / "fashion-resnet.onnx").graph.initializer
    made = Network({tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in stored})
    made.eval()
    return made


def images(count: int) -> tuple[Tensor, NDArray[np.uint8]]:
    """Test images as the network takes them, and their labels."""
    with np.load(BUNDLED / "fashion-mnist-test.npz") as archive:
        found, labels = archive["images"][:count], archive["labels"][:count]
    return torch.from_numpy(found[:, None].astype(np.float32) / np.float32(255)), labels


class Stopwatch:
    """CPU time [s] that an injector takes itself: from hooks before its own to hooks behind its own."""

    def __init__(self) -> None:
        self.total_s, self._began_s = 0.0, 0.0

    def start(self, *_: object) -> None:
        self._began_s = time.thread_time()

    def stop(self, *_: object) -> None:
        self.total_s += time.thread_time() - self._began_s

    def before(self, modules: Iterable[nn.Module]) -> list[Any]:
        """Start at every hook of these modules; call it before the injector hooks in."""
        return [handle for module in modules for handle in hooked(module, self.start)]

    def behind(self, modules: Iterable[nn.Module]) -> list[Any]:
        """Stop behind every hook of these modules; call it after the injector hooked in."""
        return [handle for module in modules for handle in hooked(module, self.stop)]


def hooked(module: nn.Module, call: Callable[..., None]) -> tuple[Any, Any]:
    return module.register_forward_pre_hook(call), module.register_forward_hook(call)


def own_s(watch: Stopwatch, call: Callable[[], object], repeats: int) -> float:
    """CPU time [s] in the injector for one call: the median; the first is not counted."""
    found = []
    for _ in range(repeats + 1):
        watch.total_s = 0.0
        call()
        found.append(watch.total_s)
    return float(np.median(found[1:]))


def overhead(plain: Callable[[], object], injected: Callable[[], object], repeats: int) -> tuple[float, float]:
    """CPU time [s] of one plain run, and what an injected one takes more: medians of runs in turn."""
    times: list[tuple[float, float]] = []
    for run in range(repeats + 1):
        pair = []
        for call in (plain, injected):
            start = time.process_time()
            call()
            pair.append(time.process_time() - start)
        if run:
            times.append((pair[0], pair[1]))
    first, second = np.array(times).T
    return float(np.median(first)), float(np.median(second - first))
