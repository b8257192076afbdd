"""Device, lanes and a source of requests → answers and refusals: the loop that owns the device, for many at once.

One synchronous loop in one thread. It takes its time from the device, so that the same code serves a day of traffic in
minutes on a simulated device, and real clients on hardware. Other threads may only ``offer``, ``load``, ``unload`` and
``stop``; a request that cannot be answered in time is refused inside ``offer``, at once and not when its turn has come.

Energy: the meter is read before and after every batch. What it counted in between is the batch's, a change of clocks
included, and is shared out by rows; what it counted since the batch before is idle. Batches and idling together are
the meter, to the last joule.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from amble.core.cost import Reading
from amble.core.errors import AmbleError
from amble.core.graph import Graph
from amble.core.ladder import Rung
from amble.core.log import Slice
from amble.core.point import Clocks
from amble.core.ports import Device, Tensors
from amble.stages.control.batcher import Cause, Pace, Queue, Refusal, Request
from amble.stages.control.failures import FAILURES, failure, run
from amble.stages.control.governor import NEVER_S, Decision, Done, Governor, Observation
from amble.stages.control.noting import Notes
from amble.stages.control.program import Part, Program, at_rung
from amble.stages.control.source import Source
from amble.stages.control.tensors import join, split

__all__ = ["Batch", "Engine", "Lane", "Sink", "Totals"]

_LOG = logging.getLogger(__name__)
_UNLOADED = Refusal("unloaded", "no such model is loaded: load it first")
_STOPPING = Refusal("stopping", "the server is shutting down: ask another one")
_EXPIRED = Refusal("deadline", "cannot be answered in time any more: what went first took longer than predicted")


class Batch(NamedTuple):
    """Requests that were answered together. Times [s] on the device's clock, one output for each request.

    ``energy_j`` is the batch's own (None without a meter), ``idle_j`` what waiting for it took since the last one.
    ``ran_at`` are clocks; a batch after a change may have begun at other ones. ``slices`` tell of each segment where
    the engine notes them; their ``request`` is 0.
    """

    model: str
    requests: Sequence[Request]
    outputs: Sequence[Tensors]
    rung: Rung
    rows: int
    start_s: float
    finish_s: float
    energy_j: float | None
    idle_j: float | None
    ran_at: Clocks
    slices: Sequence[Slice] = ()

    def share_j(self, request: Request) -> float | None:
        """Return one request's share of the batch's energy."""
        return None if self.energy_j is None else self.energy_j * request.rows / self.rows


class Sink(Protocol):
    """Is told what became of every request, in the engine's thread (refusals inside ``offer``: in the caller's)."""

    def answered(self, batch: Batch) -> None:
        """Take the answers of a batch."""
        ...

    def refused(self, request: Request, refusal: Refusal) -> None:
        """Take a refusal: the request gets no answer."""
        ...


@dataclass(slots=True)
class Totals:
    """What an engine has counted. ``active_j`` + ``idle_j`` is what the meter counted; None without a meter."""

    answered: int = 0
    late: int = 0
    batches: int = 0
    changes: int = 0
    unchanged: int = 0  # changes of clocks that the device refused
    active_j: float | None = 0.0
    idle_j: float | None = 0.0
    refused: dict[Cause, int] = field(default_factory=dict)


@dataclass(slots=True)
class Lane:
    """One model: its governor, how to get its graph for a variant and a batch size, and what waits for it."""

    model: str
    governor: Governor[Any]
    graph: Callable[[str, int], Graph]
    queue_limit: int = 1024
    queue: Queue = field(init=False)
    state: Any = field(init=False, default=None)
    pace: Pace = field(init=False)
    done: Done | None = field(init=False, default=None)
    num_arrived: int = field(init=False, default=0)
    programs: dict[tuple[int, int], tuple[Rung, Program, tuple[Part, ...]]] = field(init=False, default_factory=dict)
    alone: bool = field(init=False, default=False)  # a batch did not give back as many rows as it took

    def __post_init__(self) -> None:
        """Open an empty queue."""
        self.queue = Queue(self.queue_limit)

    def begin(self, now_s: float) -> None:
        """Start its governor."""
        self.state = self.governor.init(now_s)
        self.pace = self.governor.pace(self.state)

    def decide(self, now_s: float, asked: Clocks | None, other_s: float) -> Decision:
        """Tell the governor what there is, and remember what it promises."""
        queue = self.queue
        due_s = queue.due_s() if queue else ()
        head_rows = queue.head.rows if due_s else 1
        seen = Observation(now_s, due_s, queue.rows, self.num_arrived, self.done, asked, other_s, head_rows)
        self.num_arrived, self.done = 0, None
        self.state, decision = self.governor.step(self.state, seen)
        self.pace = decision.pace
        return decision

    def program_of(self, rung: Rung, rows: int) -> tuple[Program, tuple[Part, ...]]:
        """Return what to do in a batch, and its segments; made once, then only looked up."""
        key = (id(rung), rows)  # the rung is kept with its program, so that its id stays its own
        if (found := self.programs.get(key)) is None:
            graph = self.graph(rung.variant, rows)
            program = at_rung(rung, graph)
            found = self.programs[key] = (rung, program, program.parts(graph))
        return found[1], found[2]


class Engine:
    """Owns a device and serves its lanes: earliest deadline first, across all models."""

    def __init__(self, device: Device, lanes: Sequence[Lane], sink: Sink, *, noting: bool = False) -> None:
        """Take the device over; nothing is set before ``run``. ``noting``: tell of every segment that ran."""
        self.totals = Totals()
        self._device = device
        self._lanes: dict[str, Lane] = {}
        self._sink = sink
        self._noting = noting
        self._lock = threading.RLock()
        self._stopped = False
        self._busy_until_s = 0.0
        self._asked: Clocks | None = None
        self._last = Reading(0.0, None)
        for lane in lanes:
            self.load(lane)

    def load(self, lane: Lane) -> None:
        """Begin to serve a model, from any thread; what waited for its predecessor of the same name waits for it."""
        lane.begin(self._device.clock.now_s())
        with self._lock:
            before = self._lanes.get(lane.model)
            self._lanes = {**self._lanes, lane.model: lane}
            waiting = before.queue.clear() if before is not None else []
        for request in waiting:
            self.offer(request)

    def unload(self, model: str) -> None:
        """Stop serving a model, from any thread; what waits for it is refused."""
        with self._lock:
            lane = self._lanes.get(model)
            self._lanes = {name: each for name, each in self._lanes.items() if name != model}
            waiting = lane.queue.clear() if lane is not None else []
        for request in waiting:
            self._refuse(request, _UNLOADED)

    def stop(self) -> None:
        """Refuse what waits and return after the batch that runs; from any thread (then wake the source)."""
        self._stopped = True

    def waiting(self, model: str) -> int:
        """Count what waits for a model."""
        lane = self._lanes.get(model)
        return len(lane.queue) if lane is not None else 0

    def offer(self, request: Request) -> Refusal | None:
        """Queue a request, or refuse it at once and say why; from any thread."""
        refusal = self._offered(request)
        if refusal is not None:
            self._refuse(request, refusal)
        return refusal

    def withdraw(self, request: Request) -> bool:
        """Take back a request that still waits, from any thread; nobody is told. False when it is too late for that."""
        with self._lock:
            lane = self._lanes.get(request.model)
            return lane is not None and lane.queue.withdraw(request)

    def run(self, source: Source) -> Totals:
        """Serve until the source is closed and nothing waits. The clocks it found are put back, whatever happens."""
        with self._device.held(self._device.actuator.current()):
            self._asked = None
            self._last = self._device.meter.read()
            while self._once(source):
                pass
        self._rest()
        return self.totals

    def _offered(self, request: Request) -> Refusal | None:
        with self._lock:
            lane = self._lanes.get(request.model)
            if lane is None:
                return _UNLOADED
            if self._stopped:
                return _STOPPING
            lane.num_arrived += request.rows
            free_s = max(self._busy_until_s, self._device.clock.now_s())
            if len(self._lanes) > 1:
                free_s += self._other_s(lane)
            return lane.queue.offer(request, free_s, lane.pace)

    def _once(self, source: Source) -> bool:
        """Do one thing: serve a batch, or wait. False when there is nothing left to do."""
        now_s = self._device.clock.now_s()
        for request in source.take(now_s):
            self.offer(request)
        if self._stopped:
            self._refuse_all()
            return False
        with self._lock:
            lane = self._next(now_s)
            if lane is not None:
                decision = lane.decide(now_s, self._asked, self._other_s(lane) if len(self._lanes) > 1 else 0.0)
                most = 1 if lane.alone else decision.rows
                taken = lane.queue.take(most) if decision.rung is not None else []
                if decision.rung is not None:
                    self._busy_until_s = now_s + decision.pace.factor * decision.rung.latency_s[_rows(taken) - 1]
        if lane is None:
            return self._idle(source, now_s)
        if decision.rung is not None:
            self._serve(lane, decision.rung, taken)
        else:
            if decision.clocks is not None:
                self._ask(decision.clocks)
            source.wait(decision.wake_s)
        return True

    def _next(self, now_s: float) -> Lane | None:
        """Return the lane whose turn it is, after refusing those at the heads that cannot be on time any more."""
        best: Lane | None = None
        for lane in self._lanes.values():
            for request in lane.queue.expire(now_s, lane.pace) if lane.queue else ():
                self._refuse(request, _EXPIRED)
            if lane.queue and (best is None or _order(lane) < _order(best)):
                best = lane
        return best

    def _other_s(self, lane: Lane) -> float:
        """Return the work [s] that waits in the other lanes, at the fastest pace of each."""
        others = [each for each in self._lanes.values() if each is not lane and each.queue.rows]
        return sum(each.queue.rows / each.pace.quick.capacity_hz * each.pace.factor for each in others)

    def _idle(self, source: Source, now_s: float) -> bool:
        """Let every governor look at the idle device, then wait for the next arrival."""
        if source.closed:
            return False
        wake_s, clocks = NEVER_S, None
        for lane in self._lanes.values():
            decision = lane.decide(now_s, self._asked, 0.0)
            wake_s = min(wake_s, decision.wake_s)
            clocks = decision.clocks or clocks
        if clocks is not None:
            self._ask(clocks)
        source.wait(wake_s)
        return True

    def _serve(self, lane: Lane, rung: Rung, requests: Sequence[Request]) -> None:
        """Run one batch; what fails as a batch is tried one by one, so that one bad request harms no other."""
        self._rest()
        idle_j = self._idle_j
        try:
            outputs, batch = self._executed(lane, rung, requests)
        except FAILURES as error:
            if len(requests) == 1:
                self._refuse(requests[0], failure(error))
                self._leave(rung)
                return
            for request in requests:
                self._serve(lane, rung, [request])
            return
        self._sink.answered(batch._replace(outputs=outputs, idle_j=idle_j))
        self._leave(rung)

    def _executed(self, lane: Lane, rung: Rung, requests: Sequence[Request]) -> tuple[list[Tensors], Batch]:
        device, rows = self._device, _rows(requests)
        clock = device.clock
        start_s = clock.now_s()
        changes = self.totals.changes
        tensors = join([request.inputs for request in requests])
        first_s, due_s = start_s, min([request.due_s for request in requests])
        program, parts = lane.program_of(rung, rows)
        notes = Notes(self._noting)
        if (entry := program.enter(self._asked)) is not None:
            self._ask(entry)
        for graph, point in parts:
            clocks = program.pick(graph.offset, self._asked, due_s - clock.now_s())
            if clocks is not None and clocks is not self._asked:
                self._ask(clocks)
                first_s = clock.now_s() if graph.offset == 0 else first_s
            tensors = notes.run(run, device, graph, point, tensors, rows)
        finish_s = clock.now_s()
        outputs = self._split(lane, tensors, requests)
        settled = changes == self.totals.changes or rung.schedule is not None
        lane.done = Done(rung, rows, finish_s, finish_s - first_s, settled)
        energy_j = self._active(requests, finish_s)
        ran_at = device.actuator.current()
        return outputs, Batch(
            lane.model, requests, (), rung, rows, start_s, finish_s, energy_j, None, ran_at, notes.slices
        )

    def _leave(self, rung: Rung) -> None:
        """Go where the schedule waits, once the answer is on its way."""
        if rung.schedule is not None:
            self._ask(rung.schedule.wait)

    def _split(self, lane: Lane, tensors: Tensors, requests: Sequence[Request]) -> list[Tensors]:
        """Cut a batch's answers apart; a model whose rows do not come back one for one is never batched again."""
        try:
            return split(tensors, [request.rows for request in requests])
        except ValueError as error:
            lane.alone = True
            _LOG.error("%s is not batched any more: %s", lane.model, error)
            raise

    def _active(self, requests: Sequence[Request], finish_s: float) -> float | None:
        """Charge what the meter counted since the last reading to a batch."""
        read, totals = self._device.meter.read(), self.totals
        energy_j = _between_j(self._last, read)
        self._last = read
        totals.batches += 1
        totals.answered += len(requests)
        totals.late += sum([finish_s > request.due_s for request in requests])
        totals.active_j = None if energy_j is None or totals.active_j is None else totals.active_j + energy_j
        return energy_j

    def _rest(self) -> None:
        """Charge what the meter counted since the last reading to idling."""
        read, totals = self._device.meter.read(), self.totals
        idle_j = self._idle_j = _between_j(self._last, read)
        self._last = read
        totals.idle_j = None if idle_j is None or totals.idle_j is None else totals.idle_j + idle_j

    def _ask(self, clocks: Clocks) -> None:
        """Ask for clocks unless they are asked for already; a refusal is counted, and serving goes on as it is."""
        if clocks == self._asked:
            return
        self._asked = clocks
        try:
            self._device.actuator.apply(clocks)
        except AmbleError:
            self.totals.unchanged += 1
            return
        self.totals.changes += 1

    def _refuse(self, request: Request, refusal: Refusal) -> None:
        with self._lock:
            self.totals.refused[refusal.cause] = self.totals.refused.get(refusal.cause, 0) + 1
        self._sink.refused(request, refusal)

    def _refuse_all(self) -> None:
        with self._lock:
            waiting = [request for lane in self._lanes.values() for request in lane.queue.clear()]
        for request in waiting:
            self._refuse(request, _STOPPING)


def _rows(requests: Sequence[Request]) -> int:
    return sum([request[4] for request in requests])


def _order(lane: Lane) -> tuple[int, float]:
    return lane.queue.head.priority, lane.queue.head.due_s


def _between_j(earlier: Reading, later: Reading) -> float | None:
    return None if later.energy_j is None or earlier.energy_j is None else later.energy_j - earlier.energy_j
