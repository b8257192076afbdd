"""Our server and Triton's on one core, networks and messages for them, and loads from another core."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench.kit.places import BENCH, BUILD, ROOT
from bench.kit.processes import ended, free_port
from bench.serve_triton import networks

HERE = BENCH / "serve_triton"
BODIES = {"4 kB": 4096, "600 kB": 602112}
TIMES_S = {"0.2 ms": 0.2e-3, "5 ms": 5e-3, "50 ms": 50e-3}
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
START_S = 300.0
REST_S, LOOK_S, STILL = 30.0, 0.1, 0.05  # the longest rest, how often one looks, and the share of a core that is none
NONE: Mapping[str, float] = MappingProxyType({})
INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked, and by how many at once."""

    door: str
    body: str
    time: str
    connections: int

    @property
    def model(self) -> str:
        """Return the name of its model."""
        return f"m{BODIES[self.body] // 1024}k{round(1e6 * TIMES_S[self.time])}us"

    @property
    def seconds(self) -> int:
        """Return for how long it is asked [s]."""
        return 2 if self.time == "50 ms" else 1


@contextmanager
def running(words: Sequence[str], name: str, *, pinned: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on its core while the block runs, with everything that it starts."""
    log = BUILD / f"serve_triton-{name}.log"
    quiet = {"OMP_NUM_THREADS": "1"}
    with log.open("w") as out:
        running = subprocess.Popen(
            [*(("taskset", "-c", str(SERVER_CORE)) if pinned else ()), *words],
            stdout=out, stderr=out, env={**os.environ, **quiet}, process_group=0,
        )  # fmt: skip
        with ended(running):
            yield running


@contextmanager
def ours(models: dict[str, Path], *more: str, pinned: bool = True) -> Iterator[dict[str, int]]:
    """Run our server, on its core or on any; the ports of its doors, and its process."""
    ports = {"http": free_port(), "grpc": free_port()}
    words = [str(Path(sys.executable).parent / "amble"), "serve", *(f"{name}={path}" for name, path in models.items())]
    words += [f"--http-port={ports['http']}", f"--grpc-port={ports['grpc']}", "--metrics-port=-1", *more]
    with running(words, "amble", pinned=pinned) as started:
        await_ready(ports["http"], started, "amble")
        yield {**ports, "pid": started.pid}


@contextmanager
def tritons(models: dict[str, Path], waits_s: Mapping[str, float] = NONE) -> Iterator[dict[str, int]]:
    """Run Triton; the ports of its doors, and its process. ``waits_s``: after what time its queues reject, by model."""
    script, venv = triton()
    ports = {"http": free_port(), "grpc": free_port()}
    repository = BUILD / "serve_triton" / "repository"
    named = [f"{name}={path}" for name, path in models.items()]
    subprocess.run(["bash", script, "repository", venv, str(repository), *named], check=True, capture_output=True)
    for name, wait_s in waits_s.items():
        _limit(repository, name, wait_s)
    words = ["bash", script, "serve", venv, str(repository), str(ports["http"]), str(ports["grpc"]), str(free_port())]
    with running(words, "triton") as started:
        await_ready(ports["http"], started, "triton")
        yield {**ports, "pid": started.pid}


def _limit(repository: Path, model: str, wait_s: float) -> None:
    """Have Triton reject what has waited longer than that."""
    path = repository / model / "config.pbtxt"
    rule = f"default_timeout_microseconds: {round(1e6 * wait_s)} timeout_action: REJECT"
    text = path.read_text().replace("dynamic_batching {}", f"dynamic_batching {{default_queue_policy {{{rule}}}}}")
    path.write_text(text)


def triton() -> tuple[str, str]:
    """Return the script that starts Triton, and where it is installed."""
    script = os.environ.get("AMBLE_TRITON") or str(ROOT.parent / "shared" / "acceptance" / "triton_peer.sh")
    return script, os.environ.get("AMBLE_TRITON_VENV") or "/tmp/triton-venv"  # noqa: S108  a default, read only


def await_ready(port: int, running: subprocess.Popen[bytes], name: str) -> None:
    """Return once a server takes requests."""
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and running.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as stream:
            stream.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            if b" 200 " in stream.recv(4096):
                return
        time.sleep(0.2)
    raise RuntimeError(f"{name} did not start: see build/serve_triton-{name}.log")


def offered(
    case: Case, ports: dict[str, int], folder: Path, *, seconds: int | None = None, core: int | None = LOAD_CORE
) -> dict[str, float]:
    """Offer one load, from one core or any -> answered, failed, seconds, p50_s, p99_s."""
    seconds = seconds or case.seconds
    if case.door == "grpc":
        message = folder / f"{case.model}.pb"
        words = [sys.executable, str(HERE / "load_grpc.py"), str(ports["grpc"]), INFER, str(message)]
        words += [str(case.connections), str(seconds), str(core)]
        return told(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    words = wrk(case, ports, folder, seconds, core=core)
    return told(subprocess.run(words, capture_output=True, check=True, text=True, env=given(case, folder)).stdout)


def wrk(case: Case, ports: dict[str, int], folder: Path, seconds: int, *, core: int | None = LOAD_CORE) -> list[str]:
    """Return the command that loads the HTTP door."""
    url = f"http://127.0.0.1:{ports['http']}/v2/models/{case.model}/infer"
    words = [] if core is None else ["taskset", "-c", str(core)]
    words += ["wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "--timeout", "20s", "--latency"]
    return [*words, "-s", str(HERE / "wrk.lua"), url]


def given(case: Case, folder: Path) -> dict[str, str]:
    """Return the environment in which wrk finds what it sends."""
    head = (folder / f"{case.model}.head").read_text()
    return {**os.environ, "BODY": str(folder / f"{case.model}.body"), "HEAD": head}


def told(out: str) -> dict[str, float]:
    """Read what a load said of itself."""
    return dict(json.loads(out.partition("JSON ")[2] or out))


def messages(folder: Path, model: str, num_bytes: int) -> None:
    """Write what is sent to a model over each door."""
    import numpy as np
    from tritonclient.grpc import service_pb2

    row = np.random.default_rng(0).random((1, num_bytes // 4), dtype=np.float32)
    entry = {
        "name": "x",
        "datatype": "FP32",
        "shape": [1, num_bytes // 4],
        "parameters": {"binary_data_size": num_bytes},
    }
    head = json.dumps({"inputs": [entry], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}).encode()
    (folder / f"{model}.body").write_bytes(head + row.tobytes())
    (folder / f"{model}.head").write_text(str(len(head)))
    made = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[row.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=row.shape)
    made.outputs.add(name="y")
    (folder / f"{model}.pb").write_bytes(made.SerializeToString())


def prepared(wanted: Sequence[Case], folder: Path) -> tuple[dict[str, Path], dict[str, float]]:
    """Write the networks and the messages of some cases -> their files, and the time of the bare call [s]."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, bare_s = {}, {}
    for case in wanted:
        if case.model not in paths:
            path = paths[case.model] = folder / f"{case.model}.onnx"
            bare_s[case.model] = networks.write(path, BODIES[case.body], TIMES_S[case.time])
            messages(folder, case.model, BODIES[case.body])
    return paths, bare_s


def rested(pids: Collection[int], within_s: float = REST_S) -> None:
    """Return once servers have nothing more to do.

    A load that ends cuts its calls off. Triton computes them all the same, for up to a second, on the core that it
    shares with ours: whatever is timed meanwhile, of either server, waits for that.
    """
    until_s, before_s = time.monotonic() + within_s, _used_s(pids)
    while time.monotonic() < until_s:
        time.sleep(LOOK_S)
        now_s = _used_s(pids)
        if now_s - before_s < STILL * LOOK_S and not _wait_for_a_core(pids):
            return
        before_s = now_s
    raise RuntimeError(f"servers still compute after {within_s:g} s in which nobody asked them")


def _used_s(pids: Collection[int]) -> float:
    return sum(sum(processor_s(pid).values()) for pid in pids)


def _wait_for_a_core(pids: Collection[int]) -> bool:
    threads = [thread for pid in pids for own in _threads(pid).values() for thread in own]
    return any((thread / "stat").read_text().rpartition(")")[2].split()[0] == "R" for thread in threads)


def processor_s(pid: int) -> dict[int, float]:
    """Return the processor's time [s] of a process and of each that it has started."""
    return {
        each: sum(int((thread / "schedstat").read_text().split()[0]) / 1e9 for thread in threads)
        for each, threads in _threads(pid).items()
    }


def _threads(pid: int) -> dict[int, list[Path]]:
    """Return the threads of a process and of each that it has started, as the kernel shows them."""
    found, waiting = {}, [pid]
    while waiting:
        each = waiting.pop()
        found[each] = list(Path(f"/proc/{each}/task").iterdir())
        waiting += [int(child) for thread in found[each] for child in (thread / "children").read_text().split()]
    return found
