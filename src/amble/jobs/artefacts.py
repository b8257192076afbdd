"""Any artefact ↔ its file, its tables, and the forms that others read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from amble.core import files
from amble.core.errors import Refused
from amble.core.files import Format
from amble.core.log import FORMAT as LOG
from amble.core.log import Log
from amble.core.profile import FORMAT as PROFILE
from amble.core.profile import Profile
from amble.core.report import FORMAT as REPORT
from amble.core.report import Report
from amble.core.schedule import FORMAT as SCHEDULE
from amble.core.schedule import Schedule
from amble.core.table import NUMBERS, TEXTS
from amble.core.table import Table as Measured
from amble.core.timekeeping import caution
from amble.core.variants import FORMAT as VARIANTS
from amble.core.variants import Variants
from amble.devices.facts import Description
from amble.devices.lease import Restored
from amble.levers.memory import page as _mapping  # noqa: F401  registers the tables and the page of a mapping
from amble.levers.memory.partitions import FORMAT as DRAM
from amble.levers.memory.partitions import DramPlan
from amble.levers.split import page as _splits  # noqa: F401  registers the tables of a split
from amble.levers.split.ran import FORMAT as RAN
from amble.levers.split.ran import JOURNAL, Journal, Ran
from amble.levers.split.results import FORMAT as SPLIT
from amble.levers.split.results import Split
from amble.levers.widths import page as _stairs  # noqa: F401  registers the tables and pages of pruning
from amble.levers.widths.results import FORMAT as PRUNING
from amble.levers.widths.results import SPACE, DesignSpace, Pruning
from amble.levers.widths.staircase import FORMAT as STAIRCASES
from amble.levers.widths.staircase import StaircaseTable
from amble.runtimes.onnx.refusals import door
from amble.services.govern.proof import FORMAT as PROOF
from amble.services.govern.proof import Proof, prove
from amble.services.govern.telling import Watched
from amble.stages.check import tables
from amble.stages.check.evidence import Evidence
from amble.stages.check.show import show_html
from amble.stages.check.tables import Table
from amble.stages.check.trace import trace_json
from amble.stages.fit.costs import COSTS, Costs
from amble.stages.fit.models import Prediction
from amble.stages.fit.tables import FITTED, FittedTable
from amble.stages.measure.doctor import Finding
from amble.stages.plan import export

__all__ = [
    "FORMATS",
    "LOG",
    "PROFILE",
    "REPORT",
    "SCHEDULE",
    "VARIANTS",
    "Artefact",
    "export_files",
    "read",
    "save",
    "show",
]

Artefact = (
    Profile
    | Costs
    | FittedTable
    | Schedule
    | Log
    | Report
    | Variants
    | DramPlan
    | StaircaseTable
    | DesignSpace
    | Pruning
    | Proof
    | Split
    | Ran
    | Journal
)
Listed = Sequence[Description] | Sequence[Restored] | Sequence[Finding]
T = TypeVar("T")
FORMATS: Mapping[str, Format[Any]] = {
    each.kind: each
    for each in (
        PROFILE,
        COSTS,
        FITTED,
        SCHEDULE,
        REPORT,
        LOG,
        VARIANTS,
        DRAM,
        STAIRCASES,
        SPACE,
        PRUNING,
        PROOF,
        SPLIT,
        RAN,
        JOURNAL,
    )
}
_SHOWN = 20  # rows of predictions on the terminal


@door
def read(path: Path | str) -> Artefact:
    """Read any file that amble wrote."""
    kind = files.kind_of(path)
    if kind not in FORMATS:
        raise Refused(f"{path} holds a {kind}, which this amble does not know; it knows {', '.join(FORMATS)}")
    form: Format[Any] = FORMATS[kind]
    artefact: Artefact = files.load(path, form)
    return artefact


@door
def save(artefact: Artefact, path: Path | str) -> None:
    """Write an artefact as a file of its kind."""
    files.write_text(path, _written(artefact))


def _written(artefact: object) -> str:
    return files.written(artefact, next(each for each in FORMATS.values() if isinstance(artefact, each.type)))


def show(artefact: Artefact | Measured | Prediction | Listed) -> tuple[Table, ...]:
    """Return an artefact as tables of text."""
    if isinstance(artefact, Sequence):
        return (_listed(artefact),)
    if isinstance(artefact, Prediction):
        return (_predicted(artefact),)
    if isinstance(artefact, Measured):
        return (_measured(artefact),)
    if isinstance(artefact, FittedTable):
        return (Table(f"Fit of {artefact.source}", ("what", ""), artefact.summary(), artefact.notes),)
    return tables.tables(_shown(artefact))


def _predicted(found: Prediction) -> Table:
    """Return the first predictions as a table; rows are counted as in the table of points, from 1."""
    columns = tuple(each.name for each in fields(found) if each.name != "notes")
    shown = zip(*(getattr(found, column)[:_SHOWN].tolist() for column in columns), strict=True)
    rows = tuple((str(number), *map(_predicted_value, row)) for number, row in enumerate(shown, start=1))
    left = len(found.latency_s) - len(rows)
    more = (f"and {left} more rows",) if left else ()
    return Table("Predictions", ("row", *columns), rows, (*more, *found.notes))


def _measured(found: Measured) -> Table:
    """Return a measured table's rows, without the columns that say nothing."""
    columns = [name for name in TEXTS if any(getattr(found, name))]
    numbers = [name for name in NUMBERS if not found.lacks(name)]
    texts = [getattr(found, name).tolist() for name in columns]
    values = [["" if np.isnan(each) else f"{each:.5g}" for each in found.number(name).tolist()] for name in numbers]
    return Table(f"Measured: {found.source}", (*columns, *numbers), tuple(zip(*texts, *values, strict=True)))


