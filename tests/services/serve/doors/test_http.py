"""The protocol over HTTP on real sockets: every path, every form of tensors, every way of getting it wrong."""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest

from amble.services.serve.front import Doors
from tests.services.serve.house import Doubler, House, binary, house

BFLOAT16 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
CHUNKED = (
    b"POST /v2/models/plain/infer HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


@pytest.fixture(scope="module")
def open_house() -> Iterator[House]:
    doors = Doors(http_port=0, grpc_port=None, metrics_port=None, max_bytes=100_000, control=True)
    with house("plain", "many", "half", "single", doors=doors) as found:
        yield found


def test_the_server_describes_itself_and_its_model(open_house: House) -> None:
    assert open_house.call("GET", "/v2")[1]["name"] == "amble"
    assert "binary_tensor_data" in open_house.call("GET", "/v2/")[1]["extensions"]
    assert open_house.call("GET", "/v2/models/plain")[1] == {
        "name": "plain",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "x_out", "datatype": "FP32", "shape": [-1, 2]}],
    }
    assert open_house.call("GET", "/v2/models/plain/versions/1")[0] == 200


def test_the_interface_is_described_and_every_path_of_it_exists(open_house: House) -> None:
    found = open_house.call("GET", "/v2/openapi.json")[1]
    assert {"/v1/models", "/v1/models/{model}:predict", "/v1/models/{model}/versions/{version}:predict"} < {
        *found["paths"]
    }
    for path, calls in found["paths"].items():
        there = path.replace("{model}", "plain").replace("{version}", "1")
        for method in calls:
            if "unload" not in path:
                status, answer, _ = open_house.call(method.upper(), there, {} if method == "post" else None)
                assert str(status) in calls[method]["responses"], path
                assert "no such path" not in str(answer)


def test_health_is_json(open_house: House) -> None:
    assert open_house.call("GET", "/v2/health/live")[:2] == (200, {"live": True})
    assert open_house.call("GET", "/v2/health/ready")[:2] == (200, {"ready": True})
    assert open_house.call("GET", "/v2/models/plain/ready")[:2] == (200, {"name": "plain", "ready": True})
    assert open_house.call("GET", "/v2/models/none/ready")[0] == 503


def test_a_configuration_leaves_the_batch_axis_out_where_there_is_one(open_house: House) -> None:
    batched = open_house.call("GET", "/v2/models/plain/config")[1]
    assert (batched["max_batch_size"], batched["input"][0]["dims"]) == (4, [2])
    single = open_house.call("GET", "/v2/models/single/config")[1]
    assert (single["max_batch_size"], single["input"][0]["dims"]) == (0, [1, 2])
    texts = open_house.call("GET", "/v2/models/many/versions/1/config")[1]
    assert [each["data_type"] for each in texts["input"]] == ["TYPE_FP32", "TYPE_INT64", "TYPE_BOOL", "TYPE_STRING"]


def test_json_is_answered_with_json_and_what_it_cost(open_house: House) -> None:
    status, found, _ = open_house.infer([1.0, 2.0], id="a-1", parameters={"custom": "text"}, model_name="tolerated")
    assert status == 200
    assert found["id"] == "a-1"
    assert found["outputs"] == [{"name": "x_out", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 4.0]}]
    cost = found["parameters"]
    assert cost["energy_j"] > 0
    assert cost["energy_uj"] == round(cost["energy_j"] * 1e6)
    assert (cost["precision"], cost["core_hz"], cost["late"]) == ("fp32", 2e9, False)
    assert 0 <= cost["queue_s"] < 5


def test_binary_is_answered_as_it_is_asked_for(open_house: House) -> None:
    array = np.array([[1, 2], [3, 4]], np.float32)
    body, length = binary({"x": ("FP32", array)}, parameters={"binary_data_output": True})
    status, found, headers = open_house.raw(
        "POST", "/v2/models/plain/infer", body, {"Inference-Header-Content-Length": str(length)}
    )
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    cut = int(headers["inference-header-content-length"])
    head = json.loads(found[:cut])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert np.array_equal(np.frombuffer(found[cut:], np.float32).reshape(2, 2), 2 * array)


