"""Small requests that ask for much work, and clients that hold places: refused at once, with honest clients beside."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import resource
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import onnx
import pytest

from amble.runtimes.remote import limits
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors import descriptors
from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.front import Doors
from amble.services.serve.models.model import Model
from amble.services.serve.requests.admission import Listener
from amble.services.serve.requests.quota import Quota, Reservation
from amble.services.serve.telling.ledger import Outcome
from tests.jobs.serving_process import started
from tests.services.serve.house import House, house
from tests.services.serve.networks import APART, chain

triton = pytest.importorskip("tritonclient.grpc")
grpc = pytest.importorskip("grpc")

INFER = "/v2/models/plain/infer"
WIDE = "/v2/models/wide/infer"
DOORS = Doors(http_port=0, grpc_port=0, metrics_port=0, headers_s=2.0, body_s=2.0)
OTHER = "127.0.0.2"  # an address of another client
SOON_S = 2.0  # for each attack, and the honest answers beside it


@pytest.fixture(scope="module")
def open_house() -> Iterator[House]:
    with house("plain", "many", doors=DOORS) as found:
        yield found


def memory_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def honest(found: House) -> Iterator[list[float]]:
    """Ask for answers and for health while the block runs; how long each took."""
    over, took_s = Event(), []

    def ask() -> None:
        while not over.is_set():
            began_s = time.monotonic()
            assert found.infer([1.0, 2.0])[1]["outputs"][0]["data"] == [2.0, 4.0]
            assert health(found, "live") == 200
            took_s.append(time.monotonic() - began_s)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield took_s
        finally:
            over.set()
            asking.result(30)


def health(found: House, kind: str) -> int:
    """Ask for health on the metrics' port."""
    assert found.addresses.metrics is not None
    url = found.addresses.metrics.replace("/metrics", f"/v2/health/{kind}")
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def tensor(**changes: Any) -> bytes:
    each = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]} | changes
    return json.dumps({"inputs": [each]}).encode()


def with_data(data: bytes, shape: str = "[1,2]", kind: bytes = b"FP32") -> bytes:
    return b'{"inputs":[{"name":"x","datatype":"%b","shape":%b,"data":%b}]}' % (kind, shape.encode(), data)


