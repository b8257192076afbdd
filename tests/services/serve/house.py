"""A server on free ports of 127.0.0.1 over a device that doubles its inputs, for as long as a ``with`` block."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.graph import Graph, Operator, Port
from amble.core.ladder import Ladder, Level, Rung
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Tensors, Timings
from amble.services.serve.front import Addresses, Doors, serve
from amble.services.serve.models.model import Found, Loaded
from amble.services.serve.pulse import Do
from amble.services.serve.requests.admission import Listener
from amble.stages.control.engine import Totals
from amble.stages.control.governors import Fixed

LOW, HIGH = Clocks(core_hz=1e9), Clocks(core_hz=2e9)


@dataclass
class Doubler:
    """All ports of a device in this machine's time. ``gate`` holds runs back while it is cleared."""

    metered: bool = True
    asked: Clocks = LOW
    applied: list[Clocks] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    fail: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def device(self) -> Device:
        return Device("fake:doubler", self, self, self, self, "uncalibrated: a fake")

    def now_s(self) -> float:
        return time.perf_counter()

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)

    def read(self) -> Reading:
        now_s = self.now_s()
        return Reading(now_s, 10.0 * now_s if self.metered else None)

    def available(self) -> tuple[Clocks, ...]:
        return (LOW, HIGH)

    def current(self) -> Clocks:
        return self.asked

    def apply(self, clocks: Clocks) -> None:
        self.asked = clocks
        self.applied.append(clocks)

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        self.begun.set()
        assert self.gate.wait(20.0), "nobody opened the gate"
        if self.fail:
            raise RuntimeError("the device broke")
        self.batches.append(next(iter(inputs.values())).shape[0])
        return {f"{name}_out": value if value.dtype.kind in "Ob" else value + value for name, value in inputs.items()}

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        raise NotImplementedError


def loaded(kinds: Mapping[str, str], *, max_batch: int = 4, batched: bool = True, service_s: float = 1e-3) -> Loaded:
    """A model with an input and an output of each kind, all of shape [batch, 2]."""
    first = -1 if batched else 1
    inputs = tuple(Port(name, (first, 2), kind) for name, kind in kinds.items())
    outputs = tuple(Port(f"{name}_out", (first, 2), kind) for name, kind in kinds.items())
    size = max_batch if batched else 1
    latency_s = tuple(service_s * rows for rows in range(1, size + 1))
    rung = Rung("fp32", HIGH, latency_s, tuple(10 * each for each in latency_s), idle_w=1.0)
    ladder = Ladder("doubler", "fake:doubler", "period", (Level("fp32", 1.0, (rung,)),), LOW, 1.0)
    graph = Graph("doubler", (Operator("op", "Add", 1.0, 1.0, 1.0),), 1, "doubler")
    return Loaded(inputs, outputs, batched, ladder, Fixed("fixed", rung, size), lambda variant, rows: graph)


KINDS = {
    "plain": {"x": "float"},
    "many": {"f": "float", "i": "int64", "b": "bool", "s": "string"},
    "half": {"h": "float16", "e": "bfloat16"},
}


def load(found: Found, do: Do) -> Loaded:
    """Load by name; the device is used as a real loader would."""
    if found.name != "unmeasured":
        do(lambda: None)
    if found.name == "broken":
        raise Refused(f"{found.path} is no network")
    if found.name == "single":
        return loaded(KINDS["plain"], batched=False)
    if found.name == "wide":  # rows that are no batch, as many as one likes
        made = loaded(KINDS["plain"], batched=False)
        return replace(made, inputs=(Port("x", (-1, 2), "float"),), outputs=(Port("x_out", (-1, 2), "float"),))
    slow = 0.05 if found.name == "slow" else 1e-3
    kinds = KINDS.get(found.name, KINDS["plain"])
    return loaded(kinds, max_batch=found.config.max_batch_size or 4, service_s=slow)


@dataclass
class House:
    """A running server."""

    doubler: Doubler
    addresses: Addresses
    stop: Any
    thread: threading.Thread
    totals: list[Totals | BaseException] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.addresses.http.rpartition(":")[2])

    def metrics(self) -> str:
        """Return the text for Prometheus."""
        assert self.addresses.metrics is not None
        with urllib.request.urlopen(self.addresses.metrics, timeout=20) as answer:  # noqa: S310
            return str(answer.read().decode())

    def wait_for_pending(self, count: int) -> None:
        """Return once so many requests have come in and have no answer yet."""
        deadline_s = time.monotonic() + 20
        while (
            sum(map(int, re.findall(r"^nv_inference_pending_request_count\{.*\} (\d+)$", self.metrics(), re.M)))
            != count
        ):
            assert time.monotonic() < deadline_s, f"there were never {count} requests pending"
            time.sleep(0.005)

    def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Ask over HTTP → status, body (decoded where it is JSON), headers."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        status, answer, found = self.raw(method, path, raw, headers or {})
        return status, json.loads(answer) if found["content-type"] == "application/json" else answer, found

    def raw(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, Mapping[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def infer(self, data: list[float], *, model: str = "plain", **more: Any) -> tuple[int, Any, Mapping[str, str]]:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(data) // 2, 2], "data": data}], **more}
        return self.call("POST", f"/v2/models/{model}/infer", body)


@contextmanager
def house(
    *names: str,
    doubler: Doubler | None = None,
    doors: Doors | None = None,
    folder: Path | None = None,
    listeners: tuple[Listener, ...] = (),
) -> Iterator[House]:
    """Serve these models."""
    device = doubler or Doubler()
    wanted = doors or Doors(http_port=0, grpc_port=None, metrics_port=0, drain_s=5.0, control=True)
    ready: list[tuple[Addresses, Any]] = []
    opened, totals = threading.Event(), list[Totals | BaseException]()

    def on_ready(addresses: Addresses, stop: Any) -> None:
        ready.append((addresses, stop))
        opened.set()

    def run() -> None:
        try:
            named = {name: Path(f"/{name}.onnx") for name in names}
            totals.append(
                serve(device.device(), load, wanted, named=named, folder=folder, on_ready=on_ready, listeners=listeners)
            )
        except BaseException as error:
            totals.append(error)
        finally:
            opened.set()

    thread = threading.Thread(target=run)
    thread.start()
    opened.wait(20.0)
    if not ready:
        thread.join(20.0)
        error = totals[0]
        assert isinstance(error, BaseException)
        raise error
    running = House(device, *ready[0], thread, totals)
    try:
        yield running
    finally:
        device.gate.set()
        if thread.is_alive():
            running.stop()
        thread.join(20.0)
        assert not thread.is_alive(), "the server did not end"


def binary(arrays: Mapping[str, tuple[str, np.ndarray]], **more: Any) -> tuple[bytes, int]:
    """A body with binary tensors, and the length of its JSON."""
    inputs, tail = [], b""
    for name, (kind, array) in arrays.items():
        raw = array.tobytes()
        entry = {
            "name": name,
            "datatype": kind,
            "shape": list(array.shape),
            "parameters": {"binary_data_size": len(raw)},
        }
        inputs.append(entry)
        tail += raw
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + tail, len(head)
