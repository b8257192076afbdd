"""The INT8 network does the same job, and what is to be left alone is left alone."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from amble.core.errors import Refused
from amble.runtimes.onnx.quantizing import Prepared, Ranges, Weights, calibrate, dynamic, layers, prepare, static
from amble.runtimes.saturation import saturates
from tests.levers.precision import emulated
from tests.runtimes import models


def feeds(num: int = 8, seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, 16, 8, 8)).astype(np.float32)} for _ in range(num)]


def outputs(path: Path, given: list[dict[str, np.ndarray]]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, feed)[0] for feed in given])


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(path)).graph.node]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return models.saved(tmp_path, models.cnn())


@pytest.fixture
def prepared(source: Path, tmp_path: Path) -> Prepared:
    return prepare(source, tmp_path)


@pytest.fixture
def ranges(prepared: Prepared) -> Ranges:
    return calibrate(prepared, feeds())


def test_ranges_cut_at_a_percentile_are_not_widened_by_an_outlier(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    given = feeds()
    given[0]["x"][0, 0, 0, 0] = 1000.0
    whole, cut = (calibrate(prepared, given, percentile=each).tensors["x"].range_value for each in (None, 99.9))
    assert whole[1].item() == 1000.0
    assert 2.0 < cut[1].item() < 10.0
    assert capsys.readouterr().out == ""


def test_a_network_whose_ranges_were_cut_does_the_same_job(prepared: Prepared, tmp_path: Path) -> None:
    static(prepared, calibrate(prepared, feeds(), percentile=99.99), tmp_path / "int8.onnx", activations="u8")
    unseen = feeds(seed=1)
    found, wanted = outputs(tmp_path / "int8.onnx", unseen), outputs(prepared.path, unseen)
    assert float(np.corrcoef(found.ravel(), wanted.ravel())[0, 1]) > 0.99


def masked(*, by: str) -> onnx.ModelProto:
    """[batch, 16, 8, 8] → scores of 64 places by 64, those behind a mask of −∞, softmax, mix."""
    nodes = [
        models.node("Reshape", ["x", "shape"], ["rows"]),
        models.node("MatMul", ["rows", "w"], ["s"]),
        models.node("Where", ["mask", "s", "never"], ["sm"])
        if by == "Where"
        else models.node("Add", ["s", "added"], ["sm"]),
        models.node("Softmax", ["sm"], ["p"], axis=-1),
        models.node("MatMul", ["p", "v"], ["y"]),
    ]
    constants = [
        models.constant("shape", [0, 16, 64]),
        models.constant("mask", np.arange(64) < 8, bool),
        models.constant("never", -np.inf, np.float32),
        models.constant("added", np.where(np.arange(64) < 8, 0.0, -np.inf), np.float32),
    ]
    weights = [models.weight("w", 64, 64), models.weight("v", 64, 10), *constants]
    return models.model(
        nodes, [models.value("x", ["batch", 16, 8, 8])], [models.value("y", ["batch", 16, 10])], weights
    )


@pytest.mark.parametrize("by", ["Where", "Add"])
@pytest.mark.parametrize("percentile", [None, 99.99])
def test_what_is_not_always_finite_stays_in_floating_point(tmp_path: Path, percentile: float | None, by: str) -> None:
    source, path = models.saved(tmp_path, masked(by=by)), tmp_path / "int8.onnx"
    made = prepare(source, tmp_path)
    ranges = calibrate(made, feeds(), percentile=percentile)
    assert "sm" in ranges.endless
    static(made, ranges, path, activations="u8", weights="u8")
    assert off(outputs(path, feeds(seed=1)), outputs(source, feeds(seed=1))) < 0.1
    graph = onnx.load(str(path)).graph
    assert "sm" not in {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert kinds(path).count("QuantizeLinear") >= 3


def product(dtype: type, *, added: float = 0.0) -> onnx.ModelProto:
    """[batch, 16, 8, 8] → rows of 64, a product, something added to every second column, softmax."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        models.node("Reshape", ["x", "shape"], ["rows"]),
        models.node("MatMul", ["rows", "w"], ["s"]),
        models.node("Add", ["s", "added"], ["moved"]),
        models.node("Softmax", ["moved"], ["y"], axis=-1),
    ]
    weights = [
        models.constant("shape", [0, 16, 64]),
        models.constant("w", np.random.default_rng(0).standard_normal((64, 8)) / 8, dtype),
        models.constant("added", np.where(np.arange(8) % 2, added, 0.0), dtype),
    ]
    inputs, ports = [models.value("x", ["batch", 16, 8, 8], kind)], [models.value("y", ["batch", 16, 8], kind)]
    return models.model(nodes, inputs, ports, weights)


