"""Operators that compute: which of them keep rows apart, and on what condition.

Elementwise ones do where the rows lie on the same axis of all operands; products where they do not sum over the rows;
reductions, softmax and normalisations where they go along other axes; recurrent ones where the rows are their batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from amble.services.serve.models.rows.facts import Call, Cell, Fact, Rule, Times, broadcast
from amble.services.serve.models.rows.products import PRODUCTS

__all__ = ["COMPUTING"]

_ELEMENTWISE = [
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Where",
    "Xor",
    "ai.onnx.ml.Binarizer",
    "ai.onnx.ml.LabelEncoder",
    "com.microsoft.FastGelu",
    "com.microsoft.Gelu",
    "com.microsoft.QuickGelu",
    "com.microsoft.BiasGelu",
]
_PICTURES = [
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "QLinearConv",
    "AveragePool",
    "MaxPool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LRN",
    "DepthToSpace",
    "SpaceToDepth",
]
_REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
_TABLES = [
    "Imputer",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "Scaler",
    "SVMClassifier",
    "SVMRegressor",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
]


def _elementwise(call: Call) -> list[Fact]:
    given = [(index, each) for index, each in enumerate(call.inputs) if each is not None]
    if all(each.axis is None for _, each in given):
        return [_reckoned(call)]
    if any(each.sized for _, each in given):
        call.fail("computes with the number of rows")
    return [broadcast(call, [(call.shape(index), each.axis) for index, each in given])]


def _reckoned(call: Call) -> Fact:
    """Reckon with sizes, for the few operators that shapes are made with."""
    lists = [each.values for each in call.inputs if each is not None]
    first, kind = call.given(0), call.node.op_type
    if kind in ("Cast", "Identity"):
        return first
    if None in lists or kind not in _SIZES:
        return Fact(sized=True)
    most = max(lists, key=lambda values: len(values or ()))
    spread = [(values or ()) * len(most or ()) if len(values or ()) == 1 else values or () for values in lists]
    wider = call.given(lists.index(most))
    return Fact(wider.shape, None, tuple(_combined(kind, *cells) for cells in zip(*spread, strict=False)), True)


_SIZES = ("Mul", "Div", "Add", "Sub", "Equal", "Mod", "Where")


def _combined(kind: str, *cells: Cell) -> Cell:
    """Reckon with two sizes, or choose between them; None where that gives neither a number nor a multiple."""
    match kind, *cells:
        case "Mul", Times(n), int(k):
            return Times(n * k)
        case "Mul", int(k), Times(n):
            return Times(n * k)
        case "Div", Times(n), int(k) if k > 0 and n % k == 0:
            return Times(n // k)
        case ("Equal", Times(), int(k)) | ("Equal", int(k), Times()) if k < 0:
            return 0
        case "Where", int(chosen), _, _:
            return cells[1] if chosen else cells[2]
        case _, int(a), int(b):
            return _counted(kind, a, b)
    return None


def _counted(kind: str, a: int, b: int) -> int | None:
    match kind:
        case "Mul":
            return a * b
        case "Add":
            return a + b
        case "Sub":
            return a - b
        case "Equal":
            return int(a == b)
        case "Mod":
            return a % b if a >= 0 and b > 0 else None
    return a // b if b > 0 and a % b == 0 else None


def _picture(call: Call) -> list[Fact]:
    call.others_fixed(0)
    if call.rows(0) != 0 or call.attribute("training_mode", 0):
        call.fail("has the rows on another axis than its first")
    return [Fact((call.shape(0)[0], *(None for _ in call.shape(0)[1:])), 0)]


def _grid_sample(call: Call) -> list[Fact]:
    if call.rows(0) != 0 or call.rows(1) != 0 or call.shape(0)[0] != call.shape(1)[0]:
        call.fail("has the rows on another axis than its first")
    return [Fact((call.shape(0)[0], *(None for _ in call.shape(0)[1:])), 0)]


def _reduce(call: Call) -> list[Fact]:
    shape, axis, axes = call.shape(0), call.rows(0), call.axes(1)
    if not axes and call.attribute("noop_with_empty_axes", 0):
        return [call.given(0)]
    if not axes:
        call.fail("reduces over all axes, the rows' among them")
    return [_reduced(call, shape, axis, axes)]


def _argument(call: Call) -> list[Fact]:
    return [_reduced(call, call.shape(0), call.rows(0), (call.attribute("axis", 0),))]


def _reduced(call: Call, shape: tuple[Cell, ...], axis: int, axes: Sequence[int]) -> Fact:
    gone = {call.place(each, len(shape)) for each in axes}
    if axis in gone:
        call.fail(f"reduces over axis {axis}, which holds the rows")
    if call.attribute("keepdims", 1):
        return Fact(tuple(1 if place in gone else each for place, each in enumerate(shape)), axis)
    left = [place for place in range(len(shape)) if place not in gone]
    return Fact(tuple(shape[place] for place in left), left.index(axis))


def _along(call: Call) -> list[Fact]:
    """Go along one axis: softmax and its kin, which keep the shape; of TopK the axis' size changes."""
    call.others_fixed(0)
    shape, axis = call.shape(0), call.rows(0)
    place = call.place(call.attribute("axis", -1), len(shape))
    if place == axis:
        call.fail(f"goes along axis {axis}, which holds the rows")
    if call.node.op_type == "TopK":
        return [Fact((*shape[:place], None, *shape[place + 1 :]), axis)] * 2
    return [Fact(shape, axis)]


