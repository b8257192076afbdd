"""Requests → an ordered, bounded queue, the largest batch that makes no deadline miss, and who must be refused.

The order is priority first (1 is the highest), then the earliest deadline, then who came first. A newcomer is admitted
when it and everyone behind it can still be answered on time at the fastest pace that the governor allows now; whoever
was admitted stays admissible, except that a higher priority may displace a lower one.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from amble.core.ladder import Rung
from amble.core.ports import Tensors

__all__ = ["DEFAULT_PRIORITY", "Cause", "Pace", "Queue", "Refusal", "Request", "fitting_batch", "lateness_s"]

Cause = Literal["deadline", "full", "rows", "inputs", "stopping", "unloaded", "failed"]
DEFAULT_PRIORITY = 1 << 16  # below every priority that a client can ask for


class Request(NamedTuple):
    """One request. Times [s] are on the device's clock; ``due_s`` is absolute, infinite without a deadline.

    ``rows`` is its size in the batch axis, ``ticket`` whatever the sender knows it by. A tuple, because a day has
    millions of them.
    """

    arrival_s: float
    due_s: float = float("inf")
    priority: int = DEFAULT_PRIORITY
    model: str = ""
    rows: int = 1
    inputs: Tensors | None = None
    ticket: Any = None


class Refusal(NamedTuple):
    """Why a request is not answered: a cause to count, and one line for its sender."""

    cause: Cause
    text: str


class Pace(NamedTuple):
    """The fastest that a governor would serve now: ``quick`` for so many requests, then ``steady``.

    ``factor`` is what the rungs' latencies are to be multiplied with, ``max_batch`` limits both. ``switch_s`` is the
    time lost until their clocks run; until then work goes on at the ``meanwhile`` rungs (quick and steady), if given.
    ``sure`` is the part of the factor that is beyond doubt: who comes first is not refused for more than that.
    """

    quick: Rung
    steady: Rung
    quick_left: float = float("inf")
    factor: float = 1.0
    max_batch: int = 1
    switch_s: float = 0.0
    meanwhile: tuple[Rung, Rung] | None = None
    sure: float | None = None

    def for_first(self) -> Pace:
        """Return what may be promised to whoever is served next: without the part of the factor that is in doubt."""
        return self if self.sure is None else self._replace(factor=min(self.sure, self.factor))

    def one_s(self) -> float:
        """Return how long [s] a single row takes that is served next, the switch included."""
        factor = self.factor if self.sure is None else min(self.sure, self.factor)
        quick = self.quick_left >= 1
        one_s = self.switch_s + factor * (self.quick if quick else self.steady).latency_s[0]
        return one_s if self.meanwhile is None else min(one_s, factor * self.meanwhile[not quick].latency_s[0])


def lateness_s(due_s: Sequence[float], start_s: float, pace: Pace, *, first: int = 0) -> float:
    """Return how late [s] the worst of the rows from ``first`` on is when all are served at this pace.

    They are served from ``start_s`` on. ``due_s`` are deadlines in serving order. Every batch is the largest that makes
    none of its own late; what is negative is slack.
    """
    worst_s, place, left = -float("inf"), 0, pace.quick_left
    quick, steady, _, factor, max_batch, switch_s, meanwhile, _ = pace
    here_s = start_s if meanwhile is not None else float("inf")
    start_s += switch_s
    while place < len(due_s):
        rung = quick if left >= 1 else steady
        size = 1
        if max_batch > 1:
            limit = int(min(max_batch, left)) if left >= 1 else max_batch
            size = fitting_batch(due_s, min(start_s, here_s), rung, limit=limit, factor=factor, first=place)
        start_s += factor * rung.latency_s[size - 1]
        if meanwhile is not None:
            here_s += factor * meanwhile[0 if left >= 1 else 1].latency_s[size - 1]
        stop = place + size
        if stop > first:
            earliest_s = due_s[place] if size == 1 else min(due_s[max(first, place) : stop])
            worst_s = max(worst_s, min(start_s, here_s) - earliest_s)
        place = stop
        left -= size
    return worst_s


def fitting_batch(
    due_s: Sequence[float], start_s: float, rung: Rung, *, limit: int, factor: float = 1.0, first: int = 0
) -> int:
    """Return how many rows, from ``first`` on, can run as one batch without a miss; 1 when not even one fits.

    ``due_s`` are deadlines in serving order; a batch must finish by the earliest of its own.
    """
    latency_s = rung.latency_s
    most, earliest = min(limit, len(due_s) - first, len(latency_s)), float("inf")
    best = 1
    for size in range(1, most + 1):
        earliest = min(earliest, due_s[first + size - 1])
        if start_s + factor * latency_s[size - 1] <= earliest:
            best = size
    return best


@dataclass(slots=True)
class Queue:
    """Waiting requests in serving order, at most ``limit`` of them."""

    limit: int
    _keys: list[tuple[int, float, int]] = field(default_factory=list)
    _requests: list[Request] = field(default_factory=list)
    _rows: int = 0
    _count: int = 0

    def __len__(self) -> int:
        """Count the waiting requests."""
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        """Go through the requests in serving order."""
        return iter(self._requests)

    @property
    def rows(self) -> int:
        """Count the rows of all waiting requests."""
        return self._rows

    @property
    def head(self) -> Request:
        """Return who is next; IndexError when nobody waits."""
        return self._requests[0]

    def due_s(self, most: int = 64) -> tuple[float, ...]:
        """Return the deadlines [s] of the first rows, in serving order."""
        if self._rows == len(self._requests):
            return tuple([request[1] for request in self._requests[:most]])
        rows = [request.due_s for request in self._requests[:most] for _ in range(request.rows)]
        return tuple(rows[:most])

    def offer(self, request: Request, free_s: float, pace: Pace) -> Refusal | None:
        """Admit a request, or say why not. ``free_s``: when the device can begin with what is queued."""
        if request.rows > pace.max_batch:
            return Refusal("rows", f"{request.rows} rows, at most {pace.max_batch} fit a batch: send fewer at a time")
        if len(self._requests) >= self.limit:
            return Refusal("full", f"exceeds maximum queue size of {self.limit}: try again later")
        self._count += 1
        key = (request.priority, request.due_s, self._count)
        place = bisect_right(self._keys, key)
        late_s = self._lateness_s(request, place, free_s, pace)
        if late_s > 0:
            text = f"cannot be answered in time: {late_s * 1e3:.1f} ms late at the fastest; allow more, or send less"
            return Refusal("deadline", text)
        insort(self._keys, key)
        self._requests.insert(place, request)
        self._rows += request.rows
        return None

    def take(self, rows: int) -> list[Request]:
        """Remove the first requests that fit this many rows, at least one."""
        if self._rows == len(self._requests):
            count = rows
        else:
            count, used = 1, self._requests[0].rows
            while count < len(self._requests) and used + self._requests[count].rows <= rows:
                used += self._requests[count].rows
                count += 1
        taken = self._requests[:count]
        del self._requests[:count], self._keys[:count]
        self._rows -= sum([request.rows for request in taken])
        return taken

    def expire(self, start_s: float, pace: Pace) -> list[Request]:
        """Remove those at the head that cannot be answered on time any more, even alone and at once."""
        gone: list[Request] = []
        if not self._requests:
            return gone
        first = pace.for_first()
        while self._requests:
            head = self._requests[0]
            if lateness_s((head.due_s,) * head.rows, start_s, first) <= 0:
                break
            gone += self.take(1)
        return gone

    def withdraw(self, request: Request) -> bool:
        """Remove a request whose sender has gone; False when it does not wait (any more)."""
        for place, each in enumerate(self._requests):
            if each is request:
                del self._requests[place], self._keys[place]
                self._rows -= request.rows
                return True
        return False

    def clear(self) -> list[Request]:
        """Remove everyone."""
        everyone = list(self._requests)
        self._requests.clear()
        self._keys.clear()
        self._rows = 0
        return everyone

    def _lateness_s(self, request: Request, place: int, free_s: float, pace: Pace) -> float:
        """Return how late [s] the newcomer, or the worst of those behind it that it may not displace, would be."""
        if place == len(self._requests):
            if request.due_s == float("inf"):
                return 0.0
            if not self._requests:
                if request.rows == 1:
                    return free_s + pace.one_s() - request.due_s
                return lateness_s((request.due_s,) * request.rows, free_s, pace.for_first())
        ahead = self._requests[:place]
        behind = self._requests[place:]
        firm = [each if each.priority <= request.priority else each._replace(due_s=float("inf")) for each in behind]
        due_s = [each.due_s for each in (*ahead, request, *firm) for _ in range(each.rows)]
        return lateness_s(due_s, free_s, pace, first=sum(each.rows for each in ahead))
