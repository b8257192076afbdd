"""Where requests come from: recorded arrivals in a device's own time, or other threads in real time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from amble.core.ports import Clock, FloatArray
from amble.stages.control.batcher import Request

__all__ = ["Doorbell", "Replay", "Source"]


class Source(Protocol):
    """Gives what has arrived, and lets time pass until something may have."""

    @property
    def closed(self) -> bool:
        """Tell that nothing will come any more."""
        ...

    def take(self, now_s: float) -> Sequence[Request]:
        """Return what has arrived until now and was not yet taken, in order of arrival."""
        ...

    def wait(self, until_s: float) -> None:
        """Let time pass until the next arrival, at most until then; return at once when closed."""
        ...


class Replay:
    """Arrival times → requests, on the clock of the device that serves them. Times pass only by its ``sleep``."""

    def __init__(self, arrivals_s: FloatArray, clock: Clock, *, deadline_s: float, model: str = "") -> None:
        """Replay arrivals [s], rising; every answer is due ``deadline_s`` after its arrival."""
        self._arrivals_s: list[float] = arrivals_s.tolist()
        self._clock = clock
        self._deadline_s = deadline_s
        self._model = model
        self._next = 0

    @property
    def closed(self) -> bool:
        """Tell that the last one was taken."""
        return self._next >= len(self._arrivals_s)

    def take(self, now_s: float) -> Sequence[Request]:
        """Return the requests that arrived until now."""
        first = self._next
        arrivals_s = self._arrivals_s
        if first >= len(arrivals_s) or arrivals_s[first] > now_s:
            return ()
        self._next = bisect_right(arrivals_s, now_s, first)
        deadline_s, model = self._deadline_s, self._model
        return [Request(at, at + deadline_s, model=model) for at in arrivals_s[first : self._next]]

    def wait(self, until_s: float) -> None:
        """Sleep on the device's clock until the next arrival or until then."""
        if not self.closed:
            until_s = min(until_s, self._arrivals_s[self._next])
        elif until_s == float("inf"):
            return
        passed_s = until_s - self._clock.now_s()
        if passed_s > 0:
            self._clock.sleep(passed_s)


class Doorbell:
    """Wakes the engine's thread when another thread has offered it something. It carries no requests itself."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Take the time [s] from the device's clock."""
        self._now_s = now_s
        self._rings: SimpleQueue[None] = SimpleQueue()  # woken without a line of Python, unlike a condition
        self._closed = False

    @property
    def closed(self) -> bool:
        """Tell that the door was closed."""
        return self._closed

    def ring(self) -> None:
        """Wake the engine, from any thread."""
        if self._rings.empty():
            self._rings.put(None)

    def close(self) -> None:
        """Let the engine finish what it has and return, from any thread."""
        self._closed = True
        self._rings.put(None)

    def take(self, now_s: float) -> Sequence[Request]:
        """Return nothing: whoever rings has offered its request to the engine already."""
        return ()

    def wait(self, until_s: float) -> None:
        """Block until somebody rings, at most until then."""
        left_s = None if until_s == float("inf") else max(0.0, until_s - self._now_s())
        with suppress(Empty):
            self._rings.get(block=not self._closed, timeout=left_s)
