"""What clients get wrong, over both doors: each gets a status and a reason that names the field."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from amble.services.serve.front import Doors
from tests.services.serve.house import Doubler, House, binary, house

grpc = pytest.importorskip("grpc")
triton = pytest.importorskip("tritonclient.grpc")
service_pb2 = triton.service_pb2

DOORS = Doors(http_port=0, grpc_port=0, metrics_port=0, max_bytes=100_000, headers_s=0.4, body_s=0.4)
INFER = "/v2/models/plain/infer"
X = {"name": "x", "datatype": "FP32", "shape": [1, 2]}
ROW = np.array([[1, 2]], np.float32).tobytes()


@pytest.fixture(scope="module")
def open_house() -> Iterator[House]:
    with house("plain", doors=DOORS) as found:
        yield found


@pytest.fixture
def infer(open_house: House) -> Iterator[Any]:
    """Sends bytes as ModelInfer."""
    with grpc.insecure_channel(open_house.addresses.grpc) as channel:
        yield channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")


def still_serves(found: House) -> bool:
    return bool(found.infer([1.0, 2.0])[1]["outputs"][0]["data"] == [2.0, 4.0])


FAULTS = [
    ({"name": "z"}, ROW, {}, "'z'"),
    ({"datatype": "FP64"}, ROW * 2, {}, "datatype FP64"),
    ({"datatype": "FP31"}, ROW, {}, "FP31"),
    ({"shape": [2]}, ROW, {}, "shape [2]"),
    ({"shape": [1, 3]}, ROW + ROW[:4], {}, "shape [1, 3]"),
    ({"shape": [-1, 2]}, ROW, {}, "shape [-1, 2]"),
    ({"shape": [0, 2]}, b"", {}, "shape [0, 2]"),
    ({"shape": [1 << 40, 1 << 40]}, ROW, {}, "beyond 64 bits"),
    ({}, ROW[:-1], {}, "7 bytes"),
    ({}, ROW + b"\0", {}, "9 bytes"),
    ({}, ROW, {"timeout": -1}, "parameters.timeout"),
    ({}, ROW, {"timeout": "soon"}, "parameters.timeout"),
    ({}, ROW, {"timeout": 0.5}, "parameters.timeout"),
    ({}, ROW, {"timeout": True}, "parameters.timeout"),
    ({}, ROW, {"priority": -1}, "parameters.priority"),
    ({}, ROW, {"priority": 1 << 40}, "parameters.priority"),
]
NUMBERS = [("timeout", number) for number in (float("nan"), float("inf"), float("-inf"))]
KINDS = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}


@pytest.mark.parametrize(("changes", "raw", "parameters", "names"), FAULTS)
def test_over_http_a_wrong_request_is_a_400_that_names_the_field(
    open_house: House, changes: dict[str, Any], raw: bytes, parameters: dict[str, Any], names: str
) -> None:
    tensor = {**X, **changes, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    status, answer, _ = open_house.call("POST", INFER, head + raw, length)
    assert (status, list(answer)) == (400, ["error"])
    assert names in answer["error"]
    assert still_serves(open_house)


@pytest.mark.parametrize(
    ("changes", "raw", "parameters", "names"),
    [*FAULTS, *(({}, ROW, {name: number}, f"parameters.{name}") for name, number in NUMBERS)],
)
def test_over_grpc_a_wrong_request_is_an_invalid_argument_that_names_the_field(
    infer: Any, changes: dict[str, Any], raw: bytes, parameters: dict[str, Any], names: str
) -> None:
    made = service_pb2.ModelInferRequest(model_name="plain", inputs=[{**X, **changes}], raw_input_contents=[raw])
    for name, value in parameters.items():
        setattr(made.parameters[name], KINDS[type(value)], value)
    with pytest.raises(grpc.RpcError) as error:
        infer(made.SerializeToString())
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert names in error.value.details()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_json_has_no_deadline_that_is_no_number(open_house: House, number: str) -> None:
    tensor = json.dumps({**X, "data": [1, 2]})
    body = f'{{"inputs": [{tensor}], "parameters": {{"timeout": {number}}}}}'.encode()
    status, answer, _ = open_house.call("POST", INFER, body)
    assert (status, list(answer)) == (400, ["error"])
    assert "JSON" in answer["error"] or "parameters" in answer["error"]


@pytest.mark.parametrize("message", [b"\x3a\xff\xff", b"\xff" * 20, b"\x0a\x02\xff\xfe", b"\x00"])
def test_what_is_no_protobuf_is_an_invalid_argument(infer: Any, message: bytes) -> None:
    with pytest.raises(grpc.RpcError) as error:
        infer(message)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "ModelInferRequest" in error.value.details()


def test_huge_requests_are_refused_by_both_doors(open_house: House, infer: Any) -> None:
    status, answer, _ = open_house.call("POST", INFER, b" " * 100_001)
    assert status == 413
    assert "100000" in answer["error"]
    with pytest.raises(grpc.RpcError) as error:
        infer(bytes(100_001))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "100000" in error.value.details()
    assert still_serves(open_house)


@pytest.mark.parametrize(
    ("said", "names"),
    [
        (b"", b"no request within"),
        (b"POST /v2/models/plain/in", b"no request within"),
        (b"POST /v2/models/plain/infer HTTP/1.1\r\nhost: localhost\r\n", b"no request within"),
        (
            b"POST /v2/models/plain/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500\r\n\r\n{",
            b"the body did not come",
        ),
        (
            b"POST /v2/models/plain/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
            b"the body did",
        ),
    ],
)
def test_who_stops_in_the_middle_is_told_so_in_json_and_does_not_keep_a_place(
    open_house: House, said: bytes, names: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", open_house.port), timeout=20) as connection:
        connection.sendall(said)
        started_s = time.monotonic()
        heard = connection.recv(65536)
        assert time.monotonic() - started_s < 10.0
    assert heard.startswith(b"HTTP/1.1 408")
    assert names in json.loads(heard.partition(b"\r\n\r\n")[2])["error"].encode()
    assert still_serves(open_house)


def test_a_slow_client_does_not_hold_up_the_others(open_house: House) -> None:
    with socket.create_connection(("127.0.0.1", open_house.port), timeout=20) as slow:
        slow.sendall(b"POST /v2/models/plain/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500\r\n\r\n")
        for byte in b'{"inp':
            slow.sendall(bytes([byte]))
            assert still_serves(open_house)


def test_a_client_that_goes_while_it_is_being_answered_harms_nobody() -> None:
    doubler = Doubler()
    body, length = binary({"x": ("FP32", np.array([[1, 2]], np.float32))})
    head = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ninference-header-content-length: {length}\r\n"
    with house("plain", doubler=doubler, doors=DOORS) as found:
        doubler.gate.clear()
        with socket.create_connection(("127.0.0.1", found.port)) as gone:
            gone.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            assert doubler.begun.wait(20.0)
        found.wait_for_pending(0)
        doubler.gate.set()
        assert still_serves(found)
        assert doubler.batches == [1, 1]


def test_among_many_at_once_each_right_request_gets_its_answer_and_each_wrong_one_its_reason(
    open_house: House, infer: Any
) -> None:
    def over_http(number: int) -> bool:
        if number % 3 == 0:
            return bool(open_house.infer([1.0, 2.0, 3.0, 4.0], parameters={"timeout": -number - 1})[0] == 400)
        return bool(open_house.infer([number, 1])[1]["outputs"][0]["data"] == [2 * number, 2])

    def over_grpc(number: int) -> bool:
        raw = np.array([[number, 1]], np.float32).tobytes()
        made = service_pb2.ModelInferRequest(model_name="plain", inputs=[X], raw_input_contents=[raw])
        if number % 3 == 0:
            made.raw_input_contents[0] = raw[1:]
        try:
            found = service_pb2.ModelInferResponse.FromString(infer(made.SerializeToString()))
        except grpc.RpcError as error:
            return bool(number % 3 == 0 and error.code() == grpc.StatusCode.INVALID_ARGUMENT)
        return bool(np.frombuffer(found.raw_output_contents[0], np.float32).tolist() == [2 * number, 2])

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(each, number) for number in range(120) for each in (over_http, over_grpc)]
        assert all(each.result(30) for each in asked)
    open_house.wait_for_pending(0)


def test_an_odd_length_of_the_json_part_does_not_matter(open_house: House) -> None:
    for padding in range(9):
        body, length = binary({"x": ("FP32", np.array([[1, 2]], np.float32))}, id="i" * padding)
        headers = {"Inference-Header-Content-Length": str(length)}
        assert open_house.call("POST", INFER, body, headers)[1]["outputs"][0]["data"] == [2.0, 4.0]
