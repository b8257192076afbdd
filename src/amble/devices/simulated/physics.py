"""Kernels and clocks → time, energy and temperature, from thread-block waves, queues, voltage and heat.

Theory of operation. A kernel's blocks run in waves over the SMs (``ceil(blocks / (SMs × resident))``), the last of them
partly filled. Inside a wave every SM is a small closed queueing network: its resident warps go round between the issue
pipelines and L2 (core clock), its share of the DRAM (memory clock), and a plain delay, the memory's latency. Exact
mean value analysis (Reiser and Lavenberg, J. ACM 27(2), 1980) gives the rate for that many warps: few warps add compute
and memory time up, many overlap them, and occupancy decides between the two. Around the kernels, the host's CPU starts
them one by one, ahead of the SMs while it can. No closed form for time over clocks comes out of this, on purpose:
what fits the measurements must not know how they were made.

Power is static (leakage by voltage and temperature, clock tree, memory background, rest of the board) plus an energy
for every multiply-add, L2 byte and DRAM byte; what the core does costs V², with V(f) flat up to a knee.

Legend of shapes: [operator, point]; a point is one setting of the core, memory and CPU clocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.graph import Graph
from amble.core.point import Clocks
from amble.core.ports import FloatArray
from amble.devices.simulated.chip import Chip, kernels
from amble.devices.simulated.kernels import Launches, launches, work_of

__all__ = ["Physics", "Points", "Table", "Wave", "cooled_c", "wave_s"]

_REFERENCE_C = 45.0


@dataclass(frozen=True, slots=True)
class Points:
    """Settings of the three clock domains [Hz]; all [point]."""

    core_hz: FloatArray
    memory_hz: FloatArray
    cpu_hz: FloatArray


@dataclass(frozen=True, slots=True)
class Wave:
    """What one SM does in one wave. All [operator, point].

    Seconds of each station's work, the latency of one visit to memory, the visits, and the warps that wait at a time.
    """

    issue_s: FloatArray
    l2_s: FloatArray
    dram_s: FloatArray
    latency_s: FloatArray
    visits: FloatArray
    customers: FloatArray


@dataclass(frozen=True, slots=True)
class Table:
    """Operators at one setting of the clocks, without noise; all [operator].

    ``dynamic_j`` is what the work itself takes at the board's input; ``dram_s`` the time the DRAM is busy.
    """

    time_s: FloatArray
    dynamic_j: FloatArray
    dram_s: FloatArray


def wave_s(wave: Wave) -> FloatArray:
    """Time of a wave [s] by exact mean value analysis over its stations → [operator, point]."""
    demands = [each / wave.visits for each in (wave.issue_s, wave.l2_s, wave.dram_s)]
    queues = [np.zeros_like(demands[0]) for _ in demands]
    time_s = np.zeros_like(demands[0])
    for count in range(1, int(wave.customers.max(initial=1)) + 1):
        stays = [demand * (1.0 + queue) for demand, queue in zip(demands, queues, strict=True)]
        round_s = wave.latency_s + sum(stays)
        time_s = np.where(wave.customers >= count, wave.visits * round_s / count, time_s)
        queues = [count * stay / np.maximum(round_s, 1e-300) for stay in stays]
    return time_s


def cooled_c(temperature_c: float, settled_c: float, *, time_constant_s: float, duration_s: float) -> float:
    """Temperature [°C] of one thermal mass after ``duration_s`` on its way to ``settled_c``."""
    return float(settled_c + (temperature_c - settled_c) * np.exp(-duration_s / time_constant_s))


class Physics:
    """One chip's physics: no clock, no noise, no state that a result depends on."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._tables = kernels(chip.kernels)
        self._parts: dict[tuple[Clocks, bool], tuple[float, float]] = {}

    def launches(self, graph: Graph, precision: str) -> Launches:
        """Choose the kernels of a graph at a precision."""
        top = self._chip.fastest()

        def time_s(candidates: Launches) -> FloatArray:
            return self.kernel_s(candidates, self.points([top]))[:, 0]

        work = work_of(graph, precision)
        return launches(work, precision, chip=self._chip, tables=self._tables, time_s=time_s)

    def table(self, launched: Launches, clocks: Clocks) -> Table:
        """Price every operator of a run in sequence at these clocks."""
        point = self.points([clocks])
        return Table(
            self.sequence_s(launched, point)[:, 0],
            self.dynamic_j(launched, point.core_hz)[:, 0],
            launched.dram_bytes / launched.access / self._dram_bytes_per_s(point.memory_hz)[0],
        )

    def sequence_s(self, launched: Launches, points: Points) -> FloatArray:
        """Time of each operator in a run of them all [s], the host's launches included → [operator, point].

        The host starts kernels ahead of the SMs, so that a launch shows only where the SMs have run dry.
        """
        host = self._chip.host
        work_s = self.kernel_s(launched, points)
        launch_s = (host.launch_s + host.launch_cycles / points.cpu_hz) / host.batched
        started = np.cumsum(np.where(launched.classes == "free", 0.1, 1.0))[:, None] * launch_s
        behind_s = np.cumsum(work_s, axis=0) - work_s
        finish_s = behind_s + work_s + np.maximum.accumulate(started - behind_s, axis=0)
        return np.asarray(np.diff(finish_s, axis=0, prepend=0.0))

    def kernel_s(self, launched: Launches, points: Points) -> FloatArray:
        """Time of each kernel alone [s], with the gap to the next, without its launch → [operator, point]."""
        units = self._chip.compute.units
        slots = units * launched.resident
        full = np.ceil(launched.blocks / slots) - 1
        rest = launched.blocks - full * slots
        whole = self._wave(launched, launched.resident, np.minimum(units, launched.blocks), points=points)
        tail = self._wave(launched, np.ceil(rest / units), np.minimum(units, rest), points=points)
        memory = self._chip.memory
        ramp_s = memory.latency_s + (memory.latency_core_cycles + self._chip.host.gap_cycles) / points.core_hz
        worked_s = np.where(full[:, None] > 0, full[:, None] * wave_s(whole), 0.0) + wave_s(tail)
        return np.where((launched.classes == "free")[:, None], 0.0, worked_s + ramp_s)

    def points(self, clocks: Sequence[Clocks]) -> Points:
        """Spell clocks out; a domain that is no knob runs at its top, and a chip without a host's clock is its own."""
        top = self._chip.fastest()
        core_hz = np.array([each.core_hz or top.core_hz for each in clocks], dtype=np.float64)
        memory_hz = np.array([each.memory_hz or top.memory_hz for each in clocks], dtype=np.float64)
        if not top.cpu_hz:
            return Points(core_hz, memory_hz, core_hz)
        return Points(core_hz, memory_hz, np.array([each.cpu_hz or top.cpu_hz for each in clocks], dtype=np.float64))

    def dynamic_j(self, launched: Launches, core_hz: FloatArray) -> FloatArray:
        """Energy of each operator's work [J] at the board's input → [operator, point]."""
        return (1.0 + self._chip.power.loss) * (self.core_j(launched, core_hz) + self.dram_j(launched)[:, None])

    def core_j(self, launched: Launches, core_hz: FloatArray) -> FloatArray:
        """Energy that each operator's work takes from the core's rail [J] → [operator, point]."""
        power = self._chip.power
        picojoules = (
            launched.fma * power.fma_pj[launched.precision]
            + launched.blocks * launched.cycles * power.issue_pj
            + launched.blocks * launched.l2_bytes * power.l2_pj_per_byte
        )
        return 1e-12 * picojoules[:, None] * self.voltage(core_hz) ** 2

    def dram_j(self, launched: Launches) -> FloatArray:
        """Energy that each operator's traffic takes from the memory's rail [J] → [operator]."""
        return 1e-12 * launched.dram_bytes * self._chip.power.dram_pj_per_byte

    def busy_w(self, clocks: Clocks, temperature_c: float) -> float:
        """Power [W] at the board's input while kernels run, less what their work takes."""
        return self._static_w(clocks, temperature_c, busy=True)

    def idle_w(self, clocks: Clocks, temperature_c: float) -> float:
        """Power [W] at the board's input while nothing runs."""
        return self._static_w(clocks, temperature_c, busy=False)

    def voltage(self, core_hz: FloatArray) -> FloatArray:
        """Core voltage over the lowest one [1]."""
        knots = np.asarray(self._chip.power.voltage)
        return np.asarray(np.interp(core_hz / 1e6, knots[:, 0], knots[:, 1]))

    def _static_w(self, clocks: Clocks, temperature_c: float, *, busy: bool) -> float:
        parts = self._parts.get((clocks, busy))
        if parts is None:
            parts = self.static_parts_w(clocks, busy=busy)
            self._parts[(clocks, busy)] = parts
        fixed_w, leak_w = parts
        return fixed_w + leak_w * math.exp(self._chip.power.leak_per_c * (temperature_c - _REFERENCE_C))

    def static_parts_w(self, clocks: Clocks, *, busy: bool) -> tuple[float, float]:
        """Static power: what temperature leaves alone, and the leakage at the reference temperature [W]."""
        power = self._chip.power
        tree, leak = (1.0, 1.0) if busy else (power.idle_share, power.idle_leak_share)
        point = self.points([clocks])
        core_hz, memory_hz, cpu_hz = point.core_hz[0], point.memory_hz[0], point.cpu_hz[0]
        volts = float(self.voltage(core_hz))
        tree_w = tree * power.clock_w_per_ghz * volts**2 * core_hz / 1e9
        rails = [np.interp(memory_hz, self._chip.ladder("memory"), each) for each in (power.dram_w, power.soc_w)]
        host_w = power.cpu_busy_w if busy else power.cpu_idle_w
        ladder = self._chip.ladder("cpu")
        rails.append(np.interp(cpu_hz, ladder, host_w) if len(ladder) else host_w[0])
        gain = 1.0 + power.loss
        return power.board_w + gain * float(tree_w + sum(rails)), gain * leak * power.leak_w * volts

    def _wave(self, launched: Launches, blocks: FloatArray, active: FloatArray, *, points: Points) -> Wave:
        """Lay out a wave of ``blocks`` on each of ``active`` SMs; both [operator]."""
        compute, memory = self._chip.compute, self._chip.memory
        warps = blocks * launched.warps
        issue = blocks * launched.cycles / np.minimum(1.0, warps / compute.saturating_warps)
        dram_bytes = blocks * launched.dram_bytes / launched.blocks * active / launched.access
        l2_bytes = blocks * launched.l2_bytes
        missed = launched.dram_bytes / np.maximum(1.0, launched.l2_bytes * launched.blocks)
        customers = np.maximum(1.0, np.round(warps * launched.stages * compute.customers_per_warp))
        visits = np.maximum(customers, l2_bytes / memory.visit_bytes)
        shape = np.broadcast_shapes((len(blocks), 1), (1, len(points.core_hz)))
        return Wave(
            issue_s=issue[:, None] / points.core_hz,
            l2_s=(l2_bytes / memory.l2_bytes_per_cycle)[:, None] / points.core_hz,
            dram_s=dram_bytes[:, None] / self._dram_bytes_per_s(points.memory_hz),
            latency_s=np.broadcast_to(
                memory.latency_core_cycles / points.core_hz + memory.latency_s * missed[:, None], shape
            ),
            visits=np.broadcast_to(visits[:, None], shape),
            customers=np.broadcast_to(customers[:, None], shape),
        )

    def _dram_bytes_per_s(self, memory_hz: FloatArray) -> FloatArray:
        memory = self._chip.memory
        share = np.interp(memory_hz, self._chip.ladder("memory"), memory.dram_efficiency)
        return memory_hz * memory.dram_bytes_per_cycle * share
