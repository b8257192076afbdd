"""A chip's name → a Device with its own physics, its own time and a declared distance from the real one.

Time and energy are simulated; outputs, where the device is given a runtime, are computed for real. Nobody has to wait:
a day of traffic passes in minutes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.graph import Graph, Operator
from amble.core.point import DOMAINS, Clocks, Domain, OperatingPoint
from amble.core.ports import Device, FloatArray, Tensors, Timing, Timings
from amble.devices.facts import Description
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.chip import Chip, chips
from amble.devices.simulated.governors import GOVERNORS
from amble.devices.simulated.governors import governor as build_governor
from amble.devices.simulated.kernels import Launches
from amble.devices.simulated.machine import Background, Done, Machine, Scenario
from amble.devices.simulated.physics import Physics, Table

__all__ = ["GOVERNORS", "Background", "Compute", "Scenario", "chips", "describe", "open"]

Compute = Callable[[Graph, OperatingPoint, Tensors], Tensors]
"""A runtime's way to compute a graph's outputs for real, at a point's precision."""

_CAP_TEMPERATURE_C = 60.0


def open(  # noqa: A001
    name: str,
    *,
    compute: Compute | None = None,
    seed: int = 0,
    governor: str = "performance",
    scenario: Scenario | None = None,
    knobs: Sequence[Domain] | None = None,
) -> Device:
    """Open a simulated chip, idle and cool, under its operating system's governor until clocks are first applied.

    ``compute`` computes outputs; without it a run with inputs is refused. ``knobs`` are the clock domains that can be
    set, the chip's usual ones (core and, where it can be locked, memory) unless given; others stay at their top.
    Equal arguments and equal calls give equal times and energies. Refused for an unknown chip or governor, or a
    domain that the chip cannot set.
    """
    chip = _with_knobs(catalogue.load(name), knobs)
    machine = _machine(chip, seed, governor, scenario or Scenario())
    return Device(
        name=f"sim:{chip.name}",
        clock=_Clock(machine),
        meter=_Meter(machine),
        actuator=_Actuator(machine),
        runner=_Runner(machine, compute),
        calibration=chip.calibration,
        precisions=tuple(chip.precisions),
    )


def describe(name: str) -> Description:
    """Describe one chip as a device that can be opened."""
    chip = catalogue.load(name)
    levels = " x ".join(f"{len(chip.ladder(domain))} {domain}" for domain in chip.knobs)
    return Description(f"sim:{chip.name}", chip.calibration, f"{levels} clocks", "simulated counter")


def _with_knobs(chip: Chip, knobs: Sequence[Domain] | None) -> Chip:
    missing = [domain for domain in knobs or () if domain not in chip.switching]
    if missing:
        raise Refused(f"sim:{chip.name} has no {missing[0]} clock to set; it has {', '.join(chip.switching)}")
    return chip if knobs is None else replace(chip, knobs=[domain for domain in DOMAINS if domain in knobs])


def _machine(chip: Chip, seed: int, governor: str, scenario: Scenario) -> Machine:
    fastest = chip.fastest()
    top = Clocks(*(fastest.of(domain) if domain in chip.knobs else None for domain in DOMAINS))
    rules = build_governor(governor, chip)
    return Machine(
        chip=chip,
        physics=Physics(chip),
        scenario=scenario,
        rng=np.random.default_rng(seed),
        held=rules.start(top) if rules else top,
        governor=rules,
    )


@dataclass(frozen=True, slots=True)
class _Clock:
    machine: Machine

    def now_s(self) -> float:
        return self.machine.now_s

    def sleep(self, duration_s: float) -> None:
        if duration_s < 0:
            raise ValueError(f"cannot sleep for {duration_s} s")
        self.machine.sleep(duration_s)


@dataclass(frozen=True, slots=True)
class _Meter:
    machine: Machine

    def read(self) -> Reading:
        return self.machine.read()


@dataclass(slots=True)
class _Actuator:
    machine: Machine
    _legal: tuple[Clocks, ...] = ()
    _known: frozenset[Clocks] = frozenset()

    def __post_init__(self) -> None:
        chip = self.machine.chip
        ladders = [chip.ladder(domain).tolist() if domain in chip.knobs else [None] for domain in DOMAINS]
        grid = [Clocks(*each) for each in itertools.product(*ladders)]
        self._legal = tuple(sorted(grid, key=self._speed))
        self._known = frozenset(grid)

    def available(self) -> tuple[Clocks, ...]:
        return self._legal

    def current(self) -> Clocks:
        self.machine.sleep(0.0)
        return self.machine.running

    def apply(self, clocks: Clocks) -> None:
        if clocks not in self._known:
            near = sorted(self._legal, key=lambda each: self._distance(each, clocks))[:2]
            raise Refused(f"{self.machine.chip.name} cannot run at {clocks}; nearest: {' or '.join(map(str, near))}")
        self.machine.ask(clocks)

    @staticmethod
    def _speed(clocks: Clocks) -> tuple[float, Clocks]:
        """Order by the product of the clocks, as good a guess of speed as any without a workload."""
        set_hz = [clock_hz for clock_hz in (clocks.core_hz, clocks.memory_hz, clocks.cpu_hz) if clock_hz is not None]
        return float(np.sum(np.log(set_hz))), Clocks(*(each or 0.0 for each in (clocks.core_hz, clocks.memory_hz)))

    @staticmethod
    def _distance(legal: Clocks, asked: Clocks) -> float:
        pairs = [(legal.of(domain), asked.of(domain)) for domain in DOMAINS]
        return sum(abs(np.log(a / b)) if a and b and b > 0 else 0.0 for a, b in pairs)


