"""Our server beside LitServe, Ray Serve and MLServer: goodput under Poisson load, overhead of a request, overload.

The same ONNX file, one thread of ONNX Runtime, the servers on one core and the load on another (`load.py`, open
loop). The objective of a request is twice the network's own time and 10 ms; goodput counts the answers within it. A
load is held where 99 % of what was *sent* is answered within the objective: refused requests count as late. The
deadline that our server is told is the objective less twice the median overhead of a request, as the way there and back
is no part of it. The network's own time is that of the bare call on the servers' core, before and after each server,
since a shared machine changes; loads are shares of its rate. Peers run in .venv-peer-NAME (make setup-peers) and answer
without batching, which gains nothing on this CPU. BentoML is left out: it does not install here.

A slice is one server with one network, below three minutes. Slices that were measured are kept under build/ and not
measured again (`--fresh`: all of them anew), so that a run can be taken in pieces: ``--slice amble/mobilenetv2``.
`--kept` sums up what there is and measures nothing; `--judge FILE` judges the records of FILE anew.

The load generator keeps freed memory (glibc's MALLOC_*), as it would otherwise spend more time on page faults of its
own than the request takes; over gRPC, as over HTTP, the request's bytes are made beforehand.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from bench.kit import ages, cells, document
from bench.kit.cells import slices
from bench.kit.document import Record, Target
from bench.kit.places import BENCH, BUILD, ROOT
from bench.models import building as models

HERE = BENCH / "serve"
NETWORKS = {"mobilenetv2": (1, 3, 224, 224), "efficientnet_lite0": (1, 3, 224, 224)}
KINDS = ("amble", "litserve", "ray", "mlserver")
LOADS = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
OVERLOAD = 1.5
HELD = 0.99  # of what was sent
MEASURED = ("amble.services.serve.serving",)  # what the command that is served with runs: the age of a result counts it
WAY = 2.0  # times the median overhead of a request, that a client leaves for the way there and back
START_S = 60.0
KEEPS_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE, SERVER_CORE = CORES[0], CORES[-1]

BARE = """
import json, os, sys, time
os.sched_setaffinity(0, {int(sys.argv[3])})
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
x = np.random.default_rng(0).random([int(n) for n in sys.argv[2].split(",")], dtype=np.float32)
times = []
until = time.perf_counter() + float(sys.argv[4])
while time.perf_counter() < until or len(times) < 10:
    start = time.perf_counter()
    session.run(None, {name: x})
    times.append(time.perf_counter() - start)
print(json.dumps({"input": name, "times_s": times[3:]}))
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One network: its file, the shape and name of its input, and how long each load lasts [s]."""

    network: str
    path: Path
    shape: str
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one load: requests sent, latencies [s] of those answered, the server's own times [s]."""

    sent: int
    answered_s: list[float]
    own_s: list[float]
    seconds: float

    def goodput_hz(self, objective_s: float) -> float:
        """Answers within the objective, each second."""
        return sum(latency <= objective_s for latency in self.answered_s) / self.seconds

    def tail_s(self) -> float | None:
        """99th percentile of the latency of what was answered."""
        return document.percentile(self.answered_s, 99) if self.answered_s else None


def bare(path: Path, shape: str, seconds: float) -> tuple[str, float]:
    """The input's name and the median time [s] of the bare call, on the servers' core."""
    words = [sys.executable, "-c", BARE, str(path), shape, str(SERVER_CORE), str(seconds)]
    told = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return told["input"], document.percentile(told["times_s"], 50)


