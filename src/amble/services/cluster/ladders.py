"""Simulated chips and a network -> what each chip draws and meets at some of its clocks, from its own cost tables.

A rung's batch is the largest that runs four times within the deadline: a request waits for the batch that runs, then
for its own, and half of the deadline is left for the queue. Powers are at 60 °C; rungs beyond the chip's power cap are
left out, as are those that another one beats in both power and rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.errors import Refused
from amble.core.ports import FloatArray
from amble.devices import simulated
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.physics import Physics
from amble.inputs import opening
from amble.services.cluster.filling import Frontiers
from amble.services.govern.hands import rungs

__all__ = ["BATCHES", "Ladders", "of_chips"]

BATCHES = (1, 2, 4, 8, 16, 32, 64)
_TEMPERATURE_C = 60.0
_ROUNDS = 4.0


@dataclass(frozen=True)
class Ladders:
    """The rungs of each kind of device, by [kind, rung]; rung 0 is parked at the lowest clocks.

    ``busy_w`` and ``idle_w`` are the power [W] at work and waiting, ``rate_hz`` the rows served in a second,
    ``latency_s`` the time [s] of a batch.
    """

    names: tuple[str, ...]
    busy_w: FloatArray
    idle_w: FloatArray
    rate_hz: FloatArray
    latency_s: FloatArray

    def fleet(self, counts: Sequence[int]) -> Frontiers:
        """Return the frontiers of so many devices of each kind, the kinds mixed evenly."""
        kind = np.repeat(np.arange(len(counts)), counts)
        place = np.concatenate([(np.arange(each) + 0.5) / each for each in counts if each])
        return Frontiers(self.busy_w, self.rate_hz, kind[np.argsort(place, kind="stable")])


@dataclass(frozen=True)
class _Rung:
    busy_w: float
    idle_w: float
    rate_hz: float
    latency_s: float


def of_chips(names: Sequence[str], model: str, deadline_s: float, *, most: int = 12) -> Ladders:
    """Return the ladders of simulated chips that serve a network within a deadline [s].

    Refused for a chip that cannot meet it at all.
    """
    rows = [_ladder(name, model, deadline_s, most) for name in names]
    longest = max(map(len, rows))
    padded = [[*row, *[row[-1]] * (longest - len(row))] for row in rows]

    def column(name: str) -> FloatArray:
        return np.array([[getattr(each, name) for each in row] for row in padded])

    return Ladders(tuple(names), *(column(each) for each in ("busy_w", "idle_w", "rate_hz", "latency_s")))


def _ladder(name: str, model: str, deadline_s: float, most: int) -> list[_Rung]:
    chip = catalogue.load(name)
    physics = Physics(chip)
    graphs = [opening.load(model, batch=batch, device=f"sim:{chip.name}") for batch in BATCHES]
    launched = [physics.launches(graph, "fp32") for graph in graphs]
    clocks = simulated.open(name).actuator.available()
    parked_w = min(physics.idle_w(each, _TEMPERATURE_C) for each in clocks)
    found = []
    for each in rungs(clocks, most):
        best = None
        for batch, work in zip(BATCHES, launched, strict=True):
            table = physics.table(work, each)
            latency_s = float(table.time_s.sum())
            watts = physics.busy_w(each, _TEMPERATURE_C) + float(table.dynamic_j.sum()) / latency_s
            if _ROUNDS * latency_s <= deadline_s and watts <= chip.power.cap_w:
                best = _Rung(watts, physics.idle_w(each, _TEMPERATURE_C), batch / latency_s, latency_s)
        found.extend([best] if best else [])
    if not found:
        raise Refused(f"sim:{chip.name} cannot serve {model} within {1e3 * deadline_s:g} ms: give a longer deadline")
    return [_Rung(parked_w, parked_w, 0.0, found[-1].latency_s), *_undominated(found)]


def _undominated(found: Sequence[_Rung]) -> list[_Rung]:
    kept: list[_Rung] = []
    for each in sorted(found, key=lambda one: (one.busy_w, -one.rate_hz)):
        if not kept or each.rate_hz > kept[-1].rate_hz:
            kept.append(each)
    return kept
