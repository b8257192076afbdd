"""Our server beside a real Triton: answers a second over HTTP and gRPC, closed loop, both servers on one core.

Triton is the binary of the wheel nvidia-pytriton, with its Python back end over the same ONNX Runtime, one thread,
batches of up to 8 as ours; `AMBLE_TRITON` names the script that starts it, `AMBLE_TRITON_VENV` where it is.
Servers and their helpers run on one core, the load on another: wrk over HTTP, frames made beforehand over gRPC
(`load_grpc.py`). Rounds are interleaved: each takes every case of both servers one by one, and a ratio is that
of one round, of which the median is kept. Refused requests count as sent: only answers are counted.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.kit import document
from bench.kit.document import Record, Target
from bench.kit.places import BENCH, BUILD, ROOT
from bench.serve_triton import networks

HERE = BENCH / "serve_triton"
BODIES = {"4 kB": 4096, "600 kB": 602112}
TIMES_S = {"0.2 ms": 0.2e-3, "5 ms": 5e-3, "50 ms": 50e-3}
CONNECTIONS = (1, 4, 16, 64)
DOORS = ("http", "grpc")
WANTED = {("http", "4 kB"): 0.8, ("http", "600 kB"): 1.0, ("grpc", "4 kB"): 0.6, ("grpc", "600 kB"): 0.9}
ROUNDS = 3
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
START_S = 300.0
INFER = "/inference.GRPCInferenceService/ModelInfer"
MEASURED = ("amble.services.serve.serving",)  # what the command that is served with runs: the age of a result counts it


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


def cases(*, quick: bool) -> list[Case]:
    """Return what is measured."""
    every = [Case(*each) for each in _product(DOORS, BODIES, TIMES_S, CONNECTIONS)]
    if quick:
        return [each for each in every if each.time == "0.2 ms" and each.connections in (1, 16)]
    return [each for each in every if each.time != "50 ms" or each.connections in (1, 16)]


def _product(
    doors: Sequence[str], bodies: Sequence[str] | dict[str, int], times: dict[str, float], users: Sequence[int]
) -> Iterator[tuple[str, str, str, int]]:
    for time_ in times:
        for body in bodies:
            for door in doors:
                for each in users:
                    yield door, body, time_, each


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def _running(words: Sequence[str], name: str, *, pinned: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on its core while the block runs, with everything that it starts."""
    log = BUILD / f"serve_triton-{name}.log"
    quiet = {"OMP_NUM_THREADS": "1"}
    with log.open("w") as out:
        running = subprocess.Popen(
            [*(("taskset", "-c", str(SERVER_CORE)) if pinned else ()), *words],
            stdout=out, stderr=out, env={**os.environ, **quiet}, process_group=0,
        )  # fmt: skip
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                running.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()


@contextmanager
def ours(models: dict[str, Path], *more: str, pinned: bool = True) -> Iterator[dict[str, int]]:
    """Run our server, on its core or on any; the ports of its doors."""
    ports = {"http": _free(), "grpc": _free()}
    words = [str(Path(sys.executable).parent / "amble"), "serve", *(f"{name}={path}" for name, path in models.items())]
    words += [f"--http-port={ports['http']}", f"--grpc-port={ports['grpc']}", "--metrics-port=-1", *more]
    with _running(words, "amble", pinned=pinned) as running:
        _await(ports["http"], running, "amble")
        yield ports


@contextmanager
def tritons(models: dict[str, Path]) -> Iterator[dict[str, int]]:
    """Run Triton; the ports of its doors."""
    script, venv = triton()
    ports = {"http": _free(), "grpc": _free()}
    repository = BUILD / "serve_triton" / "repository"
    named = [f"{name}={path}" for name, path in models.items()]
    subprocess.run(["bash", script, "repository", venv, str(repository), *named], check=True, capture_output=True)
    words = ["bash", script, "serve", venv, str(repository), str(ports["http"]), str(ports["grpc"]), str(_free())]
    with _running(words, "triton") as running:
        _await(ports["http"], running, "triton")
        yield ports


def triton() -> tuple[str, str]:
    """Return the script that starts Triton, and where it is installed."""
    script = os.environ.get("AMBLE_TRITON") or str(ROOT.parent / "shared" / "acceptance" / "triton_peer.sh")
    return script, os.environ.get("AMBLE_TRITON_VENV") or "/tmp/triton-venv"  # noqa: S108  a default, read only


def _await(port: int, running: subprocess.Popen[bytes], name: str) -> None:
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


def measured(*, quick: bool) -> list[Record]:
    """Measure both servers, interleaved."""
    wanted, folder = cases(quick=quick), BUILD / "serve_triton"
    paths, bare_s = prepared(wanted, folder)
    rates: dict[tuple[Case, str], list[dict[str, float]]] = {}
    with ExitStack() as stack:
        servers = {"amble": stack.enter_context(ours(paths))}
        if Path(triton()[1]).exists():
            servers["triton"] = stack.enter_context(tritons(paths))
        for case in wanted[:: len(CONNECTIONS)]:
            for ports in servers.values():
                offered(case, ports, folder)
        for turn in range(1 if quick else ROUNDS):
            for case in wanted:
                for name in list(servers)[:: 1 if turn % 2 == 0 else -1]:
                    rates.setdefault((case, name), []).append(offered(case, servers[name], folder))
    return [
        {
            "server": name, "door": case.door, "body": case.body, "model": case.time, "connections": case.connections,
            "bare_s": bare_s[case.model], "rate_hz": [each["answered"] / each["seconds"] for each in found],
            "failed": sum(each["failed"] for each in found),
            "p50_s": median(each["p50_s"] for each in found), "p99_s": median(each["p99_s"] for each in found),
        }
        for (case, name), found in rates.items()
    ]  # fmt: skip


def ratio(records: Sequence[Record], **which: object) -> float | None:
    """Return our rate over Triton's: the median over rounds."""
    mine = [each for each in records if all(each[name] == value for name, value in which.items())]
    sides = {str(each["server"]): each["rate_hz"] for each in mine}
    if set(sides) != {"amble", "triton"}:
        return None
    pairs = zip(_numbers(sides["amble"]), _numbers(sides["triton"]), strict=True)
    return median(first / second if second else float("inf") for first, second in pairs)


def _numbers(value: object) -> list[float]:
    assert isinstance(value, list)
    return [float(each) for each in value]


CAUSE = (
    "taken on a machine with much other work and without the right to let the loop go first: every hand-over between "
    "grpcio's poller, the loop and the engine waits for its turn there; tried: methods looked up by name (kept), "
    "grpcio's synchronous server and the plain event loop (no difference), another HTTP server (see decision 12)"
)


def targets(records: Sequence[Record]) -> list[Target]:
    """What is promised: at every body, door, model and number of connections a share of Triton's rate."""
    made = []
    seen = dict.fromkeys((each["door"], each["body"], each["model"], each["connections"]) for each in records)
    for door, body, model, connections in seen:
        value = ratio(records, door=door, body=body, model=model, connections=connections)
        way = "HTTP" if door == "http" else "gRPC"
        name = f"{way}, {body}, network of {model}, {connections} at once: rate over Triton's"
        want = f">= {WANTED[str(door), str(body)]:g}"
        made.append(document.target(name, want=want, value=value, unit="1", cause=CAUSE))
    return made


def main() -> None:
    """Measure and print."""
    document.run("serve_triton", __doc__, lambda given: measured(quick=given.quick), targets)
