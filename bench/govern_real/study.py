"""`amble govern` beside real servers under a CPU quota, with an open-loop client; and what it costs by itself.

A server runs in a control group of its own. First its least static quota is looked for: the smallest one whose late
answers stay within the objective, with the same arrivals as the governed run later meets. Then `amble govern` sets the
quota, and for the last seconds five times as many requests come. No energy is claimed: a quota is a duty cycle.

The cost is the processor time of the process that governs, beside a page of 600 lines, once it has settled.

Where no control group may be made the servers are left out, and the targets say so; MLServer needs
.venv-peer-mlserver.
"""

from __future__ import annotations

from bench.kit import document

document.on_one_core()

import asyncio  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from contextlib import contextmanager, suppress  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402
from urllib.request import urlopen  # noqa: E402

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from amble.core import files  # noqa: E402
from amble.core.log import FORMAT, Log  # noqa: E402
from amble.core.point import Clocks  # noqa: E402
from amble.devices.quota import QuotaActuator  # noqa: E402
from amble.services.govern.maps import recognise  # noqa: E402
from amble.services.govern.page import names_of, read_page  # noqa: E402
from bench.serve.load import Client, request  # noqa: E402

GROUPS = Path("/sys/fs/cgroup/cpu")
AMBLE = str(Path(sys.executable).parent / "amble")
HERE = Path(__file__).parent
SHAPE = (1, 3, 96, 96)
LOAD = 0.15  # of what one user alone gets answered
SHARES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4)
START_S = 60.0
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: where it answers, where its page is, and the request that it is sent."""

    kind: str
    port: int
    page_port: int
    message: bytes

    @property
    def page(self) -> str:
        """Return the address of its metrics."""
        return f"http://127.0.0.1:{self.page_port}/metrics"


def main() -> None:
    options = document.options("govern_real", __doc__)
    lasts_s = 15.0 if options.quick else 30.0
    records: list[Record] = [cost(period_s, 5.0 if options.quick else 15.0) for period_s in (1.0, 0.25)]
    for kind in ("amble", "mlserver"):
        why = left_out(kind)
        if why:
            records.append({"server": kind, "left_out": why})
        else:
            records.extend(tried(kind, lasts_s, quick=options.quick))
    document.finish(options, records, list(targets(records)))


def left_out(kind: str) -> str:
    """Say why a server cannot be tried here; empty when it can."""
    if not os.access(GROUPS, os.W_OK):
        return f"no control group may be made below {GROUPS}"
    if kind == "mlserver" and not _peer().exists():
        return "no .venv-peer-mlserver"
    return ""


def cost(period_s: float, lasts_s: float) -> Record:
    """Return the processor time [s/s] of governing beside a page of 600 lines, after five seconds of settling."""
    with big_page() as url:
        words = [AMBLE, "govern", url, "--slo", "latency p99 < 100ms", "--watch", "--period", f"{period_s}s", "--json"]
        running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(5.0)
            before = _cpu_s(running.pid)
            time.sleep(lasts_s)
            used_s = _cpu_s(running.pid) - before
        finally:
            running.terminate()
            running.wait(20)
    return {"part": "cost", "period_s": period_s, "lines": 600, "cores": used_s / lasts_s}


@contextmanager
def big_page() -> Iterator[str]:
    """Serve a page of 600 lines of a server that answers 50 requests a second."""
    start_s = time.monotonic()
    edges = [f"{0.001 * 1.25**step:.6g}" for step in range(40)]
    others = [f'other_{index % 40}{{model="m",le="{index}"}} {index}' for index in range(557)]

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            count = int(50 * (time.monotonic() - start_s))
            rows = [f'amble_request_duration_seconds_bucket{{le="{edge}"}} {count}' for edge in (*edges, "+Inf")]
            body = "\n".join([*others, *rows, f"amble_requests_total {count}", "amble_build_info 1", ""]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    door = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=door.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{door.server_port}/metrics"
    finally:
        door.shutdown()
        door.server_close()


def tried(kind: str, lasts_s: float, *, quick: bool) -> Iterator[Record]:
    """Yield a record of every static quota, until one keeps the objective, and one of the governed run."""
    with tempfile.TemporaryDirectory() as name, group() as folder, serving(kind, Path(name), folder) as server:
        alone = Client(server.port, server.message)
        alone.alone(4.0)
        service_s = float(np.median([row[1] for row in alone.rows]))
        limit_s = next(edge for edge in edges_s(server) if edge >= 5.0 * service_s)
        rate_hz = LOAD / service_s
        about: Record = {"server": kind, "service_s": service_s, "limit_s": limit_s, "rate_hz": rate_hz}
        actuator = QuotaActuator(folder, len(os.sched_getaffinity(0)))
        for share in SHARES[::2] if quick else SHARES:
            actuator.apply(Clocks(cpu_share=share))
            rows = offered(server, rate_hz, lasts_s)
            actuator.apply(Clocks())
            found = {**about, "policy": "static", "share": share, **told(rows, limit_s)}
            yield found
            if found["late"] <= 0.01:
                break
        yield {**about, **under(server, folder, Path(name) / "log.json", rate_hz, limit_s, lasts_s)}


def under(server: Server, folder: Path, log: Path, rate_hz: float, limit_s: float, lasts_s: float) -> Record:
    """Return what came of a governed run: the first half learns, the second counts, and then comes a burst."""
    words = [AMBLE, "govern", server.page, "--slo", f"latency p99 < {1e3 * limit_s:.6f}ms"]
    words += ["--device", f"quota:{folder.name}", "--period", "1s", "--control", "0", "-o", str(log), "--json"]
    words += ["--for", f"{2.0 * lasts_s + 20.0:g}s"]
    state = {**os.environ, "XDG_STATE_HOME": str(log.parent)}
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=state)
    try:
        time.sleep(3.0)
        learning = offered(server, rate_hz, lasts_s, seed=1)
        start_s = time.perf_counter()
        counted = offered(server, rate_hz, lasts_s)
        burst_s = time.perf_counter()
        burst = offered(server, 5.0 * rate_hz, 10.0, seed=2)
        running.wait(60)
    finally:
        running.terminate()
        running.wait(30)
    kept = files.load(log, FORMAT)
    share = mean_share(kept, start_s, burst_s)
    after = [each.decided for each in kept.periods if each.finish_s > burst_s][:3]
    found: Record = {"policy": "amble", "share": share, **told(counted, limit_s)}
    late_learning = told(learning, limit_s)
    found |= {"late_learning": late_learning["late"], "answers_learning": late_learning["answers"]}
    fastest = next((at for at, setting in enumerate(after) if setting in (0, -1)), None)
    found |= {"periods_to_highest": fastest, "late_in_burst": told(burst, limit_s)["late"]}
    quota = folder / "cpu.cfs_quota_us"
    return found | {"changes": kept.num_changes, "quota_as_found": quota.read_text().strip() == "-1"}


def mean_share(log: Log, start_s: float, finish_s: float) -> float:
    """Return the mean quota [CPUs]; all of them while it was as found."""
    most = float(len(os.sched_getaffinity(0)))
    rows = [each for each in log.periods if each.start_s >= start_s and each.finish_s <= finish_s]
    weighed = sum((each.asked.cpu_share or most) * each.span_s for each in rows)
    return weighed / sum(each.span_s for each in rows)


def offered(server: Server, rate_hz: float, seconds: float, seed: int = 0) -> list[float]:
    """Offer requests at the moments of a Poisson process; return latencies [s], infinite for those not answered."""
    client = Client(server.port, server.message)
    asyncio.run(client.poisson(rate_hz, seconds, seed))
    return [row[1] if row[0] == 200 else float("inf") for row in client.rows]


def told(latencies_s: Sequence[float], limit_s: float) -> Record:
    """Return the share of late answers, with the half of its 95 % interval at the share that is allowed."""
    count = len(latencies_s)
    late = sum(each > limit_s for each in latencies_s)
    half = 1.96 * (0.01 * 0.99 / max(1, count)) ** 0.5
    tail_s = document.percentile([min(each, 1e3) for each in latencies_s], 99)
    return {"answers": count, "late": late / max(1, count), "allowed": 0.01 + half, "p99_s": tail_s}


def edges_s(server: Server) -> list[float]:
    """Return the edges [s] of a server's histogram of latencies."""
    with urlopen(server.page, timeout=5.0) as answer:  # noqa: S310
        text = answer.read().decode()
    source = recognise(names_of(text)).latencies["latency"]
    page = read_page(text, {f"{name}_bucket" for name in source.names})
    return sorted({float(dict(labels)["le"]) * source.unit_s for rows in page.values() for labels, _ in rows})


