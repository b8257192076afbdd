"""Places, a number of fronts and models → a server of several processes, looked after by this one.

This process listens at the port of metrics, dashboard and health, holds the ports of the others and computes nothing,
so that it answers whatever becomes of its children.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from amble.core.errors import Refused
from amble.core.schedule import Deadline
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.crowd import Crowd
from amble.services.serve.doors.dashboard import Panel
from amble.services.serve.ending import Stop, signals
from amble.services.serve.front import Doors, OnReady, addresses, beside, extra
from amble.services.serve.models.model import Model
from amble.services.serve.models.options import Options
from amble.services.serve.models.repository import Repository
from amble.services.serve.models.settings import Settings
from amble.services.serve.processes.arena import mapped
from amble.services.serve.processes.beats import Beats, Heart, new_beats
from amble.services.serve.processes.child import Logs
from amble.services.serve.processes.crew import Crew
from amble.services.serve.processes.engine import EngineRole
from amble.services.serve.processes.front import FrontRole, Shared, plain
from amble.services.serve.processes.loads import Loads, new_loads
from amble.services.serve.processes.member import Member
from amble.services.serve.processes.mirror import Table
from amble.services.serve.processes.places import Place
from amble.services.serve.processes.shares import new_shares, wipe
from amble.services.serve.processes.watchdog import Watchdog
from amble.stages.control.engine import Totals

__all__ = ["Wanted", "serve_apart"]

_LOG = logging.getLogger(__name__)
_MOST_WATCHERS = 128
_LOOK_S = 1.0
_END_S = 20.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be served, where, and by how many fronts."""

    places: Sequence[Place]
    fronts: int
    options: Options
    objective: Deadline | None
    named: Mapping[str, Path]
    folder: Path | None
    said: Mapping[str, Settings] = field(default_factory=dict)


def serve_apart(wanted: Wanted, doors: Doors, on_ready: OnReady = lambda addresses, stop: None) -> Totals:
    """Serve until SIGTERM or Ctrl-C, then answer what was accepted and return. Refused when it cannot start."""
    web = extra("amble.services.serve.doors.web")
    with asyncio.Runner(loop_factory=web.new_loop) as runner, ExitStack() as opened:
        try:
            parent = _Parent(wanted, doors, opened)
        except OSError as error:
            raise Refused(f"cannot make what processes share: {error}; allow more open files or memory") from error
        return runner.run(parent.run(on_ready))


def _kept(opened: ExitStack, fd: int) -> int:
    opened.callback(os.close, fd)
    return fd


class _Served(Repository):
    """The repository that all fronts have a copy of."""

    def table(self, generations: Mapping[str, int]) -> Table:
        """Return what to copy."""
        served = {name: dict(versions) for name, versions in dict(self._served).items()}
        return Table(served, dict(generations), dict(self._reasons), frozenset(self._coming))

    @property
    def changing(self) -> asyncio.Lock:
        """Return what is held while a model is loaded or unloaded."""
        return self._changing


