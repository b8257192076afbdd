"""Many devices behind one door of this process, over HTTP; and what is said where it cannot be."""

from __future__ import annotations

import asyncio
import builtins
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

import amble
from amble.cli import main
from amble.core.errors import Refused
from amble.services.cluster.reports import Answered, Call, Order, Report, Served, Turned
from amble.services.cluster.serving import Cluster, open_door
from amble.services.serve.front import Addresses, Doors
from tests.services.cluster.local import Rack, close, rack


class Across:
    """A link to a worker that lives in another loop."""

    def __init__(self, link: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._link, self._loop = link, loop

    async def _there(self, answering: Any) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answering, self._loop))

    async def infer(self, call: Call) -> Answered | Turned:
        return await self._there(self._link.infer(call))

    async def report(self, order: Order | None, wait_s: float) -> Report:
        return await self._there(self._link.report(order, wait_s))

    async def describe(self) -> tuple[Served, ...]:
        return await self._there(self._link.describe())

    async def change(self, name: str, config: str | None, *, load: bool) -> Turned | None:
        return await self._there(self._link.change(name, config, load=load))


@contextmanager
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    try:
        yield made
    finally:
        made.call_soon_threadsafe(made.stop)
        thread.join()
        made.run_until_complete(made.shutdown_default_executor())
        made.close()


@contextmanager
def door(*names: str, budget_w: float | None = None) -> Iterator[tuple[Rack, Addresses]]:
    """Open a door in a thread over workers in another one."""
    with loop() as there:
        made: Rack = asyncio.run_coroutine_threadsafe(rack(names, budget_w=budget_w), there).result(20)
        described = {upstream.name: tuple(upstream.served.values()) for upstream in made.cluster.upstreams}
        links = {name: Across(link, there) for name, link in made.links.items()}
        cluster = Cluster.of(dict(links), described, budget_w)
        told: list[Any] = []
        ready = threading.Event()

        def on_ready(addresses: Addresses, stop: Any) -> None:
            told.extend((addresses, stop))
            ready.set()

        doors = Doors(http_port=0, grpc_port=None, metrics_port=0)
        thread = threading.Thread(target=open_door, args=(cluster, doors, on_ready))
        thread.start()
        try:
            assert ready.wait(20)
            yield made, told[0]
        finally:
            told[1]()
            thread.join(20)
            asyncio.run_coroutine_threadsafe(close(made), there).result(20)


def call(url: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    where = url.removeprefix("http://").partition("/")[0]
    with closing(http.client.HTTPConnection(where, timeout=20)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text[:1] in b"{[" else text.decode()


def test_the_protocol_at_the_door_is_that_of_one_device() -> None:
    asked = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
    with door("a", "b") as (_, addresses):
        assert call(addresses.http, "GET", "/v2/health/ready") == (200, {"ready": True})
        status, told = call(addresses.http, "GET", "/v2/models/m")
        assert (status, told["inputs"][0]["name"], told["versions"]) == (200, "x", ["1"])
        status, told = call(addresses.http, "POST", "/v2/models/m/infer", asked)
        assert (status, told["outputs"][0]["data"]) == (200, [2.0, 4.0])
        assert told["parameters"]["device"] in ("a", "b")
        assert call(addresses.http, "POST", "/v2/models/other/infer", asked)[0] == 404
        assert call(addresses.http, "POST", "/v2/models/m/infer", {"inputs": []})[0] == 400
        status, told = call(addresses.http, "GET", "/v2/models/m/stats")
        assert told["model_stats"][0]["inference_stats"]["success"]["count"] == 1
        assert addresses.metrics is not None
        page = call(addresses.metrics, "GET", "/metrics")[1]
        assert 'nv_inference_request_success{model="m",version="1"} 1' in page
        assert 'amble_device_up{device="a"} 1' in page
        assert call(addresses.metrics, "GET", "/dashboard/data")[1]["device"] == "cluster of 2"


def test_a_door_with_a_budget_is_ready_with_a_device_awake() -> None:
    asked = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
    with door("a", "b", budget_w=30.0) as (_, addresses):
        assert call(addresses.http, "POST", "/v2/models/m/infer", asked)[0] == 200
        assert addresses.metrics is not None
        assert "amble_power_budget_watts 30" in call(addresses.metrics, "GET", "/metrics")[1]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **named: Any) -> Any:
        if name == "ray" or name.startswith("ray."):
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return real(name, *rest, **named)

    for name in ("replicas", "ingress"):
        monkeypatch.delitem(__import__("sys").modules, f"amble.services.cluster.{name}", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(Refused, match=r"Ray is not installed here: .*'\.\[cpu,serve,ray\]', or leave --ray out"):
        amble.serve_on_ray(["fashion-resnet"])
    with pytest.raises(Refused, match="Ray is not installed"):
        amble.ray_app(["fashion-resnet"])


def test_nothing_to_serve_is_said_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="nothing to serve"):
        amble.ray_app([])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ray", "--fronts", "2"], "--fronts is of one machine: leave --ray out"),
        (["--ray", "--shared-memory"], "--shared-memory is of one process: leave --ray out"),
        (["--power-budget", "100"], "--power-budget is divided among the devices of a cluster: add --ray"),
        (["--ray", "--log", "log.json"], "--log is of one device: leave --ray out"),
        (["--ray", "--explain"], "--explain is of one device"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["serve", "fashion-resnet", *options])
    assert result.exit_code == 2
    assert said in result.output
