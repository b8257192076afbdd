"""100,000 requests against the real server, good and bad ones, and 1,000,000 in virtual time: nothing lost, no growth.

In real time a tiny network, so that it is the server that is soaked: of a hundred requests ninety are good (every
answer is checked), five cannot be on time, three are malformed, two hang up before their answer. In virtual time the
engine and the default governor on a simulated device, Poisson arrivals at 85 % of its FP32 capacity (`virtual.py`).

Over TLS what encrypting costs, and honest clients beside attackers of each kind (`tls.py`, `attackers.py`).

    python -m bench.soak --only virtual --out FILE     leaves what FILE says of the other parts as it is
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from bench.kit import document
from bench.soak import tls
from bench.soak.virtual import poisson, served

USERS = 16
WARM = 0.2  # share of the requests after which memory must not grow any more
MOST_GROWTH_BYTES = 16 << 20


def network(path: Path) -> Path:
    """Write a network that doubles rows of two numbers."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    made = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


def message(kind: str, number: int) -> bytes:
    """One request: ``good``, ``late``, ``bad`` or ``gone``."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [number, -number]}
    parameters = {"timeout": 1} if kind == "late" else {"priority": number % 3}
    body = json.dumps({"id": str(number), "inputs": [tensor], "parameters": parameters}).encode()
    if kind == "bad":
        body = body[: number % len(body)] + b"\xff"
    head = f"POST /v2/models/double/infer HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass(slots=True)
class Soak:
    """Users in a closed loop. ``told``: kind and status → how often; ``wrong``: answers that are not the right one."""

    port: int
    pid: int
    count: int
    sent: int = 0
    wrong: int = 0
    told: Counter[tuple[str, int]] = field(default_factory=Counter)
    memory: list[tuple[int, int]] = field(default_factory=list)

    async def run(self) -> None:
        """Let all users work until everything is sent."""
        await asyncio.gather(*(self._user() for _ in range(USERS)))

    async def _user(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while self.sent < self.count:
            number = self.sent
            self.sent += 1
            if number % max(1, self.count // 20) == 0:
                self.memory.append((number, _resident_bytes(self.pid)))
            place = number % 100
            kind = "good" if place < 90 else "late" if place < 95 else "bad" if place < 98 else "gone"
            writer.write(message(kind, number))
            if kind == "gone":
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                continue
            status, body = await _answer(reader)
            self.told[kind, status] += 1
            self.wrong += not _right(kind, number, status, body)
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    line, length = await reader.readline(), 0
    while (header := await reader.readline()) not in (b"\r\n", b""):
        if header.lower().startswith(b"content-length:"):
            length = int(header.split(b":")[1])
    return int(line.split()[1]) if line else 0, await reader.readexactly(length)


def _right(kind: str, number: int, status: int, body: bytes) -> bool:
    """Tell whether an answer is what it must be."""
    found = json.loads(body)
    if kind == "good":
        return status == 200 and found["id"] == str(number) and found["outputs"][0]["data"] == [2 * number, -2 * number]
    return status == {"late": 503, "bad": 400}[kind] and bool(found["error"])


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


Half = tuple[list[dict[str, Any]], list[document.Target]]


def real(count: int) -> Half:
    """Start the server, soak it, stop it, and see what is left."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        path = network(Path(folder) / "double.onnx")
        words = [str(Path(sys.executable).parent / "amble"), "serve", str(path), "--json", f"--http-port={port}"]
        running = subprocess.Popen(
            [*words, "--grpc-port=-1", "--metrics-port=-1"], stdout=-1, stderr=subprocess.PIPE, text=True
        )
        assert running.stderr is not None
        while '"ready"' not in running.stderr.readline():
            assert running.poll() is None, "the server did not start"
        soak, began_s = Soak(port, running.pid, count), time.perf_counter()
        with suppress(KeyboardInterrupt):
            asyncio.run(soak.run())
        took_s = time.perf_counter() - began_s
        last_bytes = _resident_bytes(running.pid)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
    results = [{"kind": kind, "status": status, "count": many} for (kind, status), many in sorted(soak.told.items())]
    results += [{"sent": number, "resident_bytes": size} for number, size in soak.memory]
    results.append({"requests": count, "time_s": took_s, "rate_hz": count / took_s, "exit": running.returncode})
    return results, _judged(soak, last_bytes, running.returncode)


def _judged(soak: Soak, last_bytes: int, code: int) -> list[document.Target]:
    warm_bytes = next(size for number, size in soak.memory if number >= WARM * soak.count)
    expected = soak.count - sum(1 for number in range(soak.count) if number % 100 >= 98)
    growth, unanswered = last_bytes - warm_bytes, expected - sum(soak.told.values())
    return [
        document.target("requests without any answer", want="<= 0", value=unanswered, unit="1"),
        document.target("wrong answers", want="<= 0", value=soak.wrong, unit="1"),
        document.target("memory grown since warm", want=f"<= {MOST_GROWTH_BYTES}", value=growth, unit="bytes"),
        document.target("exit code after SIGTERM", want="<= 0", value=code, unit="1"),
    ]


def virtual(count: int) -> Half:
    """Serve as many in virtual time."""
    found = served("virtual soak", poisson(141.0, count))
    grown_bytes = found["grown_mb"] * (1 << 20)
    return [found], [
        document.target("virtual: requests served", want=f">= {count}", value=found["requests"], unit="1"),
        document.target("virtual: without answer or refusal", want="<= 0", value=found["lost"], unit="1"),
        document.target(
            "virtual: memory grown since the first part",
            want=f"<= {MOST_GROWTH_BYTES}",
            value=grown_bytes,
            unit="bytes",
        ),
    ]


PARTS = ("real", "virtual", "tls")


def _part(result: Mapping[str, Any]) -> str:
    """Return which part a record is of."""
    return "tls" if "attack" in result else "virtual" if result.get("run") == "virtual soak" else "real"


def _kept(out: Path | None, part: str) -> Half:
    """Return what the last result says of one part."""
    if out is None or not out.exists():
        return [], []
    old = json.loads(out.read_text(encoding="utf-8"))
    results = [each for each in old["results"] if _part(each) == part]
    heads = {each["target"]: each["target"].partition(": ")[0] for each in old["targets"]}
    names = [
        each for each in old["targets"] if (heads[each["target"]] if heads[each["target"]] in PARTS else "real") == part
    ]
    return results, [document.Target(**each) for each in names]


def encrypted(span_s: float) -> Half:
    """Serve over TLS, with and without attackers."""
    with tempfile.TemporaryDirectory() as folder:
        results = tls.measured(network(Path(folder) / "double.onnx"), span_s)
    return results, tls.judged(results)


def main() -> None:
    """Run all parts, or one of them beside what is known of the others."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", choices=PARTS)
    asked, others = parser.parse_known_args()
    options = document.options("soak", __doc__, others)
    small = options.quick
    runs: dict[str, Callable[[], Half]] = {
        "real": lambda: real(5_000 if small else 100_000),
        "virtual": lambda: virtual(50_000 if small else 1_000_000),
        "tls": lambda: encrypted(1.0 if small else 10.0),
    }
    parts = [run() if asked.only in (None, name) else _kept(options.out, name) for name, run in runs.items()]
    document.finish(options, [each for part in parts for each in part[0]], [each for part in parts for each in part[1]])
