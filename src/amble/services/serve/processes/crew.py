"""Fronts and engines as the parent sees them: it starts them, anew when they die, and adds up what they say.

Where models are opened and closed (`Stage`) and what is shown of them (`Watched`) are the same as in a server of one
process; here they are asked of every engine, and what comes of it is told to every front.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from amble.core.errors import AmbleError, Refused
from amble.runtimes.remote.fault import Fault
from amble.services.serve.models.model import Found, Loaded, Model
from amble.services.serve.processes import summing
from amble.services.serve.processes.control import Control, Gone, Handler
from amble.services.serve.processes.front import Glance
from amble.services.serve.processes.member import Member
from amble.services.serve.processes.workshop import Look
from amble.services.serve.pulse import Do, Seat
from amble.services.serve.requests.lanes import FINISHING_S, added
from amble.services.serve.telling import metrics
from amble.services.serve.telling.history import History
from amble.services.serve.telling.ledger import Ledger
from amble.stages.control.engine import Totals

__all__ = ["Crew", "pause_s"]

_LOG = logging.getLogger(__name__)
_PATIENCE_S = 0.2  # for a word from a child that may be busy
_ANSWER_S = 20.0
_FIRST_S, _LONGEST_S = 0.1, 5.0  # before a child that died is started anew
_LIVED_S = 10.0  # who lived so long has not failed at once


@dataclass(slots=True)
class Crew:
    """All children. ``handlers`` answer what they ask; ``revive`` is called in a thread when one is there again.

    ``clear`` and ``forget`` take out what a front, or any child, has written into memory that all share.
    """

    engines: Sequence[Member]
    fronts: Sequence[Member]
    handlers: dict[str, Handler]
    revive: Callable[[Member], None]
    clear: Callable[[int], None]
    forget: Callable[[int], None] = lambda row: None
    draining: bool = False
    starting: bool = True
    history: History = field(default_factory=History)
    generations: dict[str, int] = field(default_factory=dict)
    devices: dict[str, tuple[str, str]] = field(default_factory=dict)
    _known: dict[str, Model] = field(default_factory=dict)
    _ended: list[Ledger] = field(default_factory=list)
    _counted: Ledger = field(default_factory=Ledger)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _totals: dict[str, Totals] = field(default_factory=dict)
    _unheard: bool = False
    _over: bool = False

    def start(self, member: Member) -> None:
        """Start a child's process, and hand it its role. Refused where the machine lets nothing more be started."""
        member.since_s = time.monotonic()
        if member in self.members:
            self.forget(self.members.index(member))
        connection = None
        try:
            member.running, connection = _spawned(member)
            member.hung = False  # from here on it is watched
            connection.send(member.role)
            member.control = Control(
                connection, self.handlers, slow=tuple(self.handlers), on_end=lambda: self._bury(member)
            )
        except (OSError, RuntimeError) as error:  # the latter: no more threads
            running, member.running = member.running, None
            if connection is not None:
                connection.close()
            _wait(running, 0.0)
            raise Refused(
                f"cannot start {member.name}: {error}; allow more processes, memory or open files, or serve with fewer "
                "--device and --fronts"
            ) from error

    @property
    def members(self) -> tuple[Member, ...]:
        """Return all children, the engines first."""
        return (*self.engines, *self.fronts)

    # where models are served

    @property
    def do(self) -> Do:
        """Return what does work at once: measuring takes its turns in the engines."""
        return lambda work: work()

    def load(self, found: Found, do: Do) -> Loaded:
        """Have every engine load a model; what the first engine found of it is told of it."""
        asked = [each.ask("load", found) for each in self.engines if each.up]
        if not asked:
            raise Gone(f"cannot load {found.name}: no engine is there, one is being started: try again")
        wait(asked)
        made: list[Loaded] = [each.result() for each in asked]
        return made[0]

    def open(self, model: Model) -> None:
        """Have every engine serve a model."""
        before = self._known.get(model.key)
        if before is None or not model.answers_alike(before):
            self.generations[model.key] = self.generations.get(model.key, 0) + 1
        self._known[model.key] = model
        asked = [each.ask("open", model, self.generations[model.key]) for each in self.engines if each.up]
        wait(asked, _ANSWER_S)
        for each in asked:
            with suppress(Gone):
                each.result(0)

    def close(self, model: Model) -> None:
        """Have every engine serve a model no more, once each has answered what it has of it."""
        self._known.pop(model.key, None)
        wait([each.ask("close", model.key) for each in self.engines], FINISHING_S + _ANSWER_S)

    @property
    def known(self) -> dict[str, Model]:
        """Return the models that every engine is to serve."""
        return dict(self._known)

    # what is shown

    @property
    def open_for_all(self) -> bool:
        """Tell whether requests are taken: some front and some engine are there."""
        alive = any(each.up for each in self.fronts) and any(each.up for each in self.engines)
        return alive and not (self.starting or self.draining)

    @property
    def well(self) -> bool:
        """Tell that this server is alive: it replaces what is not."""
        return True

    @property
    def pending(self) -> int:
        """Count the requests that wait for their answer."""
        return sum(each.said.pending for each in self.fronts if isinstance(each.said, Glance))

    @property
    def quiet(self) -> bool:
        """Tell whether no request waits; one may in a front that was too busy to say when it was last asked."""
        return not self.pending and not self._unheard

    @property
    def counted(self) -> Ledger:
        """Return the counters of all, as they were told."""
        return self._counted

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Return the devices and their engines."""
        found = []
        for each in self.engines:
            if isinstance(each.said, Look) and each.name in self.devices:
                device, calibration = self.devices[each.name]
                look: Look = each.said
                counted = added([self._before(each), look.totals])
                found.append(Seat(device, calibration, counted, look.first, look.last, look.ledger.busy_s))
        return tuple(found)

    @property
    def totals(self) -> Totals:
        """Return what all engines have counted, those that have ended too."""
        told = [each.said.totals for each in self.engines if isinstance(each.said, Look)]
        return added([*self._totals.values(), *told])

    def _before(self, engine: Member) -> Totals:
        """Return what its predecessors counted, who died."""
        return self._totals.get(engine.name, Totals())

    def text(self) -> str:
        """Return what is known of the processes, as metrics."""
        return metrics.processes((each.name, each.up, each.replaced) for each in self.members)

    def settle(self) -> Future[None]:
        """Have all asked for what they have counted, from any thread."""
        done: Future[None] = Future()

        def work() -> None:
            self.gather()
            if done.set_running_or_notify_cancel():
                done.set_result(None)

        threading.Thread(target=work, name="amble-gather", daemon=True).start()
        return done

    def gather(self) -> Ledger:
        """Ask all for what they have counted, and add it up; who does not answer in time counts as before."""
        with self._lock:
            asked = [(each, each.ask("glance")) for each in self.fronts]
            asked += [(each, each.ask("look")) for each in self.engines]
            until_s = time.monotonic() + _PATIENCE_S
            seconds, unheard = [self.history.take()], False
            for member, future in asked:
                try:
                    member.said = future.result(max(0.0, until_s - time.monotonic()))
                    seconds.append(member.said.second)
                except TimeoutError:
                    unheard |= member in self.fronts
                except AmbleError:
                    pass  # it has ended
            self._unheard = unheard
            self.history.add(summing.seconds(seconds))
            living = [each.said.ledger for each in self.members if each.said is not None]
            self._counted = summing.summed([*self._ended, *living])
            return self._counted

    # life and death

    def end(self, within_s: float) -> None:
        """Have all end, the fronts first; who does not is killed."""
        self._over = True
        for each in self.fronts:
            each.ask("end")
        for each in self.fronts:
            _wait(each.running, within_s)
        wait([each.ask("end") for each in self.engines], within_s)
        self.gather()
        for each in self.engines:
            each.ask("leave")
        for each in self.engines:
            _wait(each.running, within_s)

    def _bury(self, member: Member) -> None:
        """Take note of a child's end, and start it anew unless all is over; in its control's thread."""
        member.up, member.control = False, None
        with self._lock:
            if member.said is not None:
                self._ended.append(summing.ended(member.said.ledger))
            if isinstance(member.said, Look):
                self._totals[member.name] = added([self._before(member), member.said.totals])
            member.said = None
        if member in self.fronts:
            self.clear(list(self.fronts).index(member))
        _wait(member.running, _ANSWER_S)
        if self._over:
            return
        code, member.running = _code(member.running), None  # nobody is there to be watched
        lived = time.monotonic() - member.since_s > _LIVED_S
        member.failures = 0 if lived else member.failures + 1
        member.replaced["hung" if member.hung else "died"] += 1
        _LOG.error("%s has died (%s); starting it anew", member.name, code)
        if not self._started_anew(member):
            return
        try:
            self.revive(member)
        except (AmbleError, Fault, OSError, ValueError, RuntimeError) as error:  # all that a child's answer can raise
            _LOG.error("%s could not be started anew: %s", member.name, error)
            if member.running is not None:
                member.running.kill()  # and once more, after a longer time

    def _started_anew(self, member: Member) -> bool:
        """Start a child again, as often as it takes; False where all is over."""
        while True:
            time.sleep(pause_s(member.failures))
            if self._over:
                return False
            try:
                self.start(member)
            except Refused as refused:
                member.failures += 1
                _LOG.error("%s; trying again", refused)
            else:
                return True


def _spawned(member: Member) -> tuple[subprocess.Popen[bytes], Connection[Any, Any]]:
    """Start a child's process → it, and our end of the line to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        words = [sys.executable, "-m", "amble.services.serve.processes.child", str(theirs.fileno()), member.name]
        try:
            running = subprocess.Popen(words, pass_fds=(theirs.fileno(), *member.fds), stdin=subprocess.DEVNULL)
        except BaseException:
            ours.close()
            raise
    return running, Connection(ours.detach())


def pause_s(failures: int) -> float:
    """Return the time [s] before a child that failed so often in a row is started anew."""
    return min(_LONGEST_S, _FIRST_S * 2.0 ** min(failures, 10))


def _wait(running: subprocess.Popen[bytes] | None, within_s: float) -> None:
    if running is None:
        return
    try:
        running.wait(within_s)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


def _code(running: subprocess.Popen[bytes] | None) -> str:
    code = None if running is None else running.returncode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
