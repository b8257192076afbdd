"""A simulated board's physics, as it is or with its numbers moved a little → what a planned half really costs.

Planners know costs that were measured on the board and fitted. They are judged by the physics that made the
measurements, which no law of theirs is a formula of, and by specimens of the board whose every constant (efficiencies,
latencies, energies, leakage, the host's cycles) is multiplied by a log-normal factor of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from amble.core.ports import FloatArray
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.chip import Chip
from amble.devices.simulated.physics import Physics
from amble.stages.plan.delayed import Rest, delays, switching
from amble.stages.plan.problem import Problem
from amble.stages.plan.trellis import Ints, Trellis, Wait, totals
from bench.split.problems import CHIP, Case, Thinned, case

__all__ = ["Truth", "truth"]

_WARM_C = 45.0
_MOVED = {
    "compute": ("issue_efficiency", "kernel_efficiency", "customers_per_warp", "prologue_slots", "epilogue_slots"),
    "memory": ("dram_efficiency", "l2_bytes_per_cycle", "latency_core_cycles", "latency_s"),
    "host": ("launch_cycles", "launch_s", "gap_cycles"),
    "power": (
        "board_w", "leak_w", "clock_w_per_ghz", "issue_pj", "fma_pj", "l2_pj_per_byte", "dram_pj_per_byte", "dram_w",
        "soc_w", "cpu_busy_w", "cpu_idle_w",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What operators take: latency_s, energy_j: [operator, point]; idle_w: [point]; points are all of the board's."""

    latency_s: FloatArray
    energy_j: FloatArray
    idle_w: FloatArray
    sigma: float
    run_sigma: float

    def run(
        self, costs: Thinned, problem: Problem | None, rows: Ints, path: Ints, wait_node: int
    ) -> tuple[float, float]:
        """Return time [s] and energy of a period [J] of some operators on a path over a problem's blocks."""
        keep = np.array(costs.keep)
        latency_s, energy_j = self.latency_s[np.ix_(rows, keep)], self.energy_j[np.ix_(rows, keep)]
        idle_w = self.idle_w[keep]
        assert problem is not None
        task = problem.task
        changes = delays(problem.table.points, costs.switches)
        rest = Rest(idle_w, task.period_s - task.budget_s)
        switch, ahead_s = switching(latency_s, energy_j, problem.starts, changes, rest)
        blocks_s, blocks_j = (np.add.reduceat(each, problem.starts, axis=0) for each in (latency_s, energy_j))
        wait = Wait(idle_w, task.period_s + float(ahead_s.sum()))
        cost = totals(Trellis(blocks_s, blocks_j, switch), path, wait, wait_node)
        return cost.latency_s - float(ahead_s.sum()), cost.energy_j

    def late(self, device_s: float, left_s: float, rng: np.random.Generator, runs: int = 4000) -> float:
        """Return the share of runs that take longer than is left, with the jitter of the board."""
        jitter = np.exp(rng.normal(0.0, self.run_sigma, runs) - self.run_sigma**2 / 2)
        return float(np.mean(device_s * jitter > left_s * (1 + 1e-12)))


@cache
def truth(name: str, specimen: int, spread: float) -> Truth:
    """Price every operator of a network at every point of the board; specimen 0 is the board itself."""
    of = case(name)
    assert of is not None
    chip = catalogue.load(CHIP)
    if specimen:
        chip = moved(chip, spread, np.random.default_rng(specimen))
    return priced(of, chip)


def priced(of: Case, chip: Chip) -> Truth:
    """Price every operator by a chip's physics, warm."""
    physics = Physics(chip)
    launched = physics.launches(of.graph, "fp32")
    clocks = [point.clocks for point in of.costs.table(of.graph).points]
    tables = [physics.table(launched, each) for each in clocks]
    busy_w = np.array([physics.busy_w(each, _WARM_C) for each in clocks])
    latency_s = np.stack([each.time_s for each in tables], axis=1)
    energy_j = np.stack([each.dynamic_j for each in tables], axis=1) + latency_s * busy_w
    idle_w = np.array([physics.idle_w(each, _WARM_C) for each in clocks])
    return Truth(latency_s, energy_j, idle_w, chip.noise.sigma, chip.noise.run_sigma)


def moved(chip: Chip, spread: float, rng: np.random.Generator) -> Chip:
    """Multiply every constant by a log-normal factor."""
    parts = {part: _moved(getattr(chip, part), names, spread, rng) for part, names in _MOVED.items()}
    return replace(chip, **parts)


def _moved(part: Any, names: tuple[str, ...], spread: float, rng: np.random.Generator) -> Any:
    assert is_dataclass(part)
    known = {each.name for each in fields(part)}
    assert known.issuperset(names)

    def times(value: Any) -> Any:
        factor = float(np.exp(rng.normal(0.0, spread)))
        if isinstance(value, dict):
            return {key: each * factor for key, each in value.items()}
        if isinstance(value, list):
            return [each * factor for each in value]
        return value * factor

    return replace(part, **{name: times(getattr(part, name)) for name in names})  # type: ignore[type-var]
