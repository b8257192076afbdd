"""Products of bytes in a network: which there are, how they lie, and how many saturate."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from amble.levers.precision import products as arithmetic
from amble.levers.precision.integer import products, rows, saturations, sums
from amble.levers.precision.windows import Windows, cut
from amble.runtimes.onnx.quantizing import Prepared, calibrate, dynamic, prepare, static
from tests.levers.precision import test_products
from tests.runtimes import models

RECORDED = test_products.RECORDED


def feeds(num: int = 4) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((1, 16, 8, 8)).astype(np.float32)} for _ in range(num)]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return prepare(models.saved(tmp_path, models.cnn()), tmp_path)


def test_every_product_of_a_network_is_found_with_its_zero() -> None:
    found = products(onnx.load(str(RECORDED / "u8s8.onnx")))
    assert [each.windows is not None for each in found] == [True] * 4 + [False] * 2
    assert [each.is_depthwise for each in found] == [False, True, False, False, False, False]
    assert [each.weights.shape for each in found][:3] == [(1, 144, 32), (32, 9, 1), (4, 72, 8)]
    assert found[0].zero > 0


def test_what_runs_in_floating_point_is_no_product(prepared: Prepared, tmp_path: Path) -> None:
    """Signed activations that two operators take stay signed, and beside them convolutions do not run in INT8."""
    static(prepared, calibrate(prepared, feeds()), tmp_path / "s8.onnx", activations="s8")
    assert [each.node for each in products(onnx.load(str(tmp_path / "s8.onnx")))] == ["y"]


@pytest.mark.parametrize("weights", ["s7", "u8"])
def test_other_weights_cannot_saturate(prepared: Prepared, tmp_path: Path, weights: str) -> None:
    static(prepared, calibrate(prepared, feeds()), tmp_path / "a.onnx", activations="u8", weights=weights)  # type: ignore[arg-type]
    dynamic(prepared, tmp_path / "b.onnx", weights=weights)  # type: ignore[arg-type]
    for name in ("a", "b"):
        assert not saturations(tmp_path / f"{name}.onnx", feeds()).possible


def test_saturations_are_counted_pair_by_pair() -> None:
    _, given = test_products.recorded()
    found = saturations(RECORDED / "u8s8.onnx", given[:1])
    assert found.possible
    first, *_ = products(onnx.load(str(RECORDED / "u8s8.onnx")))
    scale, zero = 0.0, first.zero
    for each in onnx.load(str(RECORDED / "u8s8.onnx")).graph.initializer:
        if each.name == "x_scale":
            scale = float(onnx.numpy_helper.to_array(each))
    x = np.clip(np.rint(given[0]["x"] / scale) + zero, 0, 255).astype(np.uint8)
    left = rows(first, x)[0].astype(int)
    pairs = left[:, 0::2, None] * first.weights[0][0::2] + left[:, 1::2, None] * first.weights[0][1::2]
    by_hand = int(((pairs > 32767) | (pairs < -32768)).sum())
    assert 0 < by_hand <= found.saturated
    assert pairs.size < found.pairs
    assert arithmetic.count(rows(first, x)[0], first.weights[0]) == by_hand


def test_sums_have_the_shape_of_the_operator_and_no_zero_in_them() -> None:
    first, *_ = products(onnx.load(str(RECORDED / "u8s8.onnx")))
    still = np.full((2, 16, 8, 8), first.zero, np.uint8)
    found = sums(first, still, arithmetic.exact)
    assert found.shape == (2, 32, 4, 8)
    assert not found.any()


@pytest.mark.parametrize(("same", "shape", "first"), [("SAME_UPPER", (1, 1, 3, 2), 0), ("SAME_LOWER", (1, 1, 3, 2), 9)])
def test_windows_of_the_same_size_are_padded_where_it_says(same: str, shape: tuple[int, ...], first: int) -> None:
    x = np.arange(6, dtype=np.uint8).reshape(1, 1, 6)
    windows = Windows((2,), (2,), (1,), (0, 0), same)
    assert cut(x, windows, 9).shape == shape
    x = np.arange(5, dtype=np.uint8).reshape(1, 1, 5)
    assert cut(x, windows, 9)[0, 0, 0, 0] == first


def test_windows_are_dilated_and_strided() -> None:
    x = np.arange(8).reshape(1, 1, 8)
    assert cut(x, Windows((2,), (3,), (2,), (1, 0)), 9)[0, 0].tolist() == [[9, 1], [2, 4], [5, 7]]
