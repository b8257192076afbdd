"""Doorbell and device → the engine's source, and a sample of meter and clocks twice a second for all who ask.

The meter and the actuator belong to the engine's thread. It passes through here between any two batches and at least
once a second, so this is where they are read for everybody else; also, a counter that wraps is never left for long.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import Device
from amble.stages.control.batcher import Request
from amble.stages.control.engine import Totals
from amble.stages.control.source import Doorbell

__all__ = ["Do", "Pulse", "Sample", "Seat"]

T = TypeVar("T")

_BEAT_S = 0.5
_BREATH_S = 0.0005


@dataclass(frozen=True, slots=True)
class Sample:
    """What the meter counted and which clocks ran at a moment."""

    reading: Reading
    ran_at: Clocks


@dataclass(frozen=True, slots=True)
class Seat:
    """A device with its engine as others see it: what was counted, the first and the newest sample, the busy time."""

    device: str
    calibration: str
    totals: Totals
    first: Sample | None
    last: Sample | None
    busy_s: float


class Do(Protocol):
    """Does some work while nobody else uses the device, and returns what it gives."""

    def __call__(self, work: Callable[[], T]) -> T:
        """Do it; what it raises is raised here."""
        ...


class Pulse:
    """A source that carries no requests itself: whoever rings has offered them to the engine already.

    It carries other people's work on the device: ``do`` waits for its turn between two batches.
    """

    def __init__(self, device: Device) -> None:
        self.first: Sample | None = None
        self.last: Sample | None = None
        self._device = device
        self._next_s = -float("inf")
        self._work: deque[tuple[Callable[[], None], Callable[[], object]]] = deque()
        self._over = False
        self._passed_s: float | None = None
        self._working = False
        self._bell = Doorbell(device.clock.now_s)

    @property
    def passed_s(self) -> float | None:
        """Return when [s, of ``time.monotonic``] the engine passed here last; None while it does not run."""
        return self._passed_s

    @property
    def working(self) -> bool:
        """Tell whether the engine does others' work."""
        return self._working

    def rest(self) -> None:
        """Take note that the engine has ended, and is not to pass any more."""
        self._passed_s = None

    @property
    def closed(self) -> bool:
        """Tell that the door was closed."""
        return self._bell.closed

    def ring(self) -> None:
        """Wake the engine, from any thread."""
        self._bell.ring()

    def breathe(self) -> None:
        """Leave the core and the interpreter to the thread that has just been given an answer to send.

        In the engine's thread, which otherwise first does what is to be done before its next rest.
        """
        self._bell.wait(self._device.clock.now_s() + _BREATH_S)

    def close(self) -> None:
        """Let the engine finish what it has and return, from any thread."""
        self._bell.close()

    def do(self, work: Callable[[], T]) -> T:
        """Do some work in the engine's thread and return what it gives, from any other thread.

        Refused when the engine has stopped.
        """
        done: Future[T] = Future()
        self._work.append((partial(_do, work, done), done.cancel))
        if self._over:
            self.abandon()
        self.ring()
        try:
            return done.result()
        except CancelledError as error:
            raise Refused("the server is shutting down: load models on another one") from error

    def abandon(self) -> None:
        """Refuse all work that waits, and all to come: the engine has stopped."""
        self._over = True
        with suppress(IndexError):
            while True:
                self._work.popleft()[1]()

    def take(self, now_s: float) -> Sequence[Request]:
        """Return nothing; do one piece of others' work, and sample when it is time."""
        self._passed_s = time.monotonic()
        if self._work:
            self._working = True
            self._work.popleft()[0]()
            self._working = False
            self._passed_s = time.monotonic()
            self.ring()
        if now_s >= self._next_s:
            self._next_s = now_s + _BEAT_S
            self.last = Sample(self._device.meter.read(), self._device.actuator.current())
            self.first = self.first or self.last
        return ()

    def wait(self, until_s: float) -> None:
        """Block until somebody rings, at most until then and no longer than a beat."""
        self._passed_s = time.monotonic()
        self._bell.wait(min(until_s, self._device.clock.now_s() + _BEAT_S))


def _do(work: Callable[[], T], done: Future[T]) -> None:
    """Do work for whoever waits for it; what goes wrong is his to hear, and no reason for the engine to stop."""
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(work())
    except Exception as error:  # raised again where it is waited for, which would otherwise be for ever
        done.set_exception(error)
