"""Cost models of a network's variants → the ladder: what a governor may choose from, from fast to frugal.

A rung is worth keeping when no other of its accuracy is at least as fast and at least as cheap at every batch size.
Cheap is meant in the accounting that the governor minimises, so the last rung that stays is the energy-optimal clock
floor of that accounting and of no other: subtracting idle power while quoting the gross optimum would be a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

import numpy as np

from amble.core.errors import Infeasible
from amble.core.graph import Graph
from amble.core.ladder import Ladder, Level, Rung
from amble.core.point import Clocks
from amble.core.ports import CostTable, FloatArray
from amble.core.profile import SwitchCost
from amble.core.schedule import Accounting

__all__ = ["Tables", "Variant", "build", "every_rung", "floor", "objective", "pareto"]


class Tables(Protocol):
    """What a rung is made of; every `CostModel` is one."""

    def table(self, graph: Graph) -> CostTable:
        """Return the costs of all operators at all candidate points."""
        ...

    def idle_w(self, clocks: Clocks) -> float | None:
        """Return the power [W] of doing nothing at these clocks; None where unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Variant:
    """A precision variant of a network: its graph at each batch size that was measured, and what they cost.

    ``accuracy`` is a share of the reference's, measured on data.
    """

    name: str
    graphs: Mapping[int, Graph]
    costs: Tables
    accuracy: float = 1.0


def every_rung(variants: Iterable[Variant], *, max_batch: int) -> tuple[Rung, ...]:
    """Return every single-clock rung of these variants, batch sizes that were not measured filled in between.

    Raises ValueError for a variant without a graph of batch size 1. Energies that some table lacks are unknown.
    """
    return tuple(rung for variant in variants for rung in _rungs(variant, max_batch))


def build(
    rungs: Sequence[Rung],
    *,
    graph: str,
    device: str,
    accounting: Accounting = "period",
    switches: tuple[SwitchCost, ...] = (),
    margin: float = 1.0,
) -> Ladder:
    """Sort rungs into levels, the most accurate first, and keep what is on the Pareto front of each.

    A less accurate level whose every rung is dominated by a more accurate one is left out: less accuracy for nothing.
    """
    if not rungs:
        raise Infeasible(f"no way to run {graph} on {device}: measure at least one variant", fastest_s=float("inf"))
    park = min(rungs, key=lambda rung: (rung.idle_w, rung.clocks.core_hz or 0.0))
    ranked = sorted(rungs, key=lambda rung: (-rung.accuracy, rung.variant))
    kept: list[Rung] = []
    for _, group in groupby(ranked, key=lambda rung: (rung.accuracy, rung.variant)):
        front = pareto(list(group), accounting=accounting, idle_w=park.idle_w)
        kept += [rung for rung in front if not _beaten(rung, kept, accounting, park.idle_w)]
    numbered = [replace(rung, index=index) for index, rung in enumerate(kept)]
    levels = tuple(
        Level(variant, accuracy, tuple(group))
        for (accuracy, variant), group in groupby(numbered, key=lambda rung: (rung.accuracy, rung.variant))
    )
    return Ladder(graph, device, accounting, levels, park.clocks, park.idle_w, switches, margin)


def pareto(rungs: Sequence[Rung], *, accounting: Accounting, idle_w: float) -> list[Rung]:
    """Return the rungs of one accuracy that no other dominates, the fastest first."""
    ordered = sorted(rungs, key=lambda rung: (rung.latency_s[0], objective(rung, accounting, idle_w)[0]))
    return [rung for rung in ordered if not _beaten(rung, [o for o in ordered if o is not rung], accounting, idle_w)]


def floor(rungs: Sequence[Rung], *, accounting: Accounting, idle_w: float, batch: int = 1) -> Rung:
    """Return the rung with the least energy for a request: slower ones cost more, in this accounting."""
    return min(rungs, key=lambda rung: objective(rung, accounting, idle_w)[batch - 1])


def objective(rung: Rung, accounting: Accounting, idle_w: float) -> FloatArray:
    """Return the energy of a batch [J] that a choice can change, its time [s] where none is known: [batch size − 1].

    Over a fixed period the rest of it is spent idle, so ``period`` and ``above_idle`` differ by a constant and have
    the same order; ``gross`` has not.
    """
    return np.asarray(rung.objective(0.0 if accounting == "gross" else idle_w))


def _beaten(rung: Rung, others: Sequence[Rung], accounting: Accounting, idle_w: float) -> bool:
    """Tell whether another one is as fast and as cheap at every batch size, and better in something (or came first)."""
    mine_s, mine = np.asarray(rung.latency_s), objective(rung, accounting, idle_w)
    for other in others:
        sizes = min(rung.max_batch, other.max_batch)
        time_s, theirs = np.asarray(other.latency_s)[:sizes], objective(other, accounting, idle_w)[:sizes]
        as_good = bool((time_s <= mine_s[:sizes]).all() and (theirs <= mine[:sizes]).all())
        if as_good and (other.max_batch, other.accuracy) >= (rung.max_batch, rung.accuracy):
            better = (time_s < mine_s[:sizes]).any() or (theirs < mine[:sizes]).any()
            if better or other.clocks < rung.clocks or other.accuracy > rung.accuracy:
                return True
    return False


def _rungs(variant: Variant, max_batch: int) -> list[Rung]:
    sizes = sorted(size for size in variant.graphs if size <= max_batch)
    if not sizes or sizes[0] != 1:
        raise ValueError(f"{variant.name} has no graph of batch size 1")
    by_size = {size: _totals(variant, size) for size in sizes}
    dense = np.arange(1, sizes[-1] + 1)
    found = []
    for clocks in by_size[1]:
        known = [size for size in sizes if clocks in by_size[size]]
        wanted = dense[: known[-1]]
        latency_s = np.interp(wanted, known, [by_size[size][clocks][0] for size in known])
        energy_j = np.interp(wanted, known, [by_size[size][clocks][1] for size in known])
        idle_w = variant.costs.idle_w(clocks) or 0.0
        times, joules = tuple(latency_s.tolist()), None if np.isnan(energy_j).any() else tuple(energy_j.tolist())
        found.append(Rung(variant.name, clocks, times, joules, variant.accuracy, idle_w))
    return found


def _totals(variant: Variant, size: int) -> dict[Clocks, tuple[float, float]]:
    """Sum the operators at each clock setting → (time [s], energy [J], NaN where unknown)."""
    table = variant.costs.table(variant.graphs[size])
    latency_s, energy_j = table.latency_s.sum(axis=0), table.energy_j.sum(axis=0)
    precision = variant.graphs[size].precision
    return {
        point.clocks: (float(latency_s[column]), float(energy_j[column]))
        for column, point in enumerate(table.points)
        if point.precision in (variant.name, precision) and point.place == "device" and point.dram is None
    }
