"""Loading: what is counted agrees with what is counted by hand, and what cannot be loaded says why."""

from __future__ import annotations

import resource
from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from amble.core.errors import Refused
from amble.core.graph import Gemm, Graph
from amble.core.point import OperatingPoint
from amble.runtimes.onnx import OnnxRunner, Sessions, compute, example_inputs, load
from tests.runtimes import models


def kinds(graph: Graph) -> list[str]:
    return [operator.kind for operator in graph.operators]


def one(graph: Graph, kind: str) -> int:
    """Index of the only operator of a kind."""
    (index,) = [i for i, each in enumerate(graph.operators) if each.kind == kind]
    return index


def flops(graph: Graph) -> float:
    return sum(operator.flops for operator in graph.operators)


def test_a_network_has_its_name_source_batch_ports_and_precision(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.mlp(), "net.onnx"), batch=3)
    assert (graph.name, graph.source, graph.batch, graph.precision) == ("net", str(tmp_path / "net.onnx"), 3, "fp32")
    assert [(port.name, port.shape, port.dtype) for port in graph.inputs] == [("x", (3, 8), "float")]
    assert [(port.name, port.shape, port.dtype) for port in graph.outputs] == [("t1", (3, 4), "float")]


@pytest.mark.parametrize("batch", [1, 2])
def test_products_and_element_wise_operators_count_as_by_hand(tmp_path: Path, batch: int) -> None:
    first, tanh, second, _ = load(models.saved(tmp_path, models.mlp()), batch=batch).operators
    assert (first.kind, first.flops, first.gemm) == ("MatMul", 2.0 * batch * 8 * 16, Gemm(batch, 16, 8))
    assert (first.bytes_read, first.bytes_written) == (4 * (batch * 8 + 8 * 16), 4 * batch * 16)
    assert (first.weight_bytes, first.output_shape) == (4 * 8 * 16, (batch, 16))
    assert (tanh.kind, tanh.flops, tanh.gemm) == ("Tanh", 8.0 * batch * 16, None)
    assert (tanh.bytes_read, tanh.bytes_written, tanh.weight_bytes) == (4 * batch * 16, 4 * batch * 16, 0)
    assert second.gemm == Gemm(batch, 4, 16)


@pytest.mark.parametrize("batch", [1, 4])
def test_convolutions_count_as_by_hand_after_fusion(tmp_path: Path, batch: int) -> None:
    graph = load(models.saved(tmp_path, models.cnn()), batch=batch)
    convolutions = [operator for operator in graph.operators if "Conv" in operator.kind]
    assert [each.gemm for each in convolutions] == [Gemm(batch * 64, 32, 16 * 9), Gemm(batch * 64, 32, 32 * 9)]
    assert [each.flops for each in convolutions] == [2.0 * batch * 64 * 32 * 16 * 9, 2.0 * batch * 64 * 32 * 32 * 9]
    assert convolutions[0].bytes_read == 4 * (batch * 16 * 64 + 32 * 16 * 9 + 32)
    assert convolutions[0].weight_bytes == 4 * (32 * 16 * 9 + 32)
    assert convolutions[0].bytes_written == 4 * batch * 32 * 64
    assert "Relu" not in kinds(graph), "ONNX Runtime fuses the activation into the convolution"
    assert graph.operators[one(graph, "Gemm")].gemm == Gemm(batch, 10, 32)


def test_operators_are_in_an_order_in_which_they_can_run(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.branching()))
    names = [operator.name for operator in graph.operators]
    assert sorted(names) == ["chosen", "early", "h", "y"]
    assert names.index("h") < names.index("chosen") < names.index("y")
    assert names.index("h") < names.index("early")


def test_attention_binds_tokens_and_counts_rows_that_are_looked_up(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.attention()), batch=2, shapes={"ids": (2, 6)})
    assert [port.shape for port in graph.inputs] == [(2, 6), (2, 6)]
    gather = graph.operators[one(graph, "Gather")]
    rows_bytes = 4 * 2 * 6 * 8
    assert (gather.weight_bytes, gather.bytes_written) == (rows_bytes, rows_bytes)
    assert gather.bytes_read < 4 * 50 * 8, "not the whole table"
    products = [operator.gemm for operator in graph.operators if operator.gemm]
    assert products == [Gemm(6, 6, 8, groups=2), Gemm(6, 8, 6, groups=2)]


