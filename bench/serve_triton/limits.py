"""What a request costs beside the bare network, and the most answers within an objective, ours and Triton's.

The overhead over HTTP at one connection is set beside a compiled HTTP server that echoes the same bytes (granian, from
`.venv-peer-granian`) and a copy of them. Goodput is under Poisson arrivals (`bench/serve/load.py`); the objective is
twice the network's time and 10 ms. Each server is told of it in its own way: ours by the request's timeout, Triton by
the timeout of its queue, after which it rejects; both less the network's own time and the way there and back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.kit.document import Record
from bench.kit.places import BENCH, ROOT
from bench.kit.processes import free_port
from bench.serve_triton import servers
from bench.serve_triton.servers import Case

LOADS = (0.6, 0.8, 1.0, 1.3)  # of the bare network's rate
MARGIN_S = 10e-3
WAY_S = 2e-3
SECONDS = {"0.2 ms": 2.0, "5 ms": 3.0, "50 ms": 6.0}
ECHO = ROOT / ".venv-peer-granian" / "bin" / "granian"


@contextmanager
def echoing() -> Iterator[dict[str, int]]:
    """Run the echo on the servers' core; its port."""
    ports = {"http": free_port()}
    words = [str(ECHO), "--interface", "rsgi", "--host", "127.0.0.1", "--port", str(ports["http"]), "--no-ws"]
    words += ["--loop", "asyncio", "--workers", "1", "--runtime-threads", "1", "--log-level", "warning"]
    with servers.running([*words, "--working-dir", str(BENCH / "serve_triton"), "echo:app"], "echo") as running:
        servers.await_ready(ports["http"], running, "echo")
        yield ports


def copy_s(num_bytes: int) -> float:
    """Return the time [s] of a copy of so many bytes."""
    source, place = bytearray(os.urandom(num_bytes)), bytearray(num_bytes)
    times_s = []
    for _ in range(200):
        begun_s = time.perf_counter()
        place[:] = source
        times_s.append(time.perf_counter() - begun_s)
    return sorted(times_s)[len(times_s) // 2]


def overheads(ports: dict[str, int], bare_s: dict[str, float], folder: Path, rounds: int) -> list[Record]:
    """Compare what a request costs beside the network with what an echo costs."""
    records: list[Record] = []
    with echoing() as echo:
        for body, num_bytes in servers.BODIES.items():
            case = Case("http", body, "0.2 ms", 1)
            ours_s, echo_s, copied_s = [], [], copy_s(num_bytes)
            for _ in range(rounds):
                echo_s.append(servers.offered(case, echo, folder)["p50_s"])
                ours_s.append(servers.offered(case, ports, folder)["p50_s"] - bare_s[case.model])
            ratio = [mine / (other + copied_s) for mine, other in zip(ours_s, echo_s, strict=True)]
            records.append(
                {
                    "overhead": body,
                    "ours_s": ours_s,
                    "echo_s": echo_s,
                    "copy_s": copied_s,
                    "ratio": sorted(ratio)[rounds // 2],
                }
            )
    return records


def goodput_hz(case: Case, port: int, share: float, bare_s: float, seconds: float, *, told: bool) -> dict[str, float]:
    """Offer a share of the bare network's rate -> sent, answered, and answered within the objective a second."""
    objective_s, size = 2 * bare_s + MARGIN_S, servers.BODIES[case.body] // 4
    words = [sys.executable, str(BENCH / "serve" / "load.py"), "--kind", "amble", "--model", case.model]
    words += ["--port", str(port), "--shape", f"1,{size}", "--input", "x", "--rate", str(share / bare_s)]
    words += ["--seconds", str(seconds), "--core", str(servers.LOAD_CORE)]
    words += ["--timeout-us", str(round(1e6 * (objective_s - WAY_S)) if told else 0)]
    rows = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    good = sum(status == 200 and latency is not None and latency <= objective_s for status, latency, _ in rows)
    answered = sum(status == 200 for status, _, _ in rows)
    return {"sent": len(rows), "answered": answered, "goodput_hz": good / seconds}


def goodputs(running: dict[str, dict[str, int]], bare_s: dict[str, float], *, quick: bool) -> list[Record]:
    """Return the goodput of each server at each load, for networks of each length."""
    records: list[Record] = []
    for name, seconds in SECONDS.items():
        case = Case("http", "4 kB", name, 1)
        if case.model not in bare_s:
            continue
        for share in LOADS[::2] if quick else LOADS:
            for server, ports in running.items():
                servers.rested([each["pid"] for each in running.values()])
                own_s = bare_s[case.model]
                span_s = seconds / 3 if quick else seconds
                found = goodput_hz(case, ports["http"], share, own_s, span_s, told=server == "amble")
                records.append({"goodput": name, "server": server, "load": share, "bare_s": own_s, **found})
    return records


def best(records: Sequence[Record], name: str) -> float | None:
    """Return our highest goodput over Triton's, for a network."""
    found = {
        server: [
            float(str(each["goodput_hz"]))
            for each in records
            if each.get("goodput") == name and each.get("server") == server
        ]
        for server in ("amble", "triton")
    }
    return max(found["amble"]) / max(found["triton"]) if all(found.values()) else None