@pytest.mark.parametrize(
    ("dtype", "added"), [(np.float16, 0.0), (np.float32, -3.4e38), (np.float64, 0.0)], ids=["half", "far", "double"]
)
def test_ranges_of_every_type_and_size_can_be_cut(tmp_path: Path, dtype: type, added: float) -> None:
    given: list[dict[str, np.ndarray]] = [{"x": each["x"].astype(dtype)} for each in feeds()]
    made = prepare(models.saved(tmp_path, product(dtype, added=added)), tmp_path)
    ranges = calibrate(made, given, percentile=99.99)
    found = {name: each.range_value for name, each in ranges.tensors.items()}
    assert bool(found) == (dtype is not np.float64)
    assert {each.dtype for each in found.get("x", ())} <= {np.dtype(dtype)}
    assert not found or 2.0 < found["x"][1] < 6.0
    static(made, ranges, tmp_path / "int8.onnx", activations="u8")
    assert np.isfinite(outputs(tmp_path / "int8.onnx", given)).all()


def test_a_first_batch_of_next_to_nothing_leaves_the_others_their_range(prepared: Prepared) -> None:
    given = feeds()
    given[0]["x"] *= 1e-30
    low, high = calibrate(prepared, given, percentile=99.99).tensors["x"].range_value
    assert 2.0 < high < 6.0
    assert -6.0 < low < -2.0


