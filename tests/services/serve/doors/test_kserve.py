"""KServe's V1 over real sockets: rows and columns, the same limits as V2, and errors that say what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from amble.core.graph import Port
from amble.runtimes.remote import limits
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors import kserve
from amble.services.serve.doors.access import Keys
from amble.services.serve.front import Doors
from amble.services.serve.requests.asking import Answer
from tests.services.serve.house import Doubler, House, house


@pytest.fixture(scope="module")
def open_house() -> Iterator[House]:
    doors = Doors(http_port=0, grpc_port=None, metrics_port=0, max_bytes=100_000)
    with house("plain", "many", "half", "single", doors=doors) as found:
        yield found


def predict(found: House, body: object, model: str = "plain") -> tuple[int, Any]:
    return found.call("POST", f"/v1/models/{model}:predict", body)[:2]


def test_models_are_listed_and_told_ready(open_house: House) -> None:
    assert sorted(open_house.call("GET", "/v1/models")[1]["models"]) == ["half", "many", "plain", "single"]
    assert open_house.call("GET", "/v1/models/plain")[:2] == (200, {"name": "plain", "ready": True})
    assert open_house.call("GET", "/v1/models/none")[0] == 404


def test_rows_are_answered_with_predictions(open_house: House) -> None:
    status, found = predict(open_house, {"instances": [[1, 2], [3.5, 4]]})
    assert (status, found["predictions"]) == (200, [[2.0, 4.0], [7.0, 8.0]])
    assert found["parameters"]["precision"] == "fp32"
    assert predict(open_house, {"instances": [{"x": [1, 2]}, {"x": [3, 4]}]})[1]["predictions"] == [[2, 4], [6, 8]]
    assert open_house.call("POST", "/v1/models/plain/versions/1:predict", {"instances": [[1, 2]]})[0] == 200


def test_columns_are_answered_with_outputs(open_house: House) -> None:
    for inputs in ([[1, 2], [3, 4]], {"x": [[1, 2], [3, 4]]}):
        assert predict(open_house, {"inputs": inputs})[1]["outputs"] == [[2, 4], [6, 8]]


def test_several_inputs_of_all_sorts_are_named(open_house: House) -> None:
    row = {"f": [0.5, "NaN"], "i": [2**60, -1], "b": [True, False], "s": ["a,[", 'ü"]']}
    found = predict(open_house, {"instances": [row, row]}, "many")[1]["predictions"]
    want = {"f_out": [1.0, "NaN"], "i_out": [2**61, -2], "b_out": [True, False], "s_out": ["a,[", 'ü"]']}
    assert found == [want, want]
    columns = {name: [value] for name, value in row.items()}
    assert predict(open_house, {"inputs": columns}, "many")[1]["outputs"]["i_out"] == [[2**61, -2]]


def test_v1_and_v2_give_the_same_answers(open_house: House) -> None:
    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=(seed % 4 + 1, 2)).astype(np.float32)
        by_v2 = open_house.infer(values.ravel().tolist())[1]["outputs"][0]["data"]
        by_v1 = predict(open_house, {"instances": values.tolist()})[1]["predictions"]
        assert np.ravel(by_v1).tolist() == by_v2


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"{", "request"),
        (b"[]", "request"),
        ({}, "either instances"),
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, "either instances"),
        ({"instances": 1}, "a list is expected"),
        ({"inputs": 1}, "shape []"),
        ({"instances": []}, "empty"),
        ({"instances": [[]]}, "empty"),
        ({"instances": [[1, 2, 3]]}, "shape [1, 3]"),
        ({"instances": [[1, 2], [3]]}, "not equally long"),
        ({"instances": [[1, 2], [[3], 4]]}, "'x'"),
        ({"instances": [[1, 2], 3, [4]]}, "'x'"),
        ({"instances": [["a", 2]]}, "no FP32"),
        ({"instances": [[[1, 2]]]}, "shape [1, 1, 2]"),
        ({"instances": [{"y": [1, 2]}]}, "unknown name 'y'"),
        ({"instances": [{"x": [1, 2]}, {}]}, "instances[1]"),
        ({"instances": [{}]}, "missing"),
        ({"instances": [{"x": [1, 2]}, 3]}, "request"),
        ({"instances": [[1, 2]], "signature_name": "other"}, "signature_name"),
        ({"instances": [[1, 2]], "parameters": {"timeout": -1}}, "timeout"),
        (b'{"instances": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", ""),
        (b'{"instances": [' + b"{}," * 20_000 + b"{}]}", "objects"),
        (b'{"instances": [' + b"[]," * 20_000 + b"[]]}", "shape"),
    ],
)
def test_what_is_wrong_is_refused_by_name(open_house: House, body: object, names: str) -> None:
    status, found = predict(open_house, body)
    assert status == 400, found
    assert names in found["error"]


def test_models_and_verbs_that_are_not_there(open_house: House) -> None:
    assert predict(open_house, {"instances": [[1, 2]]}, "none")[0] == 404
    status, found, _ = open_house.call("POST", "/v1/models/plain:explain", {"instances": [[1, 2]]})
    assert (status, "explain" in found["error"]) == (404, True)
    assert open_house.call("POST", "/v1/models/plain/1:predict", {})[0] == 404
    assert predict(open_house, {"instances": [[1, 2]]}, "many")[0] == 400, "names are needed"
    assert "JSON" in predict(open_house, {"inputs": {"h": [[1, 2]], "e": [[1, 2]]}}, "half")[1]["error"]


def test_a_body_beyond_the_limit_is_refused_here_too(open_house: House) -> None:
    assert predict(open_house, b" " * 100_001)[0] == 413


def test_a_deadline_is_kept_or_refused_here_too() -> None:
    doubler = Doubler()
    with house("slow", doubler=doubler) as found:
        status, answer = predict(found, {"instances": [[1, 2]], "parameters": {"timeout": 1000}}, "slow")
        assert status == 503, answer
        assert not doubler.batches


def test_a_key_is_asked_for_here_too() -> None:
    doors = Doors(http_port=0, grpc_port=None, metrics_port=None, keys=Keys(given="k" * 32))
    with house("plain", doors=doors) as found:
        assert predict(found, {"instances": [[1, 2]]})[0] == 401
        assert found.call("GET", "/v1/models")[0] == 401
        headers = {"X-API-Key": "k" * 32}
        assert found.call("POST", "/v1/models/plain:predict", {"instances": [[1, 2]]}, headers)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/models/plain/infer", "POST"),
        ("PUT", "/v2/models/plain/infer", "POST"),
        ("GET", "/v1/models/plain:predict", "POST"),
        ("POST", "/v2/models/plain", "GET, HEAD"),
        ("DELETE", "/v2/health/live", "GET, HEAD"),
        ("POST", "/v1/models", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_there_are(open_house: House, method: str, path: str, allowed: str) -> None:
    status, found, headers = open_house.call(method, path, None if method == "GET" else {})
    assert (status, headers["allow"]) == (405, allowed)
    assert allowed in found["error"]
    assert open_house.call("POST", "/v2/nothing", {})[0] == 404


def test_lists_too_deep_or_too_many_are_refused_before_they_are_read() -> None:
    port = Port("x", (-1, 2), "float")
    for raw, status in (
        (b'{"instances": ' + b"[" * 33 + b"1" + b"]" * 33 + b"}", 400),
        (b'{"instances": ' + b" " * limits.JSON_BYTES + b"[[1,2]]}", 413),
    ):
        with pytest.raises(Fault) as refused:
            kserve.decode(raw, [port])
        assert refused.value.status == status


def test_outputs_that_are_no_rows_are_not_called_predictions() -> None:
    answer = Answer("m", "1", "", {"a": np.zeros((2, 1)), "b": np.zeros(3)}, {})
    with pytest.raises(Fault, match="send inputs"):
        kserve.encode(answer, as_rows=True)
    assert b'"b":[0.0,0.0,0.0]' in kserve.encode(answer, as_rows=False)