@contextmanager
def serving(kind: str, case: Case) -> Iterator[int]:
    """Run a server on its core while the block runs; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = {
        "amble": [
            *(str(Path(sys.executable).parent / "amble"), "serve", f"model={case.path}", f"--http-port={port}"),
            *("--grpc-port=0", "--metrics-port=-1", "--max-batch=1", "--json"),
        ],
    }.get(kind) or [_peer(kind), str(HERE / f"peer_{kind}.py"), str(case.path), str(port), case.shape]
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    log = BUILD / f"serve-{kind}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as out:
        running = subprocess.Popen(
            ["taskset", "-c", str(SERVER_CORE), *words],
            stdout=out, stderr=out, env={**os.environ, **quiet}, process_group=0,
        )  # fmt: skip
        try:
            _await(kind, case, port, running)
            yield port
        finally:
            running.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                running.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)  # workers that outlive their parent
            running.wait()


def _peer(name: str) -> str:
    return str(ROOT / f".venv-peer-{name}" / "bin" / "python")


def _await(kind: str, case: Case, port: int, running: subprocess.Popen[bytes]) -> None:
    """Return once a request was answered."""
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and running.poll() is None:
        if load(kind, case, port, users=1, seconds=0.1).answered_s:
            return
        time.sleep(0.5)
    raise RuntimeError(f"{kind} did not start: see build/serve-{kind}.log")


def load(
    kind: str, case: Case, port: int, *, rate_hz: float = 0.0, users: int = 1, seconds: float, timeout_s: float = 0.0
) -> Found:
    """Offer one load from the other core; a server that heeds deadlines is told that of the server's part."""
    words = [sys.executable, str(HERE / "load.py"), "--kind", kind, "--port", str(port), "--shape", case.shape]
    words += ["--input", case.name, "--rate", str(rate_hz), "--users", str(users), "--seconds", str(seconds)]
    words += ["--core", str(LOAD_CORE), "--timeout-us", str(int(timeout_s * 1e6))]
    environment = {**os.environ, **KEEPS_MEMORY}
    rows = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout)
    good = [row for row in rows if row[0] == 200 and row[1] is not None]
    return Found(len(rows), [row[1] for row in good], [row[2] for row in good if row[2] is not None], seconds)


def measure(kind: str, case: Case, loads: Sequence[float]) -> list[Record]:
    """One server: a record for each load, and one that sums them up."""
    before_s = bare(case.path, case.shape, case.seconds / 6)[1]
    records: list[Record] = []
    with serving(kind, case) as port:
        load(kind, case, port, users=2, seconds=1.0)
        alone = load(kind, case, port, users=1, seconds=case.seconds * 2 / 3)
        full = load(kind, case, port, users=4, seconds=case.seconds * 2 / 3)
        after_s = bare(case.path, case.shape, case.seconds / 6)[1]
        service_s = (before_s + after_s) / 2
        objective_s = 2 * service_s + 10e-3
        own_hz = len(full.answered_s) / full.seconds
        p50_s = document.percentile(alone.answered_s, 50)
        own_s = document.percentile(alone.own_s, 50) if alone.own_s else None
        timeout_s = objective_s - WAY * (p50_s - (own_s or p50_s))
        for share in (*loads, OVERLOAD):
            rate_hz = share * (own_hz if share == OVERLOAD else 1 / service_s)
            found = load(kind, case, port, rate_hz=rate_hz, seconds=case.seconds, timeout_s=timeout_s)
            record = {
                "network": case.network, "server": kind, "load": share, "rate_hz": rate_hz, "seconds": case.seconds,
                "sent": found.sent, "answered": len(found.answered_s), "goodput_hz": found.goodput_hz(objective_s),
                "p50_s": document.percentile(found.answered_s, 50) if found.answered_s else None,
                "p99_s": found.tail_s(),
                "objective_s": objective_s, "bare_s": service_s, "own_capacity_hz": own_hz,
            }  # fmt: skip
            records.append(record)
    alone_s = {"p50_alone_s": p50_s, "overhead_s": None if own_s is None else p50_s - own_s}
    alone_s |= {"overhead_bare_s": p50_s - service_s}
    ideal_ratio = ideal(OVERLOAD, (objective_s - service_s) / service_s)
    about = {"network": case.network, "server": kind, "ideal_overload_ratio": ideal_ratio}
    records.append(about | alone_s | summed(records))
    return records


