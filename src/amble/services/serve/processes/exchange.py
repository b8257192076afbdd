"""The dispatcher of a front: requests go to engines in other processes, and what becomes of them comes back.

In the loop's thread, all of it. An engine that is gone is waited for; whoever had a request there is told at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from amble.core.ladder import Rung
from amble.core.ports import Tensors
from amble.services.serve.models.model import Model
from amble.services.serve.processes.arena import Arena
from amble.services.serve.processes.line import INLINE_BYTES, Line, packed, placed, room, unpacked
from amble.services.serve.processes.loads import Loads
from amble.services.serve.requests.dispatching import Dispatcher, Ticket
from amble.services.serve.telling.ledger import Ledger, Outcome
from amble.stages.control.batcher import Refusal, Request

__all__ = ["Exchange"]

_AGAIN_S = 0.05
_MOST_AT_ONCE = 64  # messages, then others have their turn
_NOBODY = Refusal("failed", "no process computes at the moment, the one that did is being replaced: try again")
_DIED = Refusal("failed", "the process that computed this has died, and is being replaced: try again")
_NO_ROOM = Refusal("full", "too much in flight: try again later")


@dataclass(slots=True)
class _Sent:
    """A request that is with an engine: the work it is [ns], and its block of shared memory."""

    request: Request
    work_ns: int
    offset: int | None


@dataclass(slots=True)
class _Seat:
    """An engine as a front sees it; ``line`` is None while it is gone."""

    path: Path
    line: Line | None = None
    sent: dict[int, _Sent] = field(default_factory=dict)
    rungs: dict[int, Rung] = field(default_factory=dict)


@dataclass(slots=True)
class Exchange(Dispatcher):
    """Gives every request to the engine that has the least to do. ``gather`` asks the parent for all counters."""

    arena: Arena = field(kw_only=True)
    loads: Loads = field(kw_only=True)
    engines: Sequence[Path] = field(kw_only=True)
    gather: Callable[[], asyncio.Future[Ledger]] = field(kw_only=True)
    generations: Mapping[str, int] = field(default_factory=dict)
    _seats: list[_Seat] = field(init=False)
    _answers: dict[str, int] = field(init=False, default_factory=dict)
    _places: dict[Ticket, tuple[int, int]] = field(init=False, default_factory=dict)
    _count: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Know the engines, and reach none of them yet."""
        self._seats = [_Seat(path) for path in self.engines]

    def now_s(self) -> float:
        """Return this machine's time [s], which all processes share."""
        return time.perf_counter()

    async def whole(self) -> Ledger:
        """Return the counters of all fronts and engines."""
        return await self.gather()

    async def reach(self) -> None:
        """Connect with engines that are there and not connected, for ever."""
        while True:
            for at, seat in enumerate(self._seats):
                if seat.line is None:
                    self._connect(at, seat)
            await asyncio.sleep(_AGAIN_S)

    @property
    def open_for_all(self) -> bool:
        """Tell whether requests are taken: none are while no engine is there."""
        return not (self.starting or self.draining) and self.connected() > 0

    def connected(self) -> int:
        """Count the engines that can be given requests."""
        return sum(seat.line is not None for seat in self._seats)

    def close(self) -> None:
        """Hang up."""
        for at, seat in enumerate(self._seats):
            if seat.line is not None:
                self._lose(at)

    def _connect(self, at: int, seat: _Seat) -> None:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            opened.connect(str(seat.path))
        except OSError:
            opened.close()
            return
        seat.line = Line(opened)
        seat.line.send(("hello",), fd=os.dup(self.arena.fd))
        asyncio.get_running_loop().add_reader(seat.line.fileno(), self._read, at)

    def _offer(self, request: Request) -> None:
        able = [at for at, seat in enumerate(self._seats) if seat.line is not None]
        if not able:
            self._turn_down(request, _NOBODY, 503)
            return
        parts = packed(request.inputs)
        sizes = [len(part) for part in parts]
        inside, back = room(sizes), self._answers.get(request.model, 0) * request.rows
        inside, back = (size if size > INLINE_BYTES else 0 for size in (inside, back))
        offset = self.arena.take(inside + back) if inside or back else None
        if offset is None and (inside or back):
            self._turn_down(request, _NO_ROOM)
            return
        if offset is not None and inside:
            placed(parts, self.arena.memory[offset : offset + inside])
            parts = []
        answer = (offset + inside, back) if offset is not None and back else None
        number = self._note(self.loads.least(able), request, offset)
        plain = request._replace(inputs=None, ticket=None)
        head = (
            "offer",
            number,
            plain,
            self.generations.get(request.model, 0),
            sizes,
            offset if inside else None,
            answer,
        )
        at = self._places[request.ticket][0]
        line = self._seats[at].line
        assert line is not None, "only engines that are there are chosen"
        self._out(at, line, head, parts)

    def _note(self, at: int, request: Request, offset: int | None) -> int:
        """Remember a request that goes to an engine → its number."""
        self._count += 1
        model: Model = request.ticket.model
        work_ns = round(1e9 * model.one_s * request.rows)
        self._seats[at].sent[self._count] = _Sent(request, work_ns, offset)
        self._places[request.ticket] = (at, self._count)
        self.loads.add(at, work_ns)
        return self._count

    def _out(self, at: int, line: Line, head: tuple[Any, ...], parts: Sequence[bytes | memoryview] = ()) -> None:
        if not line.send(head, parts):
            asyncio.get_running_loop().add_writer(line.fileno(), self._flush, line)
        if line.closed:
            asyncio.get_running_loop().call_soon(self._read, at)

    def _flush(self, line: Line) -> None:
        if line.flush():
            asyncio.get_running_loop().remove_writer(line.fileno())

    def _withdraw(self, request: Request) -> None:
        place = self._places.get(request.ticket)
        if place is None:
            return
        line = self._seats[place[0]].line
        if line is not None:
            self._out(place[0], line, ("withdraw", place[1]))

    def _read(self, at: int) -> None:
        """Take what has come from an engine."""
        seat = self._seats[at]
        for _ in range(_MOST_AT_ONCE):
            if seat.line is None:
                return
            message = seat.line.receive()
            if message is None:
                break
            kind, *told = message.head
            if kind == "rung":
                seat.rungs[told[0]] = told[1]
            elif (sent := self._back(at, told[0])) is not None:
                self._settle_sent(seat, sent, kind, told[1:], message.payload)
                if sent.offset is not None:
                    self.arena.give_back(sent.offset)
        if seat.line is not None and seat.line.closed:
            self._lose(at)

    def _back(self, at: int, number: int) -> _Sent | None:
        """Take a request back from an engine."""
        sent = self._seats[at].sent.pop(number, None)
        if sent is not None:
            self.loads.add(at, -sent.work_ns)
            self._places.pop(sent.request.ticket, None)
        return sent

    def _settle_sent(self, seat: _Seat, sent: _Sent, kind: str, told: list[Any], payload: memoryview) -> None:
        request = sent.request
        if kind == "refused":
            self._turn_down(request, told[0])
        elif kind == "answer" and not request.ticket.waiter.done():
            rung, batch_rows, start_s, finish_s, energy_j, idle_j, core_hz, sizes, inside = told
            place = payload if inside is None else self.arena.memory[inside:]
            outputs = unpacked(sizes, place) if inside is None else _copied(unpacked(sizes, place))
            self._answers[request.model] = max(self._answers.get(request.model, 0), -(-room(sizes) // request.rows))
            outcome = Outcome(
                seat.rungs[rung], request.rows, batch_rows, request.arrival_s, start_s, finish_s, request.due_s,
                energy_j, idle_j, core_hz,
            )  # fmt: skip
            request.ticket.waiter.set_result((outcome, outputs))
            self._count_later(partial(self._count_answer, request.ticket.model, outcome))

    def _count_answer(self, model: Model, outcome: Outcome) -> None:
        self._ledger.book(model.name, model.version).answered(outcome)

    def _lose(self, at: int) -> None:
        """Tell everyone whose request was with an engine that is gone."""
        seat = self._seats[at]
        assert seat.line is not None, "it is lost once"
        loop = asyncio.get_running_loop()
        loop.remove_reader(seat.line.fileno())
        loop.remove_writer(seat.line.fileno())
        seat.line.close()
        seat.line = None
        seat.rungs.clear()
        for number in list(seat.sent):
            sent = self._back(at, number)
            assert sent is not None, "it was there"
            self._turn_down(sent.request, _DIED, 503)
            if sent.offset is not None:
                self.arena.give_back(sent.offset)


def _copied(outputs: Tensors) -> Tensors:
    """Return an answer in memory of its own: the block that it lies in is given to the next."""
    return {name: np.array(each) for name, each in outputs.items()}
