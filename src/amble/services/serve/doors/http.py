"""The Open Inference Protocol over HTTP: an ASGI application over an admission and a repository.

Every body that goes out is JSON, or JSON with binary tensors behind it; every error is ``{"error": "text"}``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import msgspec

from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors import codings, kserve, openapi
from amble.services.serve.doors.access import Access
from amble.services.serve.doors.changes import changed, registered, shared_status
from amble.services.serve.doors.reading import Readers, is_small
from amble.services.serve.doors.shared_memory import Memory, Regions, cuda_refused
from amble.services.serve.doors.speaking import VERBS, Body, Writer, spoken, target
from amble.services.serve.doors.statistics import statistics
from amble.services.serve.models.model import Model
from amble.services.serve.models.options import NO_LOGGING, NO_TRACE
from amble.services.serve.models.repository import Repository
from amble.services.serve.requests.asking import Asked
from amble.services.serve.requests.dispatching import Dispatcher, Reply
from amble.services.serve.requests.quota import Reservation
from amble.services.serve.telling.ledger import Ledger

__all__ = [
    "ALIGNED_BYTES",
    "AT_ONCE",
    "CAME",
    "EXTENSIONS",
    "GONE",
    "LENGTH",
    "WHOLE",
    "App",
    "Http",
    "Response",
    "Scope",
    "described",
    "extensions",
    "respond",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "statistics",
    "model_repository",
    "schedule_policy",
    "parameters",
    "classification",
    "generate",
)
GONE = "amble.gone"
"""Key of a scope: what the connection is to call when its client has gone."""
AT_ONCE = "amble.at_once"
"""Key of a scope: takes status, headers and body and sends them in one go; False when it cannot now."""
WHOLE = "amble.whole"
"""Key of a scope: the whole body, where the connection has it in one piece already."""
CAME = "amble.came"
"""Key of a scope: what the connection is to call for every piece of a body, with its bytes; it may raise a Fault."""
ALIGNED_BYTES = 8
LENGTH = b"inference-header-content-length"

_LOG = logging.getLogger(__name__)
_BESIDE = {401: ((b"www-authenticate", b"Bearer"),), 503: ((b"retry-after", b"1"),)}
_WORTH_ZIPPING, _JSON, _EVENTS = 512, b"application/json", b"text/event-stream"
_POSTED = (*VERBS, "index", "load", "unload", "register", "unregister")


class Response(NamedTuple):
    """What goes back: status, body, and headers beyond type and length."""

    status: int
    body: bytes
    kind: bytes = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Http:
    """The application. ``max_bytes`` bounds a body, as sent and unpacked; ``body_s`` is the time [s] it may take."""

    admission: Dispatcher
    repository: Repository
    version: str
    max_bytes: int = 64 << 20
    body_s: float = 30.0
    readers: Readers = field(default_factory=Readers)
    access: Access = field(default_factory=Access)
    regions: Regions | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        arrival_s = self.admission.now_s()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            self.access.check(scope["path"], headers)
            response = await self._routed(scope, receive, headers, arrival_s)
        except Fault as fault:
            response = _error(fault.status, fault.text)
        except Exception as error:
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            await respond(send, _error(500, f"{type(error).__name__}: {error}"), scope)
            raise
        await respond(send, _zipped(response, headers.get(b"accept-encoding", b"")), scope)

    async def _routed(
        self, scope: Scope, receive: Receive, headers: Mapping[bytes, bytes], arrival_s: float
    ) -> Response:
        method, path = scope["method"], _words(scope["path"])
        if method == "POST" and path[:2] == ("v2", "models") and (wanted := target(path[2:])) is not None:
            model = self.repository.model(*wanted[:2])
            return await self._infer(scope, receive, headers, model, arrival_s, verb=wanted[2])
        method = "GET" if method == "HEAD" else method
        if method != "POST" and (path[-1] in _POSTED or path[-1].endswith(":predict")):
            return _other_method(scope, b"POST")
        match method, path:
            case _, ("v2", "logging") | ("v2", *_, "trace", "setting"):
                raise Fault(501, NO_LOGGING if path[-1] == "logging" else NO_TRACE)
            case _, ("v2", "repository" | "systemsharedmemory" | "cudasharedmemory" as what, *rest):
                if what == "repository" and method != "POST":
                    raise Fault(404, f"{method} {scope['path']}: no such path")
                return await self._beside(scope, receive, headers, what, tuple(rest))
            case "POST", ("v1", "models", *rest) if rest and ":" in rest[-1]:
                model = self.repository.model(*kserve.asked_of(rest))
                return await self._infer(scope, receive, headers, model, arrival_s, verb="predict")
            case _, ("v2" | "v1" as root, *rest):
                ledger = await self.admission.whole() if path[-1] == "stats" else self.admission.counted
                found = self._read(tuple(rest), ledger) if root == "v2" else self._read_v1(tuple(rest))
                return found if method == "GET" else _other_method(scope, b"GET, HEAD")
        raise Fault(404, f"{method} {scope['path']}: no such path; the protocol's begin with /v2, or /v1")

    async def _beside(
        self, scope: Scope, receive: Receive, headers: Mapping[bytes, bytes], what: str, rest: tuple[str, ...]
    ) -> Response:
        """Answer what is about the repository, or shared memory."""
        if what == "cudasharedmemory":
            raise cuda_refused()
        owner = self.access.owner(headers)
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _other_method(scope, b"GET, HEAD, POST")
        if scope["method"] != "POST":
            return _json(shared_status(self.regions, rest, owner))
        with self.admission.holding(_client(scope)) as hold:
            body, coding = await self._body(scope, receive, headers, hold)
            if coding != b"identity":
                body = await self.readers.read(hold.client, partial(self._plain, body, coding, hold))
            if what == "repository":
                return _json(await changed(self.repository, self.access, rest, body))
            return _json(registered(self.regions, rest, body, owner, hold.client))

    def _read_v1(self, path: tuple[str, ...]) -> Response:
        """Answer what KServe's V1 asks and changes nothing."""
        match path:
            case ("models",):
                return _json({"models": [each.name for each in self.repository.models]})
            case ("models", name) if name in self.repository.names():
                return self._told(name, "", ("ready",), self.admission.counted)
        raise Fault(404, f"/v1/{'/'.join(path)}: no such path")

    def _read(self, path: tuple[str, ...], ledger: Ledger) -> Response:
        """Answer what changes nothing."""
        match path:
            case ():
                return _json({"name": "amble", "version": self.version, "extensions": extensions(self.regions)})
            case ("openapi.json",):
                return _json(
                    openapi.document(self.version, {each.name: each.versions for each in self.repository.models})
                )
            case ("health", "live"):
                return _json({"live": self.admission.well}, 200 if self.admission.well else 503)
            case ("health", "ready"):
                ready = self.admission.open_for_all
                return _json({"ready": ready}, 200 if ready else 503)
            case ("models", "stats"):
                return _json(statistics(ledger, self.repository.models))
            case ("models", name, *rest):
                version = ""
                match rest:
                    case ("versions", version, *rest):
                        pass
                return self._told(name, version, tuple(rest), ledger)
        raise Fault(404, f"/v2/{'/'.join(path)}: no such path")

    def _told(self, name: str, version: str, rest: tuple[str, ...], ledger: Ledger) -> Response:
        """Answer what asks about one model."""
        if rest == ("ready",):
            try:
                found = self.repository.model(name, version)
            except Fault as fault:
                return _json({"name": name, "ready": False, "error": fault.text}, 503)
            return _json({"name": found.name, "ready": True})
        model = self.repository.model(name, version)
        match rest:
            case ():
                return _json(model.metadata())
            case ("config",):
                return _json(model.config())
            case ("stats",):
                return _json(statistics(ledger, [model]))
        raise Fault(404, f"/v2/models/{name}/{'/'.join(rest)}: no such path")

    async def _infer(
        self,
        scope: Scope,
        receive: Receive,
        headers: Mapping[bytes, bytes],
        model: Model,
        arrival_s: float,
        *,
        verb: str,
    ) -> Response:
        """Answer a request of V2, of KServe's V1, or to generate: all through the same limits."""
        header_length = _length(headers, LENGTH) if verb == "infer" else None
        with self.admission.holding(_client(scope)) as hold:
            regions = self.regions
            memory = None if regions is None else Memory(regions, self.access.owner(headers), hold.grow)
            read_as = spoken(verb, header_length, memory)
            body, coding = await self._body(scope, receive, headers, hold)

            def read() -> tuple[Asked, Writer]:
                return read_as(self._plain(body, coding, hold), model.loaded.inputs)

            small = coding == b"identity" and is_small(body, header_length, shared=regions is not None)
            asked, write = read() if small else await self.readers.read(hold.client, read)
            context = described(headers, asked.id)
            reply = await _unless_gone(scope, self.admission.infer(model, asked, arrival_s=arrival_s, context=context))
        began_s = time.perf_counter()
        text, json_length = write(reply.answer)
        self.admission.wrote(model, time.perf_counter() - began_s)
        extra = tuple([(name, headers[name]) for name in (b"traceparent", b"x-request-id") if name in headers])
        if json_length is None:
            return Response(200, text, _EVENTS if verb == "generate_stream" else _JSON, extra)
        return Response(200, text, b"application/octet-stream", (*extra, (LENGTH, b"%d" % json_length)))

    def _plain(self, body: Body, coding: bytes, hold: Reservation) -> Body:
        """Unpack a body, in any thread."""
        return body if coding == b"identity" else codings.unpacked(body, coding, self.max_bytes, hold.grow)

    async def _body(
        self, scope: Scope, receive: Receive, headers: Mapping[bytes, bytes], hold: Reservation
    ) -> tuple[Body, bytes]:
        """Read a body → it and its coding; Fault when it is too large or does not come in time."""
        named = headers.get(b"content-encoding")
        coding = b"identity" if named is None else codings.named(named)
        length = _length(headers, b"content-length") or 0
        if length > self.max_bytes:
            raise Fault(413, f"the body is larger than {self.max_bytes} bytes")
        body: Body | None = scope.pop(WHOLE, None)
        if body is None:
            scope[CAME] = hold.grow
            body = await self._awaited(scope, receive, hold)
        hold.grow(max(0, len(body) - hold.num_bytes))
        return body, coding

    async def _awaited(self, scope: Scope, receive: Receive, hold: Reservation) -> Body:
        try:
            async with asyncio.timeout(self.body_s):
                return await self._received(scope, receive, hold)
        except TimeoutError as error:
            raise Fault(408, f"the body did not come within {self.body_s:g} s") from error
        finally:
            scope.pop(CAME, None)

    async def _received(self, scope: Scope, receive: Receive, hold: Reservation) -> Body:
        chunks: list[memoryview] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Fault(400, "the body was cut off")
            whole = scope.pop(WHOLE, None)
            if isinstance(whole, Fault):
                raise whole
            if whole is not None:
                return cast(Body, whole)
            chunk = memoryview(message.get("body", b""))
            size += len(chunk)
            hold.grow(max(0, size - hold.num_bytes))
            if size > self.max_bytes:
                raise Fault(413, f"the body is larger than {self.max_bytes} bytes")
            if not message.get("more_body", False):
                return b"".join([*chunks, chunk]) if chunks else chunk
            chunks.append(chunk)


