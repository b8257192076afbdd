"""Doors → a front in a process of its own: accepts, parses, checks, passes on, answers, until it is told to end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from amble.services.serve.doors.access import Keys
from amble.services.serve.doors.descriptors import watched
from amble.services.serve.doors.reading import Readers
from amble.services.serve.doors.tls import Certificate
from amble.services.serve.front import Doors, extra, open_doors
from amble.services.serve.models.model import Found, Model
from amble.services.serve.process import tuned
from amble.services.serve.processes.arena import Arena
from amble.services.serve.processes.beats import Heart
from amble.services.serve.processes.child import Logs
from amble.services.serve.processes.control import Control
from amble.services.serve.processes.exchange import Exchange
from amble.services.serve.processes.loads import Loads
from amble.services.serve.processes.mirror import Mirror, Table
from amble.services.serve.processes.shares import Shares
from amble.services.serve.pulse import Do
from amble.services.serve.requests.dispatching import Listener
from amble.services.serve.requests.quota import Quota
from amble.services.serve.telling.history import History, Second
from amble.services.serve.telling.ledger import Ledger

__all__ = ["FrontRole", "Glance", "Shared", "plain"]

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Glance:
    """What a front has counted, and how many requests wait in it."""

    ledger: Ledger
    second: Second
    pending: int


def plain(doors: Doors) -> tuple[Doors, tuple[Path | None, str] | None, tuple[Path, Path, Path | None] | None]:
    """Return doors as they can be sent to another process: without what was read of keys and certificates."""
    keys = None if doors.keys is None else (doors.keys.path, doors.keys.given)
    tls = None if doors.tls is None else (doors.tls.cert, doors.tls.key, doors.tls.client_ca)
    return replace(doors, keys=None, tls=None), keys, tls


@dataclass(frozen=True, slots=True)
class Shared:
    """Memory that all fronts share, as open files: what engines have to do, and what clients hold."""

    loads: int
    shares: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class FrontRole:
    """Where a front listens, which of how many it is, where the engines are, and what could be served."""

    doors: tuple[Doors, tuple[Path | None, str] | None, tuple[Path, Path, Path | None] | None]
    index: int
    fronts: int
    engines: tuple[Path, ...]
    shared: Shared
    named: Mapping[str, Path]
    folder: Path | None
    trace: bool
    logs: Logs
    heart: Heart

    def play(self, connection: Connection) -> None:
        """Answer clients, until the parent says otherwise or is gone."""
        web = extra("amble.services.serve.doors.web")
        with tuned() as niceness, asyncio.Runner(loop_factory=web.new_loop) as runner:
            runner.run(self._run(connection, niceness))

    async def _run(self, connection: Connection, niceness: int) -> None:
        loop, history, over = asyncio.get_running_loop(), History(), asyncio.Event()
        doors = self.opened_doors()
        arena = Arena(2 * doors.room_bytes)
        wish = _Wish(loop)
        dispatcher = Exchange(
            Quota(self.doors[0].room_bytes, elsewhere=self._shares("bytes")),
            (history, *self._spans()),
            arena=arena,
            loads=Loads(self.shared.loads, self.fronts, len(self.engines), self.index),
            engines=self.engines,
            gather=lambda: asyncio.wrap_future(wish.control.ask("gather")),
        )
        repository = Mirror(_Elsewhere(), _elsewhere, self.folder, self.named, ask=wish.ask)
        front = _Front(dispatcher, repository, history, over)
        wish.connect(connection, front, on_end=front.end)
        readers = Readers(niceness)
        async with AsyncExitStack() as closing:
            dispatcher.mailbox.open()
            closing.callback(dispatcher.mailbox.close)
            closing.callback(readers.close)
            for endless in (dispatcher.reach(), self.heart.beat_in_loop()):
                closing.callback(asyncio.create_task(endless).cancel)
            await front.shown.wait()
            await open_doors(closing, dispatcher, repository, readers, doors, elsewhere=self._shares)
            closing.enter_context(watched())
            front.opened.set()
            await over.wait()
            dispatcher.draining = True
            dispatcher.close()
            for listener in dispatcher.listeners:
                listener.close()
        wish.control.close()

    def _shares(self, kind: str) -> Shares:
        return Shares(self.shared.shares, self.fronts, self.index, kind, self.shared.secret)

    def opened_doors(self) -> Doors:
        """Return the doors with their keys and certificates, read here, and the room of this front's memory."""
        doors, keys, tls = self.doors
        return replace(
            doors,
            room_bytes=max(doors.max_bytes, doors.room_bytes // self.fronts),
            keys=None if keys is None else Keys(*keys),
            tls=None if tls is None else Certificate(*tls),
        )

    def _spans(self) -> tuple[Listener, ...]:
        return (import_module("amble.services.serve.telling.tracing").spans(),) if self.trace else ()


class _Wish:
    """The control of a front, whose handlers are called in its loop's thread."""

    control: Control

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def connect(self, connection: Connection, front: _Front, on_end: Callable[[], None]) -> None:
        """Begin to hear the parent."""
        names = ("show", "open", "drain", "glance", "end")
        handlers = {name: self._inside(getattr(front, name)) for name in names}
        self.control = Control(connection, handlers, on_end=lambda: self._soon(on_end))

    def ask(self, *arguments: Any) -> asyncio.Future[Any]:
        """Have the parent do something."""
        return asyncio.wrap_future(self.control.ask(*arguments), loop=self._loop)

    def _soon(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _inside(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def called(*arguments: Any) -> Any:
            found = call(*arguments)
            return await found if asyncio.iscoroutine(found) else found

        return lambda *arguments: asyncio.run_coroutine_threadsafe(called(*arguments), self._loop).result()


@dataclass(slots=True)
class _Front:
    """What the parent may ask of a front."""

    dispatcher: Exchange
    repository: Mirror
    history: History
    over: asyncio.Event
    shown: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> None:
        """Return once the doors are open and engines can be asked."""
        await self.opened.wait()
        while not self.dispatcher.connected():
            await asyncio.sleep(0.01)

    def show(self, table: Table, ready: bool) -> None:
        """Take the parent's state: what is served, and whether requests are taken. No door opens before."""
        self.dispatcher.generations = table.generations
        self.repository.show(table)
        self.dispatcher.starting = not ready
        self.shown.set()

    def drain(self) -> None:
        """Take no more requests."""
        self.dispatcher.draining = True

    def glance(self) -> Glance:
        """Return what was counted."""
        return Glance(self.dispatcher.ledger, self.history.take(), self.dispatcher.pending)

    def end(self) -> None:
        """Close up."""
        self.shown.set()
        self.over.set()


class _Elsewhere:
    """Stands where models are served in a process that serves none."""

    @property
    def open_for_all(self) -> bool:
        return False

    def open(self, model: Model) -> None:
        raise AssertionError(f"{model.key} is opened by the parent")

    def close(self, model: Model) -> None:
        raise AssertionError(f"{model.key} is closed by the parent")

    @property
    def do(self) -> Do:
        raise AssertionError("devices are the engines'")


def _elsewhere(found: Found, do: Do) -> NoReturn:
    raise AssertionError(f"{found.name} is loaded by the engines")
