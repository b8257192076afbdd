"""ONNX operator → the calls of torch that compute the same, by the operator's kind."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from amble.runtimes.torch import shaping
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
    return _weighted(call, made, source)


def _weighted(call: Call, made: nn.Module, source: fx.Node) -> fx.Node:
    """Give a convolution its weights, as they lie in the file."""
    origins = {"weight": call.origin(1), **({"bias": call.origin(2)} if call.has(2) else {})}
    for index, name in enumerate(origins, 1):
        setattr(made, name, nn.Parameter(_tensor(call.constant(index))))
    return call.layer(made, source, **origins)


def _transposed(call: Call) -> fx.Node:
    weight = call.constant(1)
    axes, given = weight.ndim - 2, call.attributes
    if axes not in (1, 2):
        raise call.refused(f"it has {axes} dimensions, and only one or two can be read")
    pads = tuple(given.get("pads", [0] * 2 * axes))
    if pads[:axes] != pads[axes:] or given.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in given:
        raise call.refused("its padding differs between the sides, or is said by its output")
    kind: type[nn.ConvTranspose1d | nn.ConvTranspose2d] = nn.ConvTranspose2d if axes == 2 else nn.ConvTranspose1d
    groups = given.get("group", 1)
    made = kind(
        weight.shape[0],
        weight.shape[1] * groups,
        weight.shape[2:],
        tuple(given.get("strides", [1] * axes)),
        pads[:axes],
        tuple(given.get("output_padding", [0] * axes)),
        groups,
        bias=call.has(2),
        dilation=tuple(given.get("dilations", [1] * axes)),
    )
    return _weighted(call, made, call.tensor())


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
    names = ("weight", "bias")
    node = call.layer(made, call.tensor(), **{name: call.origin(index) for index, name in enumerate(names, 1)})
    for index, name in enumerate(("running_mean", "running_var"), 3):
        call.reader.origins[f"{node.target}.{name}"] = call.origin(index)
    return node


def _dense(call: Call) -> fx.Node:
    weight, is_swapped = call.constant(1), not call.attributes.get("transB", 0)
    weight = weight.T if is_swapped else weight
    if call.attributes.get("transA", 0):
        raise call.refused("its first input is transposed")
    alpha, beta = (call.attributes.get(each, 1.0) for each in ("alpha", "beta"))
    bias = call.constant(2).reshape(-1) * beta if call.has(2) else None
    origins = {"weight": call.origin(1, scale=1.0 / alpha, swapped=is_swapped)} if alpha else {}
    if bias is not None and bias.size == weight.shape[0] and beta:
        origins["bias"] = call.origin(2, scale=1.0 / beta)
    return call.layer(_linear(weight * alpha, bias), call.tensor(), **origins)


def _product(call: Call) -> fx.Node:
    weight = call.reader.values[call.node.input[1]]
    if isinstance(weight, np.ndarray) and weight.ndim == 2:
        return call.layer(_linear(weight.T, None), call.tensor(), weight=call.origin(1, swapped=True))
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
    """Before operator set 13 all axes from one on are taken together."""
    is_old = call.reader.opset < 13
    axis = call.attributes.get("axis", 1 if is_old else -1)
    source = call.tensor()
    flat = call.call(torch.flatten, source, axis) if is_old else source
    function = torch.log_softmax if call.node.op_type == "LogSoftmax" else torch.softmax
    made = call.call(function, flat, -1 if is_old else axis)
    return call.call(torch.reshape, made, call.call(getattr, source, "shape")) if is_old else made


def _layer_normalisation(call: Call) -> fx.Node:
    axis = call.attributes.get("axis", -1)
    if axis not in (-1, len(call.size()) - 1):
        raise call.refused("it normalises over several axes")
    made = nn.LayerNorm(call.constant(1).shape, eps=call.attributes.get("epsilon", 1e-5), bias=call.has(2))
    return _weighted(call, made, call.tensor())


def _instance_normalisation(call: Call) -> fx.Node:
    scale, shift = call.tensor(1), call.tensor(2)
    epsilon = call.attributes.get("epsilon", 1e-5)
    return call.call(nn.functional.instance_norm, call.tensor(), weight=scale, bias=shift, eps=epsilon)


def _sloped(call: Call) -> fx.Node:
    slope = call.operand(1)
    return call.call(_leaky, call.tensor(), slope)


def _leaky(values: Tensor, slope: Tensor | float) -> Tensor:
    return torch.where(values < 0, values * slope, values)


def _sum(call: Call) -> fx.Node:
    made = call.call(operator.add, *_operands(call))
    call.trained(0)
    call.trained(1)
    return made


def _quotient(ours: Any, theirs: Any) -> Any:
    """Divide as ONNX does: whole numbers to whole numbers."""
    return ours / theirs if _is_floating(ours) or _is_floating(theirs) else ours // theirs


def _is_floating(value: Any) -> bool:
    return value.is_floating_point() if isinstance(value, Tensor) else isinstance(value, float)


def _reduced(function: Callable[..., Any]) -> Callable[[Call], Value]:
    def convert(call: Call) -> fx.Node:
        axes = call.setting("axes", 1, None)
        if axes is None:
            raise call.refused("it reduces everything, the batch too")
        return call.call(function, call.tensor(), list(axes), keepdim=bool(call.attributes.get("keepdims", 1)))

    return convert


def _function(function: Callable[..., Any], **more: Any) -> Callable[[Call], Value]:
    return lambda call: call.call(function, call.tensor(), **more)


def _extreme(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Value]:
    def convert(call: Call) -> fx.Node:
        first, *others = (call.tensor(index) for index in range(len(call.node.input)))
        for each in others:
            first = call.call(function, first, each)
        return first

    return convert


def _gelu(call: Call) -> fx.Node:
    how = call.attributes.get("approximate", b"none").decode()
    return call.call(nn.functional.gelu, call.tensor(), approximate=how)


def _arithmetic(function: Callable[..., Any]) -> Callable[[Call], Value]:
    return lambda call: call.call(function, *_operands(call))


def _operands(call: Call) -> tuple[fx.Node | float, fx.Node | float]:
    """Return both inputs, one of them a tensor."""
    first, second = call.operand(0), call.operand(1)
    return (first, second) if isinstance(second, fx.Node) else (call.tensor(0), second)


def _layer(make: Callable[[], nn.Module]) -> Callable[[Call], Value]:
    return lambda call: call.layer(make(), call.tensor())


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values))


SUPPORTED: dict[str, Callable[[Call], Value | list[fx.Node]]] = {
    "Abs": _function(torch.abs),
    "Add": _sum,
    "AveragePool": _average_pool,
    "BatchNormalization": _normalisation,
    "Clip": _clip,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Div": _arithmetic(_quotient),
    "Dropout": _layer(nn.Identity),
    "Ceil": _function(torch.ceil),
    "Equal": _arithmetic(operator.eq),
    "Elu": lambda call: call.layer(nn.ELU(call.attributes.get("alpha", 1.0)), call.tensor()),
    "Erf": _function(torch.erf),
    "Exp": _function(torch.exp),
    "Gelu": _gelu,
    "Gemm": _dense,
    "Floor": _function(torch.floor),
    "GlobalAveragePool": _layer(lambda: nn.AdaptiveAvgPool2d(1)),
    "GlobalMaxPool": _layer(lambda: nn.AdaptiveMaxPool2d(1)),
    "Greater": _arithmetic(operator.gt),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _layer(nn.Hardswish),
    "Identity": lambda call: call.reader.values[call.node.input[0]],
    "InstanceNormalization": _instance_normalisation,
    "LayerNormalization": _layer_normalisation,
    "LeakyRelu": lambda call: call.layer(nn.LeakyReLU(call.attributes.get("alpha", 0.01)), call.tensor()),
    "Less": _arithmetic(operator.lt),
    "Log": _function(torch.log),
    "LogSoftmax": _softmax,
    "MatMul": _product,
    "MaxPool": _max_pool,
    "Max": _extreme(torch.maximum),
    "Min": _extreme(torch.minimum),
    "Mod": _arithmetic(operator.mod),
    "Mul": _arithmetic(operator.mul),
    "Not": _function(torch.logical_not),
    "Neg": _function(torch.neg),
    "PRelu": _sloped,
    "Pow": _arithmetic(operator.pow),
    "Reciprocal": _function(torch.reciprocal),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _mean,
    "ReduceMin": _reduced(torch.amin),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _layer(nn.ReLU),
    "Sigmoid": _layer(nn.Sigmoid),
    "Softmax": _softmax,
    "Softplus": _layer(nn.Softplus),
    "Sqrt": _function(torch.sqrt),
    "Sub": _arithmetic(operator.sub),
    "Tanh": _layer(nn.Tanh),
    "Where": lambda call: call.call(torch.where, *(call.tensor(index) for index in range(3))),
    **shaping.SUPPORTED,
}
"""What can be read, by the operator's kind."""
