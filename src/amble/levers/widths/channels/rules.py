"""ONNX operator → what it ties, and the labels of its outputs, by the operator's kind.

A rule that does not understand what its node does with channels lets them stay, with the node's name: pruning is the
less for it, never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from amble.levers.widths.channels import moves
from amble.levers.widths.channels.file import opset
from amble.levers.widths.channels.step import Step, Weights
from amble.levers.widths.channels.ties import Labels

__all__ = ["RULES", "Rule"]

Rule = Callable[[Step], list[Labels]]


def _same(step: Step) -> list[Labels]:
    """Element by element, of one input."""
    first = step.given()
    return [Labels(first.ids, step.shape()), *step.free()[1:]]


def _mixed(step: Step) -> list[Labels]:
    """Element by element, of several inputs, each as large as the output or of length 1."""
    rank = len(step.shape())
    inputs = [(at, step.given(at).aligned(rank)) for at in range(len(step.node.input)) if step.has(at)]
    labelled = [each for _, each in inputs if each.axes]
    if not labelled:
        return step.free()
    lead = labelled[0]
    if len({each.axes for each in labelled}) > 1 or len(lead.axes) > 1:
        return _mixed_along_several(step, labelled)
    (axis,) = lead.axes
    for at, each in inputs:
        if each.shape[axis] == 1:
            continue
        constant = step.constant(at)
        if constant is not None:
            step.ties.tie(step.labels(at, axis - (rank - constant.ndim)), lead.along(axis))
        elif each.axes:
            step.ties.tie(each.along(axis), lead.along(axis))
        else:
            step.ties.stay(lead.ids, f"{step.name} joins it with channels that stay")
    return [Labels(lead.ids, step.shape())]


def _mixed_along_several(step: Step, labelled: list[Labels]) -> list[Labels]:
    if step.classes is not None:
        return step.stays(f"{step.name} joins channels along different axes")
    for each in labelled[1:]:
        if each.shape == labelled[0].shape:
            step.ties.tie(each.full, labelled[0].full)
    return [Labels(labelled[0].ids, step.shape())] if labelled[0].shape == step.shape() else step.free()


def _convolution(step: Step) -> list[Labels]:
    weight, read = step.constant(1), step.reads(1)
    if weight is None or read is None or weight.shape[0] == 1:
        return _unread(step)
    groups = step.attributes.get("group", 1)
    written = step.labels(1, 0)
    channelwise = groups > 1 and weight.shape[1] == 1
    if channelwise:
        step.ties.tie(np.repeat(read, weight.shape[0] // groups), written)
    else:
        step.ties.tie(step.labels(1, 1), read.reshape(groups, -1))
        _alike(step, written.reshape(groups, -1))
    return _wrote(step, 1, read, written, channelwise)


def _transposed(step: Step) -> list[Labels]:
    weight, read = step.constant(1), step.reads(1)
    if weight is None or read is None or step.shape()[1] == 1:
        return _unread(step)
    groups = step.attributes.get("group", 1)
    step.ties.tie(step.labels(1, 0), read)
    channelwise = groups > 1 and weight.shape[0] == groups
    if channelwise:
        written = np.repeat(step.labels(1, 0), weight.shape[1])
    else:
        _alike(step, step.labels(1, 0).reshape(groups, -1))
        written = np.tile(step.labels(1, 1), groups)
    return _wrote(step, 1, read, written, channelwise)


def _alike(step: Step, rows: np.ndarray) -> None:
    """Of every group of a layer the channels at the same place go together."""
    if len(rows) > 1:
        step.ties.tie(rows[1:], rows[:1])


def _dense(step: Step) -> list[Labels]:
    weight, read = step.constant(1), step.reads(1)
    if weight is None or read is None or weight.ndim != 2 or step.attributes.get("transA", 0):
        return _unread(step)
    output = 0 if step.attributes.get("transB", 0) else 1
    if weight.shape[output] == 1:
        return _unread(step)
    step.ties.tie(step.labels(1, 1 - output), read)
    return _wrote(step, 1, read, step.labels(1, output), channelwise=False)


def _wrote(step: Step, axis: int, read: np.ndarray, written: np.ndarray, channelwise: bool) -> list[Labels]:
    """Note a layer, and tie its bias to what it writes."""
    bias = step.constant(2)
    if bias is not None and bias.size > 1:
        step.ties.tie(step.labels(2, bias.ndim - 1), written)
    elif bias is None and step.has(2):
        step.ties.stay(written, f"{step.name} has a bias that is computed")
    step.layers.append(Weights(step.node, step.node.input[1], read, written, channelwise))
    return [Labels.on(axis, written, step.shape())]


def _unread(step: Step) -> list[Labels]:
    """Let a layer stay whose weights are computed, that writes one channel, or reads along several axes."""
    weight = step.constant(1)
    if weight is None:
        return step.stays(f"the weights of {step.name} are computed")
    return step.stays(f"{step.name} reads channels along several axes, or writes but one")


def _product(step: Step) -> list[Labels]:
    weight, first = step.constant(1), step.given()
    if weight is None:
        return _product_of_computed(step) if step.constant(0) is None else step.stays(f"{step.name} is of a constant")
    if weight.ndim != 2:
        return step.stays(f"{step.name} has weights of {weight.ndim} dimensions")
    last = len(first.shape) - 1
    if set(first.axes) <= {last} and weight.shape[1] > 1:
        step.ties.tie(step.labels(1, 0), first.along(last))
        return _wrote(step, last, first.along(last), step.labels(1, 1), channelwise=False)
    if len(first.axes) == 1 and last not in first.axes:
        return [Labels(first.ids, step.shape())]  # its own outputs stay: they lie across what is removed
    return _unread(step)


def _product_of_computed(step: Step) -> list[Labels]:
    rank = len(step.shape())
    ours, theirs = (step.given(at) for at in (0, 1))
    if min(len(ours.shape), len(theirs.shape)) < 2:
        return step.stays(f"{step.name} is of a vector")
    ours, theirs = ours.aligned(rank), theirs.aligned(rank)
    inner = (ours.axes == (rank - 1,)) + (theirs.axes == (rank - 2,))
    if inner == 2:
        step.ties.tie(ours.along(rank - 1), theirs.along(rank - 2))
        return step.free()
    if inner:
        return step.stays(f"{step.name} sums over channels of one of its inputs alone")
    carried = [each for each in (ours, theirs) if each.axes]
    if not carried:
        return step.free()
    (axis,) = carried[0].axes
    if len(carried) == 2 and carried[0].axes == carried[1].axes and axis < rank - 2:
        step.ties.tie(carried[0].along(axis), carried[1].along(axis))
    elif len(carried) == 2 or (axis < rank - 2 and min(ours.shape[axis], theirs.shape[axis]) > 1):
        return step.stays(f"{step.name} joins it with channels that stay")
    return [Labels.on(axis, carried[0].along(axis), step.shape())]


def _normalisation(step: Step) -> list[Labels]:
    """Each channel (axis 1) by itself, with parameters of its own."""
    labels = step.given()
    if labels.is_free:
        return step.free()
    if labels.axes != (1,):
        return step.stays(f"{step.name} normalises along another axis")
    for index in range(1, len(step.node.input)):
        if step.constant(index) is None:
            return step.stays(f"{step.name} has parameters that are computed")
        step.ties.tie(step.labels(index, 0), labels.along(1))
    return [Labels(labels.ids, step.shape()), *step.free()[1:]]


def _over(why: str, axes_of: Callable[[Step], Sequence[int]]) -> Rule:
    """Return the rule of what puts all places of an axis together: channels along it stay, others pass."""

    def rule(step: Step) -> list[Labels]:
        labels = step.given()
        rank = len(labels.shape)
        gone = {axis % rank for axis in axes_of(step)} if rank else set()
        if not labels.axes:
            return step.free()
        if gone & {*labels.axes}:
            return step.stays(f"{step.name} {why} them")
        return [_reduced(labels, gone, step.shape()), *step.free()[1:]]

    return rule


def _reduced(labels: Labels, gone: set[int], shape: tuple[int, ...]) -> Labels:
    if len(shape) == len(labels.shape):
        return Labels(labels.ids, shape)
    left = [size for axis, size in enumerate(labels.ids.shape) if axis not in gone]
    return Labels(labels.ids.reshape(left), shape)


def _reduced_axes(step: Step) -> Sequence[int]:
    found = step.setting("axes", 1)
    if found:
        return found
    return () if step.attributes.get("noop_with_empty_axes", 0) else range(len(step.given().shape))


def _softmax_axes(step: Step) -> Sequence[int]:
    before_13 = opset(step.file.model) < 13
    axis = step.attributes.get("axis", 1 if before_13 else -1)
    return range(axis, len(step.given().shape)) if before_13 and axis >= 0 else (axis,)


def _layer_axes(step: Step) -> Sequence[int]:
    rank = len(step.given().shape)
    return range(step.attributes.get("axis", -1) % rank, rank)


def _spatial_axes(step: Step) -> Sequence[int]:
    return range(2, len(step.given().shape))


def _attribute_axis(default: int) -> Callable[[Step], Sequence[int]]:
    return lambda step: (step.attributes.get("axis", default),)


_SAME = (
    "Abs Acos Asin Atan BitShift Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu HardSigmoid "
    "HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh "
    "Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
_MIXED = (
    "Add And BitwiseAnd BitwiseOr Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or PRelu "
    "Pow Sub Sum Where Xor"
)
_REDUCED = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"
_POOLED = "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool Resize Upsample"

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME.split(), _same),
    **dict.fromkeys(_MIXED.split(), _mixed),
    **{f"Reduce{each}": _over("reduces all of", _reduced_axes) for each in _REDUCED.split()},
    **dict.fromkeys(_POOLED.split(), _over("pools along", _spatial_axes)),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _over("compares all of", _softmax_axes)),
    **dict.fromkeys(("ArgMax", "ArgMin"), _over("compares all of", _attribute_axis(0))),
    "TopK": _over("compares all of", _attribute_axis(-1)),
    "LayerNormalization": _over("normalises over all of", _layer_axes),
    "LpNormalization": _over("normalises over all of", _attribute_axis(-1)),
    "BatchNormalization": _normalisation,
    "InstanceNormalization": _normalisation,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _dense,
    "MatMul": _product,
    "Shape": Step.free,
    "Size": Step.free,
    **moves.RULES,
}
"""What is understood, by the operator's kind."""
