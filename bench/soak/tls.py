"""The server over TLS: what encrypting costs, and honest clients beside attackers of the handshake and of idleness.

The server has core 0, its clients core 1. What encrypting costs is told by wrk, over connections that last, in rounds
with and without: a client in Python spends as much on it as the server does. Then there are attackers (a process of
their own) and honest clients, which are in Python. Honest clients are a few in a
closed loop over connections that last, and one that shakes hands anew every quarter of a second: whoever cannot within
5 s is locked out. Each kind of attacker works between two spans without any, which it is compared with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.kit import document
from bench.soak.attackers import KINDS, Target, again_and_again

__all__ = ["attack", "certificate", "honest", "judged", "measured", "served"]

USERS = 4
OPENS_S, LOCKED_OUT_S = 0.25, 5.0
MOST_BYTES = 256 << 20
SETTLE_S = 8.0  # until most of the attackers have begun
CONNECTIONS = (4, 16)
ROUNDS = 3
LUA = """
wrk.method = "POST"
wrk.body = [[%s]]
function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format('JSON {"answered": %%d, "failed": %%d, "seconds": %%f, "p50_s": %%f}\\n',
    summary.requests - errors.status, failed, summary.duration / 1e6, latency:percentile(50) / 1e6))
end
"""
BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1.5,-2]}]}'
HEAD = b"POST /v2/models/double/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(BODY)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine, and its key."""
    cert, key = folder / "cert.pem", folder / "cert.key"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    made = ["openssl", "req", "-x509", *curve, "-days", "2", *subject, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(made, check=True, capture_output=True)
    return cert, key


@contextmanager
def served(network: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Serve a network on core 0 while the block runs; its port and its process."""
    words = [
        "taskset",
        "-c",
        "0",
        str(Path(sys.executable).parent / "amble"),
        "serve",
        str(network),
        "--json",
        "--http-port=0",
    ]
    running = subprocess.Popen(
        [*words, "--grpc-port=-1", "--metrics-port=-1", *options], stdout=-1, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    line = ""
    while '"ready"' not in line:
        assert running.poll() is None, "the server did not start"
        line = running.stderr.readline()
    try:
        yield int(json.loads(line)["ready"]["http"].rpartition(":")[2]), running.pid
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
    assert running.returncode == 0


@dataclass(slots=True)
class Honest:
    """What honest clients saw. Times [s]."""

    took_s: list[float] = field(default_factory=list)
    opened_s: list[float] = field(default_factory=list)
    wrong: int = 0
    locked_out: int = 0


async def _answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(HEAD + BODY)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    body = await reader.readexactly(length)
    return head.startswith(b"HTTP/1.1 200") and json.loads(body)["outputs"][0]["data"] == [3.0, -4.0]


async def honest(port: int, context: ssl.SSLContext | None, span_s: float) -> Honest:
    """Ask for so long."""
    found, ends_s = Honest(), time.perf_counter() + span_s
    name = "localhost" if context is not None else None

    async def lasting() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        while time.perf_counter() < ends_s:
            begun_s = time.perf_counter()
            found.wrong += not await _answered(reader, writer)
            found.took_s.append(time.perf_counter() - begun_s)
            await asyncio.sleep(0.002)
        writer.close()

    async def fresh() -> None:
        while time.perf_counter() < ends_s:
            begun_s = time.perf_counter()
            try:
                async with asyncio.timeout(LOCKED_OUT_S):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
                    found.wrong += not await _answered(reader, writer)
                    writer.close()
                found.opened_s.append(time.perf_counter() - begun_s)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                found.locked_out += 1
            await asyncio.sleep(OPENS_S)

    await asyncio.gather(*(lasting() for _ in range(USERS)), fresh())
    return found


async def attack(kind: str, port: int, cert: Path, count: int | None = None) -> None:
    """Attack in one way, until cancelled."""
    made, many = KINDS[kind]
    target = Target(port, ssl.create_default_context(cafile=str(cert)))
    await asyncio.gather(*(again_and_again(made, target, seed) for seed in range(count or many)))


@contextmanager
def attacked(kind: str, port: int, cert: Path) -> Iterator[None]:
    """Have a process attack while the block runs."""
    words = [
        "nice",
        "-n",
        "10",
        sys.executable,
        "-m",
        "bench.soak.tls",
        kind,
        str(port),
        str(cert),
    ]  # honest ones first
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(SETTLE_S)
        assert running.poll() is None, f"nobody attacks by {kind}"
        yield
    finally:
        running.kill()
        running.wait()


def rates(port: int, scheme: str, connections: int, span_s: float) -> dict[str, Any]:
    """Ask in a closed loop by wrk -> answers a second, failures, and the median latency [s]."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA % BODY.decode())
        script.flush()
        words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(span_s))}s", "--latency", "-s", script.name]
        words.append(f"{scheme}://localhost:{port}/v2/models/double/infer")
        out = subprocess.run(words, capture_output=True, check=True, text=True).stdout
    told = json.loads(out.partition("JSON ")[2])
    return {
        "attack": "none", "door": "plain" if scheme == "http" else "tls", "connections": connections,
        "rate_hz": told["answered"] / told["seconds"], "failed": told["failed"], "p50_s": told["p50_s"],
    }  # fmt: skip


