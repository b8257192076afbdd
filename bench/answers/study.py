"""Two hundred thousand requests for twenty networks, through all doors, 16 to 64 at once: how many answers are wrong?

Half of them are asked of a server of one process, half of one of several fronts and engines. Every answer is compared
with that of ONNX Runtime alone for the same input: equal, or within 1e-4 of its largest element, as is promised for
batches in FP32. Ten networks keep rows apart, ten mix them. What is refused or fails is counted beside.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2

from bench.answers import networks
from bench.kit import document
from bench.kit.document import Record, Target
from bench.kit.places import BUILD

DOORS = ("json", "binary", "v1", "grpc")
ATONCE = (16, 32, 64)
COUNT = 200_000
QUICK = 6_000
KINDS = 24  # unlike requests for each network
CLOSE = 1e-4
CPUS = sorted(os.sched_getaffinity(0))
SERVERS = {
    "one process": ("--fronts=0",),
    "fronts and engines": ("--fronts=2", *(f"--device=host:{cpu}" for cpu in CPUS[:2])),
}
MEASURED = ("amble.services.serve.serving",)  # what the command that is served with runs: the age of a result counts it


@dataclass(frozen=True, slots=True)
class Question:
    """A request for a network, as each door takes it, and the right answer."""

    network: str
    messages: dict[str, bytes]
    right: np.ndarray


@dataclass(slots=True)
class Told:
    """What became of the requests, by door; ``wrong``: answers that are not the right one."""

    right: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def questions(folder: Path, names: Sequence[str]) -> list[Question]:
    """Make up requests, and have ONNX Runtime answer them."""
    rng, found = np.random.default_rng(0), []
    for name in names:
        session = onnxruntime.InferenceSession(str(networks.write(folder, name)), providers=["CPUExecutionProvider"])
        for _ in range(KINDS):
            x = rng.standard_normal((int(rng.integers(1, 4)), networks.WIDTH)).astype(np.float32)
            (right,) = session.run(None, {"x": x})
            found.append(Question(name, _messages(name, x), right))
    return found


def _messages(name: str, x: np.ndarray) -> dict[str, bytes]:
    tensor = {"name": "x", "datatype": "FP32", "shape": x.shape}
    as_json = json.dumps({"inputs": [{**tensor, "data": [float(each) for each in x.ravel()]}]}).encode()
    told = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": x.nbytes}}],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(told).encode()
    made = service_pb2.ModelInferRequest(model_name=name, raw_input_contents=[x.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return {
        "json": _post(f"/v2/models/{name}/infer", as_json),
        "binary": _post(
            f"/v2/models/{name}/infer", head + x.tobytes(), f"inference-header-content-length: {len(head)}\r\n"
        ),
        "v1": _post(f"/v1/models/{name}:predict", json.dumps({"inputs": {"x": x.tolist()}}).encode()),
        "grpc": made.SerializeToString(),
    }


def _post(path: str, body: bytes, extra: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{extra}content-length: {len(body)}\r\n\r\n".encode() + body


class Client:
    """One user: a connection of HTTP, and one of gRPC."""

    def __init__(self, http: int, grpc_address: str) -> None:
        self._port, self._address = http, grpc_address
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._channel: Any = None

    async def ask(self, door: str, question: Question) -> np.ndarray:
        """Return an answer; RuntimeError with what was said instead."""
        message = question.messages[door]
        if door == "grpc":
            return await self._called(message)
        head, body = await self._posted(message)
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(body[:200].decode())
        if door == "binary":
            length = int(head.lower().partition(b"inference-header-content-length: ")[2].partition(b"\r\n")[0])
            (output,) = json.loads(body[:length])["outputs"]
            return np.frombuffer(body[length:], np.float32).reshape(output["shape"])
        if door == "v1":
            outputs = json.loads(body)["outputs"]
            return np.array(outputs["y"] if isinstance(outputs, dict) else outputs, np.float32)
        (output,) = json.loads(body)["outputs"]
        return np.array(output["data"], np.float32).reshape(output["shape"])

    async def close(self) -> None:
        """Hang up."""
        if self._stream is not None:
            self._stream[1].close()
        if self._channel is not None:
            await self._channel.close()

    async def _posted(self, message: bytes) -> tuple[bytes, bytes]:
        if self._stream is None:
            self._stream = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._stream
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        return head, await reader.readexactly(length)

    async def _called(self, message: bytes) -> np.ndarray:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=[("grpc.use_local_subchannel_pool", 1)])
        infer = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        try:
            found = await infer(message)
        except grpc.aio.AioRpcError as error:
            raise RuntimeError(error.details()) from error
        return np.frombuffer(found.raw_output_contents[0], np.float32).reshape(found.outputs[0].shape)


async def asked(ready: dict[str, Any], every: Sequence[Question], count: int, at_once: int, told: Told) -> None:
    """Have some users ask, each as soon as it is answered, until so many requests were sent."""
    left = iter(range(count))
    port = int(ready["http"].rpartition(":")[2])

    async def user(seed: int) -> None:
        chosen = random.Random(seed)  # noqa: S311  no secrets
        client = Client(port, ready["grpc"])
        for _ in left:
            door, question = chosen.choice(DOORS), chosen.choice(every)
            try:
                found = await client.ask(door, question)
            except (RuntimeError, OSError, asyncio.IncompleteReadError) as error:
                told.failed[door] += 1
                if sum(told.failed.values()) < 5:
                    print(f"{door}, {question.network}: {error}", file=sys.stderr)
                continue
            if same(found, question.right):
                told.right[door] += 1
            else:
                told.wrong.append(f"{door}, {question.network}")
        await client.close()

    await asyncio.gather(*(user(seed) for seed in range(at_once)))


def same(found: np.ndarray, right: np.ndarray) -> bool:
    """Tell whether an answer is the right one."""
    if found.shape != right.shape and found.size + right.size:
        return False
    return not right.size or float(np.abs(found - right).max()) <= CLOSE * float(np.abs(right).max())


@contextmanager
def serving(paths: Sequence[Path], more: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Run a server while the block runs; where it listens."""
    words = [str(Path(sys.executable).parent / "amble"), "serve", *map(str, paths), "--json", *more]
    words += ["--http-port=0", "--grpc-port=0", "--metrics-port=-1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        try:
            heard = []
            for line in running.stderr:
                heard.append(line)
                if line.startswith('{"ready"'):
                    yield json.loads(line)["ready"]
                    return
            raise RuntimeError("".join(heard))
        finally:
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=60)


