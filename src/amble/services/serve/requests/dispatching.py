"""Requests of any protocol ↔ whoever computes them: where they wait for their answer and are counted.

Everything here, the counters too, belongs to the event loop's thread. Answers are counted once they are on their way,
or when somebody looks. Who computes is in `admission` (an engine in this process) and in `processes` (others).
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from amble.core.ports import Tensors
from amble.runtimes.remote.datatypes import Array
from amble.runtimes.remote.fault import Fault
from amble.services.serve.models.model import Model
from amble.services.serve.requests.asking import Answer, Asked, matched, policy
from amble.services.serve.requests.mailbox import Mailbox
from amble.services.serve.requests.quota import Quota, Reservation
from amble.services.serve.telling.ledger import Book, Ledger, Outcome
from amble.stages.control.batcher import DEFAULT_PRIORITY, Refusal, Request
from amble.stages.control.engine import Batch

__all__ = ["Dispatcher", "Listener", "Reply", "Ticket"]

_STATUS = {"rows": 400, "inputs": 400, "failed": 500}
_LATER_S = 0.002
_REASON = {"rows": "OTHER", "inputs": "OTHER", "failed": "BACKEND", "canceled": "CANCELED"}


class Reply(NamedTuple):
    """An answer, and what became of it."""

    answer: Answer
    outcome: Outcome


class Listener:
    """Is told of every request and every batch, in the loop's thread. This one does nothing with it.

    ``detailed``: it wants to know of every segment that ran (`Batch.slices`).
    """

    detailed = False

    def answered(self, model: Model, outcome: Outcome, context: Mapping[str, str]) -> None:
        """Take an answer; ``context`` are what the client sent about its trace, and its request's id."""

    def ran(self, model: Model, batch: Batch) -> None:
        """Take a batch."""

    def refused(self, model: Model, request: Request, cause: str) -> None:
        """Take a refusal."""

    def close(self) -> None:
        """Take the end of it."""


@dataclass(slots=True, eq=False)
class Ticket:
    """What a request is known by to its sender."""

    model: Model
    waiter: asyncio.Future[tuple[Outcome, Tensors]]


