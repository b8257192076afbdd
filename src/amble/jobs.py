"""One function a verb: the wiring of the stages, and the loops that cross them.

Every function takes and gives artefacts; none prints. The command line calls these functions and nothing else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, overload
from urllib.parse import parse_qsl

import numpy as np

from amble import bundled
from amble.check import tables
from amble.check.arrivals import parse_load
from amble.check.evidence import Evidence, Pair
from amble.check.report import assess
from amble.check.show import show_html
from amble.check.tables import Table
from amble.check.trace import trace_json
from amble.control import loop
from amble.core import files
from amble.core.errors import Infeasible, Refused
from amble.core.files import Format
from amble.core.graph import Graph
from amble.core.log import Log
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device
from amble.core.profile import IdlePower, Profile
from amble.core.report import Report
from amble.core.schedule import Deadline, Schedule, Step
from amble.core.table import read_table
from amble.core.variants import Variants
from amble.devices import chip, guard, host, nvml, recorded, simulated, sysfs
from amble.devices.facts import Description
from amble.devices.guard import Restored
from amble.fit import profiles
from amble.fit.costs import COSTS, Costs, read_off
from amble.fit.costs import costs as costs_of
from amble.fit.models import Prediction
from amble.fit.tables import FITTED, FittedTable, fit_table, predict_table, write_predictions
from amble.measure import accuracy, design, operators, platform
from amble.measure.accuracy import Examples
from amble.plan import clocks, export, neurobalancer
from amble.runtimes import onnx, synthetic, trtexec

__all__ = [
    "Artefact",
    "check",
    "costs_for",
    "devices",
    "export_files",
    "fit",
    "import_layers",
    "load",
    "measure",
    "open",
    "plan",
    "predict",
    "read",
    "restore",
    "save",
    "show",
]

Artefact = Profile | Costs | FittedTable | Schedule | Log | Report | Variants
T = TypeVar("T")
OnProgress = Callable[[int, int], None]

PROFILE = Format("profile", 1, Profile)
SCHEDULE = Format("schedule", 1, Schedule)
REPORT = Format("report", 1, Report)
LOG = Format("log", 1, Log)
VARIANTS = Format("variants", 1, Variants)
_FORMATS: Mapping[str, Format[Any]] = {
    each.kind: each for each in (PROFILE, COSTS, FITTED, SCHEDULE, REPORT, LOG, VARIANTS)
}

BUNDLED = "fashion-resnet"
_SHOWN = 20  # rows of predictions on the terminal
_ONCE_MORE = 10  # runs of each operator after a check
_QUICK = "p-norm"  # the model that chooses what to measure next
_TYPICAL = (1.1, 1.5, 2.0, 3.0)  # deadlines, in units of the fastest time, when none is given
_PLANNERS = {
    "trellis": clocks.per_operator,
    "single": clocks.single,
    "max": clocks.fastest,
    "greedy": neurobalancer.balanced,
}


def devices() -> tuple[Description, ...]:
    """Describe what can be opened here, its clocks and meters, and which right is missing."""
    simulations = tuple(simulated.describe(chip) for chip in simulated.chips())
    tapes = tuple(recorded.describe(path) for path in recorded.tables().values())
    return (host.describe(), *nvml.describe(), *sysfs.describe(), *simulations, *tapes)


def open(uri: str, *, seed: int = 0, workload: str = "all") -> Device:  # noqa: A001
    """Open a device by its URI: ``sim:CHIP``, ``recorded:TABLE`` (for one ``workload``), ``host``.

    Options follow a question mark: ``sim:jetson-tx2?governor=schedutil&seed=3``. Real clocks are put back even after
    the process is killed.
    """
    address, _, query = uri.partition("?")
    options = dict(parse_qsl(query, strict_parsing=True)) if query else {}
    scheme, _, name = address.partition(":")
    match scheme, sorted(options.keys() - {"seed"}):
        case "sim", [] | ["governor"]:
            number = int(options.get("seed", seed))
            return simulated.open(
                name, compute=onnx.compute, seed=number, governor=options.get("governor", "performance")
            )
        case "recorded", []:
            return recorded.open(name, workload=workload, compute=onnx.OnnxRunner())
        case "host", []:
            found = host.open(onnx.OnnxRunner())
            return guard.guarded(
                replace(found, runner=onnx.OnnxRunner(meter=found.meter, clocks=found.actuator.current))
            )
        case (("nvml" | "sysfs"), _):
            raise Refused(
                f"{address} cannot run networks yet: plan on a simulated chip and use --script for the clocks"
            )
    raise Refused(f"unknown device {uri!r}; write sim:CHIP, recorded:TABLE or host (amble devices lists them)")


def load(
    model: str | Path,
    *,
    batch: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    device: str | None = None,
) -> Graph:
    """Read a network: an ONNX file, the bundled ``fashion-resnet``, ``synthetic:NUM_OPERATORS``.

    On a ``recorded:`` device the name is one of its workloads, or ``all``.
    """
    name = str(model)
    if device is not None and device.startswith("recorded:"):
        return recorded.graph(device.partition(":")[2], name)
    if name == BUNDLED:
        return onnx.load(bundled.model_path(), batch=batch)
    if name.startswith("synthetic:"):
        number = name.partition(":")[2]
        if not number.isdecimal() or int(number) < 1:
            raise Refused(f"{name!r} is not like synthetic:20, a made-up network of 20 operators")
        return replace(synthetic.chain(int(number), seed=0, batch=batch), source=name)
    return onnx.load(Path(model).resolve(), batch=batch, shapes=shapes)


def measure(
    graph: Graph,
    device: Device,
    *,
    deadline: Deadline | None = None,
    points: int | None = None,
    repeats: int = 20,
    keep: Path | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Profile:
    """Measure every operator where it tells most: spread over the clocks, then where plans for the deadline would run.

    Without a ``deadline`` plans from tight to loose are meant. It stops when every setting that a plan chooses has been
    measured, or at ``points`` settings. ``keep`` is where the profile so far is saved after every point: an interrupted
    call goes on from there.
    """
    so_far = files.load(keep, PROFILE) if keep and keep.exists() else operators.begin(graph, device)
    enough = min(points or design.enough(so_far.points), len(so_far.points))
    most = min(points or 2 * enough, len(so_far.points))

    def note(profile: Profile) -> None:
        if keep:
            files.save(profile, keep, PROFILE)
        on_progress(len(profile.totals), most)

    measuring = partial(operators.operators, graph, device, repeats=repeats, on_point=note)
    spread = measuring(next_point=design.farthest(enough), so_far=so_far)
    known = replace(spread, idle=_idle(spread, device), switches=platform.switch_costs(device))
    profile = measuring(next_point=_where_plans_run(graph, deadline, most), so_far=known)
    whole = replace(profile, idle=_idle(profile, device))
    if keep:
        keep.unlink(missing_ok=True)
    return whole


def _idle(profile: Profile, device: Device) -> tuple[IdlePower, ...]:
    known = {each.clocks for each in profile.idle}
    settings = dict.fromkeys(total.point.clocks for total in profile.totals)
    return profile.idle + platform.idle_power(device, [clocks for clocks in settings if clocks not in known])


def _where_plans_run(graph: Graph, deadline: Deadline | None, most: int) -> operators.NextPoint:
    """Return a chooser of the next setting: one that a plan with what is known so far uses and nobody measured."""

    def next_point(profile: Profile) -> OperatingPoint | None:
        measured = {total.point for total in profile.totals}
        if len(measured) >= most:
            return None
        costs = costs_of(profile, partial(profiles.surfaces, model=_QUICK, held_out=False))
        for wanted in [deadline] if deadline else _typical(costs):
            with suppress(Infeasible):
                for planner in (clocks.single, clocks.per_operator):
                    plan = planner(graph, costs, wanted)
                    for point in dict.fromkeys(step.point for step in plan.steps):
                        if point not in measured:
                            return point
        return None

    return next_point


def _typical(costs: Costs) -> list[Deadline]:
    fastest_s = float(costs.arrays().latency_s.sum(axis=0).min()) * costs.margin(0.99)
    return [Deadline(factor * fastest_s) for factor in _TYPICAL]


def import_layers(path: Path, *, core_hz: float, device: str = "nvidia") -> Profile:
    """Read what ``trtexec --exportProfile`` wrote at one core clock [Hz] as a profile; its energy is unknown."""
    return trtexec.load_profile(path, device=device, clocks=Clocks(core_hz=core_hz))


@overload
def fit(source: Profile, *, model: str = "amble") -> Costs: ...
@overload
def fit(source: Path, *, model: str = "amble") -> Costs | FittedTable: ...
def fit(source: Profile | Path, *, model: str = "amble") -> Costs | FittedTable:
    """Fit a profile (what every operator costs at every point the device allows) or a table measured elsewhere."""
    if isinstance(source, Path) and source.suffix in (".csv", ".gz"):
        return fit_table(read_table(source), model=model)
    profile = source if isinstance(source, Profile) else files.load(source, PROFILE)
    return costs_of(profile, partial(profiles.surfaces, model=model))


def predict(fitted: Costs | FittedTable | Path, *, at: Path, output: Path | None = None) -> Prediction:
    """Predict time and power, with 90 % intervals, at the rows of a table of points; written to ``output`` if given.

    Only the clock that was asked for is used. Rows of an unknown workload are NaN.
    """
    known = read(fitted) if isinstance(fitted, Path) else fitted
    points = read_table(at)
    if isinstance(known, FittedTable):
        found, _ = predict_table(known, points)
    elif isinstance(known, Costs):
        found = read_off(known, points)
    else:
        raise Refused(f"{fitted} holds no fit; make one with amble fit profile.json or amble fit measured.csv")
    if output is not None:
        write_predictions(points, found, output)
    return found


def costs_for(
    model: str,
    device: str,
    *,
    graph: Callable[[], Graph],
    deadline: Deadline | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> tuple[Graph, Costs]:
    """Return a network and its costs on a device.

    ``model`` may be a costs file or a profile; a network is measured and fitted once and then kept by content.
    """
    if model.endswith(".json"):
        path = Path(model)
        costs = files.load(path, COSTS) if files.kind_of(path) == "costs" else fit(files.load(path, PROFILE))
        return _again(costs), costs
    network, opened = graph(), open(device, workload=model)
    content = repr((network.digest, opened.name, opened.calibration, deadline, version("amble")))
    kept = _cache() / f"costs-{hashlib.sha256(content.encode()).hexdigest()[:20]}.json"
    if kept.exists():
        return network, files.load(kept, COSTS)
    part = kept.with_suffix(".part")
    costs = fit(measure(network, opened, deadline=deadline, keep=part, on_progress=on_progress))
    files.save(costs, kept, COSTS)
    return network, costs


def _cache() -> Path:
    """Return where costs are kept: ``AMBLE_CACHE``, else in the user's cache folder."""
    base = os.environ.get("AMBLE_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "amble"


def plan(
    graph: Graph,
    costs: Costs,
    *,
    deadline: Deadline | str,
    period_s: float | None = None,
    planner: str = "trellis",
    exact: bool = False,
) -> Schedule:
    """Choose a point for every operator: least energy within the deadline, for a request every ``period_s``."""
    if planner not in _PLANNERS:
        raise ValueError(f"unknown planner {planner!r}; choose {', '.join(_PLANNERS)}")
    wanted = Deadline.parse(deadline) if isinstance(deadline, str) else deadline
    if planner == "trellis":
        schedule = clocks.per_operator(graph, costs, wanted, period_s=period_s, exact=exact)
        return replace(schedule, frontier=clocks.frontier(graph, costs, wanted, period_s=period_s))
    return _PLANNERS[planner](graph, costs, wanted, period_s=period_s)


def check(
    schedule: Schedule | Path,
    device: str,
    *,
    arrivals: str | None = None,
    data: Examples | str | None = None,
    traced: int = 20,
    on_progress: OnProgress = lambda done, total: None,
) -> Evidence:
    """Run a schedule and its baselines under the same load, each on a freshly opened device, and judge them.

    ``arrivals`` is a load such as ``poisson:20/s:60s``, unless given 1000 requests one period apart; ``data`` are
    labelled inputs (an ``.npz`` file, or ``bundled``).
    """
    wanted = files.load(schedule, SCHEDULE) if isinstance(schedule, Path) else schedule
    graph = _again(wanted)
    if graph.digest != wanted.digest:
        raise Refused(f"{wanted.source} is no longer the network that was planned for; plan it anew")
    requests = _requests(wanted, graph, arrivals, data)
    policies = [*_policies(wanted), *((each, None) for each in _governors(device))]
    logs = []
    for index, (name, each) in enumerate(policies):
        on_progress(index, len(policies))
        opened = open(_governed(device, name) if each is None else device, workload=wanted.source)
        logs.append(loop.serve(opened, graph, requests, schedule=each, policy=name, traced=traced))
    report = assess(logs, wanted, idle_w=wanted.idle_power_w)
    kinds = tuple(operator.kind for operator in graph.operators)
    return Evidence(report, wanted, tuple(logs), _pairs(wanted, graph, open(device, workload=wanted.source)), kinds)


def _pairs(schedule: Schedule, graph: Graph, device: Device) -> tuple[Pair, ...]:
    """Measure every operator once more where the schedule runs it, beside what was predicted."""
    found = []
    for point in dict.fromkeys(step.point for step in schedule.steps):
        with device.held(point.clocks):
            platform.settle(device, point.clocks)
            timings = device.runner.profile(graph, point, _ONCE_MORE)
        for operator, step, timing in zip(graph.operators, schedule.steps, timings.operators, strict=True):
            if step.point == point and timing.latency_s > 0:
                found.append(Pair(operator.name, operator.kind, step.predicted.latency_s, timing.latency_s))
    return tuple(found)


def _again(made: Costs | Schedule) -> Graph:
    """Read the network again that something was made for."""
    return load(made.source or made.graph, batch=made.batch, shapes=made.shapes, device=made.device)


def _requests(schedule: Schedule, graph: Graph, arrivals: str | None, data: Examples | str | None) -> loop.Requests:
    wanted = parse_load(arrivals or f"periodic:{1e3 * schedule.period_s:.9g}ms:1000")
    asked = loop.Requests(wanted.times_s(0), schedule.deadline.latency_s, schedule.period_s, wanted.spec)
    if data is None:
        return asked
    examples = labelled(data, graph) if isinstance(data, str) else data
    return replace(asked, inputs=examples.request, judge=examples.judge)


def labelled(name: str, graph: Graph) -> Examples:
    """Read labelled data: an ``.npz`` file, or ``bundled`` for the bundled test images."""
    if name != "bundled":
        return accuracy.read_labelled(Path(name), graph)
    images, labels = bundled.fashion_mnist("test")
    return Examples({graph.inputs[0].name: bundled.model_input(images)}, labels.astype(np.int64))


def _policies(schedule: Schedule) -> list[tuple[str, Schedule | None]]:
    """Return the checked schedule, then one at a single point for each baseline that has one."""
    found: list[tuple[str, Schedule | None]] = [("amble", schedule)]
    for baseline in schedule.baselines:
        if baseline.point is not None:
            steps = tuple(Step(step.operator, baseline.point) for step in schedule.steps)
            alone = replace(schedule, steps=steps, wait=baseline.point.clocks, predicted=baseline.predicted)
            found.append((baseline.name, alone))
    return found


def _governors(device: str) -> tuple[str, ...]:
    """Return the governors to compare with: on a simulated chip the one it ships with, and one like SysScale."""
    scheme, _, name = device.partition("?")[0].partition(":")
    if scheme != "sim":
        return ()
    loaded = chip.load(name)
    return (loaded.core_governor, "sysscale") if len(loaded.memory_mhz) > 1 else (loaded.core_governor,)


def _governed(device: str, governor: str) -> str:
    return f"{device}{'&' if '?' in device else '?'}governor={governor}"


def restore(*, dry_run: bool = False) -> tuple[Restored, ...]:
    """Put back every clock that a killed run left changed."""
    return guard.restore() if not dry_run else ()


def read(path: Path) -> Artefact:
    """Read any file that amble wrote."""
    kind = files.kind_of(path)
    if kind not in _FORMATS:
        raise Refused(f"{path} holds a {kind}, which this amble does not know; it knows {', '.join(_FORMATS)}")
    form: Format[Any] = _FORMATS[kind]
    artefact: Artefact = files.load(path, form)
    return artefact


def save(artefact: Artefact, path: Path) -> None:
    """Write an artefact as a file of its kind."""
    form = next(each for each in _FORMATS.values() if isinstance(artefact, each.type))
    files.save(artefact, path, form)


def show(artefact: Artefact | Prediction | Sequence[Description] | Sequence[Restored]) -> tuple[Table, ...]:
    """Return an artefact as tables of text."""
    if isinstance(artefact, Sequence):
        return (_listed(artefact),)
    if isinstance(artefact, Prediction):
        return (_predicted(artefact),)
    if isinstance(artefact, FittedTable):
        return (Table(f"Fit of {artefact.source}", ("what", ""), artefact.summary(), artefact.notes),)
    return tables.tables(_shown(artefact))


def _predicted(found: Prediction) -> Table:
    """Return the first predictions as a table."""
    columns = tuple(each.name for each in fields(found))
    shown = zip(*(getattr(found, column)[:_SHOWN].tolist() for column in columns), strict=True)
    rows = tuple(tuple(f"{value:.5g}" for value in row) for row in shown)
    left = len(found.latency_s) - len(rows)
    return Table("Predictions", columns, rows, (f"and {left} more rows",) if left else ())


def _listed(found: Sequence[Description] | Sequence[Restored]) -> Table:
    """Return a list of like things as one table: a column for each field."""
    columns = tuple(each.name for each in fields(found[0])) if found else ("nothing to show",)
    rows = tuple(tuple(_cell(getattr(each, column)) for column in columns) for each in found)
    return Table("", columns, rows)


def _cell(value: object) -> str:
    return "\n".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shown(artefact: object) -> object:
    """Return what the tables and pages know: costs are shown as their arrays with names."""
    if not isinstance(artefact, Costs):
        return artefact
    arrays = artefact.arrays()
    return tables.Costs(artefact.operators, arrays, f"Costs of {artefact.graph}, by the model {artefact.model}")


def export_files(
    artefact: Artefact | Evidence,
    *,
    script: Path | None = None,
    csv: Path | None = None,
    html: Path | None = None,
    trace: Path | None = None,
) -> None:
    """Write an artefact in the forms that others read: shell script, CSV, HTML page, trace."""
    writers: list[tuple[Path | None, Callable[[], str]]] = [
        (script, lambda: export.script(_as(artefact, Schedule))),
        (csv, lambda: export.perseus(_as(artefact, Schedule))),
        (html, lambda: show_html(_shown(artefact))),
        (trace, lambda: _trace(_as(artefact, Evidence))),
    ]
    for path, write in writers:
        if path is not None:
            files.write_text(path, write())


def _as(artefact: object, kind: type[T]) -> T:
    if not isinstance(artefact, kind):
        raise ValueError(f"a {type(artefact).__name__} has no such form; it takes a {kind.__name__}")
    return artefact


def _trace(evidence: Evidence) -> str:
    """Write the trace of the runs, the operators inside a segment divided by their predicted times."""
    steps = evidence.schedule.steps if evidence.schedule else ()
    weights = np.array([step.predicted.latency_s for step in steps])
    return trace_json(evidence.logs, tuple(step.operator for step in steps), weights=weights if len(steps) else None)
