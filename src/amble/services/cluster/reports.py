"""What a door and the devices behind it say to each other: requests, orders, reports. Plain data, and the port between.

Nothing here knows what carries it: Ray in earnest, a call in the same process in tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from amble.core.graph import Graph, Port
from amble.core.ladder import Ladder
from amble.core.point import Clocks
from amble.services.serve.models.configuration import Config
from amble.services.serve.models.model import Found, Loaded, Model
from amble.services.serve.requests.asking import Answer, Asked
from amble.services.serve.telling.ledger import Outcome
from amble.stages.control.batcher import Pace
from amble.stages.control.engine import Totals
from amble.stages.control.governor import Decision, Observation

__all__ = ["Answered", "Call", "Gone", "Link", "Order", "Report", "Served", "Turned", "sendable"]


class Gone(Exception):
    """Whoever was asked has died, or cannot be reached (not ``dead``): the question may be put to another one."""

    def __init__(self, text: str, *, dead: bool = True) -> None:
        super().__init__(text)
        self.dead = dead


class Call(NamedTuple):
    """One request on its way to a device: ``version`` empty for any, ``left_s`` what is left of its time [s]."""

    name: str
    version: str
    asked: Asked
    left_s: float
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """A governor that decides on the devices; only its name is known at the door."""

    name: str

    def init(self, now_s: float) -> None:
        raise AssertionError("governors decide on devices, not at the door")

    def step(self, state: None, seen: Observation) -> tuple[None, Decision]:
        raise AssertionError("governors decide on devices, not at the door")

    def pace(self, state: None) -> Pace:
        raise AssertionError("governors decide on devices, not at the door")


def _nowhere(variant: str, rows: int) -> Graph:
    raise AssertionError("graphs run on devices, not at the door")


class Answered(NamedTuple):
    """What a device answers, and what became of the request there; times [s] on the device's clock."""

    answer: Answer
    outcome: Outcome


class Turned(NamedTuple):
    """Why a device does not answer: a status as of HTTP, and one line."""

    status: int
    text: str


class Order(NamedTuple):
    """The step of its frontier up to which a device may go (0: parked), and the order's number."""

    step: int
    serial: int


@dataclass(frozen=True, slots=True)
class Served:
    """One version of one model as a device serves it. ``digest`` is of its files' content."""

    name: str
    version: str
    versions: tuple[str, ...]
    digest: str
    config: Config
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batched: bool
    batching: str
    timeout_s: float | None
    ladder: Ladder
    governor: str

    @classmethod
    def of(cls, model: Model, digest: str, governor: str) -> Served:
        """Describe a model that is served here; schedules in its ladder stay here."""
        loaded = model.loaded
        levels = tuple(
            replace(level, rungs=tuple(replace(rung, schedule=None) for rung in level.rungs))
            for level in loaded.ladder.levels
        )
        return cls(
            model.name,
            model.version,
            model.versions,
            digest,
            model.found.config,
            loaded.inputs,
            loaded.outputs,
            loaded.batched,
            loaded.batching,
            loaded.timeout_s,
            replace(loaded.ladder, levels=levels),
            governor,
        )

    def model(self) -> Model:
        """Return the model as a door tells of it; it cannot be run there.

        Its ladder tells no energies: each device has its own, and no saving of a whole cluster is reckoned.
        """
        levels = tuple(
            replace(level, rungs=tuple(replace(rung, energy_j=None) for rung in level.rungs))
            for level in self.ladder.levels
        )
        loaded = Loaded(
            self.inputs,
            self.outputs,
            self.batched,
            replace(self.ladder, levels=levels),
            _Elsewhere(self.governor),
            _nowhere,
            self.timeout_s,
            self.batching,
        )
        return Model(Found(self.name, self.version, Path(self.digest), self.config), loaded, self.versions)


@dataclass(frozen=True, slots=True)
class Report:
    """What a device says of itself.

    ``boot`` is another one after every start, ``changed`` counts the changes of its models since. ``step`` is what it
    holds, by the order ``serial``. ``asked`` and ``ran`` are clocks, ``time_s`` and ``energy_j`` what it counted.
    """

    boot: str
    changed: int
    device: str
    calibration: str
    step: int
    serial: int
    time_s: float
    energy_j: float | None
    asked: Clocks | None
    ran: Clocks | None
    totals: Totals
    working: bool


class Link(Protocol):
    """The way to one device; each of its ways raises Gone when the device's process has died."""

    async def infer(self, call: Call) -> Answered | Turned:
        """Have a request answered."""
        ...

    async def report(self, order: Order | None, wait_s: float) -> Report:
        """Send an order, and hear after so much time [s] how the device is: all the while its death would be seen."""
        ...

    async def describe(self) -> tuple[Served, ...]:
        """Hear what it serves."""
        ...

    async def change(self, name: str, config: str | None, *, load: bool) -> Turned | None:
        """Load a model (anew), or unload it; what went wrong, if anything."""
        ...


def sendable(asked: Asked) -> Asked:
    """Return a request that can be pickled: its mappings may be views."""
    outputs = None if asked.outputs is None else dict(asked.outputs)
    return asked._replace(outputs=outputs, parameters=dict(asked.parameters), classes=dict(asked.classes))
