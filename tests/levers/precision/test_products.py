"""Sums of bytes on both kinds of CPU: against the definition, this CPU, and what another kind answered."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from amble.levers.precision.products import can_saturate, count, exact, saturating
from amble.runtimes.saturation import saturates
from tests.levers.precision import emulated

RECORDED = Path(__file__).parent / "avx2"
"""Networks in INT8 and what ONNX Runtime 1.31.1 answered on an emulated Haswell, which has AVX2 and no VNNI."""


def recorded() -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Return the answers by network, and the examples."""
    with np.load(RECORDED / "answers.npz") as file:
        answers = dict(file)
    return answers, [{"x": each[None]} for each in answers["x"]]


def by_definition(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    sums = np.zeros((len(left), right.shape[1]), dtype=np.int64)
    for row, column in np.ndindex(*sums.shape):
        for at in range(0, left.shape[1], 2):
            pair = sum(int(left[row, k]) * int(right[k, column]) for k in range(at, min(at + 2, left.shape[1])))
            sums[row, column] += max(-32768, min(32767, pair))
    return sums


def drawn(rows: int, inner: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows + inner + columns)
    left = rng.integers(0, 256, (rows, inner)).astype(np.uint8)
    return left, rng.integers(-128, 128, (inner, columns)).astype(np.int8)


def runtime(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Let ONNX Runtime multiply, on this CPU."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
        for name, each in (("left", left), ("right", right))
    ]
    outputs = [helper.make_tensor_value_info("sums", TensorProto.INT32, [len(left), right.shape[1]])]
    node = helper.make_node("MatMulInteger", ["left", "right"], ["sums"])
    model = helper.make_model(
        helper.make_graph([node], "bytes", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"left": left, "right": right})[0])


def test_the_cut_of_a_pair_is_where_16_bits_end() -> None:
    left = np.array([[255, 255, 255, 255]], np.uint8)
    right = np.array([[127, 64, -128], [2, 64, -1], [0, 1, 0], [0, 0, 0]], np.int8)
    assert exact(left, right).tolist() == [[32895, 32895, -32895]]
    assert saturating(left, right).tolist() == [[32767, 32640 + 255, -32768]]
    assert can_saturate(right).tolist() == [[True, False, True], [False, False, False]]
    assert count(left, right) == 2


@pytest.mark.parametrize("shape", [(1, 2, 1), (1, 7, 5), (3, 8, 4), (2, 1, 3)])
def test_both_arithmetics_are_as_defined(shape: tuple[int, int, int]) -> None:
    left, right = drawn(*shape)
    np.testing.assert_array_equal(saturating(left, right), by_definition(left, right))
    np.testing.assert_array_equal(exact(left, right), left.astype(np.int64) @ right.astype(np.int64))


@pytest.mark.parametrize("shape", [(1, 7, 5), (5, 33, 17), (16, 512, 40), (1, 1030, 64)])
def test_this_cpu_adds_up_as_the_model_of_its_kind(shape: tuple[int, int, int]) -> None:
    left, right = drawn(*shape)
    np.testing.assert_array_equal(runtime(left, right), emulated.multiply(saturates())(left, right))
    assert (saturating(left, right) != exact(left, right)).any()


def test_products_without_mixed_signs_are_exact_on_every_cpu() -> None:
    left, right = drawn(5, 33, 17)
    unsigned = (right.astype(int) + 128).astype(np.uint8)
    signed = (left.astype(int) - 128).astype(np.int8)
    for ours, theirs in ((left, unsigned), (signed, right)):
        np.testing.assert_array_equal(runtime(ours, theirs), ours.astype(np.int64) @ theirs.astype(np.int64))


def test_seven_bits_never_saturate() -> None:
    left, right = np.full((1, 4), 255, np.uint8), np.full((4, 2), 64, np.int8)
    assert not can_saturate(right).any()
    assert not can_saturate(-right).any()
    assert count(left, right) == 0


@pytest.mark.parametrize("name", ["u8s8", "s8s8", "u8s7", "u8u8", "dynamic"])
@pytest.mark.parametrize("saturating_cpu", [True, False])
def test_whole_networks_answer_as_on_a_cpu_of_either_kind(name: str, saturating_cpu: bool) -> None:
    """What the CPU that saturates answered was recorded there; what this one answers is asked of it."""
    path, (answers, feeds) = RECORDED / f"{name}.onnx", recorded()
    if saturating_cpu:
        theirs = answers[name]
    elif saturates():
        pytest.skip("this CPU saturates: exact sums were asked of the others")
    else:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        theirs = np.concatenate([session.run(None, feed)[0] for feed in feeds])
    ours = emulated.outputs(path, feeds, saturates=saturating_cpu)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(np.abs(theirs).max()))


def test_the_recorded_networks_tell_the_two_kinds_apart() -> None:
    _, feeds = recorded()
    for name in ("u8s8", "s8s8", "dynamic"):
        both = [emulated.outputs(RECORDED / f"{name}.onnx", feeds, saturates=each) for each in (True, False)]
        assert float(np.abs(both[0] - both[1]).max()) > 0.1 * float(np.abs(both[1]).mean())
