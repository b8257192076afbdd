"""Beginning and end of a server: doors that are taken, models that do not load, draining, and clocks put back."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from queue import SimpleQueue

import pytest

from amble.core.errors import Refused
from amble.services.serve.doors.outgoing import SETTINGS, frame
from amble.services.serve.doors.reading import Readers
from amble.services.serve.front import Doors, open_doors, serve
from amble.services.serve.models.model import Found, Loaded
from amble.services.serve.models.repository import Repository
from amble.services.serve.pulse import Do
from amble.services.serve.requests.admission import Admission
from amble.services.serve.requests.elsewhere import Nowhere
from tests.jobs.serving_process import free_port, slow_network, started
from tests.services.serve.doors.frames import PREFACE, head
from tests.services.serve.house import LOW, Doubler, house, load

AMBLE = str(Path(sys.executable).parent / "amble")


def test_what_was_accepted_is_answered_and_what_comes_later_is_refused() -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler) as found, ThreadPoolExecutor(2) as pool:
        doubler.gate.clear()
        running = pool.submit(found.infer, [1.0, 2.0])
        assert doubler.begun.wait(20.0)
        waiting = pool.submit(found.infer, [3.0, 4.0])
        found.wait_for_pending(2)
        found.stop()
        while found.call("GET", "/v2/health/ready")[0] != 503:
            time.sleep(0.01)
        status, message, _ = found.infer([0.0, 0.0])
        assert status == 503
        assert "shutting down" in message["error"]
        doubler.gate.set()
        assert running.result()[1]["outputs"][0]["data"] == [2.0, 4.0]
        assert waiting.result()[1]["outputs"][0]["data"] == [6.0, 8.0]
        found.thread.join(20)
    assert found.totals[0].answered == 2  # type: ignore[union-attr]


def test_who_insists_gets_a_refusal_instead_of_an_answer() -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler) as found, ThreadPoolExecutor(2) as pool:
        doubler.gate.clear()
        running = pool.submit(found.infer, [1.0, 2.0])
        assert doubler.begun.wait(20.0)
        waiting = pool.submit(found.infer, [3.0, 4.0])
        found.wait_for_pending(2)
        found.stop()
        found.stop()
        time.sleep(0.1)
        doubler.gate.set()
        assert running.result()[0] == 200
        assert waiting.result()[0] == 503


def test_clocks_are_put_back_at_the_end() -> None:
    doubler = Doubler()
    with house("plain", doubler=doubler) as found:
        found.infer([1.0, 1.0])
        assert doubler.asked != LOW
    assert doubler.asked == LOW


def test_a_loop_that_breaks_ends_the_server_with_its_error_and_nobody_waits_for_ever() -> None:
    class Broken(Doubler):
        def run(self, graph: object, point: object, inputs: object) -> object:  # type: ignore[override]
            raise AssertionError("a mistake of ours")

    doubler = Broken()
    with house("plain", doubler=doubler) as found:
        assert found.infer([1.0, 1.0])[0] == 500
        found.thread.join(20)
        assert isinstance(found.totals[0], AssertionError)
    assert doubler.asked == LOW


def test_a_port_that_is_taken_is_refused_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for door in ("http", "metrics"):
            ports = {"http_port": 0, "grpc_port": None, "metrics_port": None, f"{door}_port": port}
            with pytest.raises(Refused, match=f"--{door}-port"), house("plain", doors=Doors(**ports)):
                pass


def test_who_asks_for_a_model_that_is_still_loading_is_told_to_come_again() -> None:
    go, doubler, port = threading.Event(), Doubler(), free_port()
    ready: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def slowly(found: Found, do: Do) -> Loaded:
        assert go.wait(20.0)
        return load(found, do)

    def run() -> None:
        doors = Doors(http_port=port, grpc_port=None, metrics_port=None)
        named = {"plain": Path("plain.onnx")}
        serve(doubler.device(), slowly, doors, named=named, on_ready=lambda addresses, stop: ready.put(stop))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        await_port(port)
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]})
        found = ask(port, "POST", "/v2/models/plain/infer", body)
        assert found.status == 503
        assert int(found.headers["retry-after"]) >= 1
        assert ask(port, "GET", "/v2/health/ready").status == 503
        assert ask(port, "GET", "/v2/models/plain/ready").status == 503
        assert ask(port, "GET", "/v2/models/other").status == 404
        go.set()
        stop = ready.get(timeout=20)
        assert ask(port, "POST", "/v2/models/plain/infer", body).status == 200
        stop()
    finally:
        go.set()
        thread.join(20)
    assert not thread.is_alive()


def await_port(port: int) -> None:
    deadline_s = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=20).close()
        except OSError:
            assert time.monotonic() < deadline_s, "nobody listens"
            time.sleep(0.01)
        else:
            return


def ask(port: int, method: str, path: str, body: str | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body)
    found = connection.getresponse()
    found.read()
    connection.close()
    return found


def test_a_model_that_was_named_must_load() -> None:
    with pytest.raises(Refused, match="is no network"), house("plain", "broken"):
        pass


@pytest.mark.parametrize("insist", [1, 2])
def test_sigterm_ends_the_command_in_order_whenever_it_comes(tmp_path: Path, insist: int) -> None:
    command = [str(Path(sys.executable).parent / "amble"), "serve", "fashion-resnet", "--log-format", "json"]
    ports = [f"--{door}-port=0" for door in ("http", "grpc", "metrics")]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    running = subprocess.Popen([*command, *ports, "--json"], stdout=-1, stderr=-1, text=True, env=environment)
    assert running.stderr is not None
    until = '"ready"' if insist == 1 else "loading"
    while until not in running.stderr.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=30)
    assert running.returncode == 0
    assert '"answered":0' in out


def test_a_clients_connections_are_counted_together_whatever_they_speak(tmp_path: Path) -> None:
    """With 320 open files 32 connections may be open, of which one client may have half."""
    words = ["prlimit", "--nofile=320:320", AMBLE, "serve", f"slow={slow_network(tmp_path / 'slow.onnx', layers=4)}"]
    ports = [f"--{door}-port={free_port()}" for door in ("http", "grpc")]
    with started([*words, *ports, "--metrics-port=-1", "--json"], tmp_path) as at, ExitStack() as closing:
        let_in = []
        for door in ["grpc", "http"] * 12:
            opened = socket.create_connection(("127.0.0.1", int(at.ready[door].rpartition(":")[2])), 20)
            closing.enter_context(opened)
            if door == "http":
                opened.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            let_in.append(_served(opened))
        assert let_in == [True] * 16 + [False] * 8


def _served(opened: socket.socket) -> bool:
    """Tell whether a door greets a client, or answers it."""
    try:
        came = opened.recv(12)
    except ConnectionError:
        return False
    return came not in (b"", b"HTTP/1.1 503")


class Told(Nowhere):
    """Remembers what other processes were told."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def add(self, client: str, count: int) -> None:
        self.heard.append(count)


def test_other_processes_are_told_of_connections_and_calls() -> None:
    told = {"connections": Told(), "calls": Told()}

    async def run() -> None:
        device, stack = Doubler().device(), AsyncExitStack()
        admission = Admission(device=device)
        repository = Repository(admission, load, None, {})
        doors, readers = Doors(http_port=0, grpc_port=0, metrics_port=None), Readers(0)
        async with stack:
            admission.mailbox.open()
            stack.callback(admission.mailbox.close)
            stack.callback(readers.close)
            ports = await open_doors(stack, admission, repository, readers, doors, elsewhere=told.__getitem__)
            for port in ports:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.callback(writer.close)
                if port == ports[1]:
                    writer.write(PREFACE + frame(SETTINGS, 0, 0, b"") + head(1))  # a call that goes on
            async with asyncio.timeout(20.0):
                while (told["connections"].heard, told["calls"].heard) != ([1, 1], [1]):
                    await asyncio.sleep(0.01)

    asyncio.run(run())
    assert [sum(each.heard) for each in told.values()] == [0, 0]