def _bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def measured(network: Path, span_s: float) -> list[dict[str, Any]]:
    """Measure everything; each span of attacks has one of peace before it and one after."""
    with suppress(OSError):
        os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as folder:
        cert, key = certificate(Path(folder))
        context = ssl.create_default_context(cafile=str(cert))
        results = []
        with (
            served(network, "--tls-cert", str(cert), "--tls-key", str(key)) as (port, pid),
            served(network) as (open_port, _),
        ):
            peace = [_record("none", "tls", asyncio.run(honest(port, context, span_s)), pid)]
            for number in range(ROUNDS):
                for connections in CONNECTIONS:
                    both = ((open_port, "http"), (port, "https"))
                    for each in both if number % 2 == 0 else both[::-1]:
                        results.append({**rates(*each, connections, span_s / 3), "round": number})
            for kind in KINDS:
                with attacked(kind, port, cert):
                    found = asyncio.run(honest(port, context, span_s))
                    record = _record(kind, "tls", found, pid)
                time.sleep(1.0)
                peace.append(_record("none", "tls", asyncio.run(honest(port, context, span_s)), pid))
                quiet = [peace[-2]["p99_s"], peace[-1]["p99_s"]]
                results.append(
                    {
                        **record,
                        "p99_ratio": record["p99_s"] / max(quiet),
                        "grown_bytes": record["bytes"] - peace[0]["bytes"],
                    }
                )
    return results


def _record(kind: str, door: str, found: Honest, pid: int) -> dict[str, Any]:
    return {
        "attack": kind,
        "door": door,
        "requests": len(found.took_s),
        "took_s": sum(found.took_s) / USERS,
        "p50_s": document.percentile(found.took_s, 50),
        "p99_s": document.percentile(found.took_s, 99),
        "opened": len(found.opened_s),
        "open_p50_s": document.percentile(found.opened_s, 50) if found.opened_s else None,
        "locked_out": found.locked_out,
        "wrong": found.wrong,
        "bytes": _bytes(pid),
    }


def judged(results: Sequence[dict[str, Any]]) -> list[document.Target]:
    """Compare with what is wanted; what encrypting costs is the ratio of rates in peace."""
    made = []
    for connections in CONNECTIONS:
        value = _share(results, connections)
        name = f"tls: rate over TLS, over that without, {connections} connections"
        made.append(document.target(name, want=">= 0.7", value=value, unit="1"))
    for each in results:
        if each["attack"] == "none":
            continue
        name = f"tls: {each['attack']}"
        made += [
            document.target(f"{name}: honest p99 over that without", want="<= 2", value=each["p99_ratio"], unit="1"),
            document.target(f"{name}: honest locked out", want="<= 0", value=each["locked_out"], unit="1"),
            document.target(f"{name}: wrong answers", want="<= 0", value=each["wrong"], unit="1"),
            document.target(f"{name}: memory grown", want=f"<= {MOST_BYTES}", value=each["grown_bytes"], unit="bytes"),
        ]
    return made


def _share(results: Sequence[dict[str, Any]], connections: int) -> float:
    """Return the rate over TLS as a share of that without: the median over rounds."""
    found: dict[tuple[str, int], float] = {
        (each["door"], each["round"]): each["rate_hz"] for each in results if each.get("connections") == connections
    }
    return document.percentile([found["tls", each] / found["plain", each] for each in range(ROUNDS)], 50)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("port", type=int)
    parser.add_argument("cert", type=Path)
    wanted = parser.parse_args()
    asyncio.run(attack(wanted.kind, wanted.port, wanted.cert))