def test_a_recurrent_operator_counts_both_directions_and_every_step(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.lstm()), batch=3)
    operator = graph.operators[one(graph, "LSTM")]
    assert operator.gemm == Gemm(3, 28, 6 + 7, groups=5 * 2)
    assert operator.flops == 2.0 * 3 * 28 * 13 * 10
    assert operator.weight_bytes == 4 * 2 * 28 * (6 + 7 + 2)


def test_a_branch_counts_towards_its_operator_with_the_weights_from_outside(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.branching()))
    branch = graph.operators[one(graph, "If")]
    assert branch.flops == 2.0 * 2 * 64 * 64
    assert branch.weight_bytes == 4 * 64 * 64
    assert branch.bytes_read == 4 * (64 * 64 + 2 * 64)


def test_a_loop_counts_every_turn(tmp_path: Path) -> None:
    once, thrice = (load(models.saved(tmp_path, models.looping(turns))) for turns in (1, 3))
    assert flops(thrice) == pytest.approx(3 * flops(once))
    assert flops(once) == 2.0 * 2 * 8 * 8


def test_a_quantised_convolution_is_one_integer_operator(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.quantised()))
    convolution = graph.operators[one(graph, "QLinearConv")]
    assert convolution.gemm == Gemm(64, 16, 16 * 9)
    assert convolution.bytes_written == 16 * 64, "one byte an element"
    assert graph.precision == "int8"


def test_an_unknown_kind_counts_one_operation_an_element(tmp_path: Path) -> None:
    content = models.model([models.node("Det", ["x"], ["y"])], [models.value("x", [5, 3, 3])], [models.value("y", [5])])
    (operator,) = load(models.saved(tmp_path, content)).operators
    assert (operator.kind, operator.flops, operator.bytes_read) == ("Det", 5.0, 4 * 45)


def test_nodes_without_or_with_equal_names_get_names_of_their_own(tmp_path: Path) -> None:
    content = models.mlp((8, 8, 8, 8))
    for each, name in zip(content.graph.node, ["", "", "twice", "twice", 'quote"d', ""], strict=True):
        each.name = name
    names = [operator.name for operator in load(models.saved(tmp_path, content)).operators]
    assert len(set(names)) == len(names) == 6
    assert all(names)


def test_data_dependent_shapes_are_those_that_ran(tmp_path: Path) -> None:
    content = models.model(
        [models.node("NonZero", ["mask"], ["where"]), models.node("Cast", ["where"], ["y"], to=models.FLOAT)],
        [models.value("mask", [7])],
        [models.value("y", [1, None])],
    )
    assert load(models.saved(tmp_path, content)).operators[-1].output_shape == (1, 7)


def test_the_digest_tells_content_batch_and_shapes_apart(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.mlp())
    again = models.saved(tmp_path, models.mlp(), "same.onnx")
    other = models.saved(tmp_path, models.mlp((8, 17, 4)), "other.onnx")
    digests = [load(path).digest, load(path, batch=2).digest, load(other).digest]
    assert len(set(digests)) == 3
    assert load(again).digest == digests[0]
    assert load(path, shapes={"x": (1, 8)}).digest == digests[0], "said or bound, the shapes are the same"


def test_weights_beside_the_file_are_read_and_belong_to_the_digest(tmp_path: Path) -> None:
    inside = load(models.saved(tmp_path, models.mlp((64, 64, 64))))
    path = tmp_path / "outside.onnx"
    onnx.save(models.mlp((64, 64, 64)), str(path), save_as_external_data=True, location="weights", size_threshold=0)
    outside = load(path)
    assert flops(outside) == flops(inside)
    inputs = example_inputs(inside, seed=1)
    expected = compute(inside, OperatingPoint(), inputs)
    np.testing.assert_array_equal(compute(outside, OperatingPoint(), inputs)["t1"], expected["t1"])
    content = bytearray((tmp_path / "weights").read_bytes())
    content[0] ^= 1
    (tmp_path / "weights").write_bytes(content)
    assert load(path).digest != outside.digest


