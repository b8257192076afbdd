"""Network, device → costs: measure where it tells most, fit, predict; kept by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import overload

from amble import inputs as opening
from amble.core import files
from amble.core.address import Address
from amble.core.delimited import is_delimited
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import Clocks
from amble.core.ports import Device
from amble.core.profile import Profile
from amble.core.schedule import Deadline, Schedule
from amble.core.table import Table, read_table, write_table
from amble.jobs.artefacts import LOG, PROFILE, read
from amble.runtimes import trtexec
from amble.runtimes.onnx.refusals import door
from amble.stages.fit import profiles
from amble.stages.fit.costs import COSTS, Costs, read_off
from amble.stages.fit.costs import costs as profile_costs
from amble.stages.fit.logs import as_measured, profile_of
from amble.stages.fit.models import Prediction
from amble.stages.fit.settings import costs_of_table
from amble.stages.fit.tables import FITTED, FittedTable, fit_table, predict_table, write_predictions
from amble.stages.measure import design, drift, operators, platform
from amble.stages.measure.tabulating import tabulated
from amble.stages.plan.prospects import prospects

__all__ = [
    "Measure",
    "OnProgress",
    "again",
    "costs_for",
    "costs_of",
    "fit",
    "import_layers",
    "measure",
    "measured",
    "predict",
    "tabulate",
]

OnProgress = Callable[[int, int], None]
_QUICK = "p-norm"  # the model that chooses what to measure next


@dataclass(frozen=True, slots=True)
class Measure:
    """How much is to be measured, for the sake of which plans.

    Without a ``deadline`` plans from tight to loose are meant. It ends when every setting that a plan chooses has been
    measured, or at ``points`` settings. Where these are few each is run more than ``repeats`` times, up to 50, as the
    margin of a percentile takes some hundred runs. ``keep`` is where the profile so far is saved after every point: an
    interrupted call goes on from there.
    """

    deadline: Deadline | None = None
    points: int | None = None
    repeats: int = 20
    keep: Path | None = None


def measure(
    graph: Graph,
    device: Device,
    *,
    deadline: Deadline | None = None,
    points: int | None = None,
    repeats: int = 20,
    keep: Path | str | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Profile:
    """Measure every operator where it tells most: spread over the clocks, then where plans for the deadline would run.

    The arguments are those of `Measure`.
    """
    return measured(graph, device, Measure(deadline, points, repeats, Path(keep) if keep else None), on_progress)


@door
def measured(
    graph: Graph, device: Device, asked: Measure, on_progress: OnProgress = lambda done, total: None
) -> Profile:
    """Do what `measure` does, as one request asks for it."""
    keep = asked.keep
    if keep:
        files.try_writing(keep)
    so_far = files.load(keep, PROFILE) if keep and keep.exists() else operators.begin(graph, device)
    size = design.sized(so_far.points, asked.points, asked.repeats)

    def note(profile: Profile) -> None:
        if keep:
            files.save(profile, keep, PROFILE)
        on_progress(len(profile.totals), size.most)

    def plans(profile: Profile) -> Iterator[Schedule]:
        found = profile_costs(profile, partial(profiles.surfaces, model=_QUICK, held_out=False))
        return prospects(graph, found, asked.deadline)

    measuring = partial(operators.operators, graph, device, repeats=size.repeats, on_point=note)
    spread = measuring(next_point=design.farthest(size.spread), so_far=so_far)
    known = replace(platform.with_idle(spread, device), switches=platform.switch_costs(device))
    profile = measuring(next_point=design.where_plans_run(plans, size.most), so_far=known)
    whole = drift.rechecked(platform.with_idle(profile, device), graph, device, repeats=size.repeats)
    if keep:
        keep.unlink(missing_ok=True)
    return whole


def tabulate(
    graph: Graph,
    device: Device,
    *,
    output: Path | str | None = None,
    repeats: int = 20,
    keep: Path | str | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Table:
    """Run a network at every setting of the clocks → a table in the recorded schema, with the idle power at each.

    Such a table can be fitted (``amble fit``) and replayed (``recorded:FILE``); it is written to ``output`` if given.
    ``keep`` is as for ``measure``.
    """
    every = len(device.actuator.available())
    asked = Measure(points=every, repeats=repeats, keep=Path(keep) if keep else None)
    table = tabulated(measured(graph, device, asked, on_progress))
    if output is not None:
        write_table(table, output)
    return table


@door
def import_layers(path: Path | str, *, core_hz: float, device: str = "nvidia") -> Profile:
    """Read what ``trtexec --exportProfile`` wrote at one core clock [Hz] as a profile; its energy is unknown."""
    return trtexec.load_profile(path, device=device, clocks=Clocks(core_hz=core_hz))


@overload
def fit(source: Profile, *, model: str = "amble") -> Costs: ...
@overload
def fit(source: Path | str, *, model: str = "amble") -> Costs | FittedTable: ...
@door
def fit(source: Profile | Path | str, *, model: str = "amble") -> Costs | FittedTable:
    """Fit a profile (what every operator costs at every point the device allows) or a table measured elsewhere.

    The log of a run is also a profile: of the settings that ran in it (`stages.fit.logs`).
    """
    if isinstance(source, Path | str) and is_delimited(source):
        return fit_table(read_table(source), model=model)
    if not isinstance(source, Profile) and files.kind_of(source) == LOG.kind:
        return profile_costs(profile_of(files.load(source, LOG)), as_measured)
    profile = source if isinstance(source, Profile) else files.load(source, PROFILE)
    return profile_costs(profile, partial(profiles.surfaces, model=model))


@door
def predict(
    fitted: Costs | FittedTable | Path | str, *, at: Path | str, output: Path | str | None = None
) -> Prediction:
    """Predict time and power, with 90 % intervals, at the rows of a table of points; written to ``output`` if given.

    Only the clock that was asked for is used. Workloads that were never fitted get the middle of others, widely bound.
    """
    if isinstance(fitted, Path | str) and is_delimited(fitted):
        raise Refused(f"{fitted} is a table, not a fit; make one first: amble fit {fitted} -o costs.json")
    known = read(fitted) if isinstance(fitted, Path | str) else fitted
    points = read_table(at)
    if isinstance(known, FittedTable):
        found, notes = predict_table(known, points)
        found = replace(found, notes=notes)
    elif isinstance(known, Costs):
        found = read_off(known, points)
    else:
        raise Refused(f"{fitted} holds no fit; make one with amble fit profile.json or amble fit measured.csv")
    if output is not None:
        write_predictions(points, found, output)
    return found


def again(made: Costs | Schedule) -> Graph:
    """Read the network again that something was made for; Refused where its file is gone, or holds another."""
    subject = made.subject
    name = subject.source or subject.network
    try:
        return opening.load(name, batch=subject.batch, shapes=subject.shapes, device=made.where.device)
    except Refused as error:
        raise Refused(f"the network that this was made for cannot be read again: {error}") from error


def _refuse_other(costs: Costs, device: str) -> None:
    """Refuse costs of another device than the one that is named."""
    if device and _place(device) != _place(costs.where.device):
        raise Refused(
            f"these are the costs of {costs.where.device}, not of {device}; leave --device out, or name the network "
            "itself, which is then measured there"
        )


def _place(device: str) -> tuple[str, str]:
    """Return a device without its options; a table wherever it lies."""
    address = Address.parse(device)
    return address.scheme, Path(address.name).name if is_delimited(address.name) else address.name


@door
def costs_of(
    fitted: FittedTable | Path | str, *, workload: str | None = None, at: Path | str | None = None, device: str = ""
) -> tuple[Graph, Costs]:
    """Return a workload of a fitted table as a graph, with its costs at the settings that a plan may choose.

    These are the measured ones, and those of the table ``at``. Without a ``workload`` it is the only one, ``all`` are
    all, one after another; of a table of several devices ``device`` names one. While the table is where it was, the
    plan can be replayed on it (``recorded:``).
    """
    known = fitted if isinstance(fitted, FittedTable) else files.load(fitted, FITTED)
    graph, costs = costs_of_table(known, workload, also=None if at is None else read_table(at), device=device)
    if device != known.device and not known.others:
        _refuse_other(costs, device)
    with suppress(Refused, OSError):
        replayed = opening.load(graph.name, device=costs.where.device)
        if [each.name for each in replayed.operators] == [each.name for each in graph.operators]:
            graph, costs = replayed, replace(costs, subject=replace(costs.subject, digest=replayed.digest))
    return graph, costs


@door
def costs_for(
    model: str,
    device: str,
    *,
    graph: Callable[[], Graph],
    deadline: Deadline | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> tuple[Graph, Costs]:
    """Return a network and its costs on a device.

    ``model`` may be a costs file or a profile, Refused where it is of another ``device``; a network is measured and
    fitted once and then kept by content.
    """
    if is_delimited(model):
        raise Refused(f"{model} is a table, not a fit; make one first: amble fit {model} -o costs.json")
    if model.endswith(".json"):
        path = Path(model)
        if files.kind_of(path) == FITTED.kind:
            return costs_of(path, device=device)
        costs = files.load(path, COSTS) if files.kind_of(path) == "costs" else fit(path)
        assert isinstance(costs, Costs), "a JSON file holds no table"
        _refuse_other(costs, device)
        return again(costs), costs
    network, opened = graph(), opening.open(device, workload=model)
    content = repr((network.digest, opened.name, opened.calibration, deadline, version("amble")))
    kept = files.cache_folder() / f"costs-{hashlib.sha256(content.encode()).hexdigest()[:20]}.json"
    if kept.exists():
        return network, files.load(kept, COSTS)
    asked = Measure(deadline, keep=kept.with_suffix(".part"))
    costs = fit(measured(network, opened, asked, on_progress))
    files.save(costs, kept, COSTS)
    return network, costs