def _cumulative(call: Call) -> list[Fact]:
    shape, axis = call.shape(0), call.rows(0)
    (along,) = call.numbers(1)
    if call.place(along, len(shape)) == axis:
        call.fail(f"goes along axis {axis}, which holds the rows")
    return [Fact(shape, axis)]


def _normalised(call: Call) -> list[Fact]:
    call.others_fixed(0)
    shape, axis = call.shape(0), call.rows(0)
    first = call.place(call.attribute("axis", -1), len(shape))
    if axis >= first:
        call.fail("normalises over the rows")
    for index in (1, 2):
        if call.optional(index) is not None:
            broadcast(call, [(shape, axis), (call.shape(index), None)])
    means = Fact((*shape[:first], *(1 for _ in shape[first:])), axis)
    return [Fact(shape, axis), means, means]


def _quantised(call: Call) -> list[Fact]:
    call.others_fixed(0)
    shape, axis = call.shape(0), call.rows(0)
    scale = call.shape(1)
    blocks = any(each != 1 for each in scale)
    if blocks and (len(scale) != 1 or call.place(call.attribute("axis", 1), len(shape)) == axis):
        call.fail("scales each row differently, by its place in the batch")
    return [Fact(shape, axis)]


def _one_hot(call: Call) -> list[Fact]:
    call.all_fixed(1, 2)
    shape, axis = call.shape(0), call.rows(0)
    place = call.place(call.attribute("axis", -1), len(shape) + 1)
    return [Fact((*shape[:place], None, *shape[place:]), axis if axis < place else axis + 1)]


def _trilu(call: Call) -> list[Fact]:
    call.all_fixed(1)
    shape, axis = call.shape(0), call.rows(0)
    if axis >= len(shape) - 2:
        call.fail("treats each row differently, by its place in the batch")
    return [Fact(shape, axis)]


def _dropout(call: Call) -> list[Fact]:
    training = call.optional(2)
    if training is not None and training.values != (0,):
        call.fail("may draw at random")
    return [call.given(0), call.given(0)]


def _recurrent(call: Call) -> list[Fact]:
    """Follow rows through LSTM, GRU and RNN, whose batch is the second axis (the first where ``layout`` is 1)."""
    call.all_fixed(1, 2, 3, 7)
    shape, axis = call.shape(0), call.rows(0)
    first = bool(call.attribute("layout", 0))
    if axis != (0 if first else 1):
        call.fail("takes the axis of the rows for time steps")
    for index, place in ((4, 0), (5, 0 if first else 1), (6, 0 if first else 1)):
        if call.optional(index) is not None and (call.rows(index) != place or call.shape(index)[place] != shape[axis]):
            call.fail(f"has the rows of its input {index} on another axis")
    block = shape[axis]
    every: tuple[Cell, ...] = (block, None, None, None) if first else (None, None, block, None)
    last: tuple[Cell, ...] = (block, None, None) if first else (None, block, None)
    return [Fact(every, 0 if first else 2), Fact(last, 0 if first else 1), Fact(last, 0 if first else 1)]


def _table(call: Call) -> list[Fact]:
    """Take one row of features each, as classical models do."""
    if call.rows(0) != 0 or len(call.shape(0)) != 2 or len(call.inputs) != 1:
        call.fail("has the rows on another axis than its first")
    block = call.shape(0)[0]
    labels = call.node.op_type.endswith("Classifier")
    return [Fact((block,), 0), Fact((block, None), 0)] if labels else [Fact((block, None), 0)]


def _position(call: Call) -> NoReturn:
    call.fail("gives what depends on a row's place in the batch")


def _range(call: Call) -> list[Fact]:
    _position(call)


def _features(call: Call) -> list[Fact]:
    call.all_fixed(1)
    shape, axis = call.shape(0), call.rows(0)
    if axis == len(shape) - 1 or len(shape) < 2:
        call.fail("picks across rows")
    return [Fact((*shape[:-1], None), axis)]


COMPUTING: Mapping[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_PICTURES, _picture),
    **{f"Reduce{kind}": _reduce for kind in _REDUCTIONS},
    **{f"ai.onnx.ml.{kind}": _table for kind in _TABLES},
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "TopK", "LpNormalization"), _along),
    **PRODUCTS,
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantised),
    **dict.fromkeys(("ArgMax", "ArgMin"), _argument),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalised),
    "GridSample": _grid_sample,
    "CumSum": _cumulative,
    "OneHot": _one_hot,
    "Trilu": _trilu,
    "Dropout": _dropout,
    "Range": _range,
    "ai.onnx.ml.ArrayFeatureExtractor": _features,
}
