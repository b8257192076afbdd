"""A split as two processes on two hosts: `amble serve` far, `amble run` near, whatever is done to the link meanwhile.

The network is made for being cut: its input is large, what is left after the first operators is small, and most of the
work comes later. The device is a simulated phone that is held to its own pace in this machine's time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bench.hosts.hosts import ADDRESSES, Hosts
from bench.kit.places import ROOT

__all__ = ["DEVICE", "Ran", "Server", "after", "can_run", "made", "network", "run"]

DEVICE = "sim:snapdragon-phone-gpu"
RADIO = "0.02W"
_PORT = 8200
_NO_MORE = ("--grpc-port", "-1", "--metrics-port", "-1")
_LAYERS, _ROWS, _WIDTH, _SIDE = 16, 8, 1024, 128


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run told, and the latency [s] of each request in the order of arrival."""

    told: dict[str, Any]
    latencies_s: tuple[float, ...]
    late: tuple[bool, ...]


def amble(*words: str) -> list[str]:
    """Return the words of a command."""
    return [str(Path(sys.executable).parent / "amble"), *words]


def environment() -> dict[str, str]:
    """Return what a command of this tree runs under."""
    path = os.pathsep.join(each for each in (str(ROOT / "src"), os.environ.get("PYTHONPATH", "")) if each)
    first = os.environ.get("PYTHONPATH") or path
    return {**os.environ, "PYTHONPATH": first, "OMP_NUM_THREADS": "1"}


def can_run() -> bool:
    """Tell whether this version of amble runs splits."""
    return subprocess.run(amble("run", "--help"), capture_output=True, env=environment(), check=False).returncode == 0


def network(path: Path) -> Path:
    """Write the network."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        scale = 1.0 / np.sqrt(shape[0])
        return numpy_helper.from_array((scale * rng.standard_normal(shape)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "conv", kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("Reshape", ["r1", "shape"], ["h0"], "reshape"),
        *(helper.make_node("MatMul", [f"h{at}", "w2"], [f"h{at + 1}"], f"dense{at}") for at in range(_LAYERS)),
        helper.make_node("MatMul", [f"h{_LAYERS}", "w3"], ["y"], "last"),
    ]
    shape = numpy_helper.from_array(np.array([1, _ROWS, _WIDTH]), "shape")
    weights = [weight("w1", 8, 3, 4, 4), weight("w2", _WIDTH, _WIDTH), weight("w3", _WIDTH, 10), shape]
    value = helper.make_tensor_value_info
    inputs = [value("x", onnx.TensorProto.FLOAT, [1, 3, _SIDE, _SIDE])]
    outputs = [value("y", onnx.TensorProto.FLOAT, [1, _ROWS, 10])]
    model = helper.make_model(
        helper.make_graph(nodes, "deep", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 10
    onnx.save(model, path)
    return path


def made(folder: Path, model: Path, link: str, deadline: str, *more: str, radio: str = RADIO) -> Path:
    """Split a network for a link → the plan's file; what it says is its JSON."""
    words = ["split", str(model), "--device", DEVICE, "--server", "8x", "--link", link, "--deadline", deadline]
    done = subprocess.run(
        amble(*words, "--radio", radio, "-o", str(folder), *more),
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return folder / "split.json"


@dataclass(slots=True)
class Server:
    """`amble serve` with the server's halves on the far host; `kill` and `start` as often as wanted."""

    pair: Hosts
    plan: Path
    running: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        words = ["serve", "--repository", str(self.plan.parent / "repository"), "--host", ADDRESSES["far"]]
        began = self.pair.start("far", _joined(*words, "--http-port", str(_PORT), *_NO_MORE, "--json"), environment())
        self.running = began
        assert began.stdout is not None
        for line in began.stdout:
            if '"ready"' in line:
                break
        else:
            raise RuntimeError("the server did not start")
        threading.Thread(target=began.stdout.read, daemon=True).start()  # so that it never waits to be read

    def kill(self) -> None:
        """Kill it, as a failure of its machine would."""
        assert self.running is not None
        self.running.kill()
        self.running.wait()


def run(
    pair: Hosts, plan: Path, load: str, folder: Path, meanwhile: Callable[[], object] = lambda: None, how: str = "verb"
) -> Ran:
    """Run on the near host; do something from the first request on.

    ``how``: ``verb`` is `amble run`, which compares every answer with the whole network's; ``eager`` (which compares,
    too) and ``plain`` are `near`.
    """
    log, out, url = folder / "log.json", folder / "ran.json", f"http://{ADDRESSES['far']}:{_PORT}"
    if how == "verb":
        words = ["run", "--plan", str(plan), "--server", url, "--load", load, "--compare"]
        began = pair.start("near", _joined(*words, "--log", str(log), "-o", str(out)), environment())
    else:
        words = [sys.executable, "-m", "bench.split_run.near", str(plan), url, load, str(log), str(out)]
        began = pair.start("near", [*words, *(["eager", "compare"] if how == "eager" else [])], environment())
    said = _heard(began, meanwhile)
    code = began.wait()
    pair.end(began)
    if code:
        raise RuntimeError(f"the run ended with {code}: {''.join(said[-3:])}")
    requests = json.loads(log.read_text())["log"]["served"]
    took = tuple(each["finish_s"] - each["arrival_s"] for each in requests)
    late = tuple(each["finish_s"] > each["deadline_s"] for each in requests)
    return Ran(json.loads(out.read_text())["ran"], took, late)


def _heard(began: subprocess.Popen[str], meanwhile: Callable[[], object]) -> list[str]:
    """Read what a run says, to its end; something is done from its first request on."""
    assert began.stdout is not None
    doing, said = threading.Thread(target=meanwhile), []
    for line in began.stdout:
        said.append(line)
        if "answering" in line and "asking" not in line and not doing.ident:
            doing.start()
    if doing.ident:
        doing.join()
    return said


def _joined(*words: str) -> list[str]:
    """Return the words of a command whose errors go where its output goes."""
    return ["sh", "-c", 'exec "$@" 2>&1', "sh", *amble(*words)]


def after(*steps: tuple[float, Callable[[], object]]) -> Callable[[], None]:
    """Return what does each step after so many seconds more."""

    def do() -> None:
        for wait_s, step in steps:
            time.sleep(wait_s)
            step()

    return do
