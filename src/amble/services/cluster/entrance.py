"""Requests at the door of a cluster -> the device that answers, another one when it dies or refuses, and the counters.

To the protocols it is an admission like that of one device (`serve`), so everything that clients see is the same code.
Inference changes nothing, so a request whose device died is put to another one as long as its time lasts; there is no
third way: an accepted request is answered, or its client is told why not.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from amble.core.cost import Reading
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Tensors, Timings
from amble.devices.host import MonotonicClock
from amble.runtimes.remote.fault import Fault
from amble.services.cluster.reports import Answered, Call, Gone, Turned, sendable
from amble.services.cluster.upstreams import Upstream, chosen
from amble.services.serve.models.model import Model
from amble.services.serve.requests.admission import Admission, Reply
from amble.services.serve.requests.asking import Asked
from amble.services.serve.telling.ledger import Book, Outcome
from amble.stages.control.batcher import Cause, Request
from amble.stages.control.engine import Batch, Totals

__all__ = ["Entrance", "Sum", "together"]

_FIRST = 0.75  # of what is left of a request's time a device may take while there are others
_GRACE_S = 0.5  # after its deadline a request waits no longer for a device that says nothing


class Sum:
    """All devices as one: what their meters counted together, and no clocks of its own. It runs nothing itself."""

    def __init__(self, read_j: Callable[[], float | None]) -> None:
        self._clock = MonotonicClock()
        self._read_j = read_j

    def read(self) -> Reading:
        """Return the time, and the energy that all devices have reported."""
        return Reading(self._clock.now_s(), self._read_j())

    def available(self) -> tuple[Clocks, ...]:
        """Return the only setting."""
        return (Clocks(),)

    def current(self) -> Clocks:
        """Return no clocks: each device has its own."""
        return Clocks()

    def apply(self, clocks: Clocks) -> None:
        """Set nothing."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Never called: devices run graphs, the door does not."""
        raise AssertionError("a door runs nothing")

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Never called."""
        raise AssertionError("a door runs nothing")


def together(names: Sequence[str], read_j: Callable[[], float | None]) -> Device:
    """Return the device that a door shows: all of them as one."""
    parts = Sum(read_j)
    name = names[0] if len(set(names)) == 1 and len(names) == 1 else f"cluster of {len(names)}"
    return Device(name, MonotonicClock(), parts, parts, parts, f"{len(names)} devices: {', '.join(names)}")


@dataclass(slots=True)
class Entrance(Admission):
    """Takes requests, and has devices answer them.

    ``latest`` are the models that a request without a version means: while versions change any device's own will do.
    ``starved`` is called when no device can answer in time.
    """

    upstreams: Sequence[Upstream] = ()
    latest: Callable[[Model], bool] = lambda model: True
    starved: Callable[[], None] = lambda: None
    rows_arrived: int = field(init=False, default=0)
    retried: int = field(init=False, default=0)
    served: Totals = field(init=False, default_factory=Totals)
    _here: int = field(init=False, default=0)
    _seen: dict[tuple[int, str], float] = field(init=False, default_factory=dict)

    @property
    def pending(self) -> int:
        """Count the requests that wait for their answer."""
        return self._here

    async def infer(
        self, model: Model, asked: Asked, *, arrival_s: float, limit_s: float = math.inf, context: Mapping[str, str]
    ) -> Reply:
        """Have a request answered by a device. Fault when it is wrong, cannot be answered in time, or fails."""
        request, book = self._taken(model, asked, arrival_s, limit_s)
        self.rows_arrived += request.rows
        book.pending += 1
        self._here += 1
        try:
            upstream, found = await self._answer(model, sendable(asked), request, context)
        except Fault as fault:
            cause: Cause = "deadline" if fault.status == 503 else "failed"
            book.failed("REJECTED" if fault.status == 503 else "BACKEND", cause, self.now_s() - arrival_s)
            self.served.refused[cause] = 1 + self.served.refused.get(cause, 0)
            for listener in self.listeners:
                listener.refused(model, request, cause)
            raise
        except asyncio.CancelledError:
            book.failed("CANCELED", "canceled", self.now_s() - arrival_s)
            raise
        finally:
            book.pending -= 1
            self._here -= 1
        return self._replied(model, request, upstream, found, context)

    async def _answer(
        self, model: Model, asked: Asked, request: Request, context: Mapping[str, str]
    ) -> tuple[Upstream, Answered]:
        """Try devices, the best first, until one answers; Fault when none does."""
        version = "" if self.latest(model) else model.version
        left, refusal = list(self.upstreams), Fault(503, f"no device takes requests for {model.name!r} now")
        while True:
            now_s = self.now_s()
            found = chosen(left, model.name, version, now_s=now_s, due_s=request.due_s, rows=request.rows)
            if found is None or not found[1]:
                self.starved()
            if found is None:
                raise refusal
            upstream = found[0]
            left.remove(upstream)
            call = Call(model.name, version, asked, request.due_s - now_s - upstream.way_s, context)
            told = await self._from(upstream, call, request, spare=any(each.takes for each in left))
            if isinstance(told, Answered):
                upstream.doubted = False
                upstream.travelled(self.now_s() - now_s, told.outcome.finish_s - told.outcome.arrival_s)
                return upstream, told
            refusal = Fault(told.status, told.text)
            if told.status != 503 or self.now_s() >= request.due_s:
                raise refusal

    async def _from(self, upstream: Upstream, call: Call, request: Request, *, spare: bool) -> Answered | Turned:
        """Ask one device; a refusal where it dies, or says nothing in time: before the deadline if there are others."""
        left_s = request.due_s - self.now_s()
        try:
            if left_s == math.inf:
                return await upstream.ask(call, request.rows)
            async with asyncio.timeout(max(0.0, left_s) * _FIRST if spare else max(0.0, left_s) + _GRACE_S):
                return await upstream.ask(call, request.rows)
        except Gone as gone:
            self.retried += 1
            if upstream.up:
                upstream.fall(str(gone), dead=gone.dead)
            return Turned(503, f"{upstream.name} died while it had the request, and no other device was left to ask")
        except TimeoutError:
            upstream.doubted = True
            return Turned(503, f"{upstream.name} said nothing in time")

    def _replied(
        self, model: Model, request: Request, upstream: Upstream, found: Answered, context: Mapping[str, str]
    ) -> Reply:
        """Count an answer in the door's time, and return it as clients know it."""
        there, finish_s = found.outcome, self.now_s()
        service_s = there.finish_s - there.start_s
        outcome = there._replace(
            arrival_s=request.arrival_s, start_s=finish_s - service_s, finish_s=finish_s, due_s=request.due_s
        )
        self.served.answered += 1
        self.served.late += outcome.late
        first = self._seen.get((id(upstream), model.key)) != there.start_s
        self._seen[id(upstream), model.key] = there.start_s
        self._count_later(partial(self._note, model, outcome, first, time.time_ns() // 1_000_000, context))
        said = {**found.answer.parameters, "queue_s": round(outcome.start_s - outcome.arrival_s, 9)}
        said |= {"late": outcome.late, "device": upstream.name}
        return Reply(found.answer._replace(parameters=said), outcome)

    def _note(self, model: Model, outcome: Outcome, first: bool, last_ms: int, context: Mapping[str, str]) -> None:
        """Count an answer, and the batch that it came in when it is the first of it."""
        book: Book = self._ledger.book(model.name, model.version)
        book.last_ms = last_ms
        if first:
            took_s = outcome.finish_s - outcome.start_s
            self.served.batches += 1
            book.ran(outcome.rung, outcome.batch_rows, took_s)
            self._ledger.busy_s += took_s
            batch = Batch(
                model.key,
                (),
                (),
                outcome.rung,
                outcome.batch_rows,
                outcome.start_s,
                outcome.finish_s,
                None,
                None,
                Clocks(),
            )
            for listener in self.listeners:
                listener.ran(model, batch)
        book.answered(outcome)
        for listener in self.listeners:
            listener.answered(model, outcome, context)