@contextmanager
def group() -> Iterator[Path]:
    """Make a control group while the block runs."""
    folder = GROUPS / f"amble-bench-{os.getpid()}"
    folder.mkdir()
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
    port, page_port, other = (_free() for _ in range(3))
    if kind == "amble":
        model = network(home / "model.onnx")
        words = [AMBLE, "serve", f"model={model}", f"--http-port={port}", f"--metrics-port={page_port}"]
        words += ["--grpc-port=-1", "--max-batch=1", "--governor=max", "--json"]
        message = request("amble", SHAPE, name="x")
    else:
        words = [str(_peer()), str(HERE / "peer_mlserver.py"), str(port), str(page_port), str(other)]
        message = request("mlserver", (4,))
    entered = ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    running = subprocess.Popen(entered, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        server = Server(kind, port, page_port, message)
        _await(server, running)
        yield server
    finally:
        running.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            running.wait(20)
        running.kill()
        running.wait()


def _await(server: Server, running: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and running.poll() is None:
        client = Client(server.port, server.message)
        client.alone(0.2)
        if any(row[0] == 200 for row in client.rows):
            return
        time.sleep(0.5)
    raise RuntimeError(f"{server.kind} did not start")


def network(path: Path) -> Path:
    """Write a network of six convolutions: some milliseconds a request."""
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


def targets(records: Sequence[Record]) -> Iterator[document.Target]:
    """Yield what was promised of the costs and of each server."""
    for each in records:
        if each.get("part") == "cost":
            want = "<= 0.01" if each["period_s"] == 1.0 else "<= 0.03"
            yield document.target(
                f"own cost, period {each['period_s']:g} s", want=want, value=each["cores"], unit="cores"
            )
    for kind in ("amble", "mlserver"):
        mine = [each for each in records if each.get("server") == kind]
        why = next((f"not measured: {each['left_out']}" for each in mine if "left_out" in each), "")
        governed = next((each for each in mine if each.get("policy") == "amble"), None)
        least = next((each["share"] for each in mine if each.get("policy") == "static" and each["late"] <= 0.01), None)
        yield from _of(kind, governed, least, why)
    for kind in ("Triton", "llama.cpp"):
        yield document.target(
            f"{kind}: late over the share and its interval", want="<= 0", value=None, unit="1", cause="not measured"
        )


def _of(kind: str, governed: Record | None, least: float | None, why: str) -> Iterator[document.Target]:
    over = ratio = periods = None
    if governed is not None:
        over = max(0.0, governed["late"] - governed["allowed"])
        ratio = governed["share"] / least if least else None
        periods = governed["periods_to_highest"]
    cause = why or "another load on the same cores, and a governor that learns from nothing within a minute"
    yield document.target(
        f"{kind}: late over the share and its interval", want="<= 0", value=over, unit="1", cause=cause
    )
    yield document.target(f"{kind}: mean quota over least static", want="<= 1.15", value=ratio, unit="1", cause=cause)
    yield document.target(f"{kind}: periods to the highest, burst", want="<= 2", value=periods, unit="1", cause=cause)


def _peer() -> Path:
    return HERE.parent.parent / ".venv-peer-mlserver" / "bin" / "python"


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
