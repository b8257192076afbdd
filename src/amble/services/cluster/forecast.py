"""So many of which chips, a network, a load and a budget -> what the cluster governor makes of them in virtual time.

Nothing is served and no clock is set: it answers what a fleet of simulated chips would draw and miss.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.errors import Refused
from amble.core.spreading import OnProgress, Spread, in_order
from amble.services.cluster.filling import IntArray
from amble.services.cluster.fleet import Day, Fleet, Outcome, Policy, least_j, simulate
from amble.services.cluster.governor import ClusterGovernor
from amble.services.cluster.ladders import of_chips
from amble.stages.check.arrivals import parse_load

__all__ = ["Forecast", "Row", "fleet"]

_LEAD_S = 3.0
_MOST_DEVICES, _MOST_SLOTS = 20_000, 100_000


@dataclass(frozen=True, slots=True)
class Row:
    """What one policy comes to: ``most_w`` is what its rungs may draw together [W], ``missed`` a share of requests."""

    policy: str
    energy_j: float
    mean_w: float
    most_w: float
    missed: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """A fleet's policies beside each other; ``least_j`` is the energy below which nobody serves all in time [J]."""

    devices: int
    model: str
    load: str
    deadline_s: float
    budget_w: float
    parked_w: float
    top_w: float
    least_j: float
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class _Simulating:
    """A day of a fleet, under a policy."""

    fleet: Fleet
    day: Day
    seed: int

    def __call__(self, policy: Policy, on_progress: OnProgress) -> Outcome:
        """Simulate it."""
        return simulate(self.fleet, self.day, policy, seed=self.seed)


def fleet(
    devices: Sequence[str],
    *,
    load: str,
    deadline_s: float = 0.1,
    budget_w: float | None = None,
    model: str = "fashion-resnet",
    seed: int = 0,
    spread: Spread = in_order,
) -> Forecast:
    """Simulate a fleet such as ``("200xsim:v100", "100xsim:a100")`` under a load, within a budget [W] or without.

    ``spread`` simulates the policies. Refused for devices that are not simulated, a deadline that one of them cannot
    meet, and a budget below what the fleet draws parked.
    """
    counts, names = zip(*map(_counted, devices), strict=True)
    if sum(counts) > _MOST_DEVICES:
        raise Refused(f"{sum(counts)} devices are more than the {_MOST_DEVICES} that are simulated at once")
    if not deadline_s > 0:
        raise Refused("the deadline must be above 0")
    ladders = of_chips(names, model, deadline_s)
    made = Fleet(ladders.fleet(counts), ladders, deadline_s)
    top_w = float(made.frontiers.top_w.sum())
    within_w = top_w if budget_w is None else budget_w
    governor = ClusterGovernor(made.frontiers, within_w, deviations=0.0)  # it is called where room runs out
    day = _day(made, load, seed)
    top = np.full(made.frontiers.num_devices, made.frontiers.power_w.shape[1] - 1)
    policies = {
        "amble": Policy("joules", governor=governor),
        "least loaded, equal share of the budget": Policy("least loaded", held=_equal(made, within_w / top_w)),
        "least loaded, top clocks, no budget": Policy("least loaded", held=top),
        "round-robin, top clocks, no budget": Policy("round-robin", held=top),
    }
    outcomes = spread(_Simulating(made, day, seed), list(policies.values()), lambda what, done, total: None)
    span_s = (len(day.arrivals) - day.lead) * made.slot_s
    rows = tuple(_row(name, each, span_s) for name, each in zip(policies, outcomes, strict=True))
    parked_w = float(made.frontiers.parked_w.sum())
    return Forecast(sum(counts), model, load, deadline_s, within_w, parked_w, top_w, least_j(made, day), rows)


def _counted(text: str) -> tuple[int, str]:
    """Read ``200xsim:v100``."""
    match = re.fullmatch(r"(?:(\d+)x)?sim:([\w-]+)", text)
    if not match or match[1] == "0":
        raise Refused(f"{text!r} is no part of a simulated fleet; write 200xsim:v100")
    return int(match[1] or 1), match[2]


def _day(made: Fleet, load: str, seed: int) -> Day:
    """Return the load by slots, after a lead that repeats its beginning."""
    times_s = parse_load(load).times_s(seed)
    slots = int(times_s[-1] / made.slot_s) + 1
    if slots > _MOST_SLOTS:
        raise Refused(f"load {load!r} lasts {slots} tenths of a deadline; make it shorter than {_MOST_SLOTS}")
    arrivals = np.bincount((times_s / made.slot_s).astype(np.int64), minlength=slots)
    lead = max(1, round(_LEAD_S / made.slot_s))
    return Day(np.concatenate([np.resize(arrivals[:lead], lead), arrivals]), lead)


def _equal(made: Fleet, share: float) -> IntArray:
    """Return the highest rung of each device within the same share of its own top power."""
    watts = made.frontiers.power_w[made.frontiers.kind]
    within = watts <= share * made.frontiers.top_w[:, None] * (1 + 1e-9)
    return np.asarray(np.maximum(0, within.sum(axis=1) - 1))


def _row(name: str, outcome: Outcome, span_s: float) -> Row:
    return Row(name, outcome.energy_j, outcome.energy_j / span_s, outcome.most_w, outcome.missed)