@dataclass(slots=True)
class Dispatcher(ABC):
    """Takes requests of models that are loaded, unless it is ``starting`` or ``draining``."""

    quota: Quota = field(default_factory=Quota)
    listeners: tuple[Listener, ...] = ()
    starting: bool = True
    draining: bool = False
    mailbox: Mailbox = field(init=False, default_factory=Mailbox)
    _waiting: set[Ticket] = field(init=False, default_factory=set)
    _ledger: Ledger = field(init=False, default_factory=Ledger)
    _uncounted: deque[Callable[[], None]] = field(init=False, default_factory=deque)

    @abstractmethod
    def now_s(self) -> float:
        """Return the time [s] that arrivals and deadlines are in."""

    @abstractmethod
    def _offer(self, request: Request) -> None:
        """Pass a request on; what becomes of it comes back by its ticket."""

    @abstractmethod
    def _withdraw(self, request: Request) -> None:
        """Take back a request whose client has gone."""

    @property
    def open_for_all(self) -> bool:
        """Tell whether requests are taken."""
        return not (self.starting or self.draining)

    @property
    def well(self) -> bool:
        """Tell whether what is accepted will ever be answered."""
        return True

    @property
    def pending(self) -> int:
        """Count the requests that wait for their answer."""
        return len(self._waiting)

    @property
    def ledger(self) -> Ledger:
        """Return the counters, with everything in them that has happened."""
        while self._uncounted:
            self._uncounted.popleft()()
        return self._ledger

    @property
    def counted(self) -> Ledger:
        """Return the counters as they are, for other threads; ``settle`` brings them up to date."""
        return self._ledger

    async def whole(self) -> Ledger:
        """Return the counters of the whole server, wherever it counts."""
        return self.ledger

    def holding(self, client: str = "") -> Reservation:
        """Give a client's request room for its bytes, which it takes by ``grow`` and keeps while it is here."""
        return Reservation(self.quota, client)

    def settle(self) -> Future[None]:
        """Have everything counted that has happened, from any thread."""
        done: Future[None] = Future()
        self.mailbox.send(self._settle, done)
        return done

    def _settle(self, done: Future[None]) -> None:
        assert self.ledger, "all is counted"
        if done.set_running_or_notify_cancel():  # who asked may have given up
            done.set_result(None)

    async def infer(
        self, model: Model, asked: Asked, *, arrival_s: float, limit_s: float = math.inf, context: Mapping[str, str]
    ) -> Reply:
        """Answer a request that came at ``arrival_s``; its protocol allows it ``limit_s`` [s] in any case.

        Fault when it is wrong, cannot be answered in time, or fails.
        """
        request, book = self._taken(model, asked, arrival_s, limit_s)
        outcome, outputs = await self._answered(request, book)
        self._count_later(partial(self._tell, model, outcome, context))
        return Reply(_answer(model, asked, outcome, outputs), outcome)

    def _taken(self, model: Model, asked: Asked, arrival_s: float, limit_s: float) -> tuple[Request, Book]:
        """Make a request of what was asked, and name the counters it belongs to. Fault, counted, when it is wrong."""
        began_ns = time.perf_counter_ns()
        book = self._ledger.book(model.name, model.version)
        try:
            request = self._request(model, asked, arrival_s, limit_s)
        except Fault:
            book.failed("OTHER", "", self.now_s() - arrival_s)
            raise
        book.input_ns += time.perf_counter_ns() - began_ns
        return request, book

    def wrote(self, model: Model, took_s: float) -> None:
        """Count the time [s] that writing an answer took."""
        self._ledger.book(model.name, model.version).output_ns += round(took_s * 1e9)

    def lost(self, text: str = "the device's loop has stopped: see the server's log", status: int = 500) -> None:
        """Tell everyone who still waits that nobody will answer."""
        for ticket in self._waiting:
            if not ticket.waiter.done():
                ticket.waiter.set_exception(Fault(status, text))

    def _request(self, model: Model, asked: Asked, arrival_s: float, limit_s: float) -> Request:
        wanted = policy(asked.parameters)
        if self.draining:
            raise Fault(503, "the server is shutting down: ask another one")
        inputs, rows = matched(asked, model.loaded.inputs, model.loaded.outputs, batched=model.loaded.batched)
        default_s = math.inf if model.timeout_s is None else model.timeout_s
        timeout_s = min(limit_s, default_s if wanted.timeout_s is None else wanted.timeout_s)
        ticket = Ticket(model, asyncio.get_running_loop().create_future())
        priority = wanted.priority or DEFAULT_PRIORITY
        return Request(arrival_s, arrival_s + timeout_s, priority, model.key, rows, inputs, ticket)

    async def _answered(self, request: Request, book: Book) -> tuple[Outcome, Tensors]:
        """Offer a request and wait for what becomes of it; it is taken back when the client goes."""
        waiter: asyncio.Future[tuple[Outcome, Tensors]] = request.ticket.waiter
        book.pending += 1
        self._waiting.add(request.ticket)
        try:
            self._offer(request)
            return await waiter
        except asyncio.CancelledError:
            self._withdraw(request)
            book.failed("CANCELED", "canceled", self.now_s() - request.arrival_s)
            raise
        finally:
            book.pending -= 1
            self._waiting.discard(request.ticket)

    def _count_later(self, work: Callable[[], None]) -> None:
        """Count something when the answers have left."""
        if not self._uncounted:
            asyncio.get_running_loop().call_later(_LATER_S, lambda: self.ledger)
        self._uncounted.append(work)

    def _tell(self, model: Model, outcome: Outcome, context: Mapping[str, str]) -> None:
        for listener in self.listeners:
            listener.answered(model, outcome, context)

    def _turn_down(self, request: Request, refusal: Refusal, status: int | None = None) -> None:
        ticket: Ticket = request.ticket
        if ticket.waiter.done():
            return
        book = self._ledger.book(ticket.model.name, ticket.model.version)
        book.failed(_REASON.get(refusal.cause, "REJECTED"), refusal.cause, self.now_s() - request.arrival_s)
        for listener in self.listeners:
            listener.refused(ticket.model, request, refusal.cause)
        ticket.waiter.set_exception(Fault(status or _STATUS.get(refusal.cause, 503), refusal.text))


def _answer(model: Model, asked: Asked, outcome: Outcome, outputs: Tensors) -> Answer:
    parameters: dict[str, str | float | int | bool] = {
        "precision": outcome.rung.variant,
        "queue_s": round(outcome.start_s - outcome.arrival_s, 9),
        "service_s": round(outcome.finish_s - outcome.start_s, 9),
        "batch": outcome.batch_rows,
        "late": outcome.late,
    }
    if outcome.energy_j is not None:
        parameters |= {"energy_j": outcome.energy_j, "energy_uj": round(outcome.energy_j * 1e6)}
    if outcome.idle_j is not None:
        parameters["idle_j"] = outcome.idle_j
    if outcome.core_hz is not None:
        parameters["core_hz"] = outcome.core_hz
    if model.loaded.lengths is not None:
        outputs = model.loaded.lengths.cut(outputs, {each.name: each.value for each in asked.inputs})
    arrays: dict[str, Array | Any] = {port.name: outputs[port.name] for port in model.loaded.outputs}
    return Answer(
        model.name, model.version, asked.id, arrays, parameters, model.loaded.batched, labels=model.loaded.labels
    )
