"""A server's address and a rate -> when every request was sent and answered: an open-loop load generator over HTTP.

    python bench/serve/load.py --kind amble --port 8000 --shape 1,3,224,224 --rate 50 --seconds 5 --objective 0.03

Requests leave at the times of a Poisson process whatever becomes of those before, each on a connection that is free;
so a server that is behind meets every arrival, as it would outside. Latency counts from the time a request was due,
not from when this program came to send it. Prints one JSON document. ``--rate 0`` is a closed loop of ``--users``; a
single one uses a blocking socket, which adds the least of its own to what a request costs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

__all__ = ["Client", "request"]

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def request(kind: str, shape: tuple[int, ...], *, name: str = "", timeout_us: int = 0, model: str = "model") -> bytes:
    """The bytes of one request to a kind of server, its tensor as each takes it best."""
    tensor = np.random.default_rng(0).random(shape, dtype=np.float32).tobytes()
    extra, path, body = "", "/predict", tensor
    if kind == "amble":
        entry = {"name": name, "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": len(tensor)}}
        parameters: dict[str, object] = {"binary_data_output": True}
        if timeout_us:
            parameters["timeout"] = timeout_us
        head = json.dumps({"inputs": [entry], "parameters": parameters}).encode()
        extra, path, body = (
            f"inference-header-content-length: {len(head)}\r\n",
            f"/v2/models/{model}/infer",
            head + tensor,
        )
    elif kind == "litserve":
        extra = "content-type: application/json\r\n"
        body = json.dumps({"tensor": base64.b64encode(tensor).decode()}).encode()
    elif kind == "mlserver":
        extra, path = "content-type: application/json\r\n", "/v2/models/model/infer"
        text = base64.b64encode(tensor).decode()
        body = json.dumps({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [text]}]}).encode()
    start = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{extra}content-length: {len(body)}\r\n\r\n"
    return start.encode() + body


@dataclass(slots=True)
class Client:
    """Sends the same request again and again. ``rows``: (status, latency [s], what the server says it took [s])."""

    port: int
    message: bytes
    free: list[Stream] = field(default_factory=list)
    rows: list[tuple[int, float, float | None]] = field(default_factory=list)

    async def send(self, due_s: float) -> None:
        """Send one request and note what became of it; status 0 is a connection that broke."""
        status, body, keep = 0, b"", False
        stream: Stream | None = None
        try:
            stream = self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", self.port)
            stream[1].write(self.message)
            status, body, keep = await _answer(stream[0])
        except (OSError, asyncio.IncompleteReadError, ValueError):
            keep = False
        if stream is not None and keep:
            self.free.append(stream)
        elif stream is not None:
            stream[1].close()
        self.rows.append((status, time.perf_counter() - due_s, _service_s(body)))

    async def poisson(self, rate_hz: float, seconds: float, seed: int) -> None:
        """Send at this rate for some time, then wait for what is still out, ten seconds at most."""
        gaps = np.random.default_rng(seed).exponential(1.0 / rate_hz, int(2 * rate_hz * seconds) + 50)
        times_s = np.cumsum(gaps)
        start_s, tasks = time.perf_counter(), []
        for at_s in times_s[times_s < seconds].tolist():
            await asyncio.sleep(max(0.0, start_s + at_s - time.perf_counter()))
            tasks.append(asyncio.create_task(self.send(start_s + at_s)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10.0):
                await asyncio.gather(*tasks)
        unanswered = sum(not task.done() for task in tasks)
        self.rows += [(0, float("inf"), None)] * unanswered

    async def closed(self, users: int, seconds: float) -> None:
        """Let some users each send a request as soon as the last one is answered."""
        until_s = time.perf_counter() + seconds

        async def user() -> None:
            while time.perf_counter() < until_s:
                await self.send(time.perf_counter())

        await asyncio.gather(*(user() for _ in range(users)))

    def alone(self, seconds: float) -> None:
        """Send a request as soon as the last one is answered."""
        until_s = time.perf_counter() + seconds
        while time.perf_counter() < until_s:
            with (
                contextlib.suppress(OSError, ValueError, IndexError),
                socket.create_connection(("127.0.0.1", self.port)) as stream,
            ):
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                reader, keep = stream.makefile("rb"), True
                while keep and time.perf_counter() < until_s:
                    start_s = time.perf_counter()
                    stream.sendall(self.message)
                    status, length, keep, chunked = _head(iter(reader.readline, b""))
                    body = _chunks(reader) if chunked else reader.read(length)
                    self.rows.append((status, time.perf_counter() - start_s, _service_s(body)))


def _head(lines: Iterator[bytes]) -> tuple[int, int, bool, bool]:
    """Read a head -> status, length of the body, whether the connection stays, whether the body comes in chunks."""
    status, length, keep, chunked = int(next(lines, b"").split()[1]), 0, True, False
    for header in iter(lambda: next(lines), b"\r\n"):
        name, _, value = header.lower().partition(b":")
        length = int(value) if name == b"content-length" else length
        keep = keep and not (name == b"connection" and b"close" in value)
        chunked = chunked or name == b"transfer-encoding"
    return status, length, keep, chunked


def _chunks(reader: BinaryIO) -> bytes:
    body = b""
    while size := int(reader.readline(), 16):
        body += reader.read(size + 2)[:-2]
    reader.readline()
    return body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Read one response -> status, body, whether the connection stays."""
    line = await reader.readline()
    status, length, keep, chunked = int(line.split()[1]) if line else 0, 0, bool(line), False
    while (header := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = header.lower().partition(b":")
        if name == b"content-length":
            length = int(value)
        keep = keep and not (name == b"connection" and b"close" in value)
        chunked = chunked or name == b"transfer-encoding"
    if not chunked:
        return status, await reader.readexactly(length), keep
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return status, body, keep


def _service_s(body: bytes) -> float | None:
    found = body.partition(b'"service_s":')[2].partition(b",")[0].partition(b"}")[0]
    return float(found) if found else None


def main() -> None:
    """Offer one load and print what became of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kind", choices=("amble", "litserve", "ray", "mlserver"), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--shape", required=True)
    parser.add_argument("--input", default="image")
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--timeout-us", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--core", type=int)
    parser.add_argument("--model", default="model")
    given = parser.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    shape = tuple(int(size) for size in given.shape.split(","))
    sent = request(given.kind, shape, name=given.input, timeout_us=given.timeout_us, model=given.model)
    client = Client(given.port, sent)
    if given.rate:
        asyncio.run(client.poisson(given.rate, given.seconds, given.seed))
    elif given.users == 1:
        client.alone(given.seconds)
    else:
        asyncio.run(client.closed(given.users, given.seconds))
    print(
        json.dumps([[status, latency if np.isfinite(latency) else None, own] for status, latency, own in client.rows])
    )


if __name__ == "__main__":
    main()
