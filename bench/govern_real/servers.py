"""Real servers, each in a control group of its own while a block runs, and the request that each is sent.

Triton and llama.cpp have no histogram of whole latencies, and MLServer's begins when its one loop takes a request: they
are governed through amble's proxy. Where no control group may be made, or a server's environment is missing (`make
setup-peers`), the server is left out, with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.kit.places import BENCH, ROOT
from bench.kit.processes import ended, free_port
from bench.serve.load import Client, request

__all__ = ["AMBLE", "KINDS", "Server", "group", "left_out", "serving"]

AMBLE = str(Path(sys.executable).parent / "amble")
GROUPS = Path("/sys/fs/cgroup/cpu")
PEERS = ROOT / "tests" / "acceptance"
SHAPE = (1, 3, 160, 160)
TOKENS = 8
START_S = 120.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: where it answers, where its page is, what it is sent, and whether its page judges."""

    kind: str
    pid: int
    port: int
    page_port: int
    message: bytes

    @property
    def page(self) -> str:
        """Return the address of its metrics."""
        return f"http://127.0.0.1:{self.page_port}/metrics"

    @property
    def by_proxy(self) -> bool:
        """Tell whether its latencies are those of a proxy: its page has no histogram of whole ones."""
        return self.kind in ("triton", "llama.cpp", "mlserver")


def left_out(kind: str) -> str:
    """Say why a server cannot be tried here; empty when it can."""
    if not os.access(GROUPS, os.W_OK):
        return f"no control group may be made below {GROUPS}"
    needed = {
        "mlserver": _peer("mlserver") / "bin/python",
        "triton": _peer("tritonserver") / "bin/python",
        "llama.cpp": _peer("llama") / "build/bin/llama-server",
    }.get(kind)
    return "" if needed is None or needed.exists() else f"no {needed.relative_to(ROOT)} (make setup-peers)"


@contextmanager
def group(name: str) -> Iterator[Path]:
    """Make a control group while the block runs."""
    folder = GROUPS / f"amble-bench-{name}-{os.getpid()}"
    folder.mkdir()
    (folder / "cpu.shares").write_text("20480")  # before whatever else runs on this machine
    try:
        yield folder
    finally:
        until_s = time.monotonic() + 5.0
        while folder.exists() and time.monotonic() < until_s:
            with suppress(OSError):
                folder.rmdir()
            time.sleep(0.1)


@contextmanager
def serving(kind: str, home: Path, folder: Path) -> Iterator[Server]:
    """Run a server in a control group while the block runs."""
    ports = (free_port(), free_port(), free_port())
    words, message, page_port = KINDS[kind](home, ports)
    entered = ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh", *words]
    quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with (home / f"{kind}.log").open("w") as log:
        running = subprocess.Popen(entered, stdout=log, stderr=log, env=os.environ | quiet, start_new_session=True)
        with ended(running):
            server = Server(kind, running.pid, ports[0], page_port, message)
            _await(server, running, home / f"{kind}.log")
            yield server


Command = tuple[list[str], bytes, int]
"""What is run, what the server is sent, and the port of its page."""


def _amble(home: Path, ports: tuple[int, int, int]) -> Command:
    words = [AMBLE, "serve", f"model={network(home / 'model.onnx')}", f"--http-port={ports[0]}"]
    words += [f"--metrics-port={ports[1]}", "--grpc-port=-1", "--max-batch=1", "--governor=max", "--json"]
    return words, request("amble", SHAPE, name="x"), ports[1]


def _mlserver(home: Path, ports: tuple[int, int, int]) -> Command:
    script = BENCH / "govern_real" / "peer_mlserver.py"
    return [str(_peer("mlserver") / "bin/python"), str(script), *map(str, ports)], request("mlserver", (4,)), ports[1]


def _triton(home: Path, ports: tuple[int, int, int]) -> Command:
    model, script, venv = network(home / "model.onnx"), str(PEERS / "triton_server.sh"), str(_peer("tritonserver"))
    repository = str(home / "repository")
    subprocess.run([script, "repository", venv, repository, f"model={model}"], check=True)
    words = [script, "serve", venv, repository, str(ports[0]), str(ports[2]), str(ports[1])]
    return words, request("amble", SHAPE, name="x"), ports[1]


def _llama(home: Path, ports: tuple[int, int, int]) -> Command:
    words = [str(PEERS / "llama_server.sh"), "serve", str(_peer("llama")), str(ports[0])]
    words += ["--threads", "1", "--threads-batch", "1", "--threads-http", "2", "--parallel", "1", "--no-warmup"]
    asked = {"prompt": "as fast as needed", "n_predict": TOKENS, "ignore_eos": True, "cache_prompt": False}
    body = json.dumps(asked).encode()
    head = (
        f"POST /completion HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    return words, f"{head}\r\n\r\n".encode() + body, ports[0]


KINDS: dict[str, Callable[[Path, tuple[int, int, int]], Command]] = {
    "amble": _amble,
    "mlserver": _mlserver,
    "triton": _triton,
    "llama.cpp": _llama,
}


def _await(server: Server, running: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and running.poll() is None:
        client = Client(server.port, server.message)
        client.alone(0.2)
        if any(row[0] == 200 for row in client.rows):
            return
        time.sleep(0.5)
    raise RuntimeError(f"{server.kind} did not start: {log.read_text()[-2000:]}")


def network(path: Path) -> Path:
    """Write a network of six convolutions: some twenty milliseconds a request."""
    random = np.random.default_rng(0)
    nodes, weights, before = [], [], "x"
    for at, channels in enumerate((3, 32, 32, 32, 32, 32)):
        kernel = (0.1 * random.normal(size=(32, channels, 3, 3))).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{at}"))
        nodes.append(helper.make_node("Conv", [before, f"w{at}"], [f"c{at}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{at}"], [f"r{at}"]))
        before = f"r{at}"
    nodes.append(helper.make_node("GlobalAveragePool", [before], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE[1:]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32, 1, 1])
    made = helper.make_graph(nodes, "convolutions", [x], [y], weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def _peer(name: str) -> Path:
    return ROOT / f".venv-peer-{name}"
