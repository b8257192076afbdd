"""A place and options → an engine in a process of its own, which loads models and computes until it is told to end."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from amble.core.errors import AmbleError
from amble.core.graph import Graph
from amble.core.ports import Device
from amble.core.schedule import Deadline
from amble.devices.host import Unmetered
from amble.devices.knobs import FileActuator
from amble.inputs import execution, open_for_serving, twin
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found, Loaded, Model
from amble.services.serve.models.options import Options
from amble.services.serve.models.settings import Settings
from amble.services.serve.models.shelf import Shelf
from amble.services.serve.process import tuned
from amble.services.serve.processes.beats import LOADING_S, SILENT_S, Heart
from amble.services.serve.processes.child import Logs
from amble.services.serve.processes.control import Control
from amble.services.serve.processes.places import Place
from amble.services.serve.processes.workshop import Workshop
from amble.stages.control.engine import Totals

__all__ = ["EngineRole", "Keeping", "opened"]

_LOG = logging.getLogger(__name__)
_SHARED = "this engine shares its machine with others, and none of them sets its clocks"


@dataclass(frozen=True, slots=True)
class EngineRole:
    """Where an engine runs, what it loads and how, and where fronts find it."""

    place: Place
    options: Options
    objective: Deadline | None
    path: Path
    logs: Logs
    heart: Heart
    said: Mapping[str, Settings] = field(default_factory=dict)

    def play(self, connection: Connection) -> None:
        """Load and compute, until the parent says otherwise or is gone."""
        if self.place.cpus:
            os.sched_setaffinity(0, self.place.cpus)
        hung_up = threading.Event()
        try:
            device, loader = opened(self.place, self.options, self.objective)
            loader = replace(loader, said=self.said)
        except AmbleError as error:
            Control(connection, {"describe": partial(_fail, error)}, on_end=hung_up.set)
            hung_up.wait()
            return
        self.path.unlink(missing_ok=True)
        workshop, loaded = Workshop(device, self.path), Keeping(loader)
        self.heart.beat(workshop.lanes.overdue, loaded.patience_s)
        handlers: dict[str, Callable[..., Any]] = {
            "describe": lambda: (device.name, device.calibration),
            "load": lambda found: loaded.load(found, workshop),
            "open": lambda model, generation: workshop.open(loaded.filled(model), generation),
            "close": partial(loaded.close, workshop),
            "admit": workshop.admit,
            "look": workshop.look,
            "stop": workshop.lanes.stop,
            "end": workshop.lanes.close,
            "leave": hung_up.set,
        }

        def abandoned() -> None:
            workshop.lanes.stop()
            workshop.lanes.close()
            with suppress(OSError):  # where the parent could not: the last engine takes the folder away
                self.path.unlink(missing_ok=True)
                self.path.parent.rmdir()
            hung_up.set()

        control = Control(connection, handlers, slow=("load", "close"), on_end=abandoned)
        try:
            with tuned():
                totals: Totals = workshop.lanes.run()
            _LOG.debug("engine on %s: %s", self.place.name, totals)
        finally:
            workshop.lanes.abandon()
            workshop.end()
        if not workshop.deaf:
            hung_up.wait(_LINGER_S)
        control.close()


_LINGER_S = 30.0
"""For the parent to look once more at what was counted, and to hang up."""


def opened(place: Place, options: Options, objective: Deadline | None) -> tuple[Device, ModelLoader]:
    """Open the device of a place, and what loads models for it.

    Where engines share a machine a joule cannot be told whose it is, and clocks are nobody's: energy is unknown there
    and clocks stay as they are.
    """
    device, runner, by_size = open_for_serving(place.uri, threads=options.threads, make=Shelf)
    device = replace(device, name=place.name)
    if place.shared:
        device = replace(device, meter=Unmetered(device.clock), actuator=FileActuator([], refusal=_SHARED))
    loader = ModelLoader(device, runner, options, objective, by_size, twin(place.uri), execution=execution(place.uri))
    return device, loader


def nowhere(variant: str, rows: int) -> Graph:
    """Stand for networks in a process that runs none."""
    raise AssertionError(f"{variant} for {rows} rows is in the engines' processes")


def _fail(error: Exception) -> None:
    raise error


class Keeping:
    """Models that are loaded here: what the parent gets of them says nothing of networks."""

    def __init__(self, loader: ModelLoader) -> None:
        self._loader = loader
        self._kept: dict[str, Loaded] = {}
        self._loading = 0

    def patience_s(self) -> float:
        """Return how long [s] this process may give no sign."""
        return LOADING_S if self._loading else SILENT_S

    def load(self, found: Found, workshop: Workshop) -> Loaded:
        """Load a model → what can be told of it."""
        self._loading += 1
        try:
            made = self._loader.load(found, workshop.do)
        finally:
            self._loading -= 1
        self._kept[Model.key_of(found)] = made
        return replace(made, graph=nowhere, known=None)

    def filled(self, model: Model) -> Model:
        """Return a model with its networks, as it was loaded here."""
        return replace(model, loaded=self._kept[model.key])

    def close(self, workshop: Workshop, key: str) -> None:
        """Stop serving a model and let go of it: its networks close with the last batch of it."""
        workshop.shut(key)
        self._kept.pop(key, None)
