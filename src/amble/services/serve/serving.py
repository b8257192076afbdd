"""What ``amble serve`` is made of: a device for real clients, models measured on it, their ladder and their governor.

A model is measured on the device that serves it, between two batches at a time, at each batch size and clock setting
that a governor may choose. Where the device has no meter nothing is known of energy: a rung's ``energy_j`` is then its
time for one row at 1 W for each row, which ranks rungs and is never shown as joules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from amble import bundled
from amble.core import files
from amble.core.errors import Refused, how_to_install
from amble.core.graph import Graph
from amble.core.ladder import Ladder, Rung
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Tensors
from amble.core.schedule import FORMAT as SCHEDULE
from amble.core.schedule import Deadline
from amble.core.variants import FORMAT as VARIANTS
from amble.core.variants import Allowance, Variants
from amble.devices import host, lease, simulated
from amble.devices.simulated.paced import paced
from amble.inputs import BUNDLED
from amble.runtimes import onnx, processors
from amble.runtimes.onnx.batched import BatchedRunner, Signature
from amble.runtimes.onnx.refusals import door, refusing
from amble.runtimes.remote.datatypes import datatype
from amble.services.serve import batching, front
from amble.services.serve.desk import Listener
from amble.services.serve.front import Doors, OnReady
from amble.services.serve.model import Found, Loaded
from amble.services.serve.pulse import Do
from amble.services.serve.rows import Verdict
from amble.stages.control.engine import Totals
from amble.stages.control.governor import Governor
from amble.stages.control.governors import Amble, Budget, Dvfs, Fixed, Pit, Tuning, int8_max, max_clocks
from amble.stages.plan.ladder import build

__all__ = ["GOVERNORS", "Kitchen", "Options", "named", "open_for_serving", "serve"]

VARIANTS_FILE = "variants.json"
_LOG = logging.getLogger(__name__)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_MOST_CLOCKS = 8
_REPEATS = (5, 15)
_ENOUGH_S = 0.5
_IDLE_S = 0.05
_NOMINAL_W = 1.0
_PLANNED = "a schedule is served as it was planned, one request at a time"
_NO_SLO_S = 0.1  # what a governor aims at when no objective is given, or ten times the model's own time

_LIVE = Tuning(worth=1.0)
"""Never hold a request back for company: a client that waits for its answer sends nothing meanwhile."""

MakeGovernor = Callable[[Ladder, Deadline, Budget], Governor[Any]]
GOVERNORS: Mapping[str, MakeGovernor] = {
    "amble": lambda ladder, aim, budget: Amble(ladder, aim, budget, _LIVE),
    "pit": lambda ladder, aim, budget: Pit(ladder),
    "dvfs": lambda ladder, aim, budget: Dvfs(ladder),
    "int8-max": lambda ladder, aim, budget: int8_max(ladder),
    "max": lambda ladder, aim, budget: max_clocks(ladder),
}


@dataclass(frozen=True, slots=True)
class _Timed:
    """Repeated runs of one batch: lower quartile of their times [s], mean energy [J], and the times over that quartile.

    Not the median: other work on this machine only ever lengthens a run, and a table that is too slow refuses what
    could be answered, which nothing corrects; one that is too fast is corrected by the governors' slow-down.
    """

    latency_s: float
    energy_j: float | None
    ratios: tuple[float, ...]


@door
def serve(
    models: Sequence[str],
    *,
    device: str = "host",
    objective: Deadline | str | None = None,
    repository: Path | str | None = None,
    doors: Doors | None = None,
    menu: Options | None = None,
    on_ready: OnReady = lambda addresses, stop: None,
) -> Totals:
    """Serve models over the Open Inference Protocol until SIGTERM, Ctrl-C, or ``stop`` as ``on_ready`` is told it.

    ``models``: ONNX files, ``fashion-resnet`` (bundled), schedules of ``amble plan``, each also as ``NAME=FILE``;
    those in the folder ``repository`` are served too. ``objective`` is the deadline of requests that bring none.
    """
    wanted = Deadline.parse(objective) if isinstance(objective, str) else objective
    chosen = menu or Options()
    if chosen.governor not in GOVERNORS:
        raise ValueError(f"unknown governor {chosen.governor!r}; choose {', '.join(GOVERNORS)}")
    if not models and repository is None:
        raise ValueError("nothing to serve: name a model, or a repository of models")
    repository = None if repository is None else Path(repository)
    if repository is not None and not repository.is_dir():
        raise Refused(f"{repository} is no folder; make one with MODEL/1/model.onnx in it")
    opened, runner, by_size = open_for_serving(device, threads=chosen.threads)
    kitchen = Kitchen(opened, runner, chosen, wanted, by_size)
    return front.serve(
        opened,
        kitchen.load,
        doors or Doors(),
        named=dict(map(named, models)),
        folder=repository,
        on_ready=on_ready,
        listeners=(_spans(),) if chosen.trace else (),
    )


def _spans() -> Listener:
    """Return what sends spans; Refused without the extra."""
    try:
        return import_module("amble.services.serve.tracing").spans()  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise Refused(f"traces need {error.name}: {how_to_install('trace')}") from error


def named(model: str) -> tuple[str, Path]:
    """Read ``NAME=FILE``, or a file that is named after itself; both may have ``=`` in them, a name has no slash."""
    if model == BUNDLED:
        return model, bundled.model_path()
    if Path(model).exists():
        return Path(model).stem, Path(model).absolute()
    starts = [at for at, letter in enumerate(model) if letter == "=" and at and "/" not in model[:at]]
    for at in starts:
        if model[at + 1 :] and Path(model[at + 1 :]).exists():
            return model[:at], Path(model[at + 1 :]).absolute()
    path = model[starts[0] + 1 :] if starts else model
    raise Refused(f"there is no model {path}; name an ONNX file, a schedule, or {BUNDLED}")


def open_for_serving(uri: str, *, threads: int = 1) -> tuple[Device, BatchedRunner, bool]:
    """Open ``host``, or a simulated chip that keeps this machine's time, with a runtime that takes any batch size.

    The third tells whether the device wants the operators of every batch size.
    """
    runner = BatchedRunner(threads)
    scheme, _, name = uri.partition(":")
    match scheme:
        case "host":
            return lease.guarded(host.open(runner)), runner, False
        case "sim":
            return paced(simulated.open(name, compute=runner.compute)), runner, True
    raise Refused(f"{uri!r} cannot serve clients; use host, or sim:CHIP for a simulated chip in real time")


@dataclass(frozen=True, slots=True)
class Options:
    """How models are served. ``max_loss`` is the accuracy that may be lost on the mean.

    ``shapes`` binds open axes of inputs that are not the batch; ``trace`` sends spans to an OpenTelemetry collector.
    """

    governor: str = "amble"
    max_batch: int = 8
    max_loss: Allowance = Allowance(0.5, relative=True)
    threads: int = 1
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    trace: bool = False


@dataclass(frozen=True, slots=True)
class Kitchen:
    """Makes models ready to be served on a device.

    ``objective`` is what every answer should keep; None: requests have no deadline unless they bring one.
    ``by_size``: the device reckons from operators, so it wants those of each batch size, and no inputs to be timed.
    """

    device: Device
    runner: BatchedRunner
    options: Options = Options()
    objective: Deadline | None = None
    by_size: bool = False

    def load(self, found: Found, do: Do) -> Loaded:
        """Open a model, measure it with ``do``, build its ladder and governor. Refused when it cannot be served."""
        with refusing(str(found.path), "served"):
            if found.path.suffix == ".json" and files.kind_of(found.path) == "schedule":
                return self._scheduled(found)
            return self._measured(found, do)

    def _measured(self, found: Found, do: Do) -> Loaded:
        menu = _menu(found.path, self.options)
        signature = self._opened(menu.path)
        wish = self.wish(found)
        joined = batching.read(menu.files, menu.shapes, wish)
        singles = {variant: menu.graph(variant, 1, by_size=self.by_size) for variant in menu.accuracies}
        joined = batching.kept(batching.tried(joined, singles, self.runner.compute, wish, do), wish)
        sizes = [*(size for size in _SIZES if size < wish.most), wish.most] if joined.proved else [1]
        ladder = self._ladder(found.name, menu, sizes, do)
        aim = self.objective or Deadline(max(_NO_SLO_S, 10 * ladder.rungs[0].latency_s[0]))
        governor = GOVERNORS[self.options.governor](ladder, aim, Budget(menu.may_lose))
        graph = partial(menu.graph, by_size=self.by_size)
        default_s = None if self.objective is None else self.objective.latency_s
        return Loaded(
            signature.inputs, signature.outputs, joined.proved, ladder, governor, graph, default_s, joined.reason
        )

    def wish(self, found: Found) -> batching.Wish:
        """Return the largest batch that is wanted of a model."""
        claimed = found.config.max_batch_size
        return batching.Wish(self.options.max_batch if claimed is None else claimed, claimed is not None)

    def explain(self, found: Found) -> Verdict:
        """Say whether a model's requests may share a batch, without measuring it."""
        if found.path.suffix == ".json" and files.kind_of(found.path) == "schedule":
            return Verdict(False, _PLANNED)
        menu, wish = _menu(found.path, self.options), self.wish(found)
        self._opened(menu.path)
        singles = {variant: menu.graph(variant, 1, by_size=self.by_size) for variant in menu.accuracies}
        read = batching.read(menu.files, menu.shapes, wish)
        return batching.tried(read, singles, self.runner.compute, wish, lambda work: work())

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
        schedule = files.load(found.path, SCHEDULE)
        source = bundled.model_path() if schedule.source == BUNDLED else Path(schedule.source)
        graph = onnx.load(source, batch=schedule.batch, shapes=schedule.shapes)
        if graph.digest != schedule.digest:
            raise Refused(f"{source} is no longer the network that {found.path} was planned for; plan it anew")
        self._opened(source)
        predicted = schedule.predicted
        rung = Rung(
            graph.precision,
            schedule.steps[0].point.clocks,
            (predicted.latency_s,),
            (predicted.energy_j if predicted.energy_j is not None else _NOMINAL_W * predicted.latency_s,),
            schedule=schedule,
        )
        ladder = build([rung], graph=found.name, device=self.device.name)
        aim = self.objective or schedule.deadline
        governor = Fixed("schedule", ladder.rungs[0], 1)
        return Loaded(
            graph.inputs, graph.outputs, False, ladder, governor, lambda _, __: graph, aim.latency_s, _PLANNED
        )

    def _ladder(self, name: str, menu: _Menu, sizes: Sequence[int], do: Do) -> Ladder:
        """Measure every variant at every clock setting and batch size."""
        inputs = _no_inputs if self.by_size else _made_up
        rungs, ratios = [], []
        for clocks in do(partial(_settings, self.device)):
            idle_w = do(partial(_idle_w, self.device, clocks))
            for variant, accuracy in menu.accuracies.items():
                graphs = [menu.graph(variant, size, by_size=self.by_size) for size in sizes]
                timed = [
                    do(partial(_timed, self.device, each, OperatingPoint(clocks, variant), inputs(each)))
                    for each in graphs
                ]
                ratios += [ratio for each in timed for ratio in each.ratios]
                rungs.append(replace(_rung(timed, sizes, idle_w), variant=variant, clocks=clocks, accuracy=accuracy))
        margin = float(np.clip(np.quantile(ratios, 0.9), 1.0, 1.5))
        return build(rungs, graph=name, device=self.device.name, margin=margin)


