"""Batches and refusals of a model → its Log, in a file that is whole at any time and never grows beyond a bound.

The file is written anew every half minute, and at the end. When it is full it becomes ``NAME.1.json``, in the place of
the one before, and a new one begins: never more than two of them. Writing is done in a thread of its own, since
requests are answered in the one that is told of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from amble.core import files
from amble.core.errors import Refused
from amble.core.log import FORMAT, Log, Served, Slice
from amble.core.ports import Device
from amble.core.schedule import Deadline
from amble.services.serve.models.model import Model
from amble.services.serve.requests.admission import Listener
from amble.stages.control.batcher import Request
from amble.stages.control.engine import Batch

__all__ = ["MOST", "Recorder", "beside"]

MOST = 20_000  # requests of a model in one file
_MOST_SLICES = 20_000
_EVERY_S = 30.0
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """What was noted of one model since its file was begun. ``energy_j`` None: not all of it is known."""

    model: Model
    path: Path
    served: list[Served] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    energy_j: float | None = 0.0
    written: int = 0

    def ran(self, batch: Batch) -> None:
        """Note a batch: what it took is its own, and the idling before it."""
        first, slices = len(self.served), self.slices
        if len(slices) + len(batch.slices) <= _MOST_SLICES:
            slices += [replace(each, request=first) for each in batch.slices]
        idle_j = 0.0 if not first else batch.idle_j
        known = self.energy_j is not None and batch.energy_j is not None and idle_j is not None
        self.energy_j = self.energy_j + batch.energy_j + idle_j if known else None  # type: ignore[operator]
        self.served += [
            Served(each.arrival_s, batch.start_s, batch.finish_s, _due_s(each), batch.share_j(each))
            for each in batch.requests
        ]

    def refused(self, request: Request, cause: str, now_s: float) -> None:
        """Note a refusal."""
        self.served.append(Served(request.arrival_s, now_s, now_s, _due_s(request), refused=cause))

    def log(self, device: Device, deadline: Deadline | None) -> Log:
        """Return what was noted, in order of arrival."""
        loaded = self.model.loaded
        graph = loaded.graph(loaded.ladder.levels[0].variant, 1)
        order = sorted(range(len(self.served)), key=lambda index: self.served[index].arrival_s)
        place = {old: new for new, old in enumerate(order)}
        schedule = loaded.ladder.rungs[0].schedule
        return Log(
            subject=graph.subject,
            where=device.where,
            policy=loaded.governor.name,
            load="as it came",
            served=tuple(self.served[index] for index in order),
            start_s=min(each.arrival_s for each in self.served),
            finish_s=max(each.finish_s for each in self.served),
            energy_j=self.energy_j,
            slices=tuple(replace(each, request=place[each.request]) for each in self.slices),
            traced=len(self.served),
            deadline=deadline or (schedule.deadline if schedule else None),
            schedule=schedule,
            known=loaded.known,
        )


class Recorder(Listener):
    """Keeps a log for each model. ``place`` says in which file, by the model's name and version."""

    detailed = True

    def __init__(
        self,
        device: Device,
        place: Callable[[Model], Path],
        *,
        deadline: Deadline | None = None,
        most: int = MOST,
        every_s: float = _EVERY_S,
    ) -> None:
        """Begin with nothing."""
        self._device, self._place, self._deadline = device, place, deadline
        self._most, self._every_s = most, every_s
        self._runs: dict[str, _Run] = {}
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="amble-log")
        self._last: Future[None] | None = None
        self._next_s = time.monotonic() + every_s

    def ran(self, model: Model, batch: Batch) -> None:
        """Note a batch."""
        self._of(model).ran(batch)
        self._keep(model)

    def refused(self, model: Model, request: Request, cause: str) -> None:
        """Note a refusal."""
        self._of(model).refused(request, cause, self._device.clock.now_s())
        self._keep(model)

    def close(self) -> None:
        """Write what is left, and wait for it."""
        for run in self._runs.values():
            self._write(run, full=False)
        self._writing.shutdown()

    def _of(self, model: Model) -> _Run:
        run = self._runs.get(model.key)
        if run is None or run.model is not model:
            if run is not None and run.served:
                self._write(run, full=True)
            run = self._runs[model.key] = _Run(model, self._place(model))
        return run

    def _keep(self, model: Model) -> None:
        """Write a file that is full, or all of them when it is time and the last writing is over."""
        run = self._runs[model.key]
        if len(run.served) >= self._most:
            self._write(run, full=True)
            self._runs[model.key] = _Run(model, run.path)
        elif time.monotonic() >= self._next_s and (self._last is None or self._last.done()):
            self._next_s = time.monotonic() + self._every_s
            for each in self._runs.values():
                self._write(each, full=False)

    def _write(self, run: _Run, *, full: bool) -> None:
        if run.served and (full or len(run.served) > run.written):
            run.written = len(run.served)
            noted = replace(run, served=list(run.served), slices=list(run.slices))
            self._last = self._writing.submit(_written, noted, self._device, self._deadline, full)


def beside(path: Path, *, alone: bool) -> Callable[[Model], Path]:
    """Return which file is a model's: the named one, or where there may be several models one beside it for each."""
    if alone:
        return lambda model: path
    return lambda model: path.with_name(f"{path.stem}-{model.name}-{model.version}{path.suffix}")


def _written(run: _Run, device: Device, deadline: Deadline | None, full: bool) -> None:
    """Write a file, and put it aside when it is full; a disk that takes nothing is no reason to stop serving."""
    try:
        files.save(run.log(device, deadline), run.path, FORMAT)
        if full:
            run.path.replace(run.path.with_name(f"{run.path.stem}.1{run.path.suffix}"))
    except (Refused, OSError) as error:
        _LOG.warning("the log of %s was not written: %s", run.model.key, error)


def _due_s(request: Request) -> float | None:
    return None if request.due_s == float("inf") else request.due_s