def extensions(regions: Regions | None) -> tuple[str, ...]:
    """Return what is offered beyond the protocol."""
    return EXTENSIONS if regions is None else (*EXTENSIONS, "system_shared_memory")


async def respond(send: Send, response: Response, scope: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Send a response; a client that has gone is nobody's error."""
    headers = [
        (b"content-type", response.kind),
        (b"content-length", b"%d" % len(response.body)),
        *response.headers,
    ]
    at_once = scope.get(AT_ONCE)
    if at_once is not None and at_once(response.status, headers, response.body):
        return
    with suppress(OSError):
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})


async def _unless_gone(scope: Scope, answering: Coroutine[Any, Any, Reply]) -> Reply:
    """Await an answer unless the client goes: then whoever holds the connection calls what is in the scope."""
    task = asyncio.current_task()
    assert task is not None, "applications run in tasks"
    scope[GONE] = task.cancel
    try:
        return await answering
    except asyncio.CancelledError as error:
        task.uncancel()
        raise Fault(499, "the client has gone") from error
    finally:
        scope[GONE] = None


def described(headers: Mapping[bytes, bytes], identity: str) -> dict[str, str]:
    """Return what a client says of its trace."""
    found = {"id": identity}
    for name in (b"traceparent", b"tracestate"):
        if name in headers:
            found[name.decode()] = headers[name].decode("latin-1")
    return found


@lru_cache(maxsize=64)  # clients ask for the same few paths
def _words(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/"))


def _other_method(scope: Scope, allowed: bytes) -> Response:
    text = f"{scope['method']} {scope['path']}: use {allowed.decode()}"
    return _error(405, text)._replace(headers=((b"allow", allowed),))


def _json(document: object, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(document))


def _error(status: int, text: str) -> Response:
    return _json({"error": text}, status)._replace(headers=_BESIDE.get(status, ()))


def _length(headers: Mapping[bytes, bytes], name: bytes) -> int | None:
    text = headers.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise Fault(400, f"{name.decode()}: {text.decode('latin-1')!r} is not a number of bytes")
    return int(text)


def _client(scope: Scope) -> str:
    """Return who asks: an address."""
    client = scope.get("client")
    return client[0] if client else ""


def _zipped(response: Response, accepted: bytes) -> Response:
    """Pack a response where the client takes it and it pays."""
    if len(response.body) < _WORTH_ZIPPING or not accepted:
        return response
    coding = codings.chosen(accepted)
    if coding is None:
        return response
    headers = (*response.headers, (b"content-encoding", coding))
    return Response(response.status, codings.packed(response.body, coding), response.kind, headers)