def test_preparing_keeps_the_function_and_names_every_node(source: Path, prepared: Prepared) -> None:
    np.testing.assert_allclose(outputs(prepared.path, feeds()), outputs(source, feeds()), rtol=1e-4, atol=1e-4)
    names = [node.name for node in onnx.load(str(prepared.path)).graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_shapes_that_contradict_the_network_do_not_stop_it(tmp_path: Path) -> None:
    model = models.cnn()
    model.graph.value_info.append(models.value("r1", [1, 99, 8, 8]))
    made = prepare(models.saved(tmp_path, model), tmp_path)
    static(made, calibrate(made, feeds()), tmp_path / "int8.onnx", activations="u8")
    assert outputs(tmp_path / "int8.onnx", feeds()).shape == (8, 10)


def test_nodes_without_names_get_one_each(tmp_path: Path) -> None:
    model = models.cnn()
    for node in model.graph.node:
        node.name = "" if node.op_type == "Relu" else "same"
    names = [node.name for node in onnx.load(str(prepare(models.saved(tmp_path, model), tmp_path).path)).graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def off(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The mean error as a share of the mean answer."""
    return float(np.abs(ours - theirs).mean() / np.abs(theirs).mean())


@pytest.mark.parametrize(("activations", "zero_point"), [("u8", TensorProto.UINT8), ("s8", TensorProto.INT8)])
def test_the_calibrated_network_answers_almost_the_same(
    source: Path, prepared: Prepared, ranges: Ranges, tmp_path: Path, activations: str, zero_point: int
) -> None:
    path, unseen = tmp_path / "int8.onnx", feeds(seed=1)
    static(prepared, ranges, path, activations=activations)  # type: ignore[arg-type]
    theirs = outputs(source, unseen)
    assert 0 < off(emulated.outputs(path, unseen, saturates=False), theirs) < 0.06
    np.testing.assert_allclose(outputs(path, unseen), emulated.outputs(path, unseen, saturates=saturates()), rtol=1e-4)
    graph = onnx.load(str(path)).graph
    quantised = {node.input[2] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert {each.data_type for each in graph.initializer if each.name in quantised} == {zero_point}


@pytest.mark.parametrize("weights", ["s7", "u8"])
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_other_weights_answer_almost_the_same_on_every_cpu(
    source: Path, prepared: Prepared, ranges: Ranges, tmp_path: Path, weights: Weights, kind: str
) -> None:
    path, unseen = tmp_path / "int8.onnx", feeds(seed=1)
    if kind == "static":
        static(prepared, ranges, path, activations="u8", weights=weights)
    else:
        dynamic(prepared, path, weights=weights)
    cut, exact = (emulated.outputs(path, unseen, saturates=each) for each in (True, False))
    np.testing.assert_array_equal(cut, exact)
    assert 0 < off(outputs(path, unseen), outputs(source, unseen)) < 0.05


def test_weights_of_eight_bits_answer_worse_where_sums_are_cut(
    source: Path, prepared: Prepared, ranges: Ranges, tmp_path: Path
) -> None:
    static(prepared, ranges, tmp_path / "int8.onnx", activations="u8")
    unseen = feeds(seed=1)
    theirs = outputs(source, unseen)
    cut, exact = (
        off(emulated.outputs(tmp_path / "int8.onnx", unseen, saturates=each), theirs) for each in (True, False)
    )
    assert cut > 1.3 * exact


def test_weights_have_a_scale_for_every_channel(prepared: Prepared, ranges: Ranges, tmp_path: Path) -> None:
    static(prepared, ranges, tmp_path / "int8.onnx", activations="u8")
    scales = [each for each in onnx.load(str(tmp_path / "int8.onnx")).graph.initializer if each.name.endswith("_scale")]
    assert [32] in [list(each.dims) for each in scales]


def test_the_batch_stays_open(prepared: Prepared, ranges: Ranges, tmp_path: Path) -> None:
    static(prepared, ranges, tmp_path / "int8.onnx", activations="u8")
    many = [{"x": np.concatenate([feed["x"] for feed in feeds()])}]
    assert outputs(tmp_path / "int8.onnx", many).shape == (8, 10)


def test_nodes_that_are_left_are_not_quantised(prepared: Prepared, ranges: Ranges, tmp_path: Path) -> None:
    every = [node.name for node in onnx.load(str(prepared.path)).graph.node]
    static(prepared, ranges, tmp_path / "none.onnx", activations="u8", leave=every)
    assert kinds(tmp_path / "none.onnx") == kinds(prepared.path)
    static(prepared, ranges, tmp_path / "some.onnx", activations="u8", leave=every[2:])
    some = onnx.load(str(tmp_path / "some.onnx")).graph
    int8 = [each.name for each in some.initializer if each.data_type == TensorProto.INT8 and len(each.dims) > 1]
    assert [name.removesuffix("_quantized") for name in int8] == ["w1"]


def test_with_everything_left_nothing_changes(source: Path, prepared: Prepared, ranges: Ranges, tmp_path: Path) -> None:
    groups, theirs, errors = layers(prepared), outputs(source, feeds(seed=1)), []
    for count in range(len(groups) + 1):
        leave = [name for group in groups[:count] for name in group]
        static(prepared, ranges, tmp_path / "mix.onnx", activations="u8", leave=leave)
        errors.append(float(np.square(outputs(tmp_path / "mix.onnx", feeds(seed=1)) - theirs).mean()))
    assert errors[0] > errors[-2] > 1e-3 * errors[0]
    assert errors[-1] < 1e-9 * errors[0]


def test_dynamic_quantisation_needs_no_examples(tmp_path: Path) -> None:
    source, path = models.saved(tmp_path, models.mlp((16, 64, 8))), tmp_path / "dynamic.onnx"
    dynamic(prepare(source, tmp_path), path)
    given = [{"x": np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)}]
    theirs = outputs(source, given)
    assert 0 < np.abs(emulated.outputs(path, given, saturates=False) - theirs).max() < 0.2
    np.testing.assert_allclose(outputs(path, given), emulated.outputs(path, given, saturates=saturates()), atol=0.05)
    assert "MatMulInteger" in kinds(path)


def test_dynamic_quantisation_leaves_what_it_is_told_to(tmp_path: Path) -> None:
    made = prepare(models.saved(tmp_path, models.mlp((16, 64, 8))), tmp_path)
    (first, *_), *_ = layers(made)
    dynamic(made, tmp_path / "dynamic.onnx", leave=[first])
    assert kinds(tmp_path / "dynamic.onnx").count("MatMulInteger") == 1
    assert kinds(tmp_path / "dynamic.onnx").count("MatMul") == 1


def test_a_layer_is_a_product_and_what_follows_it(prepared: Prepared) -> None:
    kind_of = {node.name: node.op_type for node in onnx.load(str(prepared.path)).graph.node}
    found = [[kind_of[name] for name in group] for group in layers(prepared)]
    assert [group[0] for group in found] == ["Conv", "Conv", "Gemm"]
    assert sum(map(len, found)) == len(kind_of)


def test_calibration_counts_its_examples_and_needs_one(prepared: Prepared) -> None:
    assert calibrate(prepared, feeds(5)).num_examples == 5
    with pytest.raises(ValueError, match="at least one"):
        calibrate(prepared, [])


@pytest.mark.parametrize("wrong", [{"y": np.zeros((1, 16, 8, 8), np.float32)}, {"x": np.zeros((1, 3), np.float32)}])
def test_examples_that_do_not_fit_are_refused(prepared: Prepared, wrong: dict[str, np.ndarray]) -> None:
    with pytest.raises(Refused, match="model cannot be calibrated"):
        calibrate(prepared, [wrong])


def test_the_root_logger_is_left_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    handlers, filters = list(logging.root.handlers), list(logging.root.filters)
    made = prepare(models.saved(tmp_path, models.cnn()), tmp_path)
    with pytest.raises(Refused):
        calibrate(made, [{}])
    assert (logging.root.handlers, logging.root.filters) == (handlers, filters)


def test_remarks_of_the_quantiser_are_not_passed_on(
    prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture, loud: Callable[[], Ranges]
) -> None:
    with caplog.at_level(logging.DEBUG):
        loud()
    assert not [record for record in caplog.records if record.name == "root"]


@pytest.fixture
def loud(prepared: Prepared) -> Callable[[], Ranges]:
    """A calibration whose examples log a warning to the root logger, as the quantiser does."""

    class Loud(dict[str, np.ndarray]):
        def keys(self):  # type: ignore[no-untyped-def]
            logging.warning("a remark")
            return super().keys()

    return lambda: calibrate(prepared, [Loud(feeds(1)[0])])
