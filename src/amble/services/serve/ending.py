"""Signals → the end of a server: first what was accepted is answered, at last the process ends whatever it computes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

__all__ = ["LAST_S", "LEFT", "Stop", "finished", "leave", "signals"]

_LOG = logging.getLogger(__name__)
LAST_S = 10.0
"""Time [s] that the last batch has, once a signal has asked for the end and the drain is over."""
LEFT = 1
"""The exit code of a process that did not wait for its last batch any longer."""
_MOMENT_S = 0.2  # for the last errors to be sent


@dataclass(slots=True)
class Stop:
    """Set once by a signal to drain, twice to refuse what still waits. ``signalled``: the whole process is to end."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    insisted: asyncio.Event = field(default_factory=asyncio.Event)
    signalled: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self) -> None:
        """Ask for the end of the server."""
        (self.insisted if self.asked.is_set() else self.asked).set()

    def hear(self) -> None:
        """Take a signal."""
        self.signalled.set()
        self()


@contextmanager
def signals(loop: asyncio.AbstractEventLoop, stop: Stop) -> Iterator[None]:
    """Let SIGTERM and SIGINT ask for the end; only a main thread has signals."""
    caught = []
    with suppress(RuntimeError, ValueError):
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            loop.add_signal_handler(number, stop.hear)
            caught.append((number, before))
    try:
        yield
    finally:
        for number, before in caught:
            loop.remove_signal_handler(number)
            signal.signal(number, before)


async def finished(working: asyncio.Future[Any], stop: Stop, *, last_s: float = LAST_S) -> bool:
    """Wait for what computes; False when it has not ended ``last_s`` [s] after a signal that came before or now.

    Without a signal it is waited for as long as it takes: the process is somebody else's then.
    """
    signalled: asyncio.Future[Any] = asyncio.ensure_future(stop.signalled.wait())
    await asyncio.wait({working, signalled}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if not working.done():
        await asyncio.wait({working}, timeout=last_s)
    return working.done()


async def leave(*last: Callable[[], object]) -> NoReturn:
    """End this process at once, whatever a thread of it computes: nothing else could end that.

    What is to be done ``last`` is done. Whoever watches over a lease puts the clocks back, as after SIGKILL.
    """
    _LOG.error("what the device runs has not ended within %g s: leaving it, with exit code %d", LAST_S, LEFT)
    try:
        for each in last:
            each()
        await asyncio.sleep(_MOMENT_S)
    finally:
        os._exit(LEFT)
