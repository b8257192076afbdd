"""A device and models → a server: listens, loads, answers until it is told to stop, drains, puts the clocks back.

Two doors (HTTP, gRPC) in one event loop; the third (metrics, dashboard, health) and the engine in a thread each.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amble.core.errors import Refused, how_to_install
from amble.core.ports import Device
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.access import Access, Keys
from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.doors.dashboard import Panel
from amble.services.serve.doors.descriptors import watched
from amble.services.serve.doors.http import Http
from amble.services.serve.doors.reading import Readers
from amble.services.serve.doors.shared_memory import Regions
from amble.services.serve.doors.tls import Certificate
from amble.services.serve.ending import Stop, finished, leave, signals
from amble.services.serve.models.model import Loader, Model
from amble.services.serve.models.repository import Repository
from amble.services.serve.process import most_connections, set_niceness, tuned
from amble.services.serve.requests.admission import Admission, Listener
from amble.services.serve.requests.dispatching import Dispatcher
from amble.services.serve.requests.elsewhere import Elsewhere, Nowhere
from amble.services.serve.requests.quota import Quota
from amble.stages.control.engine import Totals

__all__ = [
    "Addresses",
    "Backend",
    "Doors",
    "OnReady",
    "addresses",
    "beside",
    "extra",
    "open_doors",
    "serve",
]

_LOG = logging.getLogger(__name__)
_MOST_WATCHERS = 128
_LOOK_S = 0.5
_MISSING = f"serving needs {{}}: {how_to_install('serve')}"


@dataclass(frozen=True, slots=True)
class Doors:
    """Where to listen, and how much to let in. Port 0 takes a free one, None leaves the door out.

    ``headers_s`` and ``body_s`` are the times [s] a client may take to send its headers and its body over HTTP.
    ``keys`` are asked of clients if given, ``control`` lets them load and unload models, ``hosts`` are names that the
    server has beside those of the loopback, where it listens only there. With ``tls`` HTTP and gRPC are encrypted; the
    port of metrics and health stays plain. ``regions``: shared memory is offered.
    """

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int | None = 8001
    metrics_port: int | None = 8002
    max_bytes: int = 64 << 20
    room_bytes: int = 256 << 20
    drain_s: float = 30.0
    headers_s: float = 10.0
    body_s: float = 30.0
    keys: Keys | None = None
    control: bool = False
    hosts: tuple[str, ...] = ()
    tls: Certificate | None = None
    regions: Regions | None = None

    @property
    def access(self) -> Access:
        """Return who may do what here."""
        return Access(self.keys, self.control, self.host, self.hosts)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a server listens."""

    http: str
    grpc: str | None
    metrics: str | None
    dashboard: str | None
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backend:
    """Who takes the requests and who knows the models: this process alone, unless others do the work (`cluster`).

    ``beside`` runs while the doors are open, from before the first model is loaded; ``more`` are metrics beyond a
    server's own, as text.
    """

    admission: Callable[..., Admission] = Admission
    repository: Callable[..., Repository] = Repository
    beside: Callable[[], AbstractAsyncContextManager[object]] = nullcontext
    more: Callable[[], str] = str


OnReady = Callable[[Addresses, Callable[[], object]], None]
"""Is told where a server listens, and how to stop it from any thread."""


def serve(
    device: Device,
    load: Loader,
    doors: Doors,
    *,
    named: Mapping[str, Path],
    folder: Path | None = None,
    on_ready: OnReady = lambda addresses, stop: None,
    listeners: tuple[Listener, ...] = (),
    backend: Backend = Backend(),
) -> Totals:
    """Serve until SIGTERM or Ctrl-C, then answer what was accepted and return. Refused when it cannot start.

    Models in ``folder`` that cannot be loaded are reported by the repository; those in ``named`` must load.
    """
    web = extra("amble.services.serve.doors.web")
    with tuned() as niceness, asyncio.Runner(loop_factory=web.new_loop) as runner:
        computing = ThreadPoolExecutor(thread_name_prefix="amble", initializer=set_niceness, initargs=(niceness,))
        runner.get_loop().set_default_executor(computing)
        front = _Front(device, load, doors, named, folder, listeners, niceness, backend)
        return runner.run(front.run(on_ready))