def summed(loads: Sequence[Record]) -> dict[str, object]:
    """Sum up one server's loads: the best that it held, counted over what was sent, and what is left at overload.

    ``best_ratio`` is a share of the rate of the bare network, 0 where no load was held.
    """
    held = [each for each in loads if each["load"] != OVERLOAD and in_time(each) >= HELD]
    best = max(held, key=lambda each: number(each, "goodput_hz"), default=None)
    best_hz = 0.0 if best is None else number(best, "goodput_hz")
    (over,) = (each for each in loads if each["load"] == OVERLOAD)
    return {
        "best_hz": best_hz,
        "best_load": None if best is None else best["load"],
        "best_ratio": best_hz * number(over, "bare_s"),
        "overload_ratio": number(over, "goodput_hz") / number(over, "own_capacity_hz"),
        "overload_over_best": number(over, "goodput_hz") / best_hz if best_hz else None,
    }


def in_time(load: Record) -> float:
    """Share of the requests sent that were answered within the objective."""
    return number(load, "goodput_hz") * number(load, "seconds") / number(load, "sent")


def number(record: Record, name: str) -> float:
    """Return a number of a record."""
    return float(cast(float, record[name]))


def ideal(load: float, patience: float, count: int = 200_000) -> float:
    """Share of the capacity that a server without any overhead answers within the objective, Poisson arrivals.

    It knows every service time, here 1, serves one at a time and takes whatever waits at most ``patience``; no server
    that answers one at a time can do better.
    """
    rng = random.Random(0)  # noqa: S311  arrivals, no secrets
    waiting, answered, passed = 0.0, 0, 0.0
    for _ in range(count):
        gap = rng.expovariate(load)
        passed += gap
        waiting = max(0.0, waiting - gap)
        if waiting <= patience:
            waiting += 1.0
            answered += 1
    return answered / passed


def grpc_s(case: Case, count: int, *, barest: bool = False) -> tuple[float, float] | None:
    """Median of a gRPC call's time, and of that less what the server says the network took [s]; None if none starts.

    ``barest``: of the least that grpcio can do (`bare_grpc.py`) in our place.
    """
    code = """
import sys, time, json, os
os.sched_setaffinity(0, {int(sys.argv[5])})
import numpy as np, tritonclient.grpc as triton
import grpc
x = np.random.default_rng(0).random([int(n) for n in sys.argv[2].split(",")], dtype=np.float32)
made = triton.service_pb2.ModelInferRequest(model_name="model", raw_input_contents=[x.tobytes()])
made.inputs.add(name=sys.argv[3], datatype="FP32", shape=x.shape)
body, both = made.SerializeToString(), []
channel = grpc.insecure_channel(sys.argv[1])
infer = channel.unary_unary(
    "/inference.GRPCInferenceService/ModelInfer",
    response_deserializer=triton.service_pb2.ModelInferResponse.FromString,
)
for _ in range(int(sys.argv[4])):
    start = time.perf_counter()
    found = infer(body)
    took_s = time.perf_counter() - start
    both.append((took_s, took_s - found.parameters["service_s"].double_param))
print(json.dumps(both[5:]))
"""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [str(Path(sys.executable).parent / "amble"), "serve", f"model={case.path}", f"--grpc-port={port}"]
    words += ["--http-port=0", "--metrics-port=-1", "--max-batch=1", "--json"]
    if barest:
        words = [sys.executable, str(HERE / "bare_grpc.py"), str(case.path), str(port)]
    running = subprocess.Popen(["taskset", "-c", str(SERVER_CORE), *words], stdout=-3, stderr=-1, text=True)
    try:
        assert running.stderr is not None
        while '"ready"' not in (line := running.stderr.readline()):
            if not line:
                return None
        told = [sys.executable, "-c", code, f"127.0.0.1:{port}", case.shape, case.name, str(count), str(LOAD_CORE)]
        done = subprocess.run(told, capture_output=True, text=True, check=True, env={**os.environ, **KEEPS_MEMORY})
        took_s, over_s = zip(*json.loads(done.stdout), strict=True)
        return document.percentile(took_s, 50), document.percentile(over_s, 50)
    finally:
        running.terminate()
        running.communicate(timeout=30)


