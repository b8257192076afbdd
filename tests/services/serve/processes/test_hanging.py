"""An engine or a front that hangs is noticed, ended and replaced; who waits for it gets an error."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from amble.services.serve.processes.beats import SILENT_S
from tests.jobs.serving_process import Process, free_port, started
from tests.services.serve.processes.kernel import alive, children, listens
from tests.services.serve.processes.test_crew import double, page, pending, quietly, small, until

AMBLE = str(Path(sys.executable).parent / "amble")
FOREVER = 1 << 60
NOTICED_S = SILENT_S + 25.0  # with the time that a loaded machine takes to do anything
OWN_TIME_S = 300.0  # for some seconds of a process's own time, which is all that counts of one that computes


def counting(path: Path) -> Path:
    """Write a network that counts as far as it is told, and takes so long."""
    one = helper.make_node("Constant", [], ["one"], value=helper.make_tensor("", TensorProto.INT64, [1], [1]))
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["acc", "one"], ["more"])],
        "body",
        [info("at", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("acc", TensorProto.INT64, [1])],
        [info("on", TensorProto.BOOL, []), info("more", TensorProto.INT64, [1])],
    )
    true = helper.make_node("Constant", [], ["true"], value=helper.make_tensor("", TensorProto.BOOL, [], [True]))
    zero = helper.make_node("Sub", ["n", "n"], ["zero"])
    flat = helper.make_node("Squeeze", ["n"], ["times"])
    loop = helper.make_node("Loop", ["times", "true", "zero"], ["sum"], body=body)
    ports = [info(name, TensorProto.INT64, [1]) for name in ("n", "sum")]
    graph = helper.make_graph([one, true, zero, flat, loop], "counting", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    np.savez(path.with_suffix(".npz"), n=np.array([[3], [5]], np.int64))
    return path


@dataclass(frozen=True, slots=True)
class Watched(Process):
    """A server, and what was said (status, Retry-After) to who asked for its model while it began."""

    early: list[tuple[int, str | None]]


@dataclass
class Early:
    """A client that asks for a model from before there is a server."""

    port: int
    told: list[tuple[int, str | None]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join(20)

    def _ask(self) -> None:
        while not self.over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            with suppress(OSError):
                connection.request("GET", "/v2/models/count")
                answer = connection.getresponse()
                self.told.append((answer.status, answer.headers["retry-after"]))
            connection.close()
            time.sleep(0.02)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("hanging")
    double(folder / "models" / "small" / "1" / "model.onnx", 4)
    count = counting(folder / "count.onnx")
    cpu = min(os.sched_getaffinity(0))
    command = [AMBLE, "serve", f"count={count}?examples={count.with_suffix('.npz')}", f"--device=host:{cpu}"]
    command += [f"--repository={folder / 'models'}", "--fronts=2", "--json", "--max-batch=2"]
    port = free_port()
    command += [f"--http-port={port}", "--grpc-port=-1", "--metrics-port=0"]
    early = Early(port)
    with early.asking(), started(command, folder) as found:
        early.over.set()
        yield Watched(found.running, found.ready, early.told)
        assert found.end(signal.SIGTERM) == 0


def one(at: Process, name: str) -> int:
    return next(pid for pid, each in children(at.running.pid).items() if each.startswith(name))


def replaced(at: Process, name: str) -> float:
    found = page(at)
    return sum(
        value
        for series, value in found.items()
        if series.startswith("amble_process_replaced_total") and name in series and 'cause="hung"' in series
    )


def count(at: Process, number: int) -> int:
    tensor = {"name": "n", "datatype": "INT64", "shape": [1], "data": [number]}
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=OWN_TIME_S)
    connection.request("POST", "/v2/models/count/infer", json.dumps({"inputs": [tensor]}))
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert answer.status != 200 or told["outputs"][0]["data"] == [number]
    return answer.status


def health(at: Process, kind: str) -> int:
    try:
        url = at.ready["metrics"].replace("/metrics", f"/v2/health/{kind}")
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_while_models_load_who_asks_for_one_is_told_to_come_again(server: Watched) -> None:
    assert {status for status, _ in server.early} <= {200, 503}
    assert (503, "1") in server.early
    assert (503, None) not in server.early


def test_an_engine_that_is_stopped_is_noticed_ended_and_replaced(server: Process) -> None:
    stopped, began_s = one(server, "the engine"), time.monotonic()
    os.kill(stopped, signal.SIGSTOP)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(small, server, 1.0) for _ in range(6)]
        until(lambda: pending(server) == 6)
        found = [each.result(60) for each in asked]
    assert time.monotonic() - began_s < NOTICED_S
    assert {status for status, _ in found} == {503}
    assert all("try again" in told["error"] for _, told in found)
    assert not alive(stopped)
    assert health(server, "live") == 200
    until(lambda: quietly(server) == 200)
    assert health(server, "ready") == 200
    assert replaced(server, "the engine") == 1
    assert page(server)[f'amble_process_up{{process="{children(server.running.pid)[one(server, "the engine")]}"}}'] == 1


def test_a_front_that_is_stopped_is_noticed_ended_and_replaced(server: Process) -> None:
    before = one(server, "front 1")
    os.kill(before, signal.SIGSTOP)
    until(lambda: not alive(before), NOTICED_S)
    until(lambda: replaced(server, "front 1") == 1)
    until(lambda: "front 1" in children(server.running.pid).values())
    assert one(server, "front 1") != before
    until(lambda: listens(one(server, "front 1")))
    until(lambda: all(quietly(server) == 200 for _ in range(8)))


def test_a_network_that_never_returns_is_told_from_one_that_computes_for_long(server: Process) -> None:
    assert count(server, 200_000) == 200, "a thousand times what was measured, and well"
    before = one(server, "the engine")
    assert count(server, FOREVER) == 503
    until(lambda: quietly(server) == 200)
    assert one(server, "the engine") != before
    assert replaced(server, "the engine") == 2
