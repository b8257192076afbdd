"""`amble serve` as a process of its own: started, asked, ended by whatever signal; on real clocks where they are faked.

Run as a script (``python -m tests.jobs.serving_process ROOT MODEL PORT``) it serves on the clock files under a folder.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from amble.devices import host, lease
from amble.runtimes.onnx.batched import BatchedRunner
from amble.services.serve import front
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.options import Options

__all__ = ["WIDTH", "Process", "free_port", "script", "slow_network", "started"]

WIDTH = 256


@dataclass(frozen=True, slots=True)
class Process:
    """A server that listens, and what asks it."""

    running: subprocess.Popen[str]
    ready: Mapping[str, Any]

    @property
    def port(self) -> int:
        return int(self.ready["http"].rpartition(":")[2])

    def ask(self, **parameters: int) -> tuple[int, dict[str, Any]]:
        """Ask for one answer → its status and body; ConnectionError where the server went away."""
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": [0.5] * WIDTH}
        body = json.dumps({"inputs": [tensor], "parameters": parameters})
        return self._call("POST", "/v2/models/slow/infer", body)

    def is_ready(self) -> bool:
        """Tell what a load balancer is told; False where nobody listens any more."""
        try:
            return self._call("GET", "/v2/health/ready")[0] == 200
        except ConnectionError:
            return False

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait → the exit code."""
        self.running.send_signal(number)
        self.running.communicate(timeout=30)
        return self.running.returncode

    def _call(self, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    @contextmanager
    def asked_by(self, clients: int) -> Iterator[list[Future[tuple[int, dict[str, Any]]]]]:
        """Let so many clients wait for an answer each while the block runs."""
        with ThreadPoolExecutor(clients) as pool:
            yield [pool.submit(self.ask) for _ in range(clients)]


def slow_network(path: Path, layers: int = 400) -> Path:
    """Write a network whose answer takes some milliseconds: [1, 256] through as many square layers of one weight."""
    weight = np.random.default_rng(0).normal(0.0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32)
    names = ["x", *(f"h{index}" for index in range(1, layers)), "y"]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "slow", ports[:1], ports[1:], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def started(command: Sequence[str], state: Path) -> Iterator[Process]:
    """Run a command that says on stderr where it listens; killed at the end where it still runs."""
    environment = {**os.environ, "XDG_STATE_HOME": str(state), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        assert running.stderr is not None
        try:
            heard = []
            for line in running.stderr:
                heard.append(line)
                if line.startswith('{"ready"'):
                    yield Process(running, json.loads(line)["ready"])
                    break
            else:
                raise AssertionError("".join(heard))
        finally:
            running.kill()


def script(root: Path, model: Path, port: int) -> list[str]:
    """Return the command that serves on the clock files under a folder."""
    return [sys.executable, "-m", "tests.jobs.serving_process", str(root), str(model), str(port)]


def main() -> None:
    """Serve one model on this machine, with the clock files that are under a folder; the lease is kept there too."""
    root, model, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    runner = BatchedRunner()
    device = lease.guarded(host.open(runner, sysfs_root=root))
    loader = ModelLoader(device, runner, Options(max_batch=1))
    front.serve(
        device,
        loader.load,
        front.Doors(http_port=port, grpc_port=None, metrics_port=None),
        named={"slow": model},
        on_ready=_tell,
    )


def _tell(at: front.Addresses, stop: object) -> None:
    sys.stderr.write(json.dumps({"ready": {"http": at.http}}) + "\n")


if __name__ == "__main__":
    main()