def targets(records: Sequence[Record]) -> list[Target]:
    """What is promised, for every network of the records."""
    made: list[Target] = []
    for network in dict.fromkeys(str(each["network"]) for each in records):
        mine = [each for each in records if each["network"] == network]
        sums = {str(each["server"]): each for each in mine if "best_ratio" in each}
        made += _beside(network, sums)
        ours = {**sums["amble"], **next((each for each in mine if "grpc_s" in each), {"grpc_s": None})}
        grpc = ("gRPC, beside the bare network", "grpc_bare_s") if "grpc_bare_s" in ours else (_GRPC, "grpc_s")
        for what, name in (("HTTP, beside the bare network", "overhead_bare_s"), grpc):
            value = cast("float | None", ours[name])
            made.append(document.target(f"{network}: overhead at p50, {what}", want="< 0.001", value=value, unit="s"))
        value = number(ours, "overload_ratio")
        made.append(document.target(f"{network}: goodput at 1.5 x capacity", want=">= 0.95", value=value, unit="1"))
    return made


_GRPC = "gRPC, beside what the server says the network took"


def _beside(network: str, sums: Mapping[str, Record]) -> Iterator[Target]:
    """Our best goodput less that of each other server; differences, as a server may have none at this objective."""
    ours = number(sums["amble"], "best_ratio")
    for kind in KINDS[1:]:
        other = number(sums[kind], "best_ratio") if kind in sums else None
        none = f" ({kind}: no goodput at this objective)" if other == 0 else ""
        name = f"{network}: best goodput less {kind}'s, as shares of the bare network's rate{none}"
        yield document.target(name, want=">= 0", value=None if other is None else ours - other, unit="1")


def judged_anew(records: Sequence[Record]) -> list[Record]:
    """Return records whose sums follow from their loads by today's rules."""
    loads = [each for each in records if "load" in each]

    def mine(one: Record) -> list[Record]:
        return [each for each in loads if (each["network"], each["server"]) == (one["network"], one["server"])]

    return [{**each, **summed(mine(each))} if "best_ratio" in each else each for each in records]


def sliced(kind: str, network: str, *, quick: bool) -> list[Record]:
    """Measure one server with one network."""
    path = models.write(network, BUILD / "models")
    shape = ",".join(str(size) for size in NETWORKS[network])
    case = Case(network, path, shape, bare(path, shape, 0.2)[0], 3.0 if quick else 9.0)
    records = measure(kind, case, LOADS[::3] if quick else LOADS)
    if kind == "amble":
        count = 100 if quick else 500
        ours_s, barest_s, bare_s = grpc_s(case, count), grpc_s(case, count, barest=True), bare(path, shape, 2.0)[1]
        over_s = {
            "grpc_bare_s": None if ours_s is None else ours_s[0] - bare_s,
            "grpc_s": None if ours_s is None else ours_s[1],
            "barest_grpc_s": None if barest_s is None else barest_s[1],
        }
        records.append({"network": network, "server": kind, **over_s})
    return records


def place(kind: str, network: str, *, quick: bool) -> Path:
    """Where a slice of this code is kept."""
    return BUILD / "serve" / ("quick" if quick else "full") / ages.key("serve") / f"{network}-{kind}.json"


def kept(kind: str, network: str, *, quick: bool, fresh: bool) -> list[Record]:
    """Return a slice that was measured before, or measure it and keep it."""
    make = partial(sliced, kind, network, quick=quick)
    return cells.kept(place(kind, network, quick=quick), make, fresh=fresh)


def main() -> None:
    """Measure every server on every network, one after the other, or one slice of it."""
    own, rest = slices("SERVER/NETWORK")
    options = document.options("serve", __doc__, rest, judges=True)
    if options.judge:
        records = judged_anew(document.stored(options.judge))
        document.judged(options, records, targets(records))
        return
    if own.slice:
        kind, _, network = own.slice.partition("/")
        print(json.dumps(kept(kind, network, quick=options.quick, fresh=own.fresh)))
        return
    results: list[Record] = []
    for network in list(NETWORKS)[: 1 if options.quick else None]:
        for kind in KINDS:
            if kind != "amble" and not Path(_peer(kind)).exists():
                continue
            if own.kept and not place(kind, network, quick=options.quick).exists():
                continue
            results += kept(kind, network, quick=options.quick, fresh=own.fresh)
    document.finish(options, results, targets(results))
