"""The door of amble on a Ray cluster beside plain Ray Serve in the same run, and what killing costs its clients.

- Quickness: the bundled network on this machine's CPU, one thread, the same body, one client or four with connections
  that stay open; rounds of each way take turns, and each way is judged by the median of its rounds' medians. Three
  ways: Ray Serve's proxy and a bare replica; amble's own door; amble as an application behind Serve's proxy.
- Kills: two simulated devices on two nodes, four clients. A replica, the door or a node is killed with SIGKILL in the
  middle. Every request that was sent must end, with an answer or with an error that its client sees.

Energies play no part here (`bench.fleet`).
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from amble import bundled
from bench.kit import document
from bench.ray.rack import Clients, door, rack

SHAPE = (1, 1, 28, 28)
HEADER = "Inference-Header-Content-Length"
TWO = ("--device", "left=sim:v100", "--device", "right=sim:v100", "--slo", "2s")
SERVE_PORT = 18620
Record = dict[str, Any]


def main() -> None:
    options = document.options("ray", __doc__)
    with rack() as cluster:
        records = list(_quickness(4 if options.quick else 10, 100))
        records += _replicas_killed(1 if options.quick else 2)
        records += _door_killed(1 if options.quick else 2)
        records += _node_killed(cluster)
    document.finish(options, records, list(_targets(records)))


def _body() -> tuple[bytes, int]:
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    told = {"name": "image", "shape": SHAPE, "datatype": "FP32", "parameters": {"binary_data_size": image.nbytes}}
    head = json.dumps({"inputs": [told], "parameters": {"binary_data_output": True}}).encode()
    return head + image.tobytes(), len(head)


def _quickness(rounds: int, requests: int) -> Iterator[Record]:
    import ray
    from ray import serve

    import amble
    from bench.ray.plain import Network

    ray.init(log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": SERVE_PORT})
    network: Any = Network
    serve.run(network.bind(str(bundled.model_path()), SHAPE), name="plain", route_prefix="/plain")
    serve.run(amble.ray_app(["fashion-resnet"], devices=["left=host"]), name="app", route_prefix="/")
    try:
        with door("--device", "left=host") as found:
            ways = {
                "plain Ray Serve": (SERVE_PORT, "/plain"),
                "amble's door": (found.port, "/v2/models/fashion-resnet/infer"),
                "amble behind Serve's proxy": (SERVE_PORT, "/v2/models/fashion-resnet/infer"),
            }
            for clients in (1, 4):
                yield from _rounds(ways, clients, rounds, requests)
    finally:
        for name in ("app", "plain"):
            serve.delete(name)
        serve.shutdown()
        ray.shutdown()


def _rounds(ways: dict[str, tuple[int, str]], clients: int, rounds: int, requests: int) -> Iterator[Record]:
    taken: dict[str, list[list[float]]] = {name: [] for name in ways}
    for place in range(rounds + 1):
        order = list(ways)[place % len(ways) :] + list(ways)[: place % len(ways)]
        for name in order:
            times_s = _timed(*ways[name], clients, requests)
            if place:  # the first round warms up
                taken[name].append(times_s)
    for name, found in taken.items():
        medians_s = [statistics.median(each) for each in found]
        every = [each for one in found for each in one]
        yield {
            "part": "quickness",
            "way": name,
            "clients": clients,
            "rounds": len(found),
            "requests": len(every),
            "p50_s": statistics.median(medians_s),
            "p50_least_s": min(medians_s),
            "p50_most_s": max(medians_s),
            "p99_s": document.percentile(every, 99),
        }


def _timed(port: int, path: str, clients: int, requests: int) -> list[float]:
    """Return the time of each request [s], of clients that ask one after the other."""
    body, head = _body()
    times_s: list[float] = []

    def ask() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            for _ in range(requests // clients):
                began_s = time.perf_counter()
                connection.request("POST", path, body, {HEADER: str(head)})
                response = connection.getresponse()
                answer = response.read()
                times_s.append(time.perf_counter() - began_s)
                if response.status != 200 or len(answer) < 40:
                    raise RuntimeError(f"{path}: {response.status} {answer[:200]!r}")

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(times_s) == requests // clients * clients, f"{path}: a client failed"
    return times_s


def _replicas_killed(times: int) -> Iterator[Record]:
    for _ in range(times):
        with door(*TWO) as found, Clients(found.port).asking() as clients:
            replicas = found.replicas()
            time.sleep(1.0)
            os.kill(replicas["amble-0"], signal.SIGKILL)
            back_s = _back_s(found, "left=sim:v100")
        yield _told("replica", clients) | {"back_s": back_s}


def _door_killed(times: int) -> Iterator[Record]:
    for _ in range(times):
        with door(*TWO) as found, Clients(found.port).asking() as clients:
            replicas = found.replicas()
            found.process.kill()
            found.process.wait()
            began_s = time.monotonic()
            with door(*TWO, http_port=found.port) as second:
                back_s = time.monotonic() - began_s
                kept = second.replicas() == replicas
                time.sleep(1.0)
        yield _told("door", clients) | {"back_s": back_s, "devices_kept": kept}


def _node_killed(cluster: Any) -> Iterator[Record]:
    with door(*TWO) as found, Clients(found.port).asking() as clients:
        time.sleep(1.0)
        cluster.right.kill_all_processes(check_alive=False, allow_graceful=False)
        time.sleep(3.0)
    yield _told("node", clients)


def _back_s(found: Any, device: str) -> float:
    """Return how long it takes until a device that was killed takes requests again [s]."""
    began_s = time.monotonic()
    while f'amble_device_up{{device="{device}"}} 0' not in found.metrics():
        if time.monotonic() - began_s > 5:
            return 0.0
    while f'amble_device_up{{device="{device}"}} 1' not in found.metrics():
        if time.monotonic() - began_s > 120:
            return float("nan")
        time.sleep(0.05)
    return time.monotonic() - began_s


def _told(killed: str, clients: Clients) -> Record:
    answered = clients.outcomes["200"]
    ended = sum(clients.outcomes.values())
    return {
        "part": "killed",
        "killed": killed,
        "sent": clients.sent,
        "answered": answered,
        "errors": {name: count for name, count in sorted(clients.outcomes.items()) if name != "200"},
        "said": sorted(set(clients.said))[:4],
        "lost_in_silence": clients.sent - ended + len(clients.wrong),
        "longest_s": clients.longest_s,
    }


def _targets(records: Sequence[Record]) -> Iterator[document.Target]:
    p50 = {(each["way"], each["clients"]): each["p50_s"] for each in records if each["part"] == "quickness"}
    for (way, clients), value in p50.items():
        if way != "plain Ray Serve":
            ratio = value / p50["plain Ray Serve", clients]
            cause = "two hops of Ray where plain Serve has one" if "proxy" in way else "the machine was shared"
            name = f"p50 of {way} over plain Ray Serve's, {clients} client{'s' * (clients > 1)}"
            yield document.target(name, want="<= 1.3", value=ratio, unit="1", cause=cause)
    for killed in ("replica", "door", "node"):
        found = [each for each in records if each["part"] == "killed" and each["killed"] == killed]
        lost = sum(each["lost_in_silence"] for each in found)
        name = f"requests lost without an error, {killed} killed {len(found)} time{'s' * (len(found) > 1)}"
        yield document.target(name, want="<= 0", value=lost, unit="1")
        if killed != "door":
            failed = sum(each["sent"] - each["answered"] for each in found)
            name = f"requests that ended in an error, {killed} killed"
            cause = "their deadline passed while they were put to the other device"
            yield document.target(name, want="<= 0", value=failed, unit="1", cause=cause)