def test_all_sorts_of_tensors_go_through(open_house: House) -> None:
    sent = {"f": [0.5, 1.0], "i": [2**60, -1], "b": [True, False], "s": ["", "ü"]}
    kinds = {"f": "FP32", "i": "INT64", "b": "BOOL", "s": "BYTES"}
    inputs = [{"name": name, "datatype": kinds[name], "shape": [1, 2], "data": data} for name, data in sent.items()]
    found = open_house.call("POST", "/v2/models/many/infer", {"inputs": inputs})[1]
    assert {each["name"]: each["data"] for each in found["outputs"]} == {
        "f_out": [1.0, 2.0],
        "i_out": [2**61, -2],
        "b_out": [True, False],
        "s_out": ["", "ü"],
    }


def test_half_precision_goes_through_as_binary_only(open_house: House) -> None:
    arrays = {"h": ("FP16", np.array([[0.5, 1]], np.float16)), "e": ("BF16", np.array([[1.5, 2]], BFLOAT16))}
    body, length = binary(arrays, parameters={"binary_data_output": True})
    headers = {"Inference-Header-Content-Length": str(length)}
    status, found, answered = open_house.raw("POST", "/v2/models/half/infer", body, headers)
    assert status == 200
    tail = found[int(answered["inference-header-content-length"]) :]
    assert np.frombuffer(tail[:4], np.float16).tolist() == [1.0, 2.0]
    assert np.frombuffer(tail[4:], BFLOAT16).astype(float).tolist() == [3.0, 4.0]
    plain, length = binary(arrays)
    status, message, _ = open_house.call(
        "POST", "/v2/models/half/infer", plain, {**headers, "Inference-Header-Content-Length": str(length)}
    )
    assert status == 400
    assert "binary_data" in message["error"]


def test_gzip_goes_both_ways(open_house: House) -> None:
    rows = 4
    data = [float(number) for number in range(2 * rows)]
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 2], "data": data}], "id": "g" * 600}
    packed = gzip.compress(json.dumps(body).encode())
    status, found, headers = open_house.raw(
        "POST", "/v2/models/plain/infer", packed, {"Content-Encoding": "gzip", "Accept-Encoding": "gzip, deflate"}
    )
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert json.loads(gzip.decompress(found))["outputs"][0]["data"] == [2 * each for each in data]
    deflated = zlib.compress(json.dumps(body).encode())
    assert open_house.call("POST", "/v2/models/plain/infer", deflated, {"Content-Encoding": "deflate"})[0] == 200


def test_trace_headers_come_back_unchanged(open_house: House) -> None:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}]}
    sent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-request-id": "q"}
    headers = open_house.call("POST", "/v2/models/plain/infer", body, sent)[2]
    assert {name: headers[name] for name in sent} == sent


def test_statistics_advance_by_request_and_by_row(open_house: House) -> None:
    def read() -> tuple[int, int, int]:
        stats = open_house.call("GET", "/v2/models/plain/stats")[1]["model_stats"][0]
        return (
            stats["inference_count"],
            stats["inference_stats"]["queue"]["count"],
            stats["inference_stats"]["fail"]["count"],
        )

    before = read()
    open_house.infer([0.0] * 6)
    open_house.infer([0.0] * 6, parameters={"timeout": -1})
    after = read()
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 1, 1]
    assert len(open_house.call("GET", "/v2/models/stats")[1]["model_stats"]) == 4