def measured(count: int) -> list[Record]:
    """Ask both servers."""
    folder = BUILD / "answers"
    folder.mkdir(parents=True, exist_ok=True)
    names = [*networks.ROWWISE, *networks.MIXING]
    every = questions(folder, names)
    records: list[Record] = []
    for server, more in SERVERS.items():
        with serving([folder / f"{name}.onnx" for name in names], more) as ready:
            for at_once in ATONCE:
                told, own = Told(), count // (len(SERVERS) * len(ATONCE)) + 1
                start_s = time.perf_counter()
                asyncio.run(asked(ready, every, own, at_once, told))
                records.append({
                    "server": server, "at_once": at_once, "sent": own, "wrong": len(told.wrong),
                    "examples": told.wrong[:5], "failed": sum(told.failed.values()),
                    **{f"right_{door}": told.right[door] for door in DOORS}, "seconds": time.perf_counter() - start_s,
                })  # fmt: skip
    return records


def targets(records: Sequence[Record], wanted: int) -> list[Target]:
    """What is promised."""
    total = {name: sum(int(str(each[name])) for each in records) for name in ("sent", "wrong", "failed")}
    return [
        document.target("wrong answers", want="== 0", value=total["wrong"], unit="1"),
        document.target("requests that failed", want="== 0", value=total["failed"], unit="1"),
        document.target("requests", want=f">= {wanted}", value=total["sent"], unit="1"),
    ]


def main() -> None:
    """Ask and judge."""
    options = document.options("answers", __doc__)
    count = QUICK if options.quick else COUNT
    records = measured(count)
    document.finish(options, records, targets(records, count))
