"""Kind of an operator → rules for what it computes and what it moves.

A multiply-add counts as two operations, every other one as one; functions that the machine approximates by a polynomial
count its terms, by convention. An unknown kind counts one operation for each element it writes, and all its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2, prod

from amble.runtimes.onnx.products import ATTENTION, PRODUCTS, Call, Rule, Shape, Work

__all__ = ["Traffic", "Work", "traffic", "work"]

VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"})
"""Kinds that only look at their data in another way: nothing moves."""

SELECTIONS = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
"""Kinds that read no more of their data than they write."""

CONTAINERS = frozenset({"If", "Loop", "Scan"})
"""Kinds whose work is that of the nodes inside."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes read (weights included), bytes written, and the weights' share of those read."""

    read_bytes: float = 0.0
    written_bytes: float = 0.0
    weight_bytes: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        """Add the traffic of two nodes."""
        return Traffic(
            self.read_bytes + other.read_bytes,
            self.written_bytes + other.written_bytes,
            self.weight_bytes + other.weight_bytes,
        )


def work(call: Call) -> Work:
    """Count what one execution of a node computes.

    A known kind whose tensors are not where its rule expects them counts as an unknown one.
    """
    try:
        rule = ATTENTION[_is_projected(call)] if call.kind == "Attention" else _RULES.get(call.kind, _unknown)
        return rule(call)
    except (IndexError, KeyError, ValueError, ZeroDivisionError):
        return _unknown(call)


def traffic(kind: str, activation_bytes: float, weight_bytes: float, written_bytes: float) -> Traffic:
    """Count what one execution of a node moves, from the sizes of its tensors."""
    if kind in VIEWS or kind in CONTAINERS:
        return Traffic()
    if kind in SELECTIONS:
        activation_bytes, weight_bytes = _selected(activation_bytes, weight_bytes, written_bytes)
    return Traffic(activation_bytes + weight_bytes, written_bytes, weight_bytes)


def _selected(activation_bytes: float, weight_bytes: float, written_bytes: float) -> tuple[float, float]:
    """Return what a selection reads of activations and weights: the larger is its data, the smaller its indices."""
    if weight_bytes > activation_bytes:
        return activation_bytes, min(weight_bytes, written_bytes)
    return min(activation_bytes, written_bytes), weight_bytes


def _is_projected(call: Call) -> bool:
    """Tell the contributed Attention (weights [C, 3H], two axes) from the standard one (keys, three or four)."""
    return len(call.input(1)) == 2


def _elements(shape: Shape | None) -> int:
    return prod(shape) if shape is not None else 0


def _unknown(call: Call) -> Work:
    return Work(float(_elements(call.output)))


def _per_output(operations: float) -> Rule:
    return lambda call: Work(operations * _elements(call.output))


def _per_input(operations: float) -> Rule:
    return lambda call: Work(operations * _elements(call.inputs[0] if call.inputs else None))


def _pool(call: Call) -> Work:
    kernel = call.attributes.get("kernel_shape", ())
    assert isinstance(kernel, tuple), f"kernel_shape of {call.kind} is {kernel!r}"
    return Work(float(_elements(call.output) * prod(kernel)))


def _fourier(call: Call) -> Work:
    """5 N log2 N for each transform of length N (the fast transform's usual count)."""
    length = max(call.output[-2:], default=2)
    return Work(5.0 * _elements(call.output) * log2(max(2, length)))


_GROUPS: tuple[tuple[Rule, str], ...] = (
    (_per_output(0), " ".join(sorted(VIEWS | CONTAINERS | SELECTIONS))),
    (
        _per_output(0),
        "Cast Concat ConstantOfShape DepthToSpace Dropout Expand OneHot Pad Range ReorderInput ReorderOutput",
    ),
    (_per_output(0), "ScatterElements ScatterND SpaceToDepth Split Tile Transpose"),
    (_per_input(1), "ArgMax ArgMin CumSum GlobalAveragePool GlobalMaxPool QLinearGlobalAveragePool QLinearReduceMean"),
    (_per_input(1), "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"),
    (
        _per_output(8),
        "BiasGelu Cos Elu Erf Exp FastGelu Gelu HardSwish Log LogSoftmax Mish Pow QLinearSigmoid QuickGelu",
    ),
    (_per_output(8), "QLinearSoftmax Sigmoid Sin Softmax Softplus Sqrt Tanh"),
    (_per_output(8), "EmbedLayerNormalization GroupNormalization InstanceNormalization LayerNormalization"),
    (_per_output(8), "RMSNormalization SimplifiedLayerNormalization SkipLayerNormalization"),
    (_per_output(8), "SkipSimplifiedLayerNormalization"),
    (_per_output(2), "BatchNormalization DequantizeLinear QuantizeLinear"),
    (_pool, "AveragePool LpPool MaxPool QLinearAveragePool"),
    (_fourier, "DFT STFT"),
)
_RULES: Mapping[str, Rule] = {kind: rule for rule, kinds in _GROUPS for kind in kinds.split()} | dict(PRODUCTS)
