"""The input of a convolution → the window under its kernel at every place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["Windows", "cut", "read"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Windows:
    """How a convolution walks over its input; ``padding`` is as the operator says it, all starts before all ends."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: tuple[int, ...]
    same: str = ""
    group: int = 1


def read(node: onnx.NodeProto, kernel: tuple[int, ...]) -> Windows:
    """Read how a Conv walks."""
    told = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    num = len(kernel)
    return Windows(
        kernel,
        tuple(told.get("strides", [1] * num)),
        tuple(told.get("dilations", [1] * num)),
        tuple(told.get("pads", [0] * 2 * num)),
        told.get("auto_pad", b"NOTSET").decode(),
        int(told.get("group", 1)),
    )


def cut(activations: Array, windows: Windows, zero: int) -> Array:
    """Cut windows out of activations [n, channel, *space] → [n, channel, *place, *kernel], zero beyond the edges."""
    num = len(windows.kernel)
    reach = [1 + (size - 1) * step for size, step in zip(windows.kernel, windows.dilations, strict=True)]
    edges = [(0, 0), (0, 0), *_edges(activations.shape[2:], windows, reach)]
    padded = np.pad(activations, edges, constant_values=zero)
    taken = sliding_window_view(padded, reach, axis=tuple(range(2, 2 + num)))
    steps = (slice(None, None, each) for each in (*windows.strides, *windows.dilations))
    return np.asarray(taken[(slice(None), slice(None), *steps)])


def _edges(space: Sequence[int], windows: Windows, reach: Sequence[int]) -> list[tuple[int, int]]:
    """Return how much is added before and after each dimension."""
    num = len(reach)
    if windows.same not in ("SAME_UPPER", "SAME_LOWER"):
        return list(zip(windows.padding[:num], windows.padding[num:], strict=True))
    edges = []
    for size, step, each in zip(space, windows.strides, reach, strict=True):
        total = max(0, (-(-size // step) - 1) * step + each - size)
        less, more = total // 2, total - total // 2
        edges.append((less, more) if windows.same == "SAME_UPPER" else (more, less))
    return edges
