"""What a governor is told and what it answers: pure decisions, frozen data, no I/O and no clock of its own.

``init(now_s) -> State`` and ``step(State, Observation) -> (State, Decision)``: whoever replays the observations of a
log gets the same decisions. The governors themselves are in `amble.stages.control.governors`, one file each.

Observation, Decision and Done are tuples: frozen like every other noun, and four times as quick to make as a frozen
dataclass, which counts where a day has millions of them.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

from amble.core.ladder import Rung
from amble.core.point import Clocks
from amble.stages.control.batcher import Pace

__all__ = ["NEVER_S", "Decision", "Done", "Governor", "Observation", "replay"]

NEVER_S = float("inf")

State = TypeVar("State")


class Done(NamedTuple):
    """A batch that has finished: its rung, how many rows, when [s], and how long it took [s] without the switch.

    ``settled`` tells whether the rung's own clocks ran all the time: only then does ``took_s`` say something of it.
    """

    rung: Rung
    rows: int
    finish_s: float
    took_s: float
    settled: bool = True


class Observation(NamedTuple):
    """What the engine sees when it asks.

    ``due_s``: [row] deadlines of the first waiting rows in serving order (infinite: none); ``num_waiting`` counts all.
    ``num_arrived`` came since the last observation, refused ones included. ``done`` is the batch that finished since
    then. ``asked`` are the clocks asked for last, ``other_s`` the work [s] of other models that shares the time.
    ``head_rows`` is the size of the first request, which cannot be cut.
    """

    now_s: float
    due_s: tuple[float, ...] = ()
    num_waiting: int = 0
    num_arrived: int = 0
    done: Done | None = None
    asked: Clocks | None = None
    other_s: float = 0.0
    head_rows: int = 1


class Decision(NamedTuple):
    """What to do now, and what to promise meanwhile.

    With a ``rung``: serve up to ``rows`` rows at it. Without: ask for ``clocks`` (None: leave them), and look again at
    ``wake_s`` at the latest. ``pace`` is the fastest that may be promised to newcomers.
    """

    pace: Pace
    rung: Rung | None = None
    rows: int = 0
    clocks: Clocks | None = None
    wake_s: float = NEVER_S


class Governor(Protocol[State]):
    """Decides what to serve next, at which precision, clocks and batch size."""

    @property
    def name(self) -> str:
        """Return the name it has in reports."""
        ...

    def init(self, now_s: float) -> State:
        """Return the state before anything has happened."""
        ...

    def step(self, state: State, seen: Observation) -> tuple[State, Decision]:
        """Return the next state, and what to do."""
        ...

    def pace(self, state: State) -> Pace:
        """Return the fastest that may be promised to newcomers in this state."""
        ...


def replay(governor: Governor[State], start_s: float, seen: list[Observation]) -> list[Decision]:
    """Return the decisions that a governor makes on a log of observations."""
    state, decisions = governor.init(start_s), []
    for each in seen:
        state, decision = governor.step(state, each)
        decisions.append(decision)
    return decisions
