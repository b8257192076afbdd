"""A model behind an Open Inference Protocol server, seen from outside: what it takes, and how it answers under load.

An open loop: every request has its moment, whether earlier ones were answered or not, and its latency counts from that
moment, also where this client itself was late. Nothing here knows whose server it is.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import numpy as np

from amble.core.errors import Refused
from amble.core.ports import FloatArray, Tensors
from amble.runtimes.remote.datatypes import DATATYPES, NO_JSON, Array, from_bytes, to_bytes
from amble.runtimes.remote.fault import Fault
from amble.runtimes.remote.numbers import from_json, to_list

__all__ = ["Body", "Input", "Remote", "Reply", "Sent", "body_of", "dtype_of", "first_output", "under_load"]

_WORKERS = 128  # requests under way at once, at most
_TICK_S = 0.25  # between two looks at how far it is
_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Input:
    """An input as the server describes it; an axis of −1 takes any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """A request ready to be sent."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: an HTTP status (0: nothing came), and the answer or the server's words for why there is none."""

    status: int
    answer: Mapping[str, Any] = field(default_factory=dict)
    tail: bytes = b""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request of a load: when it was due, sent and answered [s after the start], and the reply."""

    due_s: float
    sent_s: float
    finish_s: float
    reply: Reply


@dataclass(frozen=True, slots=True)
class Remote:
    """One model of a server."""

    url: str
    secure: bool
    place: str
    path: str
    timeout_s: float

    @classmethod
    def at(cls, url: str, *, timeout_s: float) -> Remote:
        """Find the model that a URL names, or the only one there is; Refused where there are others too, or none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or not _has_port(parts):
            raise ValueError(f"{url!r} is not like http://127.0.0.1:8000, or http://127.0.0.1:8000/v2/models/NAME")
        root, found, model = parts.path.rstrip("/").partition("/v2/models/")
        server = cls(url, parts.scheme == "https", parts.netloc, root.removesuffix("/v2"), timeout_s)
        name = model if found else quote(server.only_model(), safe="")
        return cls(url, server.secure, server.place, f"{server.path}/v2/models/{name}", timeout_s)

    def only_model(self) -> str:
        """Return the name of the only model that is ready."""
        reply = self.call("POST", f"{self.path}/v2/repository/index", Body(b'{"ready": true}', {}))
        listed = reply.answer.get("models", []) if reply.status == 200 else []
        if not reply.status:
            raise Refused(f"{self.url} cannot be reached: {reply.reason}")
        names = sorted({str(each.get("name")) for each in listed})
        if len(names) == 1:
            return names[0]
        told = f"it serves {', '.join(names)}" if names else reply.reason or "it lists no models"
        raise Refused(f"{self.url} does not say which model is meant ({told}); write {self.url}/v2/models/NAME")

    def inputs(self) -> tuple[Input, ...]:
        """Ask what the model takes."""
        reply = self.call("GET", self.path)
        try:
            listed = reply.answer["inputs"] if reply.status == 200 else None
            found = tuple(
                Input(each["name"], each["datatype"], tuple(map(int, each["shape"]))) for each in listed or ()
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(
                f"{self.url} does not describe its model as the Open Inference Protocol has it: inputs, each with a "
                "name, a datatype and a shape; is this a server of that protocol?"
            ) from error
        if not found:
            raise Refused(f"{self.url} does not describe its model: {reply.reason or f'HTTP {reply.status}'}")
        return found

    def is_binary(self) -> bool:
        """Tell whether tensors may be sent as they lie in memory."""
        reply = self.call("GET", f"{self.path.partition('/v2/')[0]}/v2")
        return "binary_tensor_data" in reply.answer.get("extensions", ())

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection that is opened when it is first used."""
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        return kind(self.place, timeout=self.timeout_s)

    def call(self, method: str, path: str, body: Body | None = None) -> Reply:
        """Ask once."""
        connection = self.connection()
        try:
            return _exchange(connection, method, path, body)
        finally:
            connection.close()


def body_of(tensors: Tensors, inputs: Sequence[Input], *, binary: bool, timeout_s: float, identity: str = "") -> Body:
    """Write a request for an answer within ``timeout_s``; its answer tells the ``identity``, where one is given."""
    listed: list[dict[str, Any]] = []
    tail = b""
    for each in inputs:
        value = tensors[each.name]
        one: dict[str, Any] = {"name": each.name, "datatype": each.datatype, "shape": list(value.shape)}
        if binary or each.datatype in NO_JSON:
            raw = to_bytes(value, each.datatype)
            one["parameters"], tail = {"binary_data_size": len(raw)}, tail + raw
        else:
            one["data"] = to_list(value)
        listed.append(one)
    parameters: dict[str, Any] = {"timeout": max(1, round(timeout_s * 1e6))}
    if binary:
        parameters["binary_data_output"] = True
    named = {"id": identity} if identity else {}
    head = json.dumps({**named, "inputs": listed, "parameters": parameters}).encode()
    kind = {"Content-Type": "application/octet-stream", _LENGTH: str(len(head))} if tail else {}
    return Body(head + tail, {"Content-Type": "application/json", **kind})


def first_output(reply: Reply) -> Array | None:
    """Return the first output of an answer; None where it cannot be read."""
    try:
        first = reply.answer["outputs"][0]
        shape = tuple(first["shape"])
        if "data" in first:
            return from_json(first["name"], first["datatype"], shape, json.dumps(first["data"]).encode())
        size = first["parameters"]["binary_data_size"]
        return from_bytes(first["name"], first["datatype"], shape, reply.tail[:size])
    except (Fault, KeyError, IndexError, TypeError, ValueError):
        return None


def under_load(
    remote: Remote, body: Callable[[int], Body], times_s: FloatArray, on_progress: Callable[[int, int], None]
) -> list[Sent]:
    """Send each request at its time; ``body`` gives its bytes."""
    load = _Load(remote, body, times_s.tolist())
    threads = [threading.Thread(target=load.work, daemon=True) for _ in range(min(_WORKERS, len(times_s)))]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            on_progress(len(load.sent), len(times_s))
            time.sleep(_TICK_S)
    finally:
        load.stopped.set()
    return sorted(load.sent, key=lambda each: each.due_s)


class _Load:
    """Requests that wait for their time, and the threads' way through them."""

    def __init__(self, remote: Remote, body: Callable[[int], Body], times_s: Sequence[float]) -> None:
        self.sent: list[Sent] = []
        self.stopped = threading.Event()
        self._remote, self._body, self._times_s = remote, body, times_s
        self._next, self._lock = iter(range(len(times_s))), threading.Lock()
        self._start_s = time.perf_counter() + 0.1  # until the threads run

    def work(self) -> None:
        """Take the next request, wait for its time, send it; until there is none."""
        connection = self._remote.connection()
        while not self.stopped.is_set():
            with self._lock:
                index = next(self._next, None)
            if index is None:
                break
            body, due_s = self._body(index), self._times_s[index]
            if self.stopped.wait(max(0.0, due_s - self._now_s())):
                break
            sent_s = self._now_s()
            reply = _exchange(connection, "POST", f"{self._remote.path}/infer", body)
            self.sent.append(Sent(due_s, sent_s, self._now_s(), reply))
        connection.close()

    def _now_s(self) -> float:
        return time.perf_counter() - self._start_s


def _exchange(connection: http.client.HTTPConnection, method: str, path: str, body: Body | None) -> Reply:
    """Send a request and read the reply; a connection that the server closed while it was idle is opened anew."""
    for is_old in (connection.sock is not None, False):
        try:
            connection.request(method, path, body.content if body else None, dict(body.headers) if body else {})
            response = connection.getresponse()
            return reply_of(response.status, response.read(), response.getheader(_LENGTH))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if not (is_old and isinstance(error, ConnectionError | http.client.BadStatusLine)):
                return Reply(0, reason=str(error) or type(error).__name__)
    raise AssertionError("the second try ends it")


def reply_of(status: int, content: bytes, length: str | None) -> Reply:
    """Read an answer: JSON, and behind its ``length`` (None: there is nothing behind it) the bytes of tensors."""
    cut = int(length) if length and length.isdecimal() else len(content)
    try:
        found = json.loads(content[:cut] or b"{}")
    except (ValueError, RecursionError):
        found = {}
    answer = found if isinstance(found, dict) else {"models": found}
    reason = "" if status == 200 else str(answer.get("error") or f"HTTP {status}")
    return Reply(status, answer, content[cut:], reason)


def dtype_of(each: Input) -> np.dtype[Any]:
    """Return the type of an input's array; Refused for a datatype that the protocol has not."""
    if each.datatype not in DATATYPES:
        raise Refused(f"input {each.name} is of datatype {each.datatype}, which is not known")
    return DATATYPES[each.datatype]


def _has_port(parts: SplitResult) -> bool:
    """Say whether a URL names a port that exists, or none."""
    try:
        return parts.port != 0
    except ValueError:
        return False
