"""The proof that rows are independent: what it grants is true of ONNX Runtime's answers, what mixes rows is named."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from amble import bundled
from amble.services.serve.models.rows import proved, proved_file
from tests.services.serve.networks import APART, MIXING, chain, network

_STEPS = {**{f"apart {name}": step for name, step in APART.items()}, **{f"mix {n}": s for n, s in MIXING.items()}}


def session(model: object) -> onnxruntime.InferenceSession:
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), chosen, providers=["CPUExecutionProvider"])  # type: ignore[attr-defined]


def is_apart(model: object, rows: int = 5) -> bool:
    """Ask ONNX Runtime whether rows get the same answers alone and together, forwards and backwards."""
    opened = session(model)
    x = np.random.default_rng(1).normal(size=(rows, 4)).astype(np.float32)
    alone = np.concatenate([opened.run(None, {"x": row[None]})[0] for row in x])
    together = opened.run(None, {"x": x})[0], opened.run(None, {"x": x[::-1].copy()})[0][::-1]
    return all(
        each.shape == alone.shape and np.allclose(each, alone, rtol=1e-4, atol=1e-5, equal_nan=True)
        for each in together
    )


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(_STEPS)), min_size=1, max_size=6))
def test_whatever_is_proved_is_so(names: list[str]) -> None:
    model = chain([_STEPS[name] for name in names])
    if proved(model).proved:
        assert is_apart(model)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(APART)), min_size=1, max_size=6))
def test_random_networks_that_keep_rows_apart_are_proved(names: list[str]) -> None:
    verdict = proved(chain([APART[name] for name in names]))
    assert verdict.proved, verdict.reason


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(sorted(APART)), max_size=3),
    st.sampled_from(sorted(MIXING)),
    st.lists(st.sampled_from(sorted(APART)), max_size=3),
)
def test_random_networks_with_one_operator_that_mixes_rows_are_not(
    before: list[str], mixing: str, after: list[str]
) -> None:
    steps = [*(APART[name] for name in before), MIXING[mixing], *(APART[name] for name in after)]
    verdict = proved(chain(steps))
    assert not verdict.proved


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("softmax", "Softmax"),
        ("centred", "ReduceMean"),
        ("cumulated", "CumSum"),
        ("reshaped", "Reshape"),
        ("attention", "MatMul"),
        ("torn", "Reshape"),
        ("unlike", "Add"),
        ("count", "Div"),
        ("numbered", "Range"),
        ("gru", "GRU"),
    ],
)
def test_what_mixes_rows_is_named_with_its_node(name: str, operator: str) -> None:
    model = chain([MIXING[name]])
    assert not is_apart(model), "this step would mix nothing"
    verdict = proved(model)
    assert not verdict.proved
    assert f"operator {operator} (node '" in verdict.reason


@pytest.mark.parametrize(
    ("inputs", "outputs", "names"),
    [
        ({"x": ["N", 4]}, {"y": ["M", 4]}, "'M'"),
        ({"x": [2, 4]}, {"y": ["N", 4]}, "not open"),
        ({"x": ["N", 4]}, {"y": [2, 4]}, "not open"),
    ],
)
def test_all_first_axes_are_one_symbol(
    inputs: dict[str, list[object]], outputs: dict[str, list[object]], names: str
) -> None:
    verdict = proved(network([helper.make_node("Relu", ["x"], ["y"])], {}, inputs, outputs))
    assert not verdict.proved
    assert names in verdict.reason


def test_two_inputs_with_nameless_first_axes_are_not_taken_for_one_batch() -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    shapes: dict[str, list[object]] = {"a": [None, 4], "b": [None, 4]}
    assert not proved(network(nodes, {}, shapes, {"y": [None, 4]})).proved
    assert proved(network(nodes, {}, {"a": ["N", 4], "b": ["N", 4]}, {"y": ["N", 4]})).proved


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Compress", ["x", "c"], ["y"], axis=0),
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("Unique", ["x"], ["y"], axis=0),
        helper.make_node("RandomNormalLike", ["x"], ["y"]),
        helper.make_node("Add", ["x", "w"], ["y"]),
        helper.make_node("Gather", ["x", "c"], ["y"], axis=0),
        helper.make_node("ReduceMax", ["x"], ["y"]),
        helper.make_node("Squeeze", ["x"], ["y"]),
        helper.make_node("MatMul", ["w", "x"], ["y"]),
        helper.make_node("Einsum", ["x", "x"], ["y"], equation="ij,kj->ik"),
        helper.make_node("Concat", ["x", "x"], ["y"], axis=0),
        helper.make_node("BatchNormalization", ["x", "v", "v", "v", "v"], ["y", "m", "n"], training_mode=1),
    ],
    ids=lambda node: node.op_type,
)
def test_operators_that_may_mix_rows_end_the_proof(node: object) -> None:
    nodes = [node]
    if node.op_type == "DynamicQuantizeLinear":  # type: ignore[attr-defined]
        nodes.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]))
    weights = {
        "c": np.array([True, False]) if node.op_type == "Compress" else np.array([0]),  # type: ignore[attr-defined]
        "w": np.ones((4, 4), np.float32),
        "v": np.ones(4, np.float32),
    }
    verdict = proved(network(nodes, weights, {"x": ["N", 4]}, {"y": ["N", 4]}))  # type: ignore[arg-type]
    assert not verdict.proved
    assert node.op_type in verdict.reason  # type: ignore[attr-defined]


def test_time_steps_are_no_rows_and_the_recurrent_batch_is() -> None:
    weight = np.zeros((1, 12, 4), np.float32)
    nodes = [helper.make_node("GRU", ["x", "w", "w"], ["y", ""], hidden_size=4)]
    verdict = proved(network(nodes, {"w": weight}, {"x": ["seq", 1, 4]}, {"y": ["seq", 1, 1, 4]}))
    assert not verdict.proved
    assert "time steps" in verdict.reason


def test_convolutions_with_quantised_weights_are_proved() -> None:
    weight, scale = np.ones((2, 1, 1, 1), np.int8), np.ones(2, np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["d", "wd"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    weights = {"s": np.float32(0.1), "z": np.int8(0), "w": weight, "ws": scale, "wz": np.zeros(2, np.int8)}
    assert proved(network(nodes, weights, {"x": ["N", 1, 4, 4]}, {"y": ["N", 2]})).proved


def test_attention_over_tokens_is_proved_and_so_is_a_class_token_for_every_row() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], end=1),
        helper.make_node("Concat", ["n", "rest"], ["s"], axis=0),
        helper.make_node("Expand", ["token", "s"], ["t"]),
        helper.make_node("Concat", ["t", "x"], ["h"], axis=1),
        helper.make_node("MatMul", ["h", "w"], ["q"]),
        helper.make_node("Reshape", ["q", "heads"], ["r"]),
        helper.make_node("Transpose", ["r"], ["a"], perm=[0, 2, 1, 3]),
        helper.make_node("Transpose", ["r"], ["b"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["a", "b"], ["m"]),
        helper.make_node("Softmax", ["m"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "a"], ["o"]),
        helper.make_node("Transpose", ["o"], ["u"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["u", "flat"], ["f"]),
        helper.make_node("Gather", ["f", "first"], ["y"], axis=1),
    ]
    weights = {
        "rest": np.array([1, 4]),
        "token": np.ones((1, 1, 4), np.float32),
        "w": np.ones((4, 4), np.float32),
        "heads": np.array([0, 0, 2, 2]),
        "flat": np.array([0, 0, 4]),
        "first": np.array(0),
    }
    verdict = proved(network(nodes, weights, {"x": ["N", 3, 4]}, {"y": ["N", 4]}))
    assert verdict.proved, verdict.reason


def test_what_a_subgraph_takes_from_outside_counts_as_its_input() -> None:
    branch = helper.make_graph(
        [helper.make_node("ReduceMax", ["x"], ["b"], keepdims=1)],
        "b",
        [],
        [helper.make_tensor_value_info("b", 1, None)],
    )
    nodes = [
        helper.make_node("If", ["c"], ["i"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["x", "i"], ["y"]),
    ]
    verdict = proved(network(nodes, {"c": np.array(True)}, {"x": ["N", 4]}, {"y": ["N", 4]}))
    assert not verdict.proved
    assert "If" in verdict.reason


def test_the_bundled_network_is_proved() -> None:
    assert proved_file(bundled.model_path()).proved
