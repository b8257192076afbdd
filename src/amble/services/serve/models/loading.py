"""A model's file, a device → the model ready to be served: proved batches, measured rungs, a governor.

A model is measured on the device that serves it, between two batches at a time, at each batch size and clock setting
that a governor may choose. Where the device has no meter nothing is known of energy, and governors rank by time.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from amble.core import files
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.ladder import Ladder, Rung
from amble.core.log import Known
from amble.core.point import Clocks
from amble.core.ports import Device
from amble.core.schedule import FORMAT as SCHEDULE
from amble.core.schedule import Deadline, Schedule
from amble.runtimes import onnx
from amble.runtimes.onnx.batched import BatchedRunner, Signature
from amble.runtimes.onnx.refusals import refusing
from amble.runtimes.remote.datatypes import datatype
from amble.services.serve.models import batching
from amble.services.serve.models.candidates import Candidates
from amble.services.serve.models.fed import refuse_reckoning
from amble.services.serve.models.labels import labels_of
from amble.services.serve.models.lengths import Lengths
from amble.services.serve.models.model import Found, Loaded
from amble.services.serve.models.options import Options
from amble.services.serve.models.profiling import BySize, Profiler, as_one, known
from amble.services.serve.models.rows import Verdict
from amble.services.serve.models.settings import Settings
from amble.services.serve.models.shelf import taken
from amble.services.serve.models.tailoring import Tailored, network_of, tailored
from amble.services.serve.pulse import Do
from amble.stages.control.governors import Budget, Planned
from amble.stages.control.governors.named import governor as governor_named
from amble.stages.plan.ladder import Variant, build, every_rung

__all__ = ["ModelLoader"]

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_MOST_ROWS = 4096
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_MOST_CLOCKS = 8
_PLANNED = "a schedule is served as it was planned, one request at a time"
_NO_SLO_S = 0.1  # what a governor aims at when no objective is given, or ten times the model's own time


@dataclass(frozen=True, slots=True)
class ModelLoader:
    """Makes models ready to be served on a device.

    ``objective`` is what every answer should keep; None: requests have no deadline unless they bring one. ``said`` are
    settings of single models, by name, beneath those of their configurations.
    ``by_size``: the device reckons from operators, so it wants those of each batch size. ``twin`` is a device like it
    that serves nobody, to measure on. ``execution``: how the device runs networks, where it does so by itself.
    """

    device: Device
    runner: BatchedRunner
    options: Options = field(default_factory=Options)
    objective: Deadline | None = None
    by_size: bool = False
    twin: Device | None = None
    said: Mapping[str, Settings] = field(default_factory=dict)
    execution: onnx.Execution | None = None
    profiler: Profiler = field(init=False)

    def __post_init__(self) -> None:
        """Measure on the twin if there is one, else on the device itself, and have it read its own meter."""
        object.__setattr__(self, "profiler", Profiler(self.twin or self.device))
        self.runner.watch(self.device.meter, self.device.actuator.current)

    def load(self, found: Found, do: Do) -> Loaded:
        """Open a model, measure it with ``do``, build its ladder and governor. Refused when it cannot be served."""
        with refusing(str(found.path), "served"):
            if found.path.suffix == ".json" and files.kind_of(found.path) == "schedule":
                return self._scheduled(found)
            return self._measured(found, self._tailored(found), do)

    def _tailored(self, found: Found) -> Tailored:
        made = tailored(found, self.settings(found), self.options)
        if made.samples is not None and self.by_size:
            refuse_reckoning(made.samples, self.device)
        return made

    def _offered(self, made: Tailored) -> Candidates:
        offered = made.candidates(self.runner)
        offered.execution = self.execution
        return offered

    def settings(self, found: Found) -> Settings:
        """Return what is said of a model: in its configuration, else where it was named."""
        return found.config.settings.over(self.said.get(found.name, Settings()))

    def _measured(self, found: Found, made: Tailored, do: Do) -> Loaded:
        offered = self._offered(made)
        signature = self._opened(offered.path)
        wish = self.wish(found)
        joined, lengths = self._joined(made, offered, wish, do)
        joined = batching.kept(joined, wish)
        sizes = [*(size for size in _SIZES if size < wish.most), wish.most] if joined.proved else [1]
        profiler = replace(self.profiler, device=made.measured_on(self.profiler.device, self.runner))
        ladder, expected = self._ladder(found.name, offered, sizes, profiler, do)
        aim = self.objective or Deadline(max(_NO_SLO_S, 10 * ladder.rungs[0].latency_s[0]))
        governor = governor_named(self.options.governor)(ladder, aim, Budget(offered.may_lose))
        graph = partial(offered.graph, by_size=self.by_size)
        default_s = None if self.objective is None else self.objective.latency_s
        return Loaded(
            signature.inputs,
            signature.outputs,
            joined.proved,
            ladder,
            governor,
            graph,
            default_s,
            joined.reason,
            expected,
            lengths,
            labels_of(found, self.settings(found), signature.outputs),
            sha256=_sha256(found.path),
        )

    def _joined(
        self, made: Tailored, offered: Candidates, wish: batching.Wish, do: Do
    ) -> tuple[Verdict, Lengths | None]:
        """Prove and try whether requests may share a batch, and whether those of unlike length may."""
        singles = {variant: offered.graph(variant, 1, by_size=self.by_size) for variant in offered.accuracies}
        read = batching.read(offered.files, offered.shapes, wish)
        runs = batching.runs(singles, self.runner.compute, do)
        asking = {variant: (run, partial(made.draw, singles[variant])) for variant, run in runs.items()}
        joined = batching.tried(read, asking, wish)
        if not joined.proved or wish.most < 2:
            return joined, None
        return joined, made.lengths(next(iter(singles.values())), tuple(runs.values()))

    def wish(self, found: Found) -> batching.Wish:
        """Return the largest batch that is wanted of a model. Refused beyond what can be tried and measured."""
        said = self.settings(found).batch
        claimed = said if found.config.max_batch_size is None else found.config.max_batch_size
        most = self.options.max_batch if claimed is None else claimed
        if most > _MOST_ROWS:
            raise Refused(
                f"{found.name}: a batch of {most} is larger than can be tried here; ask for {_MOST_ROWS} at most"
            )
        return batching.Wish(most, claimed is not None)

    def explain(self, found: Found) -> tuple[Verdict, Lengths | None]:
        """Say whether a model's requests may share a batch, without measuring it."""
        if found.path.suffix == ".json" and files.kind_of(found.path) == "schedule":
            return Verdict(False, _PLANNED), None
        made = self._tailored(found)
        offered = self._offered(made)
        self._opened(offered.path)
        return self._joined(made, offered, self.wish(found), _at_once)

    def _opened(self, path: Path) -> Signature:
        """Open a network; Refused where clients cannot ask it anything, or its tensors cannot be sent."""
        signature = self.runner.open(path)
        if not signature.inputs:
            raise Refused(f"{path} takes no inputs, so that there is nothing to ask it; export it with one")
        for port in (*signature.inputs, *signature.outputs):
            try:
                datatype(port)
            except ValueError as error:
                raise Refused(
                    f"{path} cannot be served: the protocol has no way to send {port.name!r}, which is {port.dtype}; "
                    f"export it with plain numbers or texts in its place (scikit-learn: zipmap=False)"
                ) from error
        return signature

    def _scheduled(self, found: Found) -> Loaded:
        """Serve a schedule as it was planned, one request at a time."""
        if settings := self.settings(found):
            raise Refused(f"model {found.name!r}: {settings.said}: {_PLANNED}; nothing else can be said of it")
        schedule = files.load(found.path, SCHEDULE)
        source = network_of(found.path)
        graph = onnx.load(source, batch=schedule.subject.batch, shapes=schedule.subject.shapes)
        if graph.digest != schedule.subject.digest:
            raise Refused(f"{source} is no longer the network that {found.path} was planned for; plan it anew")
        if (planned := len(schedule.steps)) != (there := len(graph.operators)):
            raise Refused(f"{found.path} plans {planned} operators, and {source} has {there}; plan it anew")
        _refuse_other_clocks(schedule, self.device)
        self._opened(source)
        latency_s, energy_j = (schedule.predicted.latency_s,), schedule.predicted.energy_j
        joules = None if energy_j is None else (energy_j,)
        rung = Rung(graph.precision, schedule.steps[0].point.clocks, latency_s, joules, schedule=schedule)
        ladder = build([rung], graph=found.name, device=self.device.name)
        aim = self.objective or schedule.deadline
        governor = Planned(ladder.rungs[0])
        return Loaded(
            graph.inputs,
            graph.outputs,
            False,
            ladder,
            governor,
            partial(_only, graph, taken(self.runner, [source])),
            aim.latency_s,
            _PLANNED,
            Known.of(schedule),
        )

    def _ladder(
        self, name: str, offered: Candidates, sizes: Sequence[int], profiler: Profiler, do: Do
    ) -> tuple[Ladder, Known]:
        """Measure and fit every variant at every clock setting and batch size; say what was known of the first."""
        settings = do(partial(_settings, self.device))
        measuring: Do = do if self.twin is None else _at_once  # a twin serves nobody: no need to wait for a turn
        variants, seen = [], []
        for variant, accuracy in offered.accuracies.items():
            whole = {size: offered.graph(variant, size, by_size=self.by_size) for size in sizes}
            graphs = whole if self.by_size else {size: as_one(graph) for size, graph in whole.items()}
            found = {size: profiler.measured(graph, settings, measuring) for size, graph in graphs.items()}
            seen += [profile for profile, _ in found.values()]
            by_size = BySize({size: costs for size, (_, costs) in found.items()})
            variants.append(Variant(variant, graphs, by_size, accuracy))
        rungs = [_rising(rung) for rung in every_rung(variants, max_batch=sizes[-1])]
        margin = float(np.clip(np.quantile([ratio for each in seen for ratio in each.ratios], 0.9), 1.0, 1.5))
        first = offered.graph(next(iter(offered.accuracies)), 1, by_size=self.by_size)
        return build(rungs, graph=name, device=self.device.name, margin=margin), known(seen[0], first)


