"""ONNX operators that move elements or compute sizes → calls of torch that do the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, fx, nn

from amble.runtimes.torch.reading import Array, Call, Value

__all__ = ["SUPPORTED"]

_TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}


def _flatten(call: Call) -> fx.Node:
    if call.attributes.get("axis", 1) != 1:
        raise call.refused("it flattens the batch or several leading axes")
    return call.call(torch.flatten, call.tensor(), 1)


def _reshape(call: Call) -> fx.Node:
    """Flatten where that is meant; a batch that is a number in the file is as large as it comes."""
    value = call.reader.values[call.node.input[1]]
    source = call.tensor()
    if not isinstance(value, np.ndarray):
        return call.call(_reshaped, source, value)
    wanted = [int(each) for each in value]
    inner = call.size()[1:]
    known = None if None in inner else int(np.prod([each or 0 for each in inner]))
    if len(wanted) == 2 and (wanted == [0, -1] or wanted[1] == known):
        return call.call(torch.flatten, source, 1)
    if wanted[0] > 0 and known == int(np.prod(wanted[1:])):
        wanted[0] = 0
    shape = [call.call(torch.Tensor.size, source, at) if each == 0 else each for at, each in enumerate(wanted)]
    return call.call(torch.reshape, source, tuple(shape))


def _reshaped(values: Tensor, shape: Tensor) -> Tensor:
    return values.reshape([values.shape[at] if each == 0 else each for at, each in enumerate(shape.tolist())])


def _concatenation(call: Call) -> fx.Node:
    parts = [call.tensor(index) for index in range(len(call.node.input))]
    return call.call(torch.cat, parts, call.attributes["axis"])


def _squeeze(call: Call) -> fx.Node:
    axes = call.setting("axes", 1, None)
    if axes is None:
        raise call.refused("it does not say which axes it drops")
    return call.call(torch.squeeze, call.tensor(), tuple(axes))


def _unsqueeze(call: Call) -> fx.Node:
    axes = sorted(call.setting("axes", 1, ()))
    if any(axis < 0 for axis in axes) and len(axes) > 1:
        raise call.refused("it adds several axes counted from the end")
    node = call.tensor()
    for axis in axes:
        node = call.call(torch.unsqueeze, node, axis)
    return node


def _constant(call: Call) -> Value:
    if "value" not in call.attributes:
        given = next(iter(call.attributes.values()))
        return np.array(given, dtype=np.float32 if isinstance(given, float) else None)
    made: Array = numpy_helper.to_array(call.attributes["value"])
    return made


def _size_of(values: Tensor, start: int, end: int | None) -> Tensor:
    return torch.tensor(values.shape[start:end])


def _shape(call: Call) -> Value:
    return call.call(_size_of, call.tensor(), call.attributes.get("start", 0), call.attributes.get("end"))


def _gathered(call: Call) -> fx.Node:
    return call.call(_taken, call.tensor(0), call.tensor(1), call.attributes.get("axis", 0))


def _taken(values: Tensor, index: Tensor, axis: int) -> Tensor:
    axis %= values.dim()
    found = torch.where(index < 0, index + values.shape[axis], index).long()
    shape = (*values.shape[:axis], *found.shape, *values.shape[axis + 1 :])
    return values.index_select(axis, found.reshape(-1)).reshape(shape)


def _sliced(call: Call) -> fx.Node:
    if "starts" in call.attributes:
        bounds = [call.attributes["starts"], call.attributes["ends"], call.attributes.get("axes")]
    else:
        bounds = [call.tensor(index) if call.has(index) else None for index in range(1, 5)]
    return call.call(_part, call.tensor(), *bounds)


def _part(values: Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Tensor:
    first, last = _numbers(starts), _numbers(ends)
    for at, axis in enumerate(range(len(first)) if axes is None else _numbers(axes)):
        step = 1 if steps is None else _numbers(steps)[at]
        places = range(*slice(first[at], last[at], step).indices(values.shape[axis]))
        if step > 0:
            values = values[(slice(None),) * (axis % values.dim()) + (slice(places.start, places.stop, step),)]
        else:
            values = values.index_select(axis, torch.tensor(list(places)))
    return values


def _numbers(given: Tensor | Sequence[int]) -> list[int]:
    found: list[int] = given.tolist() if isinstance(given, Tensor) else list(given)
    return found


def _split(call: Call) -> list[fx.Node]:
    axis, num = call.attributes.get("axis", 0), len(call.node.output)
    sizes = call.setting("split", 1, None)
    parts = call.call(_parts, call.tensor(), sizes or num, axis)
    return [call.call(_item, parts, at) for at in range(num)]


def _parts(values: Tensor, sizes: list[int] | int, axis: int) -> tuple[Tensor, ...]:
    size = -(-values.shape[axis] // sizes) if isinstance(sizes, int) else sizes
    return tuple(torch.split(values, size, axis))


def _item(parts: tuple[Tensor, ...], at: int) -> Tensor:
    return parts[at]


def _expanded(call: Call) -> fx.Node:
    return call.call(_broadcast, call.tensor(0), call.tensor(1))


def _broadcast(values: Tensor, shape: Tensor) -> Tensor:
    return values.expand(torch.broadcast_shapes(tuple(values.shape), tuple(shape.tolist())))


def _to_space(call: Call) -> fx.Node:
    mode = call.attributes.get("mode", b"DCR").decode()
    return call.call(_spread, call.tensor(), call.attributes["blocksize"], mode)


def _spread(values: Tensor, block: int, mode: str) -> Tensor:
    n, c, h, w = values.shape
    if mode == "CRD":
        return nn.functional.pixel_shuffle(values, block)
    parts = values.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // block**2, h * block, w * block)


def _to_depth(call: Call) -> fx.Node:
    return call.call(_gathered_up, call.tensor(), call.attributes["blocksize"])


def _gathered_up(values: Tensor, block: int) -> Tensor:
    n, c, h, w = values.shape
    parts = values.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)


def _resized(call: Call) -> fx.Node:
    mode = call.attributes.get("mode", b"nearest").decode()
    how = call.attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounds = call.attributes.get("nearest_mode", b"round_prefer_floor").decode()
    is_whole = mode == "nearest" and (how, rounds) in {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")}
    if not is_whole and (mode, how) not in {("linear", "half_pixel"), ("linear", "pytorch_half_pixel")}:
        raise call.refused(f"resizing by {mode}, {how}, has no counterpart")
    kind = {"mode": "nearest"} if is_whole else {"mode": "bilinear", "align_corners": False}
    if not (call.has(2) and isinstance(call.reader.values[call.node.input[2]], np.ndarray) and call.constant(2).size):
        return call.call(_to_size, call.tensor(0), call.tensor(3), kind)
    scales = [float(each) for each in call.constant(2)[2:]]
    if is_whole and any(each != int(each) for each in scales):
        raise call.refused("it resizes by a factor that is no whole number")
    return call.call(nn.functional.interpolate, call.tensor(), scale_factor=scales, **kind)


def _upsampled(call: Call) -> fx.Node:
    scales = [float(each) for each in call.setting("scales", 1, [])[2:]]
    if call.attributes.get("mode", b"nearest") != b"nearest" or any(each != int(each) for each in scales):
        raise call.refused("it resizes by something other than repeating whole pixels")
    return call.call(nn.functional.interpolate, call.tensor(), scale_factor=scales, mode="nearest")


def _to_size(values: Tensor, sizes: Tensor, kind: dict[str, Any]) -> Tensor:
    return nn.functional.interpolate(values, size=_numbers(sizes)[2:], **kind)


def _filled(call: Call) -> fx.Node:
    given = call.attributes.get("value")
    value = 0.0 if given is None else numpy_helper.to_array(given).item()
    return call.call(_full, call.tensor(), value)


def _full(shape: Tensor, value: float) -> Tensor:
    return torch.full(_numbers(shape), value)


def _padded(call: Call) -> fx.Node:
    mode = call.attributes.get("mode", b"constant").decode()
    pads, value = call.setting("pads", 1, None), call.setting("value", 2, 0.0)
    if mode != "constant" or call.has(3) or pads is None:
        raise call.refused("it pads by something other than a number")
    rank = len(pads) // 2
    sides = [side for axis in reversed(range(rank)) for side in (pads[axis], pads[rank + axis])]
    return call.call(nn.functional.pad, call.tensor(), sides, value=float(np.reshape(value, -1)[0]))


def _cast(call: Call) -> fx.Node:
    wanted = _TYPES.get(call.attributes["to"])
    if wanted is None:
        raise call.refused("it casts to a type that networks are not trained in")
    return call.call(torch.Tensor.to, call.tensor(), wanted)


def _permuted(call: Call) -> fx.Node:
    order = call.attributes.get("perm") or range(len(call.size()))[::-1]
    return call.call(torch.permute, call.tensor(), tuple(order))


SUPPORTED: dict[str, Callable[[Call], Value | list[fx.Node]]] = {
    "Cast": _cast,
    "Concat": _concatenation,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "DepthToSpace": _to_space,
    "Expand": _expanded,
    "Flatten": _flatten,
    "Gather": _gathered,
    "Pad": _padded,
    "Reshape": _reshape,
    "Resize": _resized,
    "Shape": _shape,
    "Slice": _sliced,
    "SpaceToDepth": _to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _permuted,
    "Unsqueeze": _unsqueeze,
    "Upsample": _upsampled,
}
"""What can be read, by the operator's kind."""
