"""The table of kinds: every rule against a count by hand."""

from __future__ import annotations

import pytest

from amble.core.graph import Gemm
from amble.runtimes.onnx.counting import Traffic, traffic, work
from amble.runtimes.onnx.products import Attribute, Call, Shape

Shapes = tuple[Shape | None, ...]

PRODUCTS: list[tuple[str, dict[str, Attribute], Shapes, Shape, Gemm]] = [
    ("Conv", {}, ((2, 3, 8, 8), (16, 3, 3, 3)), (2, 16, 6, 6), Gemm(72, 16, 27)),
    ("Conv", {"group": 4}, ((1, 8, 5, 5), (8, 2, 3, 3)), (1, 8, 5, 5), Gemm(25, 2, 18, 4)),
    ("FusedConv", {"group": 32}, ((1, 32, 7, 7), (32, 1, 3, 3)), (1, 32, 7, 7), Gemm(49, 1, 9, 32)),
    ("Conv", {}, ((1, 6, 100), (10, 6, 5)), (1, 10, 96), Gemm(96, 10, 30)),
    ("QLinearConv", {}, ((1, 4, 6, 6), (), (), (8, 4, 1, 1)), (1, 8, 6, 6), Gemm(36, 8, 4)),
    ("ConvTranspose", {}, ((1, 4, 5, 5), (4, 6, 2, 2)), (1, 6, 10, 10), Gemm(25, 24, 4)),
    ("MatMul", {}, ((3, 5, 7), (7, 11)), (3, 5, 11), Gemm(15, 11, 7)),
    ("MatMul", {}, ((3, 5, 7), (3, 7, 11)), (3, 5, 11), Gemm(5, 11, 7, 3)),
    ("MatMul", {}, ((2, 3, 5, 7), (1, 3, 7, 11)), (2, 3, 5, 11), Gemm(5, 11, 7, 6)),
    ("MatMul", {}, ((7,), (7, 11)), (11,), Gemm(1, 11, 7)),
    ("MatMul", {}, ((5, 7), (7,)), (5,), Gemm(5, 1, 7)),
    ("FusedMatMul", {"transB": 1}, ((2, 5, 7), (2, 11, 7)), (2, 5, 11), Gemm(5, 11, 7, 2)),
    ("FusedMatMul", {"transA": 1}, ((2, 7, 5), (2, 7, 11)), (2, 5, 11), Gemm(5, 11, 7, 2)),
    ("QLinearMatMul", {}, ((5, 7), (), (), (7, 11)), (5, 11), Gemm(5, 11, 7)),
    ("MatMulNBits", {"K": 64, "N": 32}, ((4, 64), (32, 2, 16)), (4, 32), Gemm(4, 32, 64)),
    ("Gemm", {"transB": 1}, ((5, 7), (11, 7)), (5, 11), Gemm(5, 11, 7)),
    ("Gemm", {"transA": 1}, ((7, 5), (7, 11)), (5, 11), Gemm(5, 11, 7)),
    ("QGemm", {}, ((5, 7), (), (), (7, 11)), (5, 11), Gemm(5, 11, 7)),
    ("LSTM", {}, ((9, 2, 6), (1, 32, 6), (1, 32, 8)), (9, 1, 2, 8), Gemm(2, 32, 14, 9)),
    ("LSTM", {"layout": 1}, ((2, 9, 6), (1, 32, 6), (1, 32, 8)), (2, 9, 1, 8), Gemm(2, 32, 14, 9)),
    ("GRU", {}, ((9, 2, 6), (2, 24, 6), (2, 24, 8)), (9, 2, 2, 8), Gemm(2, 24, 14, 18)),
    ("DynamicQuantizeLSTM", {}, ((9, 2, 6), (1, 6, 32), (1, 8, 32)), (9, 1, 2, 8), Gemm(2, 32, 14, 9)),
]


@pytest.mark.parametrize(("kind", "attributes", "inputs", "output", "gemm"), PRODUCTS)
def test_a_product_is_two_operations_for_each_multiply_add(
    kind: str, attributes: dict[str, Attribute], inputs: Shapes, output: Shape, gemm: Gemm
) -> None:
    counted = work(Call(kind, attributes, inputs, (output,)))
    assert counted.gemm == gemm
    assert counted.flops == 2.0 * gemm.m * gemm.n * gemm.k * gemm.groups


