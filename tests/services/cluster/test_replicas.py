"""Devices on Ray: placed, routed to, and killed, with clients asking all the while. Skipped where Ray is missing."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from bench.ray.rack import Clients, door, rack

pytest.importorskip("ray", reason="the extra ray is not installed")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, of pydantic

TWO = ("--device", "left=sim:v100", "--device", "right=sim:v100", "--slo", "10s")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with rack() as found:
        yield found


def test_a_replica_is_killed_and_nobody_loses_a_request(cluster: Any) -> None:
    with door(*TWO) as found, Clients(found.port).asking() as clients:
        before = found.replicas()
        time.sleep(1.0)
        os.kill(before["amble-0"], signal.SIGKILL)  # the first of equals, to which requests go
        time.sleep(3.0)
        assert clients.devices["right=sim:v100"] > 0, "nobody stood in for it"
        deadline_s = time.monotonic() + 60
        while 'amble_device_up{device="left=sim:v100"} 1' not in found.metrics():
            assert time.monotonic() < deadline_s, "the replica was not started anew"
            time.sleep(0.2)
        assert found.replicas()["amble-0"] != before["amble-0"]
    assert clients.sent == sum(clients.outcomes.values())
    assert set(clients.outcomes) == {"200"}, clients.said
    assert clients.wrong == []
    assert clients.longest_s < 11.0


def test_the_door_is_killed_and_another_one_finds_the_devices(cluster: Any) -> None:
    with door(*TWO) as first:
        before = first.replicas()
        with Clients(first.port).asking() as clients:
            time.sleep(0.5)
            first.process.kill()
            first.process.wait()
            time.sleep(0.5)
        assert clients.sent == sum(clients.outcomes.values())
        assert clients.outcomes["200"] > 0
        assert set(clients.outcomes) - {"200"}, "clients of a dead door must see errors"
        assert clients.longest_s < 10.0
        with door(*TWO) as second:
            assert second.replicas() == before
            with Clients(second.port).asking() as again:
                time.sleep(0.5)
    assert set(again.outcomes) == {"200"}


def test_a_node_is_killed_and_the_other_one_goes_on(cluster: Any) -> None:
    with door(*TWO) as found, Clients(found.port).asking() as clients:
        time.sleep(0.5)
        cluster.right.kill_all_processes(check_alive=False, allow_graceful=False)
        time.sleep(2.0)
        assert 'amble_device_up{device="right=sim:v100"} 0' in found.metrics()
    assert clients.sent == sum(clients.outcomes.values())
    assert set(clients.outcomes) == {"200"}, clients.said
    assert clients.longest_s < 11.0


def test_the_same_as_an_application_behind_the_proxy_of_ray_serve(cluster: Any) -> None:
    """Last: Serve has one set of proxies in a cluster, and this test ends it with all its applications."""
    import ray
    from ray import serve

    from amble.services.cluster.ingress import build

    ray.init(log_to_driver=False, logging_level="ERROR")
    try:
        serve.shutdown()
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(build({"models": ["fashion-resnet"], "devices": ["left=sim:v100"]}), route_prefix="/")
        with Clients(port, num=1).asking() as clients:
            time.sleep(1.0)
        assert set(clients.outcomes) == {"200"}
        assert set(clients.devices) == {"left=sim:v100"}
        serve.shutdown()
    finally:
        ray.shutdown()