class _Parent:
    """One run of a server. What it shares with its processes is open until ``opened`` closes."""

    def __init__(self, wanted: Wanted, doors: Doors, opened: ExitStack) -> None:
        self._wanted = wanted
        self._doors = doors
        self._stop = Stop()
        self._telling = threading.Lock()
        children = wanted.fronts + len(wanted.places)
        self._loads_fd = _kept(opened, new_loads(wanted.fronts, len(wanted.places)))
        self._shares_fd = _kept(opened, new_shares(wanted.fronts))
        self._beats_fd = _kept(opened, new_beats(children))
        loads = Loads(self._loads_fd, wanted.fronts, len(wanted.places))
        shares, beats = mapped(self._shares_fd), Beats(self._beats_fd, children)
        folder = TemporaryDirectory(prefix="amble-serve-", ignore_cleanup_errors=True)
        self._folder = Path(opened.enter_context(folder))

        def clear(front: int) -> None:
            loads.clear(front)
            wipe(shares, wanted.fronts, front)

        handlers: dict[str, Callable[..., Any]] = {
            "start": self._asked_to_start,
            "unload": self._asked_to_stop,
            "gather": self._gathered,
        }
        self._crew = Crew((), (), handlers, self._revive, clear, beats.clear)
        self._watchdog = Watchdog(lambda: self._crew.members, beats)
        self._panel = Panel(self._crew, version("amble"), doors.access)
        self._crew.history = self._panel.history
        self._panel.more = self._crew.text
        read_text = None if doors.grpc_port is None else extra("amble.services.serve.doors.grpc").read_text
        self._repository = _Served(self._crew, self._crew.load, wanted.folder, wanted.named, read_text)
        self._panel.models = lambda: self._repository.models

    async def run(self, on_ready: OnReady) -> Totals:
        """Hold the ports, start everyone, load, wait for the end, and close up in order."""
        self._loop = loop = asyncio.get_running_loop()
        async with AsyncExitStack() as closing:
            closing.enter_context(signals(loop, self._stop))
            ports = self._hold(closing)
            try:
                asked = asyncio.create_task(self._stop.asked.wait())
                starting = asyncio.create_task(self._begin(ports))
                await asyncio.wait({asked, starting}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    self._crew.starting = False
                    await asyncio.to_thread(self._show_all)
                    found = addresses(self._doors, ports, self._repository.models)
                    on_ready(found, lambda: loop.call_soon_threadsafe(self._stop))
                    watching = asyncio.create_task(self._watch())
                    await asked
                    await self._drain()
                    watching.cancel()
                starting.cancel()
            finally:
                self._watchdog.stop()
                await asyncio.to_thread(self._crew.end, _END_S)
        return self._crew.totals

    def _hold(self, closing: AsyncExitStack) -> tuple[int, int | None, int | None]:
        """Hold the ports that fronts listen on, and open the one that is this process's own → their numbers."""
        web, doors = extra("amble.services.serve.doors.web"), self._doors
        http = web.reserve(doors.host, doors.http_port, "http")
        closing.callback(http.close)
        grpc_port = metrics_port = None
        if doors.grpc_port is not None:
            grpc = web.reserve(doors.host, doors.grpc_port, "grpc")
            closing.callback(grpc.close)
            grpc_port = grpc.getsockname()[1]
        if doors.metrics_port is not None:
            metrics = web.listen(doors.host, doors.metrics_port, "metrics")
            closing.callback(metrics.close)
            metrics_port = metrics.getsockname()[1]
            patience = web.Patience(doors.headers_s, doors.body_s)
            beside(closing, web.Web(self._panel, metrics, patience, Crowd(_MOST_WATCHERS)), web.new_loop)
            self._panel.start(closing)
        return http.getsockname()[1], grpc_port, metrics_port

    async def _begin(self, ports: tuple[int, int | None, int | None]) -> None:
        """Start engines and fronts, and load everything there is."""
        crew = self._crew
        self._repository.expect(self._repository.names())
        crew.engines, crew.fronts = self._members(ports)
        for each in crew.members:
            crew.start(each)
        self._watchdog.start()
        await asyncio.gather(*(asyncio.to_thread(self._revive, each) for each in crew.engines))
        await asyncio.gather(*(asyncio.to_thread(self._revive, each) for each in crew.fronts))
        for name in self._repository.names():
            try:
                await self._repository.start(name)
            except Fault as fault:
                if name in self._repository.named:
                    raise Refused(fault.text) from fault
                _LOG.warning("%s", fault.text)

    def _members(self, ports: tuple[int, int | None, int | None]) -> tuple[list[Member], list[Member]]:
        """Return engines and fronts, none of them started."""
        wanted, logs, kept = self._wanted, Logs.here(), (self._loads_fd, self._shares_fd, self._beats_fd)
        num, children = len(wanted.places), wanted.fronts + len(wanted.places)
        hearts = [Heart(self._beats_fd, children, row) for row in range(children)]
        paths = tuple(self._folder / f"engine-{at}" for at in range(num))
        engines = [
            EngineRole(place, wanted.options, wanted.objective, path, logs, heart, wanted.said)
            for place, path, heart in zip(wanted.places, paths, hearts[:num], strict=True)
        ]
        doors = plain(replace(self._doors, http_port=ports[0], grpc_port=ports[1]))
        rules = (wanted.named, wanted.folder, wanted.options.trace, logs)
        shared = Shared(self._loads_fd, self._shares_fd, secrets.token_bytes(16))
        fronts = [
            FrontRole(doors, at, wanted.fronts, paths, shared, *rules, heart) for at, heart in enumerate(hearts[num:])
        ]
        return (
            [Member(f"the engine on {role.place.name}", role, (self._beats_fd,)) for role in engines],
            [Member(f"front {role.index}", role, kept) for role in fronts],
        )

    def _revive(self, member: Member) -> None:
        """Bring a child that has just started to where the others are; in a thread."""
        crew = self._crew
        if isinstance(member.role, EngineRole):
            crew.devices[member.name] = member.ask("describe").result()
            done: dict[str, Model] = {}
            self._catch_up(member, done)
            asyncio.run_coroutine_threadsafe(self._join(member, done), self._loop).result()
        else:
            self._show([member])[0].result()
            member.ask("open").result()
            member.up = True

    def _catch_up(self, engine: Member, done: dict[str, Model]) -> None:
        """Have an engine load and open what the others serve beyond what it has ``done``."""
        crew = self._crew
        while done != (known := crew.known):
            for key in done.keys() - known.keys():
                engine.ask("close", key).result()
            for key, model in known.items():
                if done.get(key) != model:
                    engine.ask("load", model.found).result()
                    engine.ask("open", model, crew.generations[key]).result()
            done.clear()
            done.update(known)

    async def _join(self, engine: Member, done: dict[str, Model]) -> None:
        """Let an engine that has caught up take its share, while no model changes: one would pass it by."""
        async with self._repository.changing:
            await asyncio.to_thread(self._catch_up, engine, done)
            await asyncio.wrap_future(engine.ask("admit"))
            engine.up = True

    def _show_all(self) -> None:
        """Tell all fronts what is served now."""
        asked = self._show(self._crew.fronts)
        for each in asked:
            with suppress(Exception):  # one that has just died is told when it is there again
                each.result(_END_S)

    def _show(self, fronts: Sequence[Member]) -> list[Future[Any]]:
        """Tell fronts what is served now, never an older state after a newer one."""
        with self._telling:
            table = self._repository.table(self._crew.generations)
            return [each.ask("show", table, not self._crew.starting) for each in fronts]

    def _asked_to_start(self, name: str, config: str | None) -> None:
        self._change(self._repository.start(name, config))

    def _asked_to_stop(self, name: str) -> None:
        self._change(self._repository.stop(name))

    def _change(self, change: Any) -> None:
        """Do what a front asks for, in a thread of its own; all fronts know of it when this returns."""
        try:
            asyncio.run_coroutine_threadsafe(change, self._loop).result()
        finally:
            self._show_all()

    def _gathered(self) -> Any:
        return self._crew.gather()

    async def _watch(self) -> None:
        """Ask all what they counted, once a second: what a child that dies has not told is lost."""
        while True:
            await asyncio.to_thread(self._crew.gather)
            await asyncio.sleep(_LOOK_S)

    async def _drain(self) -> None:
        """Take nothing more, answer what was accepted, for some time at most; refuse what then still waits."""
        crew = self._crew
        crew.draining = True
        for each in crew.fronts:
            each.ask("drain")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._doors.drain_s):
                while not self._stop.insisted.is_set():
                    await asyncio.to_thread(crew.gather)
                    if crew.quiet:
                        return
                    await asyncio.sleep(0.01)
        for each in crew.engines:
            each.ask("stop")