@dataclass(slots=True)
class _Runner:
    machine: Machine
    compute: Compute | None
    _launches: dict[tuple[object, ...], Launches] = field(default_factory=dict)
    _tables: dict[tuple[object, ...], Table] = field(default_factory=dict)
    _allowed: dict[tuple[object, ...], Clocks] = field(default_factory=dict)
    _parts: dict[tuple[str, int], dict[int, tuple[Operator, ...]]] = field(default_factory=dict)

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Let the segment's time and energy pass; the last segment's outputs are computed, others hand on inputs."""
        if inputs and self.compute is None:
            raise Refused(f"sim:{self.machine.chip.name} was opened without a runtime; run it without inputs")
        self._run(graph, point)
        if not inputs or self.compute is None:
            return inputs
        whole = self._whole(graph)
        return inputs if whole is None else self.compute(whole, point, inputs)

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Run a graph ``repeats`` times; observing costs nothing here."""
        if repeats < 1:
            raise ValueError(f"a profile needs at least one repeat, not {repeats}")
        runs = [self._run(graph, point) for _ in range(repeats)]
        latency_s = np.stack([each.latency_s for each in runs])
        energy_j = np.stack([each.energy_j for each in runs])
        whole_s = latency_s.sum(axis=1)
        middle_s = float(np.median(whole_s))
        ran_at = self._limit(self._key(graph, point), self.machine.running)
        return Timings(
            operators=_timings(latency_s, energy_j),
            whole=_timings(whole_s[:, None], energy_j.sum(axis=1, keepdims=True))[0],
            ran_at=ran_at,
            repeats=repeats,
            ratios=tuple((whole_s / middle_s).tolist()) if middle_s > 0 else (),
            temperature_c=self.machine.temperature_c,
            throttled=ran_at != self.machine.held,
        )

    def _whole(self, graph: Graph) -> Graph | None:
        """Put the network together again from the segments that ran up to its last one; None before that."""
        parts = self._parts.setdefault((graph.digest, graph.batch), {})
        parts[graph.offset] = graph.operators
        if not graph.ends:
            return None
        operators: tuple[Operator, ...] = ()
        while len(operators) < graph.num_operators:
            if len(operators) not in parts:
                raise ValueError(f"{graph.name} ends, but its operator {len(operators)} never ran")
            operators += parts[len(operators)]
        return replace(graph, operators=operators, offset=0, whole=0)

    def _run(self, graph: Graph, point: OperatingPoint) -> Done:
        key = self._key(graph, point)
        return self.machine.work(lambda clocks: self._price(key, clocks), len(graph.operators))

    def _price(self, key: tuple[object, ...], clocks: Clocks) -> tuple[Clocks, Table]:
        allowed = self._limit(key, clocks)
        return allowed, self._table(key, allowed)

    def _key(self, graph: Graph, point: OperatingPoint) -> tuple[object, ...]:
        key = (graph.digest, graph.batch, graph.offset, len(graph.operators), point.precision)
        if key not in self._launches:
            if point.precision not in self.machine.chip.precisions:
                known = ", ".join(self.machine.chip.precisions)
                raise Refused(f"sim:{self.machine.chip.name} does not run {point.precision}; it runs {known}")
            self._launches[key] = self.machine.physics.launches(graph, point.precision)
        return key

    def _table(self, key: tuple[object, ...], clocks: Clocks) -> Table:
        found = self._tables.get((key, clocks))
        if found is None:
            found = self.machine.physics.table(self._launches[key], clocks)
            self._tables[(key, clocks)] = found
        return found

    def _limit(self, key: tuple[object, ...], clocks: Clocks) -> Clocks:
        """The highest core clock, up to this one, at which the work's average power stays under the cap."""
        found = self._allowed.get((key, clocks))
        if found is None:
            found = self._under_cap(key, clocks)
            self._allowed[(key, clocks)] = found
        return found

    def _under_cap(self, key: tuple[object, ...], clocks: Clocks) -> Clocks:
        machine = self.machine
        cap_w = machine.chip.power.cap_w if machine.scenario.cap_w is None else machine.scenario.cap_w
        ladder = machine.chip.ladder("core")
        lower = [
            Clocks(hz, clocks.memory_hz, clocks.cpu_hz) for hz in ladder[ladder <= (clocks.core_hz or 0.0)].tolist()
        ]
        for each in reversed(lower):
            table = self._table(key, each)
            total_s = float(table.time_s.sum())
            static_w = machine.physics.busy_w(each, _CAP_TEMPERATURE_C)
            if total_s <= 0 or static_w + float(table.dynamic_j.sum()) / total_s <= cap_w:
                return each
        return lower[0] if lower else clocks


def _timings(latency_s: FloatArray, energy_j: FloatArray) -> tuple[Timing, ...]:
    """Summarise repeats; both [repeat, operator]."""
    low_s, middle_s, high_s = np.percentile(latency_s, [10, 50, 90], axis=0)
    columns = zip(middle_s.tolist(), (high_s - low_s).tolist(), energy_j.mean(axis=0).tolist(), strict=True)
    return tuple(Timing(*each) for each in columns)