GOOD = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "names"),
    [
        ("GET", "/", None, 404, "no such path"),
        ("GET", "/nothing", None, 404, "no such path"),
        ("GET", "/v2/models/none", None, 404, "'none'"),
        ("GET", "/v2/models/plain/versions/9", None, 404, "'9'"),
        ("GET", "/v2/models/plain/nothing", None, 404, "no such path"),
        ("POST", "/v2/models/none/infer", {"inputs": [GOOD]}, 404, "'none'"),
        ("POST", "/v2/models/plain/versions/2/infer", {"inputs": [GOOD]}, 404, "'2'"),
        ("GET", "/v2/models/plain/infer", None, 405, "POST"),
        ("DELETE", "/v2", None, 405, "GET"),
        ("DELETE", "/v2/systemsharedmemory/status", None, 405, "GET"),
        ("POST", "/v2/models/plain/infer", b"{", 400, "JSON"),
        ("POST", "/v2/models/plain/infer", b"", 400, "JSON"),
        ("POST", "/v2/models/plain/infer", {"inputs": [{**GOOD, "shape": [5, 2], "data": [0] * 10}]}, 400, "rows"),
        ("POST", "/v2/models/plain/infer", {"inputs": [{**GOOD, "shape": [0, 2], "data": []}]}, 400, "1 or more"),
        ("POST", "/v2/models/plain/infer", {"inputs": [{**GOOD, "shape": "1,2"}]}, 400, "'x': shape: Expected `array`"),
        (
            "POST",
            "/v2/models/plain/infer",
            {"inputs": [{**GOOD, "shape": [1, 2.0]}]},
            400,
            "'x': shape[1]: Expected `int`",
        ),
        ("POST", "/v2/models/plain/infer", {"inputs": [GOOD], "parameters": {"priority": -1}}, 400, "priority"),
        ("POST", "/v2/models/plain/infer", b'{"inputs": [], "parameters": {"timeout": NaN}}', 400, "JSON"),
        ("POST", "/v2/models/plain/infer", b"[" * 99_000, 400, "request"),
        ("POST", "/v2/models/plain/infer", b" " * 100_001, 413, "100000"),
        ("POST", "/v2/repository/models/none/load", {}, 404, "'none'"),
        ("POST", "/v2/repository/models/none/unload", {}, 404, "'none'"),
        ("POST", "/v2/repository/models/plain/load", {"parameters": {"config": 5}}, 400, "config"),
        ("POST", "/v2/repository/models/plain/load", {"parameters": {"config": "{"}}, 400, "config"),
        ("POST", "/v2/repository/index", b"\xff", 400, "JSON"),
        ("POST", "/v2/repository/nothing", {}, 404, "no such path"),
    ],
)
def test_every_error_is_json_and_says_what_is_wrong(
    open_house: House, method: str, path: str, body: Any, status: int, names: str
) -> None:
    found, message, _ = open_house.call(method, path, body)
    assert (found, list(message)) == (status, ["error"])
    assert names in message["error"]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Inference-Header-Content-Length": "ten"}, b"{}", 400),
        ({"Inference-Header-Content-Length": "10"}, b"{}", 400),
        ({"Content-Encoding": "br"}, b"{}", 415),
        ({"Content-Encoding": "gzip"}, b"no gzip", 400),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"{" * 100)[:-9], 400),
        ({"Content-Encoding": "gzip"}, gzip.compress(b" " * 10_000_000), 413),
    ],
)
def test_headers_that_do_not_fit_the_body_are_refused(
    open_house: House, headers: dict[str, str], body: bytes, status: int
) -> None:
    found, message, _ = open_house.call("POST", "/v2/models/plain/infer", body, headers)
    assert found == status
    assert message["error"]


