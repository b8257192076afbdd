"""Schedule, Device, Requests → Log: one synchronous loop that owns the device, one request at a time.

The same loop runs in real time on hardware and in virtual time on a simulated device, because it takes its time from
the device. Without a schedule it only submits work and leaves the clocks to whoever governs them: that is how the
operating system's governors are measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from amble.core.cost import Reading
from amble.core.graph import Graph
from amble.core.log import ClockChange, Known, Log, PowerSample, Served, Slice
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, FloatArray, Tensors
from amble.core.schedule import Schedule
from amble.stages.control.program import Part, Program, along, hands_off

__all__ = ["Inputs", "Judge", "Requests", "serve"]

Inputs = Callable[[int], Tensors]
Judge = Callable[[int, Tensors], bool | None]


def _nothing(index: int) -> Tensors:
    return {}


def _unjudged(index: int, outputs: Tensors) -> bool | None:
    return None


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked of the device, and when.

    ``arrivals_s``: [request], rising, from 0. Every answer is due ``deadline_s`` after its arrival. The window of the
    energy ends ``period_s`` after the last arrival. ``inputs`` gives the tensors of a request, ``judge`` says whether
    an answer was right (None: no label).
    """

    arrivals_s: FloatArray
    deadline_s: float
    period_s: float
    load: str
    inputs: Inputs = _nothing
    judge: Judge = _unjudged


def serve(
    device: Device,
    graph: Graph,
    requests: Requests,
    *,
    schedule: Schedule | None = None,
    policy: str = "as found",
    traced: int = 0,
) -> Log:
    """Serve every request in order of arrival; the first ``traced`` of them in detail.

    With a schedule the clocks it found are put back at the end, also after an error or an interrupt.
    """
    if schedule is None:
        return _Run(device, graph, requests, hands_off(graph), traced).log(policy)
    program = along(schedule)
    with device.held(schedule.wait):
        log = _Run(device, graph, requests, program, traced).log(policy)
    return replace(log, deadline=schedule.deadline, schedule=schedule, known=Known.of(schedule))


@dataclass(slots=True)
class _Run:
    """The state of one run: what is asked of the device now, and what was noted so far."""

    device: Device
    graph: Graph
    requests: Requests
    program: Program
    traced: int
    asked: Clocks | None = None
    num_changes: int = 0
    served: list[Served] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)
    changes: list[ClockChange] = field(default_factory=list)
    power: list[PowerSample] = field(default_factory=list)

    def log(self, policy: str) -> Log:
        """Serve all requests and return what happened."""
        origin_s = self.device.clock.now_s()
        begin = self.device.meter.read()
        self.asked = self.program.wait
        parts = self.program.parts(self.graph)
        for index, arrival_s in enumerate(origin_s + self.requests.arrivals_s):
            self._await(arrival_s, index)
            self._one(index, float(arrival_s), parts)
        self._await(origin_s + float(self.requests.arrivals_s[-1]) + self.requests.period_s, len(self.served))
        end = self.device.meter.read()
        return Log(
            self.graph.subject,
            self.device.where,
            policy=policy,
            load=self.requests.load,
            served=tuple(self.served),
            start_s=origin_s,
            finish_s=self.device.clock.now_s(),
            energy_j=(end - begin).energy_j,
            slices=tuple(self.slices),
            changes=tuple(self.changes),
            power=tuple(self.power),
            traced=min(self.traced, len(self.served)),
            num_changes=self.num_changes,
        )

    def _await(self, until_s: float, index: int) -> None:
        """Let the device idle until then."""
        idle_s = until_s - self.device.clock.now_s()
        if idle_s > 0:
            before = self.device.meter.read()
            self.device.clock.sleep(idle_s)
            self._note_power(before, index)

    def _one(self, index: int, arrival_s: float, parts: tuple[Part, ...]) -> None:
        start_s = self.device.clock.now_s()
        due_s = arrival_s + self.requests.deadline_s
        before = self.device.meter.read()
        tensors = self.requests.inputs(index)
        if (first := self.program.enter(self.asked)) is not None:
            self._ask(first, index)
        for segment, point in parts:
            clocks = self.program.pick(segment.offset, self.asked, due_s - self.device.clock.now_s())
            if clocks is not None:
                self._ask(clocks, index)
            tensors = self._run(segment, point, tensors, index)
        finish_s = self.device.clock.now_s()
        energy_j = (self.device.meter.read() - before).energy_j
        if self.program.wait is not None:
            self._ask(self.program.wait, index)
        correct = self.requests.judge(index, tensors)
        self.served.append(Served(arrival_s, start_s, finish_s, due_s, energy_j, correct))

    def _run(self, segment: Graph, point: OperatingPoint, tensors: Tensors, index: int) -> Tensors:
        if index >= self.traced:
            return self.device.runner.run(segment, point, tensors)
        before = self.device.meter.read()
        start_s = self.device.clock.now_s()
        ran_at = self.device.actuator.current()
        outputs = self.device.runner.run(segment, point, tensors)
        stop = segment.offset + len(segment.operators)
        energy_j = self._note_power(before, index)
        finish_s, steady = self.device.clock.now_s(), self.device.actuator.current() == ran_at
        self.slices.append(Slice(index, segment.offset, stop, start_s, finish_s, ran_at, energy_j, steady=steady))
        return outputs

    def _ask(self, clocks: Clocks, index: int) -> None:
        """Ask for clocks if they differ from those asked last: a setting costs even when it changes nothing."""
        if clocks == self.asked:
            return
        self.device.actuator.apply(clocks)
        self.asked = clocks
        self.num_changes += 1
        if index < self.traced:
            change = ClockChange(self.device.clock.now_s(), clocks, self.device.actuator.current())
            self.changes.append(change)

    def _note_power(self, before: Reading, index: int) -> float | None:
        if index >= self.traced:
            return None
        passed = self.device.meter.read() - before
        if passed.energy_j is not None and passed.latency_s > 0:
            self.power.append(PowerSample(before.time_s, passed.energy_j / passed.latency_s))
        return passed.energy_j