BODIES: dict[str, Callable[[], bytes]] = {
    "dimensions": lambda: tensor(shape=[1] * 300_000),
    "sizes beyond 64 bits": lambda: tensor(shape=[10**4000, 1]),
    "a product beyond 64 bits": lambda: tensor(shape=[1 << 62, 1 << 62]),
    "65 dimensions": lambda: tensor(shape=[1] * 65),
    "empty lists": lambda: with_data(b"[" + b"[]," * 4_000_000 + b"[]]", "[2000001,2]"),
    "deep lists": lambda: with_data(b"[" * 900 + b"1" + b"]" * 900),
    "lists too deep": lambda: with_data(b"[" * 500_000),
    "a number of 4,000 digits": lambda: with_data(b"[%b,1]" % (b"9" * 4000)),
    "inputs": lambda: b'{"inputs":[' + b",".join([b'{"name":"x","datatype":"FP32","shape":[]}'] * 200_000) + b"]}",
    "outputs": lambda: tensor()[:-1] + b',"outputs":[' + b",".join([b'{"name":"y"}'] * 200_000) + b"]}",
    "parameters": lambda: tensor()[:-1] + b',"parameters":{"p":[' + b"[]," * 3_000_000 + b"[]]}}",
    "elements": lambda: with_data(b"[" + b"1," * 7_000_000 + b"1]", "[3500001,2]"),
    "texts": lambda: with_data(b"[" + b'"",' * 4_000_000 + b'""]', "[2000001,2]", b"BYTES"),
    "JSON": lambda: b" " * (limits.JSON_BYTES + 1),
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_body_that_asks_for_much_work_is_refused_before_it_is_done(open_house: House, kind: str, coding: str) -> None:
    body = BODIES[kind]()
    sent = gzip.compress(body, 1) if coding == "gzip" else body
    before = memory_bytes()
    with honest(open_house) as took_s:
        began_s = time.monotonic()
        status, answer, _ = open_house.call("POST", INFER, sent, {"Content-Encoding": coding})
        assert time.monotonic() - began_s < SOON_S
    assert status in (400, 413), answer
    assert len(answer["error"]) < 2000
    assert max(took_s) < SOON_S
    assert memory_bytes() - before < (400 << 20)


def test_what_unpacks_to_more_than_a_body_may_be_is_counted_while_it_is_unpacked(open_house: House) -> None:
    bomb = gzip.compress(gzip.compress(bytes(200 << 20), 9), 9)
    plain = gzip.decompress(bomb)
    before = memory_bytes()
    with honest(open_house) as took_s:
        status, answer, _ = open_house.call("POST", INFER, plain, {"Content-Encoding": "gzip"})
    assert (status, "unpacked" in answer["error"]) == (413, True)
    assert max(took_s) < SOON_S
    assert memory_bytes() - before < (400 << 20)


def field(number: int, value: bytes) -> bytes:
    """One length-delimited field of protobuf."""
    length, size = b"", len(value)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def message(inside: bytes) -> bytes:
    """A ModelInferRequest with one input, which has these bytes beside its name and datatype."""
    return field(1, b"plain") + field(5, field(1, b"x") + field(2, b"FP32") + inside)


MESSAGES: dict[str, Callable[[], bytes]] = {
    "20,000 dimensions": lambda: message(field(3, b"\x01" * 20_000)),
    "dimensions one by one": lambda: message(b"\x18\x01" * 8_000_000),
    "empty fields": lambda: b"\x1a\x00" * 20_000_000,
    "empty inputs": lambda: field(1, b"plain") + b"\x2a\x00" * 10_000_000,
    "empty texts": lambda: message(field(5, b"\x42\x00" * 10_000_000)),
    "empty parameters": lambda: message(b"\x22\x00" * 10_000_000),
    "packed numbers": lambda: message(field(3, b"\x80\x80\x80\x01\x02") + field(5, field(6, bytes(30_000_000)))),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_that_asks_for_much_work_is_refused_before_it_is_done(open_house: House, kind: str) -> None:
    sent, before = MESSAGES[kind](), memory_bytes()
    with grpc.insecure_channel(open_house.addresses.grpc) as channel, honest(open_house) as took_s:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        began_s = time.monotonic()
        with pytest.raises(grpc.RpcError) as error:
            call(sent, timeout=20)
        assert time.monotonic() - began_s < SOON_S
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert max(took_s) < SOON_S
    assert memory_bytes() - before < (600 << 20)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the kernel does not tell")
def test_messages_that_are_refused_leave_nothing_behind(open_house: House) -> None:
    sent = MESSAGES["packed numbers"]()
    with grpc.insecure_channel(open_house.addresses.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        def send(times: int) -> int:
            for _ in range(times):
                with pytest.raises(grpc.RpcError):
                    call(sent, timeout=20)
            return resident_bytes()

        before = send(8)
        assert send(15) - before < 6 * len(sent)


def opened(found: House, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", found.port), timeout=10, source_address=(source, 0))


def test_headers_without_end_are_refused_after_some(open_house: House) -> None:
    with honest(open_house) as took_s, opened(open_house) as client:
        client.sendall(b"GET /v2 HTTP/1.1\r\n")
        for _ in range(limits.HEADER_BYTES // 6000 + 1):
            client.sendall(b"a: b\r\n" * 1000)
        assert received(client, 1.0).startswith(b"HTTP/1.1 431"), "they were read on"
    assert max(took_s) < SOON_S


def test_bodies_that_are_announced_and_do_not_come_shut_nobody_out(open_house: House) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n1" % (INFER.encode(), 64 << 20)
    with ExitStack() as stack:
        slow = [stack.enter_context(opened(open_house)) for _ in range(12)]
        for each in slow:
            each.sendall(head)
        with honest(open_house) as took_s:
            answers = [each.recv(4096) for each in slow]
    assert max(took_s) < SOON_S
    assert all(b"408" in each for each in answers), "they were not given up after their time"


def test_bodies_that_do_come_are_given_room_until_one_client_has_its_share() -> None:
    doors = Doors(http_port=0, grpc_port=None, metrics_port=0, room_bytes=6 << 20, body_s=3.0)
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), 4 << 20)
    with house("plain", doors=doors) as found, ExitStack() as stack:
        greedy = [stack.enter_context(opened(found, OTHER)) for _ in range(4)]
        for each in greedy:
            each.sendall(head + bytes(2 << 20))
        refused = [each for each in greedy if b"503" in received(each, 1.0)]
        assert len(refused) >= 2
        assert found.infer([1.0, 2.0])[0] == 200


def received(client: socket.socket, within_s: float) -> bytes:
    client.settimeout(within_s)
    try:
        return client.recv(4096)
    except TimeoutError:
        return b""


def test_one_client_cannot_take_all_connections() -> None:
    crowd = Crowd(100)
    assert sum(crowd.enter("many") for _ in range(1000)) == 50
    assert crowd.enter("another")
    for _ in range(2):
        crowd.leave("many")
    assert crowd.enter("many")
    for _ in range(49):
        crowd.leave("many")
    assert crowd.by_client == {"another": 1}


def test_idle_connections_of_one_client_leave_places_for_others() -> None:
    doors = Doors(http_port=0, grpc_port=None, metrics_port=0, headers_s=30.0)
    with house("plain", doors=doors) as found, ExitStack() as stack:
        count = limits.CONNECTIONS // 2 + 50
        for _ in range(count):
            stack.enter_context(opened(found, OTHER))
        assert found.infer([1.0, 2.0])[0] == 200
        assert health(found, "ready") == 200
        last = stack.enter_context(opened(found, OTHER))
        assert b"503" in received(last, 5.0)


def test_a_client_that_does_not_read_its_answers_is_given_up() -> None:
    doors = Doors(http_port=0, grpc_port=None, metrics_port=0, body_s=0.5)
    rows = 1_000_000
    body = with_data(b"[" + b",".join([b"1.5"] * 2 * rows) + b"]", f"[{rows},2]")
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (WIDE.encode(), len(body))
    with house("wide", doors=doors) as found, opened(found) as client:
        client.sendall(head + body)
        first = received(client, 10.0)
        assert first.startswith(b"HTTP/1.1 200")
        time.sleep(1.5)
        length = int(first.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        assert len(first) + sum(map(len, rest(client))) < length, "it was waited for"


def rest(client: socket.socket) -> Iterator[bytes]:
    try:
        while piece := client.recv(1 << 16):
            yield piece
    except ConnectionResetError:
        return


def test_who_still_reads_for_a_client_that_has_gone_takes_no_room() -> None:
    room = Quota(100)
    with Reservation(room, "a") as hold:
        hold.grow(10)
    with pytest.raises(Fault, match="has gone"):
        hold.grow(10)
    assert (room.taken_bytes, room.by_client) == (0, {})


def test_a_share_grows_with_what_is_free_and_is_given_back() -> None:
    room = Quota(100)
    with Reservation(room, "a") as first, Reservation(room, "a") as second, Reservation(room, "b") as other:
        first.grow(80)  # its only request
        with pytest.raises(Fault, match="too much in flight"):
            second.grow(11)
        with pytest.raises(Fault):
            other.grow(21)
        other.grow(10)
    assert (room.taken_bytes, room.by_client) == (0, {})


class Frozen(Listener):
    """Holds the server's loop up when it hears of an answer."""

    def __init__(self) -> None:
        self.begun, self.over = Event(), Event()

    def answered(self, model: Model, outcome: Outcome, context: Mapping[str, str]) -> None:
        self.begun.set()
        assert self.over.wait(20.0)


def test_health_and_metrics_answer_while_the_loop_is_busy() -> None:
    frozen = Frozen()
    with house("plain", listeners=(frozen,)) as found:
        try:
            assert found.infer([1.0, 2.0])[0] == 200
            assert frozen.begun.wait(20.0)
            began_s = time.monotonic()
            assert health(found, "live") == 200
            assert health(found, "ready") == 200
            assert "nv_inference_request_success" in found.metrics()
            assert time.monotonic() - began_s < SOON_S
        finally:
            frozen.over.set()


def test_sigterm_is_heard_while_a_server_is_attacked(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(chain([APART["relu"]]), path)
    ports = ["--http-port=0", "--grpc-port=-1", "--metrics-port=-1"]
    command = [
        sys.executable,
        "-c",
        "from amble.cli import main; main()",
        "serve",
        str(path),
        "--json",
        "--drain",
        "2s",
        *ports,
    ]
    body = gzip.compress(BODIES["empty lists"](), 1)
    with started(command, tmp_path) as server, ThreadPoolExecutor(4) as pool:

        def attack() -> None:
            with suppress(OSError, http.client.HTTPException):
                while True:
                    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
                        connection.request("POST", "/v2/models/net/infer", body, {"Content-Encoding": "gzip"})
                        connection.getresponse().read()

        attacking = [pool.submit(attack) for _ in range(4)]
        time.sleep(1.0)
        began_s = time.monotonic()
        assert server.end(signal.SIGTERM) == 0
        assert time.monotonic() - began_s < 15.0
        for each in attacking:
            each.result(20)


def test_descriptors_that_run_out_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert not descriptors.told(lambda: (10, 100))
        assert not descriptors.told(lambda: (None, 100))
        assert not caplog.records
        assert descriptors.told(lambda: (95, 100))
    assert "95 of 100 file descriptors" in caplog.text


def test_a_keep_alive_connection_serves_on_after_a_refusal(open_house: House) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", open_house.port, timeout=10)
    for body, status in ((tensor(shape=[1] * 40), 400), (tensor(), 200)):
        connection.request("POST", INFER, body)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()