def test_attention_counts_projection_scores_and_mix() -> None:
    projected = work(Call("Attention", {"num_heads": 4}, ((2, 10, 64), (64, 192)), ((2, 10, 64),)))
    assert projected.gemm == Gemm(20, 192, 64)
    assert projected.flops == 2 * 20 * 192 * 64 + 2 * (2 * 2 * 10 * 10 * 64)
    flat = work(Call("MultiHeadAttention", {"num_heads": 4}, ((2, 10, 64), (2, 12, 64)), ((2, 10, 64),)))
    split = work(Call("Attention", {}, ((2, 4, 10, 16), (2, 4, 12, 16)), ((2, 4, 10, 16),)))
    assert flat == split
    assert flat.gemm == Gemm(10, 12, 16, groups=8)
    assert flat.flops == 2 * (2 * 2 * 10 * 12 * 64)


def test_einsum_counts_every_combination_of_indices() -> None:
    counted = work(Call("Einsum", {"equation": "bij, bjk -> bik"}, ((3, 4, 5), (3, 5, 6)), ((3, 4, 6),)))
    assert counted.flops == 2.0 * 3 * 4 * 5 * 6


@pytest.mark.parametrize(
    ("kind", "attributes", "inputs", "output", "flops"),
    [
        ("MaxPool", {"kernel_shape": (3, 3)}, ((1, 4, 9, 9),), (1, 4, 4, 4), 4 * 16 * 9),
        ("GlobalAveragePool", {}, ((1, 4, 9, 9),), (1, 4, 1, 1), 4 * 81),
        ("ReduceMean", {}, ((8, 10),), (8,), 80),
        ("Softmax", {}, ((8, 10),), (8, 10), 8 * 80),
        ("LayerNormalization", {}, ((8, 10),), (8, 10), 8 * 80),
        ("Add", {}, ((8, 10), (10,)), (8, 10), 80),
        ("Transpose", {}, ((8, 10),), (10, 8), 0),
        ("Reshape", {}, ((8, 10),), (80,), 0),
        ("DFT", {}, ((1, 8, 2),), (1, 8, 2), 5 * 16 * 3),
        ("NobodyKnows", {}, ((8, 10),), (4, 5), 20),
    ],
)
def test_what_is_no_product_counts_by_its_elements(
    kind: str, attributes: dict[str, Attribute], inputs: Shapes, output: Shape, flops: float
) -> None:
    counted = work(Call(kind, attributes, inputs, (output,)))
    assert (counted.flops, counted.gemm) == (flops, None)


@pytest.mark.parametrize("kind", ["Conv", "MatMul", "Gemm", "LSTM", "Attention", "Einsum", "MultiHeadAttention"])
def test_a_known_kind_with_strange_tensors_counts_as_unknown(kind: str) -> None:
    assert work(Call(kind, {}, (None,), ((3, 4),))).flops == 12.0
    assert work(Call(kind, {}, (), ((3, 4),))).flops == 12.0


def test_an_operator_without_outputs_does_nothing() -> None:
    assert work(Call("Whatever", {}, ((3,),), (None,))).flops == 0.0


def test_traffic_is_all_bytes_except_where_less_moves() -> None:
    assert traffic("Conv", 100, 20, 50) == Traffic(120, 50, 20)
    assert traffic("Reshape", 100, 16, 100) == Traffic(0, 0, 0)
    assert traffic("If", 100, 0, 100) == Traffic(0, 0, 0)
    table = traffic("Gather", activation_bytes=8, weight_bytes=10_000, written_bytes=64)
    assert table == Traffic(72, 64, 64), "the rows that are looked up, and the indices"
    part = traffic("Slice", activation_bytes=10_000, weight_bytes=32, written_bytes=64)
    assert (part.read_bytes, part.weight_bytes) == (96, 32)


def test_traffic_adds() -> None:
    assert Traffic(1, 2, 3) + Traffic(10, 20, 30) == Traffic(11, 22, 33)
