"""A network in INT8 → its products of bytes, as the runtime multiplies them, and how many pairs of them saturate.

A product is a convolution, Gemm or MatMul between a DequantizeLinear of unsigned activations and one of constant signed
weights (what `quantize.static` writes and the runtime runs as one integer kernel), or a MatMulInteger with constant
signed weights (what `quantize.dynamic` writes). The inner dimension of a convolution runs over its kernel, channels
fastest: that is how the runtime lays out the columns, and so which products are neighbours. With `products.saturating`
in their place, networks answer to the bit what ONNX Runtime 1.31 answers on a CPU with AVX2 and without VNNI (tried on
an emulated one, whose answers the tests keep), and with `products.exact` what it answers with VNNI.

Signed activations that one operator alone takes are turned into unsigned ones, 128 higher, by the runtime on x86; a
convolution whose input and output are not both unsigned after that runs in floating point. Exact everywhere, and so no
products here: other signed activations, unsigned weights, two activations; and depthwise convolutions, which count for
nothing. Not modelled, so uncounted: recurrent layers and com.microsoft operators with weights of their own, which may
saturate; CPUs older than AVX2; AVX-512 without VNNI, whose kernels pair alike by the runtime's source; CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

from amble.core.ports import Tensors
from amble.core.processor import Saturations
from amble.levers.precision import windows
from amble.levers.precision.products import can_saturate, count, exact
from amble.levers.precision.windows import Windows

__all__ = ["Product", "products", "rows", "saturations", "sums"]

Bytes = npt.NDArray[Any]
Sums = npt.NDArray[np.int64]
Multiply = Callable[[Bytes, Bytes], Sums]

_MOST_PAIRS = 2**25  # of one product and batch; of more, rows are drawn by chance
_MOST_BATCHES = 4
_INT8 = onnx.TensorProto.INT8


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """One product of bytes: of the tensor ``activations`` with constant signed weights.

    ``zero`` is the zero of the activations, of unsigned bytes; ``weights``: [group, inner, output]; ``windows`` where
    it is a convolution.
    """

    node: str
    activations: str
    zero: int
    weights: Bytes
    windows: Windows | None = None

    @property
    def is_depthwise(self) -> bool:
        """Tell whether every channel has one filter of its own: a kernel that adds up in 32 bits everywhere."""
        if self.windows is None or self.windows.group == 1:
            return False
        return self.weights.shape[1:] == (prod(self.windows.kernel), 1)


def products(model: onnx.ModelProto) -> tuple[Product, ...]:
    """Return the products of bytes of a network, in its order."""
    reader = _Reader(model.graph)
    found = (reader.product(node) for node in model.graph.node)
    return tuple(each for each in found if each is not None)


def rows(product: Product, activations: Bytes) -> Bytes:
    """Lay activations out for a product [group, row, inner], as unsigned bytes."""
    if activations.dtype == np.int8:
        activations = (activations.astype(np.int16) + 128).astype(np.uint8)
    if product.windows is None:
        return activations.reshape(1, -1, activations.shape[-1])
    taken = windows.cut(activations, product.windows, product.zero)  # [n, channel, *place, *kernel]
    num, groups = len(product.windows.kernel), product.windows.group
    taken = taken.reshape(len(taken), groups, -1, *taken.shape[2:])
    places, kernel = range(3, 3 + num), range(3 + num, 3 + 2 * num)
    return taken.transpose(1, 0, *places, *kernel, 2).reshape(groups, -1, product.weights.shape[1])


def sums(product: Product, activations: Bytes, multiply: Multiply, *, zero: int | None = None) -> Sums:
    """Multiply a product out, less what the zero of the activations adds, in the shape that the operator gives.

    ``zero`` is to be given where it is no constant of the network, as after a DynamicQuantizeLinear.
    """
    kind = exact if product.is_depthwise else multiply
    laid = zip(rows(product, activations), product.weights, strict=True)
    found = np.stack([kind(left, right) for left, right in laid])
    found -= (product.zero if zero is None else zero) * product.weights.astype(np.int64).sum(axis=1, keepdims=True)
    if product.windows is None:
        return found.reshape(*activations.shape[:-1], -1)
    places = windows.cut(activations, product.windows, 0).shape[2 : 2 + len(product.windows.kernel)]
    whole = found.transpose(1, 0, 2).reshape(len(activations), *places, -1)
    return np.moveaxis(whole, -1, 1)


def saturations(path: Path, feeds: Sequence[Tensors]) -> Saturations:
    """Run examples through a network in INT8 and count the pairs that do not fit in 16 bits, on whatever CPU.

    Of large products rows are drawn by chance, always the same; so the count is of those ``pairs``, not of all.
    """
    model = onnx.load(str(path))
    found = [each for each in products(model) if not each.is_depthwise]
    possible = [bool(any(can_saturate(right).any() for right in each.weights)) for each in found]
    pairs = saturated = 0
    for seen in _seen(model, {each.activations for each in found}, feeds[:_MOST_BATCHES] if any(possible) else ()):
        for each in found:
            looked, cut = _counted(each, seen[each.activations])
            pairs, saturated = pairs + looked, saturated + cut
    return Saturations(pairs, saturated, any(possible))


def _counted(product: Product, activations: Bytes) -> tuple[int, int]:
    pairs = saturated = 0
    rng = np.random.default_rng(0)
    for left, right in zip(rows(product, activations), product.weights, strict=True):
        each = -(-len(right) // 2) * right.shape[1]
        most = max(1, _MOST_PAIRS // (each * len(product.weights)))
        drawn = left if len(left) <= most else left[rng.choice(len(left), most, replace=False)]
        pairs, saturated = pairs + len(drawn) * each, saturated + count(drawn, right)
    return pairs, saturated


def _seen(model: onnx.ModelProto, names: set[str], feeds: Sequence[Tensors]) -> Iterator[dict[str, Bytes]]:
    """Yield these tensors of each batch, computed in floating point between the bytes: the same on every CPU."""
    if not feeds:
        return
    told = onnx.ModelProto.FromString(model.SerializeToString())
    inputs = {each.name for each in told.graph.input}
    outside = {each.name for each in told.graph.output} | inputs
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names - outside))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(told.SerializeToString(), options, providers=["CPUExecutionProvider"])
    computed = sorted(names - inputs)
    for feed in feeds:
        yield {**dict(zip(computed, session.run(computed, dict(feed)), strict=True)), **dict(feed)}


class _Reader:
    """Finds what a product needs: who makes and who takes a tensor, and the constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._constants = {each.name: each for each in graph.initializer}
        self._ends = {each.name for each in graph.output}
        self._takers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._takers.setdefault(name, []).append(node)

    def product(self, node: onnx.NodeProto) -> Product | None:
        """Return what a node multiplies in bytes; None where it does not, or without saturating on any CPU."""
        if node.op_type == "MatMulInteger":
            zero = node.input[2] if len(node.input) > 2 else ""
            left, right = node.input[:2]
            return None if self._is_signed(zero) else self._of_matrices(node, left, right, self._zero(zero))
        if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2:
            return None
        ours, theirs = (self._made_by.get(name) for name in node.input[:2])
        if ours is None or theirs is None or {ours.op_type, theirs.op_type} != {"DequantizeLinear"}:
            return None
        zero = ours.input[2] if len(ours.input) > 2 else ""
        made = self._made_by.get(ours.input[0])
        if not (self._is_unsigned(zero, made) and self._ends_unsigned(node)):
            return None
        of = self._of_windows if node.op_type == "Conv" else self._of_matrices
        return of(node, ours.input[0], theirs.input[0], self._zero(zero))

    def _is_unsigned(self, zero: str, quantizes: onnx.NodeProto | None) -> bool:
        """Tell whether the runtime multiplies unsigned bytes: also signed ones that one operator alone takes."""
        if not self._is_signed(zero):
            return True
        if quantizes is None or quantizes.op_type != "QuantizeLinear":
            return False
        taker = self._only_taker(quantizes)
        return taker is not None and taker.op_type == "DequantizeLinear" and self._num_takers(taker) == 1

    def _ends_unsigned(self, node: onnx.NodeProto) -> bool:
        """Tell whether the sums become unsigned bytes too, or for matrices numbers: else it runs in floating point."""
        taker = self._only_taker(node)
        if taker is None or taker.op_type != "QuantizeLinear":
            return bool(node.op_type != "Conv")
        return self._is_unsigned(taker.input[2] if len(taker.input) > 2 else "", taker)

    def _num_takers(self, node: onnx.NodeProto) -> int:
        """Count who takes a node's result; whoever asked for the network's output is one."""
        return len(self._takers.get(node.output[0], [])) + (node.output[0] in self._ends)

    def _only_taker(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        takers = self._takers.get(node.output[0], [])
        return takers[0] if len(takers) == 1 and node.output[0] not in self._ends else None

    def _is_signed(self, zero: str) -> bool:
        found = self._constants.get(zero)
        return found is not None and bool(found.data_type == _INT8)

    def _zero(self, name: str) -> int:
        """Return a zero as that of unsigned bytes; 0 where there is none, or it is no constant."""
        found = self._constants.get(name)
        if found is None:
            return 0
        return int(numpy_helper.to_array(found).reshape(-1)[0]) + (128 if self._is_signed(name) else 0)

    def _of_matrices(self, node: onnx.NodeProto, left: str, right: str, zero: int) -> Product | None:
        weights = self._signed(right)
        told = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if weights is None or weights.ndim != 2 or told.get("transA"):
            return None
        return Product(node.name, left, zero, (weights.T if told.get("transB") else weights)[None])

    def _of_windows(self, node: onnx.NodeProto, left: str, right: str, zero: int) -> Product | None:
        weights = self._signed(right)
        if weights is None:
            return None
        walk = windows.read(node, weights.shape[2:])
        split = weights.reshape(walk.group, -1, *weights.shape[1:])  # [group, output, channel, *kernel]
        laid = split.transpose(0, *range(3, split.ndim), 2, 1).reshape(walk.group, -1, split.shape[1])
        return Product(node.name, left, zero, laid, walk)

    def _signed(self, name: str) -> Bytes | None:
        found = self._constants.get(name)
        return None if found is None or found.data_type != _INT8 else numpy_helper.to_array(found)
