"""Schedule, or one setting → a program: where a run pauses, and which clocks to ask for at each pause.

What follows a schedule, the loop of a check and the engine of a server alike, walks its program and knows nothing else
of it. Clocks are asked for ahead, where the plan says so, since what is asked for runs only after its settling time;
with run-time punctuality (`Schedule.rest`) they are looked up by the time that is left. Between two requests the
device waits where the plan says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from amble.core.graph import Graph
from amble.core.ladder import Rung
from amble.core.point import Clocks, OperatingPoint
from amble.core.schedule import Schedule
from amble.stages.control.commands import Command, commands, cuts
from amble.stages.control.punctual import Pick, follow, punctual

__all__ = ["Part", "Program", "along", "at_rung", "hands_off"]

Part = tuple[Graph, OperatingPoint]
"""A segment of a network, and the point it runs at."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to do in one run: the work between the cuts, at clocks that are picked at each of them.

    ``wait`` are the clocks between runs (None: whatever was asked for last); ``entries`` those from which ``pick``
    knows how to begin (empty: from any).
    """

    wait: Clocks | None
    pick: Pick
    cuts: tuple[int, ...]
    points: Sequence[OperatingPoint]
    entries: frozenset[Clocks] = frozenset()

    def parts(self, graph: Graph) -> tuple[Part, ...]:
        """Cut a network once, so that a run only walks this list."""
        return tuple((graph.segment(start, stop), self.points[start]) for start, stop in pairwise(self.cuts))

    def enter(self, held: Clocks | None) -> Clocks | None:
        """Return what to ask for before the first pick; None where it knows how to go on from what is held."""
        return self.wait if self.entries and held not in self.entries else None


def along(schedule: Schedule) -> Program:
    """Follow a schedule: by the time left where it says what to do with that, else as it was planned."""
    points = [step.point for step in schedule.steps]
    rest = schedule.rest
    if rest is None:
        return Program(schedule.wait, follow(commands(schedule)), cuts(schedule), points)
    starts = {choice.start for choice in rest.choices}
    entries = frozenset(rest.settings[choice.held] for choice in rest.choices if choice.start == 0)
    return Program(schedule.wait, punctual(rest), tuple(sorted({*starts, *cuts(schedule)})), points, entries)


def at_rung(rung: Rung, graph: Graph) -> Program:
    """Run a whole network at one setting, or along the rung's schedule."""
    if rung.schedule is not None:
        return along(rung.schedule)
    point = OperatingPoint(rung.clocks, rung.variant)
    count = len(graph.operators)
    return Program(None, follow((Command(0, rung.clocks),)), (0, count), [point] * max(1, count))


def hands_off(graph: Graph) -> Program:
    """Run a whole network and leave the clocks to whoever governs them."""
    point = OperatingPoint(precision=graph.precision)
    return Program(None, follow(()), (0, len(graph.operators)), [point] * len(graph.operators))
