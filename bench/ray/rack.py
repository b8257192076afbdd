"""A Ray cluster of two nodes on this machine, ``amble serve --ray`` on it in a process of its own, and its clients."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}
_NODE: dict[str, Any] = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20}
BODY = json.dumps(
    {"inputs": [{"name": "image", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": [0.0] * 784}]}
).encode()


@contextmanager
def rack() -> Iterator[Any]:
    """Start a cluster whose nodes have the resources ``left`` and ``right``."""
    before = {name: os.environ.get(name) for name in (*_ENVIRONMENT, "RAY_ADDRESS")}
    os.environ.update(_ENVIRONMENT)
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # short: Ray's sockets lie in it
    head = {**_NODE, "resources": {"left": 1}, "temp_dir": folder}
    cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        cluster.right = _patiently(lambda: cluster.add_node(**_NODE, resources={"right": 1}))
        os.environ["RAY_ADDRESS"] = cluster.address
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _patiently(start: Callable[[], Any]) -> Any:
    """Start a part of Ray, which gives up after half a minute: on a busy machine that is no time."""
    for left in (2, 1, 0):
        try:
            return start()
        except Exception as error:  # Ray's own is of this very type
            if not left or "timed out during startup" not in str(error):
                raise
    raise AssertionError("the last time raised")


@dataclass
class Door:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    @property
    def port(self) -> int:
        return int(self.ready["http"].rpartition(":")[2])

    def metrics(self) -> str:
        return self._get(int(self.ready["metrics"].split(":")[2].partition("/")[0]), "/metrics")

    def _get(self, port: int, path: str) -> str:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def replicas(self) -> dict[str, int]:
        """Return the process of each device's replica, by the name that Ray knows it by."""
        listed = subprocess.run(
            [sys.executable, "-c", _LIST], capture_output=True, text=True, timeout=60, check=True, env=os.environ
        )
        return dict(json.loads(listed.stdout.splitlines()[-1]))


_LIST = """
import json, logging, ray
from ray import serve
ray.init(log_to_driver=False, logging_level=logging.ERROR)
found = {}
for name in sorted(serve.status().applications):
    if name.startswith("amble-"):
        found[name] = serve.get_app_handle(name).where.remote().result(timeout_s=30)[1]
print(json.dumps(found))
"""


@contextmanager
def door(*arguments: str, http_port: int = 0) -> Iterator[Door]:
    """Run ``amble serve --ray`` until the block ends."""
    command = [
        sys.executable,
        "-c",
        "from amble.cli import main; main()",
        "serve",
        "fashion-resnet",
        "--ray",
        "--json",
        *arguments,
    ]
    command += ["--http-port", str(http_port), "--grpc-port", "-1", "--metrics-port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "stderr"
        with told.open("w") as stderr:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        try:
            yield Door(process, _ready(process, told))
            process.terminate()
            process.wait(40)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _ready(process: subprocess.Popen[str], told: Path) -> dict[str, Any]:
    due_s = time.monotonic() + 180
    while time.monotonic() < due_s and process.poll() is None:
        for line in told.read_text().splitlines():
            if line.startswith('{"ready"'):
                return dict(json.loads(line)["ready"])
        time.sleep(0.1)
    raise AssertionError(f"the door did not open:\n{told.read_text()}")


@dataclass
class Clients:
    """Clients that ask one after the other, each in its thread, and remember what came of every request."""

    port: int
    num: int = 4
    pause_s: float = 0.01
    outcomes: Counter[str] = field(default_factory=Counter)
    devices: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    longest_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def asking(self) -> Iterator[Clients]:
        threads = [threading.Thread(target=self._ask) for _ in range(self.num)]
        for each in threads:
            each.start()
        try:
            yield self
        finally:
            self._stop.set()
            for each in threads:
                each.join(30)
            assert not any(each.is_alive() for each in threads), "a client still waits for its answer"

    def _ask(self) -> None:
        connection = None
        while not self._stop.wait(self.pause_s):
            began_s = time.monotonic()
            with self._lock:
                self.sent += 1
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                connection.request("POST", "/v2/models/fashion-resnet/infer", BODY)
                response = connection.getresponse()
                told, outcome = json.loads(response.read()), str(response.status)
            except (OSError, http.client.HTTPException, ValueError) as error:
                told, outcome = {}, type(error).__name__
                if connection is not None:
                    connection.close()
                connection = None
            with self._lock:
                self.outcomes[outcome] += 1
                self.longest_s = max(self.longest_s, time.monotonic() - began_s)
                if outcome == "200":
                    self.devices[told["parameters"]["device"]] += 1
                    if told["outputs"][0]["shape"] != [1, 10]:
                        self.wrong.append(str(told))
                elif outcome.isdigit():
                    (self.said if told.get("error") else self.wrong).append(str(told))
        if connection is not None:
            connection.close()
