"""What is known of PIT -> a two-state replay and the shape of `pit` without deadlines, as records and targets.

The paper tells the two end states and three numbers: energy up to 28 % less, response up to 11 % better, about 99.5 %
of FP32's accuracy. It publishes no curve over the load. The replay is of figures that were computed by other code,
written before amble, from the same laws of time and power: it shows that two programs agree, not that the paper is
reproduced. The paper's three numbers are compared network by network, in bands with two sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from amble.core.cost import Cost
from amble.core.ladder import Rung
from amble.core.profile import SwitchCost
from amble.stages.control.batcher import Pace
from amble.stages.control.governor import Decision, Observation
from amble.stages.control.governors import Pit, max_clocks
from bench.kit import document
from bench.pit.traffic import Outcome, ladder, published_rungs, run, trace, with_int8

__all__ = ["SHAPED", "replayed", "reproduced", "shaped"]

NEVER_S = float("inf")
FORETOLD = {  # load: energy, mean response, both against FP32 at 1531 MHz; accuracy as a share of FP32's
    0.3: (-0.26, 0.43, 0.9999),
    0.5: (-0.27, 0.53, 0.9994),
    0.7: (-0.25, 0.45, 0.9979),
    0.85: (-0.22, 0.085, 0.9964),
    0.95: (-0.195, -0.42, 0.9953),
}
PUBLISHED = {"energy": (-0.28, 0.03), "response": (-0.11, 0.05), "accuracy": (0.995, 0.002)}  # and the band around it
_CAUSES = {
    "energy": "how much a lower clock saves depends on the network; the paper's networks and loads are not told",
    "response": "queueing multiplies what INT8 saves, most near a load of 1; the paper's loads are not told",
    "accuracy": "the rule keeps no account: what it loses follows from the load alone",
}
SHAPED = ("pnasnet-large", "nasnet-large", "resnet152", "inceptionv4")

Record = dict[str, Any]


class TwoState:
    """FP32 at a low clock until four wait, INT8 at the top until one does: the rule whose figures were foretold."""

    name = "two-state"

    def __init__(self, low: Rung, high: Rung) -> None:
        self._rungs = (low, high)

    def init(self, now_s: float) -> int:
        return 0

    def pace(self, state: int) -> Pace:
        return Pace(self._rungs[1], self._rungs[1])

    def step(self, state: int, seen: Observation) -> tuple[int, Decision]:
        if not seen.due_s:
            return state, Decision(self.pace(state))
        state = 1 if seen.num_waiting >= 4 else 0 if seen.num_waiting <= 1 else state
        return state, Decision(self.pace(state), self._rungs[state], 1)


def replayed(count: int) -> list[Record]:
    """The two-state rule, 10 ms of standing still for each change, against FP32 at full clocks."""
    rungs = with_int8(published_rungs("pnasnet-large"), 1.1)
    stop = (SwitchCost("core", Cost(0.010, 1.0)),)
    steps = ladder(rungs, "pnasnet-large", switches=stop)
    low = next(rung for rung in rungs if rung.variant == "fp32" and rung.clocks.core_hz == 949e6)
    high = next(rung for rung in rungs if rung.variant == "int8" and rung.clocks.core_hz == 1531e6)
    found = []
    for load in FORETOLD:
        arrivals_s = trace("poisson", load / steps.levels[0].rungs[0].latency_s[0], count, seed=7, data=Path())
        both = [
            run(each, rungs, arrivals_s, deadline_s=NEVER_S, seed=1, stall_s=0.010, settle_s=0.0)
            for each in (TwoState(low, high), max_clocks(steps))
        ]
        record = {"part": "replay", "load": load, "requests": count, "changes_hz": both[0].changes_hz}
        found.append({**record, **_against(both[0], both[1])})
    return found


def shaped(network: str, count: int) -> list[Record]:
    """`pit` without deadlines against `max`."""
    rungs = with_int8(published_rungs(network), 1.1)
    steps = ladder(rungs, network)
    found = []
    for load in (0.1, 0.3, 0.5, 0.7, 0.85, 0.95):
        rate_hz = load / steps.levels[0].rungs[0].latency_s[0]
        arrivals_s = trace("poisson", rate_hz, count, seed=3, data=Path())
        both = [run(each, rungs, arrivals_s, deadline_s=NEVER_S, seed=1) for each in (Pit(steps), max_clocks(steps))]
        found.append({"part": "shape", "network": network, "load": load, **_against(both[0], both[1])})
    return found


def reproduced(records: Sequence[Record]) -> Iterator[document.Target]:
    """Compare the replay with the figures of the other program, and the shape with the paper's three numbers."""
    for record in (each for each in records if each["part"] == "replay"):
        wanted = dict(zip(("energy", "response", "accuracy"), FORETOLD[record["load"]], strict=True))
        slack = 0.02 if record["requests"] > 10_000 else 0.05
        for name, width in (("energy", slack), ("response", 0.08 + 2 * slack), ("accuracy", 0.0004)):
            title = f"replay, load {record['load']}: distance of {name} from {wanted[name]:+g}"
            yield document.target(title, want=f"<= {width:g}", value=abs(record[name] - wanted[name]), unit="1")
    for network in SHAPED:
        yield from _shape([each for each in records if each["part"] == "shape" and each["network"] == network], network)


def _shape(mine: Sequence[Record], network: str) -> Iterator[document.Target]:
    """Compare the most that `pit` comes to at any load with what the paper tells, from both sides."""
    for name, (told, width) in PUBLISHED.items():
        value = abs(min(each[name] for each in mine) - told) if mine else None
        title = f"paper, {network}: distance of the lowest {name} over the loads from {told:+g}"
        yield document.target(title, want=f"<= {width:g}", value=value, unit="1", cause=_CAUSES[name])


def _against(one: Outcome, base: Outcome) -> dict[str, float]:
    return {
        "energy": one.total_j / base.total_j - 1.0,
        "response": one.response_s / base.response_s - 1.0,
        "accuracy": one.accuracy,
    }
