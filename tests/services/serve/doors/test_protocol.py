"""What a body says is what the model gets, and whatever does not fit is a fault that names the field."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.core.graph import Port
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.protocol import _fitting_before, decode, encode
from amble.services.serve.requests.asking import Answer, matched, policy

X = Port("x", (-1, 2), "float")
Y = Port("y", (-1, 2), "float")


def body(**changes: Any) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]} | changes.pop("tensor", {})
    return json.dumps({"inputs": [tensor], **changes}).encode()


@pytest.mark.parametrize("data", [[1.0, 2.0, 3.0, 4.0], [[1.0, 2.0], [3.0, 4.0]]])
def test_json_may_be_flat_or_nested(data: list[Any]) -> None:
    asked = decode(body(tensor={"shape": [2, 2], "data": data}))
    assert asked.inputs[0].value.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_binary_tensors_follow_the_json_in_the_order_of_the_inputs() -> None:
    first, second = np.array([[1, 2]], np.float32), np.array([7], np.int64)
    inputs = [
        {"name": "a", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
        {"name": "b", "datatype": "INT8", "shape": [1], "data": [3]},
        {"name": "c", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}},
    ]
    head = json.dumps({"inputs": inputs, "model_name": "tolerated"}).encode()
    asked = decode(head + first.tobytes() + second.tobytes(), len(head))
    assert [each.value.tolist() for each in asked.inputs] == [[[1, 2]], [3], [7]]


@pytest.mark.parametrize(
    ("raw", "length", "names"),
    [
        (b"{", None, "not JSON"),
        (b"[]", None, "request"),
        (b"{}", None, "inputs"),
        (b'{"inputs": []}', None, "inputs"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, "2"], "data": []}]}', None, "shape[1]"),
        (b'{"inputs": [{"name": "x", "data": ' + b"[" * 100_000, None, "JSON"),
        (b'{"inputs": [{"name": "\xff"}]}', None, "request"),
        (body(), 10_000, "Inference-Header-Content-Length"),
        (body() + b"left over", len(body()), "follow"),
        (body(tensor={"shape": [1, -2]}), None, "shape"),
        (body(tensor={"shape": [1, 3]}), None, "2 elements"),
        (body(tensor={"shape": [1] * 33}), None, "at most 32"),
        (body(tensor={"shape": [1] * 3000}), None, "32 axes"),
        (body(tensor={"shape": [1 << 63]}), None, "64 bits"),
        (body(inputs=[{"name": "x", "datatype": "FP32", "shape": []}] * 1025), None, "at most 1024"),
        (body(extra=[{}] * 20_000), None, "objects"),
        (body(parameters={"p": "x" * 70_000}), None, "bytes"),
        (body(parameters={"p": []}), None, "parameters"),
        (body(tensor={"datatype": "FP31"}), None, "FP31"),
        (body(tensor={"datatype": "FP16"}), None, "binary"),
        (body(tensor={"data": [1.0, "2.0"]}), None, "'x'"),
        (body(tensor={"data": [1.0, None]}), None, "'x'"),
        (body(tensor={"data": [1e39, 0]}), None, "FP32"),
        (body(tensor={"data": [float("nan"), 1.0]}), None, 'write "NaN", "Infinity" and "-Infinity" as texts'),
        (body(tensor={"data": [1.0, -float("inf")]}), None, 'write "NaN", "Infinity" and "-Infinity" as texts'),
        (body(tensor={"data": [[1.0], [2.0, 3.0]]}), None, "'x'"),
        (body(tensor={"data": 1.0}), None, "'x'"),
        (body(tensor={"datatype": "INT8", "data": [1, 200]}), None, "INT8"),
        (body(tensor={"datatype": "INT32", "data": [1, 1.5]}), None, "INT32"),
        (body(tensor={"datatype": "UINT8", "data": [1, -1]}), None, "UINT8"),
        (body(tensor={"datatype": "UINT64", "data": [1, 2**70]}), None, "UINT64"),
        (body(tensor={"datatype": "BOOL", "data": [True, 2]}), None, "BOOL"),
        (body(tensor={"datatype": "BYTES", "data": ["a", 1]}), None, "BYTES"),
        (body(tensor={"parameters": {"binary_data_size": -1}}), None, "binary_data_size"),
        (body(tensor={"parameters": {"binary_data_size": 1.5}}), None, "binary_data_size"),
        (body(tensor={"parameters": {"shared_memory_region": "r"}}), None, "shared memory"),
        (body(parameters={"binary_data_output": 1}), None, "binary_data_output"),
        (body(outputs=[{"name": "y", "parameters": {"classification": "3"}}]), None, "classification is a number"),
        (body(outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}]), None, "shared memory"),
        (body(outputs=[{"name": "y", "parameters": {"binary_data": "yes"}}]), None, "binary_data"),
    ],
)
def test_what_is_wrong_with_a_body_is_named(raw: bytes, length: int | None, names: str) -> None:
    with pytest.raises(Fault) as fault:
        decode(raw, length)
    assert fault.value.status == 400
    assert names in fault.value.text


@given(st.binary(max_size=200), st.none() | st.integers(-5, 250))
@settings(max_examples=300)
def test_no_bytes_whatsoever_are_more_than_a_fault(raw: bytes, length: int | None) -> None:
    with pytest.raises(Fault):
        decode(raw, length)


@pytest.mark.parametrize(
    ("changes", "outputs", "names"),
    [
        ({"tensor": {"name": "z"}}, (Y,), "'z'"),
        ({"tensor": {"datatype": "FP64"}}, (Y,), "FP64"),
        ({"tensor": {"shape": [2]}}, (Y,), "shape"),
        ({"tensor": {"shape": [2, 1]}}, (Y,), "shape"),
        ({"tensor": {"shape": [0, 2], "data": []}}, (Y,), "shape"),
        ({"outputs": [{"name": "z"}]}, (Y,), "'z'"),
        ({}, (Port("y", (-1, 2), "float16"),), "FP16"),
    ],
)
def test_a_request_that_does_not_fit_its_model_is_refused(
    changes: dict[str, Any], outputs: tuple[Port, ...], names: str
) -> None:
    with pytest.raises(Fault, match=names):
        matched(decode(body(**changes)), (X,), outputs, batched=True)


def test_rows_are_the_first_axis_and_must_agree() -> None:
    two = [
        {"name": name, "datatype": "FP32", "shape": [rows, 2], "data": [0] * 2 * rows}
        for name, rows in (("x", 3), ("z", 2))
    ]
    asked = decode(json.dumps({"inputs": two}).encode())
    ports = (X, Port("z", (-1, 2), "float"))
    with pytest.raises(Fault, match="differ"):
        matched(asked, ports, (Y,), batched=True)
    assert matched(asked, ports, (Y,), batched=False)[1] == 1
    assert matched(decode(body(tensor={"shape": [3, 2], "data": [0] * 6})), (X,), (Y,), batched=True)[1] == 3


def test_a_missing_or_doubled_input_is_named() -> None:
    twice = json.dumps({"inputs": [json.loads(body())["inputs"][0]] * 2}).encode()
    with pytest.raises(Fault, match="twice"):
        matched(decode(twice), (X,), (Y,), batched=True)
    with pytest.raises(Fault, match="'z' is missing"):
        matched(decode(body()), (X, Port("z", (1,), "float")), (Y,), batched=False)


@pytest.mark.parametrize(
    "parameters",
    [
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": 1.5},
        {"timeout": "5"},
        {"timeout": True},
        {"timeout": 2**63},
        {"priority": -1},
        {"priority": 2**16},
        {"priority": None},
    ],
)
def test_a_policy_that_is_no_whole_number_in_range_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(Fault, match=f"parameters.{next(iter(parameters))}"):
        policy(parameters)


def test_a_timeout_of_zero_is_the_models_own() -> None:
    assert policy({"timeout": 0}).timeout_s is None
    assert policy({"timeout": 1500, "priority": 2}).timeout_s == pytest.approx(1.5e-3)


ANSWER = Answer(
    "m", "3", "", {"y": np.array([[1, 2]], np.float32), "s": np.array([["a", "b"]], object)}, {"late": False}
)


def test_outputs_are_json_unless_binary_is_asked_for() -> None:
    text, length = encode(ANSWER, decode(body(id="7")))
    assert length is None
    found = json.loads(text)
    assert found["id"] == "7"
    assert found["model_version"] == "3"
    assert found["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
    assert found["outputs"][1]["data"] == ["a", "b"]


def test_an_outputs_own_wish_beats_that_of_the_request() -> None:
    wish = [{"name": "s"}, {"name": "y", "parameters": {"binary_data": False}}]
    text, length = encode(ANSWER, decode(body(outputs=wish, parameters={"binary_data_output": True})))
    assert length is not None
    head = json.loads(text[:length])
    assert [each["name"] for each in head["outputs"]] == ["s", "y"]
    assert head["outputs"][0]["parameters"]["binary_data_size"] == 10
    assert text[length:] == b"\x01\x00\x00\x00a\x01\x00\x00\x00b"
    assert head["outputs"][1]["data"] == [1.0, 2.0]
    assert "id" not in head


def test_what_json_has_no_number_for_is_a_text_that_says_which() -> None:
    answer = Answer("m", "1", "", {"y": np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)}, {})
    assert json.loads(encode(answer, decode(body()))[0])["outputs"][0]["data"] == ["NaN", "Infinity", "-Infinity", 1.0]


def test_json_that_was_seen_before_is_read_with_its_own_tensors() -> None:
    head = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}'
    for first in (1.0, 2.0):
        asked = decode(head + np.array([first, 3.0], np.float32).tobytes(), len(head))
        assert asked.inputs[0].value.tolist() == [first, 3.0]


def test_json_that_was_seen_before_is_not_checked_again_but_for_another_model() -> None:
    head = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}],"id":"seen"}'
    said, fitting, other = head + bytes(8), [X], (Port("x", (-1, 3), "float32"),)
    seen = _fitting_before.cache_info()
    for _ in range(3):
        assert decode(said, len(head), fitting).id == "seen"
        with pytest.raises(Fault, match="shape"):
            decode(said, len(head), other)
    assert _fitting_before.cache_info().hits == seen.hits + 2


@pytest.mark.parametrize(
    ("size", "more", "names"),
    [
        ("9", "", "binary_data_size: 9 is not"),
        ("true", "", "binary_data_size: True is not"),
        ("-1", "", "binary_data_size: -1 is not"),
        ("8", ',"data":[1,2]', "more than one way"),
        ("7", "", "7 bytes of data"),
    ],
)
def test_a_wrong_number_of_bytes_is_named(size: str, more: str, names: str) -> None:
    input_ = f'{{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{{"binary_data_size":{size}}}{more}}}'
    head = f'{{"inputs":[{input_}]}}'.encode()
    with pytest.raises(Fault, match=names):
        decode(head + bytes(8), len(head), [X])
