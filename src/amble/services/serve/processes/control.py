"""Questions between the parent and a child, both ways: each is answered once, or its asker is told that nobody will.

Questions of one side are answered by the other in order, in a thread of its own; those that take long in threads of
theirs.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from amble.core.errors import AmbleError
from amble.runtimes.remote.fault import Fault

__all__ = ["Control", "Gone"]

_LOG = logging.getLogger(__name__)
Handler = Callable[..., Any]


class Gone(AmbleError):
    """The process that was asked has ended."""


class Control:
    """One end. ``handlers`` answer by name, those in ``slow`` take long; ``on_end``: the other end is gone."""

    def __init__(
        self,
        connection: Connection,
        handlers: Mapping[str, Handler],
        *,
        slow: Collection[str] = (),
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._handlers = handlers
        self._slow = frozenset(slow)
        self._on_end = on_end
        self._sending = threading.Lock()
        self._asked: dict[int, Future[Any]] = {}
        self._count = 0
        self._over = False
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._answer, name="amble-answer", daemon=True).start()
        try:
            threading.Thread(target=self._listen, name="amble-control", daemon=True).start()
        except RuntimeError:  # no more threads: nobody listens, so ``on_end`` is never called
            self._work.put(None)
            raise

    def ask(self, name: str, *arguments: Any) -> Future[Any]:
        """Ask the other end something; the future fails with what went wrong there, or `Gone`."""
        asked: Future[Any] = Future()
        with self._sending:
            self._count += 1
            number = self._count
            self._asked[number] = asked
            over = self._over
            if not over:
                try:
                    self._connection.send_bytes(pickle.dumps((number, name, arguments), protocol=5))
                except OSError:
                    over = True
        if over and self._asked.pop(number, None) is not None:
            asked.set_exception(Gone("the process has ended"))
        return asked

    def close(self) -> None:
        """Hang up. Whoever listens here wakes, and closes the connection: under its hands it would read another's."""
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        try:
            while True:
                number, name, value = pickle.loads(self._connection.recv_bytes())  # noqa: S301
                if name:
                    self._take(number, name, value)
                elif (asked := self._asked.pop(number, None)) is not None:
                    _settle(asked, *value)
        except (OSError, EOFError):
            pass
        finally:
            self._end()

    def _take(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        def work() -> None:
            self._tell(number, _done(self._handlers[name], arguments))

        if name in self._slow:
            threading.Thread(target=work, name=f"amble-{name}", daemon=True).start()
        else:
            self._work.put(work)

    def _answer(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _tell(self, number: int, answer: tuple[bool, Any]) -> None:
        with self._sending, suppress(OSError):
            self._connection.send_bytes(pickle.dumps((number, "", answer), protocol=5))

    def _end(self) -> None:
        with self._sending:
            self._over = True
            self._connection.close()
            left = [self._asked.pop(number) for number in list(self._asked)]
        for asked in left:
            if not asked.done():
                asked.set_exception(Gone("the process has ended"))
        self._work.put(None)
        self._on_end()


def _settle(asked: Future[Any], well: bool, value: Any) -> None:
    if not asked.set_running_or_notify_cancel():
        return
    if well:
        asked.set_result(value)
    else:
        asked.set_exception(Fault(*value) if isinstance(value, tuple) else value)


def _done(handler: Handler, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """Call a handler → whether it went well, and what it gave or raised, as it can be sent."""
    try:
        return True, handler(*arguments)
    except Fault as fault:
        return False, (fault.status, fault.text)
    except (AmbleError, ValueError, OSError) as error:
        return False, error if _can_be_sent(error) else ValueError(str(error))
    except Exception as error:  # the asker is to hear of it, and this end to go on
        _LOG.exception("answering failed")
        return False, RuntimeError(f"{type(error).__name__}: {error}")


def _can_be_sent(error: BaseException) -> bool:
    try:
        return str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
    except Exception:  # whatever an exception's own class may raise
        return False