def test_the_outputs_are_those_of_the_file_as_it_is(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.cnn())
    graph = load(path, batch=2)
    inputs = example_inputs(graph, seed=3)
    expected = ReferenceEvaluator(str(path)).run(None, inputs)
    np.testing.assert_allclose(compute(graph, OperatingPoint(), inputs)["y"], expected[0], rtol=1e-4, atol=1e-4)


def test_computing_twice_opens_the_network_once(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.mlp())
    graph, sessions = load(path), Sessions()
    inputs = example_inputs(graph, seed=0)
    first = compute(graph, OperatingPoint(), inputs, sessions)
    path.unlink()
    np.testing.assert_array_equal(compute(graph, OperatingPoint(), inputs, sessions)["t1"], first["t1"])


def test_computing_needs_a_whole_network_and_its_precision(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.mlp()))
    inputs = example_inputs(graph, seed=0)
    assert compute(graph, OperatingPoint(), {}) == {}
    with pytest.raises(ValueError, match="segment"):
        compute(graph.segment(0, 2), OperatingPoint(), inputs)
    with pytest.raises(Refused, match="is fp32 and cannot run at int8"):
        compute(graph, OperatingPoint(precision="int8"), inputs)
    with pytest.raises(ValueError, match="needs the tensors x"):
        compute(graph, OperatingPoint(), {"wrong": inputs["x"]})
    with pytest.raises(Refused, match="cannot be run on these inputs"):
        compute(graph, OperatingPoint(), {"x": np.zeros((1, 9), np.float32)})


def test_a_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.mlp())
    graph = load(path)
    inputs = example_inputs(graph, seed=0)
    models.saved(tmp_path, models.mlp((8, 5, 4)))
    with pytest.raises(Refused, match="has changed since it was loaded"):
        compute(graph, OperatingPoint(), inputs)


def test_example_inputs_stay_within_the_vocabulary_and_follow_the_seed(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.attention()), batch=4, shapes={"ids": (4, 100)})
    drawn = example_inputs(graph, seed=1)
    assert drawn["ids"].dtype == np.int64
    assert drawn["ids"].min() >= 0
    assert 40 < drawn["ids"].max() < 50
    assert (drawn["attention_mask"] == 1).all()
    np.testing.assert_array_equal(drawn["ids"], example_inputs(graph, seed=1)["ids"])
    assert (drawn["ids"] != example_inputs(graph, seed=2)["ids"]).any()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"not a model", "is not an ONNX file"),
        (b"", "is not an ONNX file"),
        (models.cnn().SerializeToString()[:500], "is not an ONNX file"),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(Refused, match=what):
        load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        load(tmp_path / "none.onnx")


def test_missing_external_data_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(models.mlp(), str(path), save_as_external_data=True, location="weights.data", size_threshold=0)
    (tmp_path / "weights.data").unlink()
    with pytest.raises(Refused, match=r"weights\.data, which is missing"):
        load(path)


def test_an_opset_that_nothing_here_runs_is_refused_with_what_is_read(tmp_path: Path) -> None:
    content = models.mlp()
    content.opset_import[0].version = 6
    with pytest.raises(Refused, match="opset 6, and amble reads 13 and later and converts 7-12; export it again"):
        load(models.saved(tmp_path, content))


def test_an_operator_without_a_kernel_is_refused_by_name(tmp_path: Path) -> None:
    io = [models.value("x", [2])], [models.value("y", [2])]
    unknown = models.model([models.node("Frobnicate", ["x"], ["y"])], *io)
    foreign = models.model([models.node("Warp", ["x"], ["y"], domain="acme")], *io)
    foreign.opset_import.add(domain="acme", version=1)
    for content, kind in ((unknown, "Frobnicate"), (foreign, "Warp")):
        with pytest.raises(Refused, match=f"{kind}") as refusal:
            load(models.saved(tmp_path, content))
        assert "\n" not in str(refusal.value)


