"""ONNX operator → the calls of torch that compute the same, by the operator's kind."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from onnx import numpy_helper
from torch import Tensor, fx, nn

from amble.runtimes.torch.reading import Array, Call, Value

__all__ = ["SUPPORTED"]


def _convolution(call: Call) -> fx.Node:
    weight = call.constant(1)
    if weight.ndim not in (3, 4):
        raise call.refused(f"it has {weight.ndim - 2} dimensions, and only one or two can be read")
    axes = weight.ndim - 2
    kind: type[nn.Conv1d | nn.Conv2d] = nn.Conv2d if axes == 2 else nn.Conv1d
    groups = call.attributes.get("group", 1)
    stride = tuple(call.attributes.get("strides", [1] * axes))
    dilation = tuple(call.attributes.get("dilations", [1] * axes))
    source, padding = _padded(call, weight.shape[2:], stride, dilation, fill=0.0)
    made = kind(
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2:],
        stride,
        padding,
        dilation,
        groups,
        bias=call.has(2),
    )
    made.weight.data = _tensor(weight)
    if made.bias is not None:
        made.bias.data = _tensor(call.constant(2))
    return call.layer(made, source)


def _padded(
    call: Call, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], *, fill: float
) -> tuple[fx.Node, tuple[int, ...]]:
    """Return what a window slides over and the padding that is left to the layer: none where sides are unequal."""
    before, after = _pads(call, kernel, stride, dilation)
    if before == after:
        return call.tensor(), before
    sides = [side for axis in reversed(range(len(before))) for side in (before[axis], after[axis])]
    return call.call(nn.functional.pad, call.tensor(), sides, value=fill), (0,) * len(before)


def _pads(
    call: Call, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    automatic = call.attributes.get("auto_pad", b"NOTSET").decode()
    if automatic == "VALID":
        return (0,) * len(kernel), (0,) * len(kernel)
    if automatic == "NOTSET":
        pads = tuple(call.attributes.get("pads", [0] * 2 * len(kernel)))
        return pads[: len(kernel)], pads[len(kernel) :]
    least, most = [], []
    for side, k, s, d in zip(call.size()[2:], kernel, stride, dilation, strict=True):
        if side is None:
            raise call.refused("its padding depends on the size of its input, which is open: fix that size")
        total = max(0, (-(-side // s) - 1) * s + (k - 1) * d + 1 - side)
        least.append(total // 2)
        most.append(total - total // 2)
    return (tuple(least), tuple(most)) if automatic == "SAME_UPPER" else (tuple(most), tuple(least))


def _normalisation(call: Call) -> fx.Node:
    scale, shift, mean, variance = (call.constant(index) for index in range(1, 5))
    kind: type[nn.BatchNorm1d | nn.BatchNorm2d] = nn.BatchNorm2d if len(call.size()) == 4 else nn.BatchNorm1d
    momentum = 1.0 - call.attributes.get("momentum", 0.9)
    made = kind(len(scale), eps=call.attributes.get("epsilon", 1e-5), momentum=momentum)
    made.load_state_dict(
        {
            "weight": _tensor(scale),
            "bias": _tensor(shift),
            "running_mean": _tensor(mean),
            "running_var": _tensor(variance),
            "num_batches_tracked": torch.tensor(0),
        }
    )
    return call.layer(made, call.tensor())


def _dense(call: Call) -> fx.Node:
    weight = call.constant(1)
    weight = weight if call.attributes.get("transB", 0) else weight.T
    if call.attributes.get("transA", 0):
        raise call.refused("its first input is transposed")
    bias = call.constant(2).reshape(-1) * call.attributes.get("beta", 1.0) if call.has(2) else None
    return call.layer(_linear(weight * call.attributes.get("alpha", 1.0), bias), call.tensor())


def _product(call: Call) -> fx.Node:
    weight = call.reader.values[call.node.input[1]]
    if isinstance(weight, np.ndarray) and weight.ndim == 2:
        return call.layer(_linear(weight.T, None), call.tensor())
    return call.call(torch.matmul, call.tensor(0), call.tensor(1))


def _linear(weight: Array, bias: Array | None) -> nn.Linear:
    """weight: [output, input]; a single bias counts for all outputs."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight.data = _tensor(weight.astype(np.float32))
    if bias is not None:
        made.bias.data = _tensor(np.broadcast_to(bias, weight.shape[:1]).astype(np.float32))
    return made


def _max_pool(call: Call) -> fx.Node:
    kernel = tuple(call.attributes["kernel_shape"])
    stride = tuple(call.attributes.get("strides", [1] * len(kernel)))
    dilation = tuple(call.attributes.get("dilations", [1] * len(kernel)))
    source, padding = _padded(call, kernel, stride, dilation, fill=float("-inf"))
    kind = nn.MaxPool2d if len(kernel) == 2 else nn.MaxPool1d
    return call.layer(kind(kernel, stride, padding, dilation, ceil_mode=_ceils(call)), source)


