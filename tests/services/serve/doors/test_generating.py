"""The generate extension: inputs and outputs as they are, alone or as the one event of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from amble.core.graph import Port
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.generating import decode, encode, event
from amble.services.serve.requests.asking import Answer
from tests.services.serve.house import House, house

TEXT, IDS, FIXED = Port("text", (-1, 1), "string"), Port("ids", (-1, -1), "int64"), Port("f", (1, 2, 3), "float")


def shapes(ports: list[Port], **body: Any) -> list[tuple[str, tuple[int, ...], list[Any]]]:
    asked = decode(json.dumps(body).encode(), ports)
    return [(each.name, each.shape, each.value.ravel().tolist()) for each in asked.inputs]


def test_inputs_are_given_as_they_are() -> None:
    assert shapes([TEXT], text="yes [or] no") == [("text", (1, 1), ["yes [or] no"])]
    assert shapes([TEXT], text=["yes"]) == [("text", (1, 1), ["yes"])]
    assert shapes([IDS], ids=[1, 2, 3]) == [("ids", (1, 3), [1, 2, 3])]
    assert shapes([IDS], ids=7) == [("ids", (1, 1), [7])]
    assert shapes([IDS], ids=[[1, 2], [3, 4]]) == [("ids", (2, 2), [1, 2, 3, 4])]
    assert shapes([FIXED], f=[1, 2, 3, 4, 5, 6]) == [("f", (1, 2, 3), [1, 2, 3, 4, 5, 6])]
    assert shapes([FIXED], f=[[1, 2, 3], [4, 5, 6]]) == [("f", (1, 2, 3), [1, 2, 3, 4, 5, 6])]
    assert shapes([Port("s", (-1,), "float")], s=[1, 2]) == [("s", (2,), [1, 2])]
    assert shapes([Port("n", (), "float")], n=2.5) == [("n", (), [2.5])]


def test_id_and_parameters_are_read_unless_the_model_has_such_inputs() -> None:
    asked = decode(b'{"id": "a", "parameters": {"timeout": 5}, "text": "x"}', [TEXT])
    assert (asked.id, asked.parameters) == ("a", {"timeout": 5})
    (own,) = decode(b'{"id": [1]}', [Port("id", (-1,), "int64")]).inputs
    assert own.value.tolist() == [1]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"{", "request"),
        (b"[1]", "request"),
        (b'{"text": "a", "stream": true}', "'stream' is no input; the model takes text"),
        (b'{"text": 3}', "text"),
        (b'{"text": {"a": 1}}', "text"),
        (b'{"text": ["a", "b"]}', "text"),
        (b'{"text": [["a"], ["b", "c"]]}', "text"),
        (b'{"id": 3, "text": "a"}', "request"),
        (b'{"text": "a", "parameters": {"timeout": [1]}}', "request"),
    ],
)
def test_what_is_wrong_is_refused_by_name(body: bytes, names: str) -> None:
    with pytest.raises(Fault) as refused:
        decode(body, [TEXT])
    assert refused.value.status == 400
    assert names in refused.value.text


def test_lists_that_leave_open_what_they_are_must_be_nested() -> None:
    with pytest.raises(Fault, match="'x': lists of shape"):
        decode(b'{"x": [1, 2, 3, 4]}', [Port("x", (-1, -1, -1), "float")])
    with pytest.raises(Fault, match="'f': 5 elements"):
        decode(b'{"f": [1, 2, 3, 4, 5]}', [FIXED])


def test_outputs_are_given_as_they_are() -> None:
    answer = Answer("m", "1", "a", {"one": np.array([[2.0]]), "two": np.array([[1, 2]])}, {"batch": 1})
    told = {"model_name": "m", "model_version": "1", "id": "a", "parameters": {"batch": 1}, "one": 2.0, "two": [1, 2]}
    assert json.loads(encode(answer)) == told
    assert event(answer) == b"data: %b\n\n" % encode(answer)


@pytest.fixture(scope="module")
def open_house() -> Iterator[House]:
    with house("plain", "many", "half") as found:
        yield found


def test_a_server_generates_through_the_same_queue_and_limits(open_house: House) -> None:
    status, found, headers = open_house.call("POST", "/v2/models/plain/generate", {"x": [1, 2], "id": "a"})
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (found["id"], found["x_out"], found["parameters"]["batch"]) == ("a", [2.0, 4.0], 1)
    many = {"f": [1, 2], "i": [1, 2], "b": [True, False], "s": ["a", "b"]}
    assert open_house.call("POST", "/v2/models/many/versions/1/generate", many)[1]["s_out"] == ["a", "b"]
    assert open_house.call("POST", "/v2/models/plain/generate", {"x": [1, 2], "parameters": {"timeout": 1}})[0] == 503
    assert open_house.call("POST", "/v2/models/none/generate", {"x": [1, 2]})[0] == 404
    assert open_house.call("GET", "/v2/models/plain/generate")[0] == 405
    assert open_house.call("POST", "/v2/models/plain/generate", {})[0] == 400
    assert "generate" in open_house.call("GET", "/v2")[1]["extensions"]


def test_a_stream_is_one_event_and_what_is_wrong_is_told_before_it(open_house: House) -> None:
    body = json.dumps({"x": [1, 2]}).encode()
    status, told, headers = open_house.raw("POST", "/v2/models/plain/generate_stream", body, {})
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert told.startswith(b"data: ")
    assert told.endswith(b"\n\n")
    assert json.loads(told.removeprefix(b"data: "))["x_out"] == [2.0, 4.0]
    assert open_house.call("POST", "/v2/models/plain/generate_stream", {"x": [1]})[0] == 400


def test_types_that_json_has_not_are_refused(open_house: House) -> None:
    status, body, _ = open_house.call("POST", "/v2/models/half/generate", {"h": [1, 2], "e": [1, 2]})
    assert status == 400
    assert "no JSON form" in body["error"]
