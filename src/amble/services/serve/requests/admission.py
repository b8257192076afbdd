"""A dispatcher whose requests an engine of this process computes, in a thread of its own.

A request goes over with ``Lanes.offer``, which refuses at once what cannot be answered in time; a batch comes back by
post.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import partial

from amble.core.ports import Device
from amble.services.serve.models.model import Model
from amble.services.serve.pulse import Do, Seat
from amble.services.serve.requests.dispatching import Dispatcher, Listener, Reply
from amble.services.serve.requests.lanes import Lanes
from amble.services.serve.telling.ledger import Outcome
from amble.stages.control.batcher import Refusal, Request
from amble.stages.control.engine import Batch

__all__ = ["CHANGED", "Admission", "Listener", "Reply", "outcome_of"]

CHANGED = Refusal("unloaded", "the model has just been changed: ask again")

_LOG = logging.getLogger(__name__)
_HANGS = Refusal("failed", "what computes hangs, and this server with it: ask another one")


@dataclass(slots=True)
class Admission(Dispatcher):
    """Takes requests of models that are loaded, and has them computed on a device."""

    device: Device = field(kw_only=True)
    lanes: Lanes = field(init=False)
    hung: bool = field(init=False, default=False)
    _closing: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        """Make engines without models."""
        noting = any(each.detailed for each in self.listeners)
        self.lanes = Lanes(self.device, self, noting=noting)

    def now_s(self) -> float:
        """Return the device's time [s]."""
        return self.device.clock.now_s()

    @property
    def do(self) -> Do:
        """Return what does some work while nobody else uses the device."""
        return self.lanes.do

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Return the device and its engine, for those who watch."""
        device, lanes = self.device, self.lanes
        seat = Seat(device.name, device.calibration, lanes.totals, lanes.first, lanes.last, self._ledger.busy_s)
        return (seat,)

    @property
    def well(self) -> bool:
        """Tell whether the engines get on with their work."""
        return not self.hung

    @property
    def open_for_all(self) -> bool:
        """Tell whether requests are taken."""
        return self.well and not (self.starting or self.draining)

    def look(self) -> None:
        """See whether the engines get on; where one hangs, whoever waits is told, and nobody else is let in."""
        why = self.lanes.overdue()
        if why is not None and not self.hung:
            _LOG.error("the device hangs: %s; start this server anew", why)
            self.lost(_HANGS.text, 503)
        self.hung = why is not None

    def open(self, model: Model) -> None:
        """Begin to serve a model, in any thread."""
        self.lanes.load(model.lane(), model.one_s, model.patience_s)

    def close(self, model: Model) -> None:
        """Stop serving a model, once what waits for it has been answered; not in the loop's thread."""
        self._closing.add(model.key)
        try:
            self.lanes.unload(model.key)
        finally:
            self._closing.discard(model.key)

    def answered(self, batch: Batch) -> None:
        """Take the answers of a batch, in the engine's thread."""
        self.mailbox.send(self._deliver, batch)
        self.lanes.breathe(batch.model)

    def refused(self, request: Request, refusal: Refusal) -> None:
        """Take a refusal: of ``offer`` in the loop's thread, later ones in the engine's."""
        if self.mailbox.here:
            self._turn_down(request, refusal)
        else:
            self.mailbox.send(self._turn_down, request, refusal)

    def _offer(self, request: Request) -> None:
        if self.hung:
            self._turn_down(request, _HANGS, 503)
        elif request.model in self._closing:
            self._turn_down(request, CHANGED)
        else:
            self.lanes.offer(request)

    def _withdraw(self, request: Request) -> None:
        self.lanes.withdraw(request)

    def _deliver(self, batch: Batch) -> None:
        outcomes = []
        for request, outputs in zip(batch.requests, batch.outputs, strict=True):
            if not request.ticket.waiter.done():
                outcomes.append(outcome_of(batch, request))
                request.ticket.waiter.set_result((outcomes[-1], outputs))
        self._count_later(partial(self._count, batch, outcomes, time.time_ns() // 1_000_000))

    def _count(self, batch: Batch, outcomes: list[Outcome], last_ms: int) -> None:
        model: Model = batch.requests[0].ticket.model
        book = self._ledger.book(model.name, model.version)
        took_s = batch.finish_s - batch.start_s
        book.ran(batch.rung, batch.rows, took_s)
        book.last_ms = last_ms
        self._ledger.busy_s += took_s
        for listener in self.listeners:
            listener.ran(model, batch)
        for outcome in outcomes:
            book.answered(outcome)


def outcome_of(batch: Batch, request: Request) -> Outcome:
    """Return what became of one request of a batch."""
    idle_j = None if batch.idle_j is None else batch.idle_j * request.rows / batch.rows
    core_hz = batch.ran_at.core_hz or batch.ran_at.cpu_hz
    return Outcome(
        rung=batch.rung,
        rows=request.rows,
        batch_rows=batch.rows,
        arrival_s=request.arrival_s,
        start_s=batch.start_s,
        finish_s=batch.finish_s,
        due_s=request.due_s,
        energy_j=batch.share_j(request),
        idle_j=idle_j,
        core_hz=core_hz,
    )