def _average_pool(call: Call) -> fx.Node:
    kernel = tuple(call.attributes["kernel_shape"])
    stride = tuple(call.attributes.get("strides", [1] * len(kernel)))
    before, after = _pads(call, kernel, stride, (1,) * len(kernel))
    if before != after:
        raise call.refused("its padding differs between the sides")
    counts = bool(call.attributes.get("count_include_pad", 0))
    kind = nn.AvgPool2d if len(kernel) == 2 else nn.AvgPool1d
    return call.layer(kind(kernel, stride, before, ceil_mode=_ceils(call), count_include_pad=counts), call.tensor())


def _ceils(call: Call) -> bool:
    return bool(call.attributes.get("ceil_mode", 0))


def _mean(call: Call) -> fx.Node:
    axes = call.setting("axes", 1, None)
    keeps = bool(call.attributes.get("keepdims", 1))
    if axes is None:
        raise call.refused("it averages over everything, the batch too")
    return call.call(torch.mean, call.tensor(), list(axes), keepdim=keeps)


def _clip(call: Call) -> fx.Node:
    least, most = call.setting("min", 1, None), call.setting("max", 2, None)
    if (least, most) == (0.0, 6.0):
        return call.layer(nn.ReLU6(), call.tensor())
    return call.call(torch.clamp, call.tensor(), least, most)


def _hard_sigmoid(call: Call) -> fx.Node:
    slope, offset = call.attributes.get("alpha", 0.2), call.attributes.get("beta", 0.5)
    line = call.call(operator.add, call.call(operator.mul, call.tensor(), slope), offset)
    return call.call(torch.clamp, line, 0.0, 1.0)


def _softmax(call: Call) -> fx.Node:
    axis = call.attributes.get("axis", 1 if call.reader.opset < 13 else -1)
    if call.reader.opset < 13 and axis not in (-1, len(call.size()) - 1):
        raise call.refused("before operator set 13 it flattens its input, which is read for the last axis alone")
    return call.call(torch.softmax, call.tensor(), axis)


def _flatten(call: Call) -> fx.Node:
    if call.attributes.get("axis", 1) != 1:
        raise call.refused("it flattens the batch or several leading axes")
    return call.call(torch.flatten, call.tensor(), 1)


def _reshape(call: Call) -> fx.Node:
    """Flatten where that is meant, since a fixed number of channels would forbid to cut them."""
    wanted = [int(each) for each in call.constant(1)]
    inner = call.size()[1:]
    known = None if None in inner else int(np.prod([each or 0 for each in inner]))
    if len(wanted) == 2 and (wanted == [0, -1] or wanted[1] == known):
        return call.call(torch.flatten, call.tensor(), 1)
    source = call.tensor()
    shape = [call.call(torch.Tensor.size, source, at) if each == 0 else each for at, each in enumerate(wanted)]
    return call.call(torch.reshape, source, tuple(shape))


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


def _arithmetic(function: Callable[..., Any]) -> Callable[[Call], Value]:
    return lambda call: call.call(function, call.operand(0), call.operand(1))


def _layer(make: Callable[[], nn.Module]) -> Callable[[Call], Value]:
    return lambda call: call.layer(make(), call.tensor())


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values))


SUPPORTED: dict[str, Callable[[Call], Value]] = {
    "Add": _arithmetic(operator.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _normalisation,
    "Clip": _clip,
    "Concat": _concatenation,
    "Constant": _constant,
    "Conv": _convolution,
    "Div": _arithmetic(operator.truediv),
    "Dropout": _layer(nn.Identity),
    "Flatten": _flatten,
    "Gemm": _dense,
    "GlobalAveragePool": _layer(lambda: nn.AdaptiveAvgPool2d(1)),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _layer(nn.Hardswish),
    "Identity": lambda call: call.reader.values[call.node.input[0]],
    "LeakyRelu": lambda call: call.layer(nn.LeakyReLU(call.attributes.get("alpha", 0.01)), call.tensor()),
    "MatMul": _product,
    "MaxPool": _max_pool,
    "Mul": _arithmetic(operator.mul),
    "ReduceMean": _mean,
    "Relu": _layer(nn.ReLU),
    "Reshape": _reshape,
    "Sigmoid": _layer(nn.Sigmoid),
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": _arithmetic(operator.sub),
    "Tanh": _layer(nn.Tanh),
    "Transpose": lambda call: call.call(torch.permute, call.tensor(), tuple(call.attributes["perm"])),
    "Unsqueeze": _unsqueeze,
}
"""What can be read, by the operator's kind."""