class _Menu:
    """A model's variants: their networks at each batch size, and the share of the accuracy that each keeps."""

    def __init__(
        self, paths: Mapping[str, Path], accuracies: Mapping[str, float], options: Options, reference: float = 1.0
    ) -> None:
        self.accuracies = accuracies
        self.may_lose = options.max_loss.share(reference)
        self.path = next(iter(paths.values()))
        self.files = tuple(paths.values())
        self.shapes = dict(options.shapes)
        self._paths = paths
        self._known: dict[tuple[str, int], Graph] = {}

    def graph(self, variant: str, rows: int, *, by_size: bool) -> Graph:
        """Return the network of a variant at a batch size."""
        key = (variant, rows)
        if key not in self._known:
            if by_size or rows == 1:
                shapes = {
                    name: (rows if shape[0] == 1 else shape[0], *shape[1:]) for name, shape in self.shapes.items()
                }
                self._known[key] = onnx.load(self._paths[variant], batch=rows, shapes=shapes)
            else:
                self._known[key] = replace(self.graph(variant, 1, by_size=False), batch=rows)
        return self._known[key]


def _menu(path: Path, options: Options) -> _Menu:
    """Read which variants there are: a variants file's, or a network and those in the file beside it."""
    if path.suffix == ".json":
        return _kept(path, files.load(path, VARIANTS), options)
    beside = path.with_name(VARIANTS_FILE)
    if beside.is_file():
        variants = files.load(beside, VARIANTS)
        if onnx.load(path, batch=variants.batch, shapes=variants.shapes).digest == variants.digest:
            return _kept(beside, variants, options)
        _LOG.warning("%s is of another network and is not used: quantize %s anew", beside, path)
    precision = onnx.load(path, batch=1, shapes=options.shapes).precision
    return _Menu({precision: path}, {precision: 1.0}, options)