def _predicted_value(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:.5g}"


def _listed(found: Listed) -> Table:
    """Return a list of like things as one table: a column for each field."""
    columns = tuple(each.name for each in fields(found[0])) if found else ("nothing to show",)
    rows = tuple(tuple(_cell(getattr(each, column)) for column in columns) for each in found)
    return Table("", columns, rows)


def _cell(value: object) -> str:
    return "\n".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shown(artefact: object) -> object:
    """Return what the tables and pages know: costs as their arrays with names, a watcher's log with what it proves."""
    if isinstance(artefact, Log) and artefact.governed is not None:
        return Watched(artefact, prove(artefact))
    if not isinstance(artefact, Costs):
        return artefact
    arrays = artefact.arrays()
    title = f"Costs of {artefact.subject.network}, by the model {artefact.model}"
    return tables.Costs(artefact.operators, arrays, title, caution(artefact.where.device))


@door
def export_files(
    artefact: Artefact | Evidence,
    *,
    output: Path | str | None = None,
    script: Path | str | None = None,
    csv: Path | str | None = None,
    html: Path | str | None = None,
    trace: Path | str | None = None,
) -> None:
    """Write an artefact in the forms that others read: shell script, CSV, HTML page, trace; and as its own file.

    All of them or, where the disk has no room for one, none.
    """
    own = artefact.report if isinstance(artefact, Evidence) else artefact
    writers: list[tuple[Path | str | None, Callable[[], str]]] = [
        (output, lambda: _written(own)),
        (script, lambda: export.script(_as(artefact, Schedule))),
        (csv, lambda: export.perseus(_as(artefact, Schedule))),
        (html, lambda: show_html(_shown(artefact))),
        (trace, lambda: _trace(_as(artefact, Evidence))),
    ]
    files.write_together({path: write().encode() for path, write in writers if path is not None})


def _as(artefact: object, kind: type[T]) -> T:
    if not isinstance(artefact, kind):
        raise ValueError(f"a {type(artefact).__name__} has no such form; it takes a {kind.__name__}")
    return artefact


def _trace(evidence: Evidence) -> str:
    """Write the trace of the runs, the operators inside a segment divided by their predicted times."""
    steps = evidence.schedule.steps if evidence.schedule else ()
    weights = np.array([step.predicted.latency_s for step in steps])
    return trace_json(evidence.logs, tuple(step.operator for step in steps), weights=weights if len(steps) else None)