def spoken(found: House, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Say something on a socket, part by part, and listen until the server hangs up."""
    with socket.create_connection(("127.0.0.1", found.port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)
        connection.shutdown(socket.SHUT_WR)
        heard = b""
        while chunk := connection.recv(65536):
            heard += chunk
    return heard


def test_what_is_no_http_is_refused_in_json(open_house: House) -> None:
    heard = spoken(open_house, b"\x00\x01\x02 nonsense\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 400")
    assert json.loads(heard.partition(b"\r\n\r\n")[2])["error"]


def test_a_body_that_never_ends_harms_nobody(open_house: House) -> None:
    head = b"POST /v2/models/plain/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n"
    assert b" 200 " not in spoken(open_house, head, b'{"inputs"')
    assert open_house.infer([1.0, 1.0])[0] == 200


def test_a_body_in_many_small_parts_is_a_body(open_house: House) -> None:
    body = json.dumps({"inputs": [GOOD]}).encode()
    head = CHUNKED
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:30], body[30:])]
    assert b"x_out" in spoken(open_house, head, *chunks, b"0\r\n\r\n", pause_s=0.01)


def test_chunks_without_end_are_cut_off_at_the_limit(open_house: House) -> None:
    head = CHUNKED
    chunk = b"%x\r\n%s\r\n" % (60_000, b" " * 60_000)
    assert b"413" in spoken(open_house, head, chunk, chunk).split(b"\r\n")[0]


def test_many_at_once_each_get_their_own_answer(open_house: House) -> None:
    def ask(number: int) -> bool:
        found = open_house.infer([number, -number], id=str(number))[1]
        return bool(found["id"] == str(number) and found["outputs"][0]["data"] == [2 * number, -2 * number])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(200)))


def test_requests_that_wait_are_answered_in_one_batch() -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler) as found, ThreadPoolExecutor(4) as pool:
        doubler.gate.clear()
        first = pool.submit(found.infer, [0.0, 0.0])
        assert doubler.begun.wait(20.0)
        rest = [pool.submit(found.infer, [1.0, 1.0]) for _ in range(3)]
        found.wait_for_pending(4)
        doubler.gate.set()
        assert [each.result()[0] for each in (first, *rest)] == [200] * 4
        assert doubler.batches == [1, 3]


def test_what_cannot_be_on_time_is_refused_at_once_with_the_reason() -> None:
    doubler = Doubler()
    with house("slow", doubler=doubler) as found:
        status, message, _ = found.infer([1.0, 1.0], model="slow", parameters={"timeout": 10_000})
        assert status == 503
        assert "in time" in message["error"]
        assert doubler.batches == []
        assert found.infer([1.0, 1.0], model="slow", parameters={"timeout": 10_000_000})[0] == 200


def test_a_client_that_goes_takes_its_request_with_it() -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler) as found, ThreadPoolExecutor(1) as pool:
        doubler.gate.clear()
        running = pool.submit(found.infer, [0.0, 0.0])
        assert doubler.begun.wait(20.0)
        body = json.dumps({"inputs": [GOOD]}).encode()
        with socket.create_connection(("127.0.0.1", found.port)) as gone:
            gone.sendall(
                b"POST /v2/models/plain/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            found.wait_for_pending(2)
        found.wait_for_pending(1)
        doubler.gate.set()
        assert running.result()[0] == 200
        assert doubler.batches == [1]
        assert found.call("GET", "/v2/models/plain/stats")[1]["model_stats"][0]["inference_stats"]["fail"]["count"] == 1


def test_a_device_that_breaks_is_an_error_of_ours_and_the_next_request_is_served() -> None:
    doubler = Doubler(fail=True)
    with house("plain", doubler=doubler) as found:
        status, message, _ = found.infer([1.0, 1.0])
        assert status == 500
        assert "the device broke" in message["error"]
        doubler.fail = False
        assert found.infer([1.0, 1.0])[0] == 200


def test_memory_in_flight_is_bounded() -> None:
    doubler = Doubler()
    doors = Doors(http_port=0, grpc_port=None, metrics_port=0, room_bytes=20_000)
    with house("plain", doubler=doubler, doors=doors) as found, ThreadPoolExecutor(1) as pool:
        doubler.gate.clear()
        padding = {"id": "x" * 15_000}
        running = pool.submit(found.infer, [0.0, 0.0], **padding)
        assert doubler.begun.wait(20.0)
        status, message, _ = found.infer([0.0, 0.0], **padding)
        assert status == 503
        assert "20000 bytes" in message["error"]
        doubler.gate.set()
        assert running.result()[0] == 200
        assert found.infer([0.0, 0.0], **padding)[0] == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v2/health/live", 200), ("/v2/health/ready", 200), ("/v2/models/plain/ready", 200), ("/v2/models/none", 404)],
)
def test_head_is_answered_as_get_is_without_a_body(open_house: House, path: str, status: int) -> None:
    told, body, headers = open_house.raw("HEAD", path, None, {})
    asked, whole, _ = open_house.raw("GET", path, None, {})
    assert (told, body) == (asked, b"") == (status, b"")
    assert int(headers["content-length"]) == len(whole)


@pytest.mark.parametrize("offer", ["h2c", "websocket"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("cuts", [(), (1,), (0, 20)])
def test_a_client_that_offers_another_protocol_has_its_body_read(
    open_house: House, offer: str, chunked: bool, cuts: tuple[int, ...]
) -> None:
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}).encode()
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    head = (
        f"POST /v2/models/plain/infer HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        f"Upgrade: {offer}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n{length}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", open_house.port), timeout=10) as client:
        pieces = [head + sent] if not cuts else [head[: -cuts[0]] if cuts[0] else head]
        if cuts:
            whole = head + sent
            places = [len(pieces[0]), *(len(pieces[0]) + cut for cut in cuts[1:]), len(whole)]
            pieces += [whole[a:b] for a, b in pairwise(places)]
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.02)
        answer = b""
        while not answer.endswith(b"}"):
            piece = client.recv(1 << 16)
            assert piece, answer
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"[2.0,4.0]" in answer
