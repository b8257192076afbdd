"""Rules for the kinds that multiply matrices: attributes and shapes → floating point operations and the Gemm inside.

A multiply-add counts as two operations. Legend: N batch, C input channels, M output channels, B batch of sequences,
S and T lengths, H hidden size. Shapes are those that ran, so channels that the runtime pads count as work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from amble.core.graph import Gemm

__all__ = ["PRODUCTS", "Attribute", "Call", "Rule", "Shape", "Work"]

Shape = tuple[int, ...]
Attribute = int | float | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One execution of a node. Shapes are by position, None for an optional tensor that is not there."""

    kind: str
    attributes: Mapping[str, Attribute]
    inputs: tuple[Shape | None, ...]
    outputs: tuple[Shape | None, ...]

    def input(self, index: int) -> Shape:
        """Return an input's shape; ValueError where it is not there."""
        shape = self.inputs[index] if index < len(self.inputs) else None
        if shape is None:
            raise ValueError(f"{self.kind} has no input {index}")
        return shape

    @property
    def output(self) -> Shape:
        """Return the shape of the first output that is there; ``(0,)`` without any."""
        return next((shape for shape in self.outputs if shape is not None), (0,))

    def number(self, attribute: str, otherwise: int) -> int:
        """Return a whole-number attribute."""
        value = self.attributes.get(attribute, otherwise)
        assert isinstance(value, int), f"{attribute} of {self.kind} is {value!r}"
        return value


@dataclass(frozen=True, slots=True)
class Work:
    """Floating point operations, and the matrix product inside, where there is one."""

    flops: float
    gemm: Gemm | None = None


Rule = Callable[[Call], Work]


def _of(gemm: Gemm) -> Work:
    return Work(2.0 * gemm.m * gemm.n * gemm.k * gemm.groups, gemm)


def _conv(weight: int) -> Rule:
    """Convolution with weights [M, C / groups, kernel...] as the input of this index, in any layout."""

    def rule(call: Call) -> Work:
        channels, per_group, *kernel = call.input(weight)
        groups = call.number("group", 1)
        pixels = prod(call.output) // channels
        return _of(Gemm(pixels, channels // groups, per_group * prod(kernel), groups))

    return rule


def _conv_transpose(call: Call) -> Work:
    """Weights [C, M / groups, kernel...]: every input pixel is spread over a kernel."""
    channels, per_group, *kernel = call.input(1)
    groups = call.number("group", 1)
    pixels = prod(call.input(0)) // channels
    return _of(Gemm(pixels, per_group * prod(kernel), channels // groups, groups))


def _matmul(right: int) -> Rule:
    """[..., m, k] by [..., k, n]; the batch folds into m where the right-hand side has none."""

    def rule(call: Call) -> Work:
        a, b = call.input(0), call.input(right)
        k = a[-2] if call.number("transA", 0) and len(a) > 1 else a[-1]
        n = 1 if len(b) == 1 else b[-2] if call.number("transB", 0) else b[-1]
        groups = prod(call.output[:-2]) if len(b) > 2 else 1
        return _of(Gemm(prod(call.output) // max(1, n * groups), n, k, groups))

    return rule


def _matmul_packed(call: Call) -> Work:
    """Weights packed to a few bits: their shape is in the attributes K and N."""
    n = call.number("N", 1)
    return _of(Gemm(prod(call.output) // n, n, call.number("K", 1)))


def _gemm(call: Call) -> Work:
    a = call.input(0)
    m, n = call.output
    return _of(Gemm(m, n, a[0] if call.number("transA", 0) else a[1]))


def _recurrent(call: Call) -> Work:
    """X [S, B, inputs] (or [B, S, inputs]), W [directions, gates · H, inputs], R [directions, gates · H, H]."""
    first, second, inputs = call.input(0)
    length, batch = (second, first) if call.number("layout", 0) else (first, second)
    directions, *recurrent = call.input(2)
    hidden, gates_hidden = min(recurrent), max(recurrent)
    return _of(Gemm(batch, gates_hidden, inputs + hidden, length * directions))


def _attention_projected(call: Call) -> Work:
    """Contributed Attention: X [B, S, C] by W [C, 3H], then the scores and the mix; the Gemm is the projection."""
    batch, length, channels = call.input(0)
    wide = call.input(1)[-1]
    projection = Gemm(batch * length, wide, channels)
    hidden = call.output[-1]
    return Work(_of(projection).flops + 4.0 * batch * length * length * hidden, projection)


def _attention(call: Call) -> Work:
    """Q [B, S, H] or [B, heads, S, H / heads], K alike with T: scores and mix; the Gemm is the scores."""
    query, key = call.input(0), call.input(1)
    batch = query[0]
    heads = query[1] if len(query) == 4 else call.number("num_heads", call.number("q_num_heads", 1))
    size = query[-1] if len(query) == 4 else query[-1] // heads
    length, memory = query[-2], key[-2]
    scores = Gemm(length, memory, size, batch * heads)
    mixed = call.output[-1] if len(call.output) == 4 else call.output[-1] // heads
    return Work(_of(scores).flops + 2.0 * batch * heads * length * memory * mixed, scores)


def _einsum(call: Call) -> Work:
    """Every combination of indices is one multiply-add a further operand."""
    terms = str(call.attributes["equation"]).replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, call.inputs, strict=True):
        if "." in term or shape is None:
            return Work(2.0 * prod(call.output))
        sizes |= dict(zip(term, shape, strict=True))
    return Work(2.0 * prod(sizes.values()) * max(1, len(terms) - 1))


PRODUCTS: Mapping[str, Rule] = {
    "Conv": _conv(1),
    "FusedConv": _conv(1),
    "NhwcConv": _conv(1),
    "NhwcFusedConv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "QGemm": _gemm,
    "MatMul": _matmul(1),
    "FusedMatMul": _matmul(1),
    "FusedMatMulActivation": _matmul(1),
    "MatMulInteger": _matmul(1),
    "MatMulIntegerToFloat": _matmul(1),
    "DynamicQuantizeMatMul": _matmul(1),
    "QLinearMatMul": _matmul(3),
    "MatMulNBits": _matmul_packed,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
    "Einsum": _einsum,
    "QAttention": _attention_projected,
    "MultiHeadAttention": _attention,
}
"""Kind → rule. ``Attention`` is two operators of one name, told apart in ``counting``."""

ATTENTION: tuple[Rule, Rule] = (_attention, _attention_projected)