def _kept(path: Path, variants: Variants, options: Options) -> _Menu:
    """Return the fastest of each precision that was kept, the reference first."""
    first = variants.reference.precision
    chosen = {
        name: variants.fastest(name) for name in dict.fromkeys([first, *(each.precision for each in variants.kept)])
    }
    processors.check(variants, chosen.values(), path)
    shapes = {name: shape for name, shape in variants.shapes.items() if name not in options.shapes}
    paths = {name: path.parent / each.file for name, each in chosen.items()}
    accuracies = {name: variants.relative(each) for name, each in chosen.items()}
    quality = variants.reference.quality
    bound = replace(options, shapes={**shapes, **options.shapes})
    return _Menu(paths, accuracies, bound, 1.0 if quality is None else quality.ratio.value)


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


def _no_inputs(graph: Graph) -> Tensors:
    return {}


def _made_up(graph: Graph) -> Tensors:
    """Make up inputs for a batch; the graph's ports may be those of a single row."""
    return {
        name: np.repeat(each, graph.batch, axis=0) if each.ndim and each.shape[0] != graph.batch else each
        for name, each in onnx.example_inputs(graph, 0).items()
    }


def _timed(device: Device, graph: Graph, point: OperatingPoint, inputs: Tensors) -> _Timed:
    """Run a batch some times, fewer when it takes long."""
    with device.held(point.clocks):
        start_s = device.clock.now_s()
        device.runner.run(graph, point, inputs)
        device.runner.run(graph, point, inputs)
        repeats = int(np.clip(_ENOUGH_S / max(1e-6, device.clock.now_s() - start_s), *_REPEATS))
        before, times_s = device.meter.read(), []
        for _ in range(repeats):
            start_s = device.clock.now_s()
            device.runner.run(graph, point, inputs)
            times_s.append(device.clock.now_s() - start_s)
        energy_j = (device.meter.read() - before).energy_j
    quartile_s = float(np.quantile(times_s, 0.25))
    mean_j = None if energy_j is None else energy_j / repeats
    return _Timed(quartile_s, mean_j, tuple(each / quartile_s for each in times_s))


def _idle_w(device: Device, clocks: Clocks) -> float | None:
    with device.held(clocks):
        before = device.meter.read()
        device.clock.sleep(_IDLE_S)
        passed = device.meter.read() - before
    return None if passed.energy_j is None else passed.energy_j / passed.latency_s


def _rung(timed: Sequence[_Timed], sizes: Sequence[int], idle_w: float | None) -> Rung:
    """Fill in the batch sizes that were not measured."""
    wanted = range(1, sizes[-1] + 1)
    latency_s = np.maximum.accumulate(np.interp(wanted, sizes, [each.latency_s for each in timed])).tolist()
    joules = [each.energy_j for each in timed]
    known = [each for each in joules if each is not None]
    if len(known) < len(joules):
        return Rung("", Clocks(), tuple(latency_s), tuple(_NOMINAL_W * latency_s[0] * size for size in wanted))
    energy_j = np.interp(wanted, sizes, known).tolist()
    return Rung("", Clocks(), tuple(latency_s), tuple(energy_j), idle_w=idle_w or 0.0)