def _settings(device: Device) -> tuple[Clocks, ...]:
    """Return the clock settings worth measuring: every few of the core's levels, at the highest memory clock.

    Where the right to set them is missing, the clocks as they are, and the log says so.
    """
    available = device.actuator.available()
    top = max((each.memory_hz or 0.0) for each in available)
    levels = [each for each in available if (each.memory_hz or 0.0) == top]
    try:
        with device.held(levels[-1]):
            pass
    except Refused as reason:
        _LOG.warning("serving at the clocks as they are: %s", reason)
        return (device.actuator.current(),)
    places = np.linspace(0, len(levels) - 1, min(_MOST_CLOCKS, len(levels))).round().astype(int)
    return tuple(levels[place] for place in dict.fromkeys(places.tolist()))


def _refuse_other_clocks(schedule: Schedule, device: Device) -> None:
    """Refuse a schedule of clocks that the device has not: it was planned for another one."""
    wanted = dict.fromkeys(step.point.clocks for step in schedule.steps)
    available = device.actuator.available()
    if absent := [each for each in wanted if each != Clocks() and each not in available]:
        where = schedule.where.device
        raise Refused(
            f"{device.name} has no {absent[0]}: the schedule was planned for {where}; serve it with --device {where}, "
            f"or plan the network for {device.name}"
        )


def _only(graph: Graph, kept: object, variant: str, rows: int) -> Graph:
    """Return the network of a schedule; ``kept`` keeps what runs it."""
    return graph


def _at_once(work: Callable[[], T]) -> T:
    return work()


def _rising(rung: Rung) -> Rung:
    """Let no larger batch be quicker than a smaller one: that it was measured so is chance."""
    return replace(rung, latency_s=tuple(np.maximum.accumulate(rung.latency_s).tolist()))


def _sha256(path: Path) -> str:
    """Return the hash of the network's file, by which clients know it; empty for a file that only names others."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".onnx" else ""
