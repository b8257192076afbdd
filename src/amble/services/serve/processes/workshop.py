"""The far end of every front's lines: requests come in, an engine computes them, and what becomes of them goes back.

Requests are taken in a thread of their own, so that what cannot be in time is refused while a batch runs; answers leave
from the engine's thread. Nobody waits for a front that does not read: what is for it waits, and others go on.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amble.core.ports import Device, Tensors
from amble.services.serve.models.model import Model
from amble.services.serve.processes.arena import mapped
from amble.services.serve.processes.line import INLINE_BYTES, Line, packed, placed, room, unpacked
from amble.services.serve.pulse import Do, Sample
from amble.services.serve.requests.admission import CHANGED, outcome_of
from amble.services.serve.requests.lanes import Lanes
from amble.services.serve.telling.history import History, Second
from amble.services.serve.telling.ledger import Ledger
from amble.stages.control.batcher import Refusal, Request
from amble.stages.control.engine import Batch, Totals

__all__ = ["Look", "Workshop"]

_LOG = logging.getLogger(__name__)
_BACKLOG = 64
_MOST_AT_ONCE = 64
_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """What an engine has counted, and its newest reading of meter and clocks."""

    ledger: Ledger
    second: Second
    totals: Totals
    first: Sample | None
    last: Sample | None


@dataclass(slots=True, eq=False)
class _Front:
    """A front as an engine sees it: its line, the memory that it shares, and what it waits for."""

    line: Line
    memory: memoryview | None = None
    slips: dict[int, Request] = field(default_factory=dict)
    rungs: dict[int, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Slip:
    """What a request is known by: who asked, its number there, its model, and room for the answer (offset, bytes)."""

    front: _Front
    number: int
    model: Model
    answer: tuple[int, int] | None


class Workshop:
    """An engine for fronts."""

    def __init__(self, device: Device, path: Path) -> None:
        """Take a place in the file system; fronts find nobody there before ``admit``."""
        self.lanes = Lanes(device, self)
        self._device = device
        self._history = History()
        self._ledger = Ledger()
        self._models: Mapping[str, tuple[Model, int]] = {}
        self._lock = threading.Lock()  # of what all fronts wait for
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.bind(str(path))
        self._door.setblocking(False)
        self._known = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._known.register(self._woken, selectors.EVENT_READ, None)
        self._over = False
        self.deaf = False  # it can hear no front any more
        self._thread: threading.Thread | None = None

    @property
    def do(self) -> Do:
        """Return what does some work while nobody else uses the device."""
        return self.lanes.do

    def admit(self) -> None:
        """Let fronts come, once it has all models: until then they give their requests to others."""
        self._door.listen(_BACKLOG)
        self._known.register(self._door, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._listen, name="amble-lines", daemon=True)
        self._thread.start()

    def open(self, model: Model, generation: int = 0) -> None:
        """Begin to serve a model. ``generation``: requests of another one are not of this model."""
        self._models = {**self._models, model.key: (model, generation)}
        self.lanes.load(model.lane(), model.one_s, model.patience_s)

    def close(self, model: Model) -> None:
        """Stop serving a model, once what waits for it has been answered."""
        self._close(model.key)

    def shut(self, key: str) -> None:
        """Stop serving a model, by its key."""
        self._close(key)

    def look(self) -> Look:
        """Return what was counted."""
        return Look(self._ledger, self._history.take(), self.lanes.totals, self.lanes.first, self.lanes.last)

    def end(self) -> None:
        """Take nothing more; what is not sent by now never is."""
        if self._over:
            return
        self._over = True
        self._wake()
        if self._thread is not None:
            self._thread.join()
        for key in list(self._known.get_map().values()):
            if key.data is not None:
                self._lose(key.data)
        for each in (self._known, self._door, self._woken, self._waker):
            each.close()

    def answered(self, batch: Batch) -> None:
        """Send the answers of a batch, in the engine's thread."""
        behind_s = self._behind_s()
        for request, outputs in zip(batch.requests, batch.outputs, strict=True):
            slip: _Slip = request.ticket
            if self._done(slip):
                self._answer(slip, batch, request, outputs, behind_s)
        model = batch.requests[0].ticket.model
        book, took_s = self._ledger.book(model.name, model.version), batch.finish_s - batch.start_s
        book.ran(batch.rung, batch.rows, took_s)
        book.last_ms = time.time_ns() // 1_000_000
        self._ledger.busy_s += took_s
        self._history.ran(model, batch)

    def refused(self, request: Request, refusal: Refusal) -> None:
        """Send a refusal, in any thread."""
        slip: _Slip = request.ticket
        if self._done(slip):
            self._send(slip.front, ("refused", slip.number, refusal))

    def _close(self, key: str) -> None:
        self._models = {name: each for name, each in self._models.items() if name != key}
        self.lanes.unload(key)

    def _behind_s(self) -> float:
        """Return how far the device's time [s] is behind this machine's, which fronts go by."""
        return time.perf_counter() - self._device.clock.now_s()

    def _done(self, slip: _Slip) -> bool:
        """Note that a request is done with; False when it was already."""
        with self._lock:
            return slip.front.slips.pop(slip.number, None) is not None

    def _answer(self, slip: _Slip, batch: Batch, request: Request, outputs: Tensors, behind_s: float) -> None:
        front, told = slip.front, outcome_of(batch, request)
        number = id(told.rung)
        if number not in front.rungs:
            front.rungs[number] = told.rung  # kept, so that its id stays its own
            self._send(front, ("rung", number, told.rung))
        parts = packed(outputs)
        sizes = [len(part) for part in parts]
        needed, inside, fd = room(sizes), None, None
        if needed > INLINE_BYTES and slip.answer is not None and needed <= slip.answer[1] and front.memory is not None:
            inside = slip.answer[0]
            placed(parts, front.memory[inside : inside + needed])
            parts = []
        elif needed > INLINE_BYTES:
            fd = _in_memory(parts, needed)
            parts = []
        head = (
            "answer", slip.number, number, batch.rows, told.start_s + behind_s, told.finish_s + behind_s,
            told.energy_j, told.idle_j, told.core_hz, sizes, inside,
        )  # fmt: skip
        self._send(front, head, parts, fd=fd)

    def _send(
        self, front: _Front, head: tuple[Any, ...], parts: Sequence[bytes | memoryview] = (), *, fd: int | None = None
    ) -> None:
        if not front.line.send(head, parts, fd=fd):
            self._wake()

    def _wake(self) -> None:
        with suppress(OSError):  # full: it is awake; closed: nobody reads any more
            self._waker.send(b"\0")

    def _listen(self) -> None:
        """Hear fronts until the end. An engine that hears nobody is of no use: it ends, and is replaced."""
        try:
            while not self._over:
                self._hear()
        except Exception:  # whatever it is, nobody else would notice
            _LOG.exception("this engine can hear nobody any more, and ends")
            self.deaf = True
            self.lanes.stop()
            self.lanes.close()

    def _hear(self) -> None:
        for key, events in self._known.select(_WAIT_S):
            if key.fileobj is self._door:
                self._greet()
            elif key.fileobj is self._woken:
                self._woken.recv(4096)
            elif events & selectors.EVENT_READ:
                self._read_or_lose(key.data)
        for key in list(self._known.get_map().values()):
            if key.data is not None:
                self._tend(key.data, key.events)

    def _read_or_lose(self, front: _Front) -> None:
        """Take what a front sends. What cannot be taken ends its line: its requests fail, and it comes anew."""
        try:
            self._read(front)
        except Exception:  # of one front's message, which harms no other
            _LOG.exception("a message of a front could not be taken; it is let go")
            self._lose(front)

    def _tend(self, front: _Front, events: int) -> None:
        """Send what waits for a front, and see it off when it is gone."""
        if front.line.closed:
            self._lose(front)
            return
        wanted = selectors.EVENT_READ | (0 if front.line.flush() else selectors.EVENT_WRITE)
        if wanted != events:
            self._known.modify(front.line, wanted, front)

    def _greet(self) -> None:
        with suppress(BlockingIOError):
            opened, _ = self._door.accept()
            front = _Front(Line(opened))
            self._known.register(front.line, selectors.EVENT_READ, front)

    def _lose(self, front: _Front) -> None:
        """Forget a front that is gone, and take back what waits for it."""
        self._known.unregister(front.line)
        front.line.close()
        with self._lock:
            left = list(front.slips.values())
            front.slips.clear()
        for request in left:
            self.lanes.withdraw(request)

    def _read(self, front: _Front) -> None:
        for _ in range(_MOST_AT_ONCE):
            message = front.line.receive()
            if message is None:
                return
            kind, *told = message.head
            if kind == "offer":
                self._offer(front, told, message.payload)
            elif kind == "withdraw":
                self._withdraw(front, told[0])
            else:
                front.memory = message.payload

    def _offer(self, front: _Front, told: list[Any], payload: memoryview) -> None:
        number, request, generation, sizes, inside, answer = told
        model, current = self._models.get(request.model, (None, 0))
        if model is None or generation != current:
            self._send(front, ("refused", number, CHANGED))
            return
        place = payload
        if inside is not None:
            assert front.memory is not None, "it said hello first"
            place = front.memory[inside : inside + room(sizes)]
        behind_s = self._behind_s()
        own = request._replace(
            arrival_s=request.arrival_s - behind_s,
            due_s=request.due_s - behind_s,
            inputs=unpacked(sizes, place),
            ticket=_Slip(front, number, model, answer),
        )
        with self._lock:
            front.slips[number] = own
        self.lanes.offer(own)

    def _withdraw(self, front: _Front, number: int) -> None:
        with self._lock:
            request = front.slips.get(number)
        if request is not None and self.lanes.withdraw(request) and self._done(request.ticket):
            self._send(front, ("withdrawn", number))


def _in_memory(parts: Sequence[bytes | memoryview], num_bytes: int) -> int:
    """Put parts in memory of their own → an open file."""
    fd = os.memfd_create("amble-answer", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, num_bytes)
        placed(parts, mapped(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd
