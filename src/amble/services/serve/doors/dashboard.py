"""The metrics' door: ``/metrics`` for Prometheus, ``/dashboard`` for people, both from the same counters, and health.

It has a thread and a loop of its own, so that it answers whatever the others do.

The page asks for nothing but its own files and ``/dashboard/data``, so it works where there is no other network.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from importlib.resources import files
from typing import Any, Protocol

import msgspec

from amble.core.cost import Reading
from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.access import Access
from amble.services.serve.doors.http import Receive, Response, Scope, Send, respond
from amble.services.serve.models.model import Model
from amble.services.serve.pulse import Sample, Seat
from amble.services.serve.telling import metrics
from amble.services.serve.telling.history import History
from amble.services.serve.telling.ledger import Ledger

__all__ = ["Panel", "Watched", "together"]

_FILES = {
    "/dashboard": ("dashboard.html", b"text/html; charset=utf-8"),
    "/dashboard/page.css": ("dashboard.css", b"text/css; charset=utf-8"),
    "/dashboard/page.js": ("dashboard.js", b"text/javascript; charset=utf-8"),
}
_ONLY_OURS = (
    (b"content-security-policy", b"default-src 'self'; style-src 'self' 'unsafe-inline'"),
    (b"cache-control", b"no-store"),
)
_SETTLE_S = 0.1
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class Watched(Protocol):
    """What is shown."""

    draining: bool

    @property
    def open_for_all(self) -> bool:
        """Tell whether requests are taken."""
        ...

    @property
    def well(self) -> bool:
        """Tell whether what is asked of it will ever be done."""
        ...

    @property
    def pending(self) -> int:
        """Count the requests that wait for their answer."""
        ...

    @property
    def counted(self) -> Ledger:
        """Return the counters as they are; ``settle`` brings them up to date."""
        ...

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Return the devices and their engines."""
        ...

    def settle(self) -> Future[None]:
        """Have everything counted that has happened, from any thread."""
        ...


class Panel:
    """The application, and the second hand that keeps its history."""

    def __init__(self, admission: Watched, version: str, access: Access) -> None:
        self._access = access
        self.history = History()
        self.models: Callable[[], tuple[Model, ...]] = tuple
        self.more: Callable[[], str] = str
        self._admission = admission
        self._version = version
        self._host = metrics.Host()
        self._ticks: tuple[int, int] | None = None
        self._known: dict[str, dict[str, Any]] = {}
        self._before: dict[str, tuple[Sample | None, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"].rstrip("/") or "/"
        try:
            self._access.check_page(dict(scope["headers"]))
        except Fault as fault:
            await respond(send, Response(fault.status, msgspec.json.encode({"error": fault.text})))
            return
        if path in ("/v2/health/live", "/v2/health/ready"):
            await respond(send, self._health(path))
        elif path == "/metrics":
            await self._settled()
            await respond(send, Response(200, self.text().encode(), _TEXT))
        elif path == "/dashboard/data":
            await self._settled()
            await respond(send, Response(200, msgspec.json.encode(self._data()), headers=_ONLY_OURS))
        elif path in _FILES:
            name, kind = _FILES[path]
            await respond(send, Response(200, (files(__package__) / name).read_bytes(), kind, _ONLY_OURS))
        elif path == "/":
            await respond(send, Response(307, b"{}", headers=((b"location", b"/dashboard"),)))
        else:
            await respond(
                send, Response(404, b'{"error":"no such path: /metrics, /dashboard and /v2/health are here"}')
            )

    def _health(self, path: str) -> Response:
        """Answer for the whole server; whatever holds its own loop up does not hold this up."""
        kind = path.rpartition("/")[2]
        well = self._admission.well if kind == "live" else self._admission.open_for_all
        return Response(200 if well else 503, msgspec.json.encode({kind: well}))

    async def _settled(self) -> None:
        """Have the server's loop count what it knows; a loop that is busy is not waited for."""
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(self._admission.settle()), _SETTLE_S)

    def text(self) -> str:
        """Return the metrics as text."""
        devices = []
        for seat in self._admission.seats:
            seen = metrics.Seen(seat.device, self._version, seat.calibration, **self._known.get(seat.device, {}))
            devices.append((seat.totals, seen))
        return metrics.text(self._admission.counted, devices, self._host) + self.more()

    def start(self, closing: AsyncExitStack) -> None:
        """Begin to count seconds, until the stack closes."""
        task = asyncio.create_task(self._count())
        closing.callback(task.cancel)

    def tick(self) -> None:
        """Close a second."""
        seats = self._admission.seats
        self.history.tick(time.time(), together(seats), self._admission.pending, self.models())
        self._host, self._ticks = metrics.host(self._ticks)
        self._known = {seat.device: self._device(seat) for seat in seats}

    async def _count(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            self.tick()
            due_s = max(due_s + 1.0, loop.time())
            await asyncio.sleep(due_s - loop.time())

    def _device(self, seat: Seat) -> dict[str, Any]:
        """Return what is known of a device from its newest sample and the one before."""
        sample, first = seat.last, seat.first
        before, busy_s = self._before.get(seat.device, (None, 0.0))
        self._before[seat.device] = (sample, seat.busy_s)
        if sample is None:
            return {}
        known: dict[str, Any] = {"ran_at": sample.ran_at, "energy_j": None}
        if first is not None:
            known["energy_j"] = (sample.reading - first.reading).energy_j
        if before is not None and sample is not before:
            passed = sample.reading - before.reading
            known["utilization"] = min(1.0, (seat.busy_s - busy_s) / passed.latency_s)
            known["power_w"] = None if passed.energy_j is None else passed.energy_j / passed.latency_s
        return known

    def _data(self) -> dict[str, Any]:
        """Return what the page draws."""
        seats, history, admission = self._admission.seats, self.history, self._admission
        return {
            "device": ", ".join(seat.device for seat in seats),
            "calibration": ", ".join(dict.fromkeys(seat.calibration for seat in seats)),
            "version": self._version,
            "metered": history.energy_j is not None,
            "draining": admission.draining,
            "models": [self._model(model) for model in self.models()],
            "series": list(history.series),
            "energy_j": history.energy_j,
            "baseline_j": history.baseline_j if history.energy_j is not None else None,
            "saved_j": history.saved_j,
            "clock_changes": sum(seat.totals.changes for seat in seats),
        }

    def _model(self, model: Model) -> dict[str, Any]:
        book, ladder = self._admission.counted.book(model.name, model.version), model.loaded.ladder
        return {
            "name": model.name,
            "version": model.version,
            "governor": model.loaded.governor.name,
            "objective_s": model.timeout_s,
            "max_batch": ladder.max_batch,
            "rungs": [
                {
                    "precision": rung.variant,
                    "clocks": str(rung.clocks),
                    "latency_s": rung.latency_s[0],
                    "accuracy": rung.accuracy,
                }
                for rung in ladder.rungs
            ],
            "answered": book.success,
            "late": book.late,
            "refused": dict(book.refused),
            "energy_j": book.energy.total if book.energy.count else None,
        }


def together(seats: Sequence[Seat]) -> Sample | None:
    """Return a sample of all devices: their energies added up, unknown where one is; the clocks are the first one's."""
    samples = [seat.last for seat in seats if seat.last is not None]
    if not samples or len(samples) < len(seats):
        return None
    known_j = [each.reading.energy_j for each in samples if each.reading.energy_j is not None]
    energy_j = sum(known_j) if len(known_j) == len(samples) else None
    return Sample(Reading(samples[0].reading.time_s, energy_j), samples[0].ran_at)