def extra(name: str) -> Any:
    """Import a module that needs an extra; Refused where it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise Refused(_MISSING.format(error.name)) from error


class _Front:
    """One run of a server."""

    def __init__(
        self,
        device: Device,
        load: Loader,
        doors: Doors,
        named: Mapping[str, Path],
        folder: Path | None,
        listeners: tuple[Listener, ...],
        niceness: int,
        backend: Backend,
    ) -> None:
        self._backend = backend
        self._doors = doors
        self._version = version("amble")
        self._admission = backend.admission(device=device, quota=Quota(doors.room_bytes), listeners=listeners)
        self._panel = Panel(self._admission, self._version, doors.access)
        self._admission.listeners = (self._panel.history, *listeners)
        read_text = None if doors.grpc_port is None else extra("amble.services.serve.doors.grpc").read_text
        self._repository = backend.repository(self._admission, load, folder, named, read_text)
        self._panel.models = lambda: self._repository.models
        self._panel.more = backend.more
        self._readers = Readers(niceness)

    async def run(self, on_ready: OnReady) -> Totals:
        """Open the doors, load, wait for the end, and close up in order."""
        stop, loop = Stop(), asyncio.get_running_loop()
        async with AsyncExitStack() as closing:
            closing.enter_context(signals(loop, stop))
            self._admission.mailbox.open()
            closing.callback(self._admission.mailbox.close)
            closing.callback(self._readers.close)
            await closing.enter_async_context(self._backend.beside())
            self._repository.expect(self._repository.names())
            found = await self._open(closing)
            working = loop.run_in_executor(None, self._admission.lanes.run)
            closing.callback(asyncio.create_task(self._watch()).cancel)
            try:
                asked = asyncio.create_task(stop.asked.wait())
                await _first(asked, working, beside=self._load())
                if not asked.done():
                    self._admission.starting = False
                    on_ready(found(), lambda: loop.call_soon_threadsafe(stop))
                    await _first(asked, working)
                    await self._drain(stop, working)
            finally:
                await self._end(working, stop)
        return self._admission.lanes.totals

    async def _open(self, closing: AsyncExitStack) -> Callable[[], Addresses]:
        """Open every door that is wanted; nothing is opened when one cannot be."""
        web, doors = extra("amble.services.serve.doors.web"), self._doors
        metrics_socket = None
        if doors.metrics_port is not None:
            metrics_socket = web.listen(doors.host, doors.metrics_port, "metrics")
            closing.callback(metrics_socket.close)
        http_port, grpc_port = await open_doors(closing, self._admission, self._repository, self._readers, doors)
        if metrics_socket is not None:
            patience = web.Patience(doors.headers_s, doors.body_s)
            beside(closing, web.Web(self._panel, metrics_socket, patience, Crowd(_MOST_WATCHERS)), web.new_loop)
            self._panel.start(closing)
        closing.enter_context(watched())

        metrics_port = None if metrics_socket is None else metrics_socket.getsockname()[1]
        return lambda: addresses(doors, (http_port, grpc_port, metrics_port), self._repository.models)

    async def _watch(self) -> None:
        """Look whether the engines get on, for ever."""
        while True:
            self._admission.look()
            await asyncio.sleep(_LOOK_S)

    async def _load(self) -> None:
        """Load everything there is; the engine must be running, since it is in its thread that models are measured."""
        for name in self._repository.names():
            try:
                await self._repository.start(name)
            except Fault as fault:
                if name in self._repository.named:
                    raise Refused(fault.text) from fault
                _LOG.warning("%s", fault.text)
        self._repository.expect(())

    async def _drain(self, stop: Stop, working: asyncio.Future[Totals]) -> None:
        """Take nothing more, answer what was accepted, for some time at most."""
        self._admission.draining = True
        _LOG.info("draining %d requests", self._admission.pending)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._doors.drain_s):
                while self._admission.pending and not stop.insisted.is_set() and not working.done():
                    await asyncio.sleep(0.01)

    async def _end(self, working: asyncio.Future[Totals], stop: Stop) -> None:
        """Stop the engine, which puts the clocks back; what it could not answer is refused. See `ending`."""
        self._admission.draining = True
        if self._admission.pending:
            self._admission.lanes.stop()
        self._admission.lanes.close()
        try:
            if not await finished(working, stop):
                lost = partial(self._admission.lost, "the server ends, and what computes does not come back", 503)
                await leave(lost, *(each.close for each in self._admission.listeners))
            await working
        finally:
            self._admission.lanes.abandon()
            self._admission.mailbox.deliver()
            self._admission.lost()
            assert self._admission.ledger, "all is counted"
            for listener in self._admission.listeners:
                listener.close()
            await asyncio.sleep(0)


async def _first(
    asked: asyncio.Task[Any], working: asyncio.Future[Totals], *, beside: Coroutine[Any, Any, None] | None = None
) -> None:
    """Wait for the end to be asked for, the engine to end, or what is done beside; raise what the latter two raised."""
    doing = asyncio.create_task(beside) if beside is not None else None
    await asyncio.wait({each for each in (asked, working, doing) if each}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
    if doing is not None:
        if doing.done():
            doing.result()
        doing.cancel()


async def open_doors(
    closing: AsyncExitStack,
    dispatcher: Dispatcher,
    repository: Repository,
    readers: Readers,
    doors: Doors,
    *,
    elsewhere: Callable[[str], Elsewhere] | None = None,
) -> tuple[int, int | None]:
    """Open HTTP, and gRPC where it is wanted, until the stack closes → their ports.

    ``elsewhere`` are the connections or calls, by that name, of other processes of this server, which listen there too.
    """
    shared = elsewhere is not None
    others = elsewhere or (lambda kind: Nowhere())
    crowd = Crowd(most_connections(), elsewhere=others("connections"), holding=dispatcher.holding)
    web, told = extra("amble.services.serve.doors.web"), version("amble")
    http_socket = web.listen(doors.host, doors.http_port, "http", shared=shared)
    closing.callback(http_socket.close)
    grpc_port = None
    if doors.grpc_port is not None:
        grpc = extra("amble.services.serve.doors.grpc").Grpc(
            dispatcher,
            repository,
            access=doors.access,
            version=told,
            readers=readers,
            max_bytes=doors.max_bytes,
            shared=shared,
            regions=doors.regions,
            body_s=doors.body_s,
            crowd=crowd,
            calls=others("calls"),
        )
        grpc_port = await grpc.start(doors.host, doors.grpc_port, tls=doors.tls)
        closing.push_async_callback(grpc.stop)
    rules = (doors.max_bytes, doors.body_s, readers, doors.access, doors.regions)
    http = Http(dispatcher, repository, told, *rules)
    tls = None if doors.tls is None else doors.tls.server_context()
    patience = web.Patience(doors.headers_s, doors.body_s)
    await _run(closing, web.Web(http, http_socket, patience, crowd, tls))
    return http_socket.getsockname()[1], grpc_port


def addresses(doors: Doors, ports: tuple[int, int | None, int | None], models: Iterable[Model]) -> Addresses:
    """Say where a server listens: on these ports of HTTP, gRPC and metrics."""
    http_port, grpc_port, metrics_port = ports
    metrics = None if metrics_port is None else _url(doors.host, metrics_port)
    return Addresses(
        http=_url(doors.host, http_port, "http" if doors.tls is None else "https"),
        grpc=None if grpc_port is None else f"{doors.host}:{grpc_port}",
        metrics=metrics and f"{metrics}/metrics",
        dashboard=metrics and f"{metrics}/dashboard",
        models=tuple(f"{model.name} {model.version}" for model in models),
    )


async def _run(closing: AsyncExitStack, web: Any) -> None:
    """Serve in the background until the stack closes."""
    task = asyncio.create_task(web.run())

    async def end() -> None:
        web.stop()
        await task

    closing.push_async_callback(end)
    await asyncio.sleep(0)


def beside(closing: AsyncExitStack, web: Any, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Serve in a thread with a loop of its own until the stack closes."""

    def serve_alone() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(web.run())

    thread = threading.Thread(target=serve_alone, name="amble-watch", daemon=True)
    thread.start()

    async def end() -> None:
        web.stop()
        await asyncio.to_thread(thread.join)

    closing.push_async_callback(end)


def _url(host: str, port: int, scheme: str = "http") -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