def test_an_operator_without_a_kernel_for_its_type_is_refused_by_name(tmp_path: Path) -> None:
    dtype = onnx.TensorProto.UINT32
    content = models.model(
        [models.node("Relu", ["x"], ["y"])], [models.value("x", [2], dtype)], [models.value("y", [2], dtype)]
    )
    with pytest.raises(Refused, match="Relu"):
        load(models.saved(tmp_path, content))


def test_a_model_that_contradicts_itself_is_refused_in_one_line(tmp_path: Path) -> None:
    content = models.model(
        [models.node("MatMul", ["x", "w"], ["y"])],
        [models.value("x", [1, 7])],
        [models.value("y", [1, 3])],
        [models.weight("w", 8, 3)],
    )
    with pytest.raises(Refused, match="cannot be") as refusal:
        load(models.saved(tmp_path, content))
    assert "\n" not in str(refusal.value)


def test_bytes_of_views_do_not_count(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.cnn()))
    views = [operator for operator in graph.operators if operator.kind in ("Flatten", "Reshape")]
    assert all(operator.bytes_read == operator.bytes_written == operator.flops == 0 for operator in views)


def test_the_sum_of_what_is_written_is_that_of_the_output_shapes(tmp_path: Path) -> None:
    graph = load(models.saved(tmp_path, models.mlp()), batch=2)
    written = [operator.bytes_written for operator in graph.operators]
    assert written == [4 * prod(operator.output_shape) for operator in graph.operators]


def test_weights_that_are_listed_as_inputs_are_fused_all_the_same(tmp_path: Path) -> None:
    content = models.cnn()
    expected = kinds(load(models.saved(tmp_path, content)))
    content.graph.input.extend(models.value(each.name, list(each.dims)) for each in content.graph.initializer)
    graph = load(models.saved(tmp_path, content))
    assert kinds(graph) == expected
    assert [port.name for port in graph.inputs] == ["x"]


def test_a_full_disk_is_refused(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.mlp((64, 64, 64)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(Refused, match="make room, or set TMPDIR"):
            load(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_branch_that_never_runs_may_contradict_the_shapes(tmp_path: Path) -> None:
    other = onnx.helper.make_graph([models.node("MatMul", ["h", "w"], ["a"])], "other", [], [models.value("a", None)])
    taken = onnx.helper.make_graph([models.node("Exp", ["h"], ["b"])], "taken", [], [models.value("b", None)])
    nodes = [
        models.node("Tanh", ["x"], ["h"]),
        models.node("Not", ["flag"], ["n"]),
        models.node("If", ["n"], ["y"], then_branch=other, else_branch=taken),
    ]
    inputs = [models.value("x", ["batch", "width"]), models.value("flag", [], models.BOOL)]
    content = models.model(nodes, inputs, [models.value("y", None)], [models.weight("w", 8, 3)])
    graph = load(models.saved(tmp_path, content), shapes={"x": (1, 5)})
    assert graph.inputs[0].shape == (1, 5)
    given = example_inputs(graph, seed=0)
    runner, tensors = OnnxRunner(), dict(given)
    for index in range(len(graph.operators)):
        tensors = dict(runner.run(graph.segment(index, index + 1), OperatingPoint(), tensors))
    np.testing.assert_allclose(tensors["y"], np.exp(np.tanh(given["x"])), rtol=1e-5)


def test_casts_that_onnx_runtime_inserted_are_run_as_the_graph_that_was_kept_has_them(tmp_path: Path) -> None:
    nodes = [
        models.node("Cast", ["x"], ["half"], to=onnx.TensorProto.FLOAT16),
        models.node("Cast", ["half"], ["brain"], to=onnx.TensorProto.BFLOAT16),
        models.node("Cast", ["brain"], ["again"], to=onnx.TensorProto.FLOAT16),
        models.node("MatMul", ["again", "w"], ["product"]),
        models.node("Cast", ["product"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    weights = models.constant("w", np.full((8, 4), 0.5), np.float16)
    content = models.model(nodes, [models.value("x", [1, 8])], [models.value("y", [1, 4])], [weights])
    graph = load(models.saved(tmp_path, content))
    assert kinds(graph) == ["Cast", "Cast", "MatMul", "Cast"]
