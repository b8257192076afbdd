"""A table of real measurements → Device that replays it, in its own time.

Exact at the recorded settings, refused at others unless interpolation was asked for. What was not recorded is unknown:
a row without power has no energy, and neither has waiting, unless the table has rows of the workload ``idle``.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from statistics import median

import numpy as np

from amble.core.cost import Cost, Reading
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import Device, Runner, Tensors, Timing, Timings
from amble.core.table import KNOBS, Table, read_table
from amble.devices.facts import Description, Readings
from amble.devices.recorded.recording import Recording, Row, interpolated, nearest, read

__all__ = ["describe", "graph", "open", "resolve", "tables", "workloads"]

_SHIPPED = Path(__file__).parent / "tables"
_DATA = Path(__file__).parents[5] / "shared/data"  # beside a checkout; an installed package has none
_SUFFIX = ".csv.gz"


def open(  # noqa: A001
    path: Path | str, *, workload: str = "all", compute: Runner | None = None, interpolate: bool = False
) -> Device:
    """Open a table, by its path or the name of a known one, at its fastest setting.

    ``workload`` limits the available settings to those where all of it was recorded. ``compute`` computes outputs;
    without it a run with inputs is refused. With ``interpolate`` settings between the recorded ones are taken too.
    """
    recording = _read(path)
    settings = recording.settings(workload)
    if not settings:
        raise Refused(f"{recording.name}: {workload} has no setting at which all of it was recorded; name one workload")
    tape = _Tape(recording, settings[-1], interpolate)
    return Device(
        name=f"recorded:{recording.name}",
        clock=_TapeClock(tape),
        meter=_TapeMeter(tape),
        actuator=_TapeActuator(tape, settings),
        runner=_TapeRunner(tape, compute),
        calibration=f"recorded: {recording.name}" + (", interpolated" if interpolate else ""),
        precisions=recording.precisions,
    )


def graph(path: Path | str, workload: str, *, precision: str | None = None) -> Graph:
    """Return a recorded workload as a graph: ``workload``, ``workload/kernel``, ``workload/*`` or ``all``.

    What the operators compute was not recorded: their FLOPs and bytes are 0.
    """
    return _read(path).graph(workload, precision)


def workloads(path: Path | str) -> tuple[str, ...]:
    """Return the names of everything in a table that can be run."""
    return _read(path).operators


def tables() -> Mapping[str, Path]:
    """Return the known tables by name: those shipped, and those of the data folder ($AMBLE_DATA/recorded)."""
    folders = (Path(os.environ.get("AMBLE_DATA", _DATA)) / "recorded", _SHIPPED)
    return {file.name.removesuffix(_SUFFIX): file for folder in folders for file in sorted(folder.glob(f"*{_SUFFIX}"))}


def resolve(name: Path | str) -> Path:
    """Return the table of a name or path; Refused, with the nearest known name, when there is none."""
    known = tables()
    if str(name) in known:
        return known[str(name)]
    if Path(name).is_file():
        return Path(name)
    near = get_close_matches(str(name), known, 1, 0.3)
    hint = f"; did you mean {near[0]}?" if near else "."
    raise Refused(f"no recorded table {str(name)!r}{hint} Known: {', '.join(sorted(known))}, or a path to one")


def describe(path: Path | str) -> Description:
    """Describe one table as a device; what keeps it from being opened is what is missing."""
    name = _name(resolve(path))
    try:
        table = read_table(resolve(path))
    except Refused as reason:
        return Description(f"recorded:{name}", "recorded", "unknown", "unknown", (str(reason),))
    timed = ~np.isnan(table.latency_s)
    powered = bool((timed & ~np.isnan(table.power_w)).any())
    missing = [] if timed.any() else ["no times were recorded, so there is nothing to replay"]
    missing += [] if powered or missing else ["no power was recorded, so energy is unknown"]
    meter = "recorded" if powered else "unknown"
    return Description(f"recorded:{name}", f"recorded: {name}", _settings(table), meter, tuple(missing))


def _settings(table: Table) -> str:
    """Say how many settings of which knobs there are."""
    asked = [np.nan_to_num(table.knob(knob), nan=-1.0).tolist() for knob in KNOBS]
    varied = [knob.rsplit("_", 1)[0] for knob, values in zip(KNOBS, asked, strict=True) if len(set(values)) > 1]
    count = len(set(zip(*asked, strict=True)))
    return f"{count} settings of {', '.join(varied)}" if varied else "fixed clocks"


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv")


def _read(path: Path | str) -> Recording:
    found = resolve(path)
    return read(found, _name(found))


@dataclass(frozen=True, slots=True)
class _Counted(Reading):
    """A reading that knows how many spans of unknown energy came before it."""

    gaps: int = 0

    def __sub__(self, earlier: Reading) -> Cost:
        """Return what passed; the energy is unknown when any span in between was."""
        passed = Reading.__sub__(self, earlier)
        known = isinstance(earlier, _Counted) and earlier.gaps == self.gaps
        return passed if known else Cost(passed.latency_s, None)


@dataclass(slots=True)
class _Tape:
    """Where a replay stands: the setting in force, the time and energy so far, the next repeat of every cell."""

    recording: Recording
    asked: Clocks
    interpolate: bool
    now_s: float = 0.0
    energy_j: float = 0.0
    gaps: int = 0
    played: dict[tuple[str, str, Clocks], int] = field(default_factory=dict)
    made: dict[tuple[str, str, Clocks], tuple[Row, ...]] = field(default_factory=dict)

    def rows(self, operator: str, precision: str) -> tuple[Row, ...]:
        """Return the executions of an operator at the setting in force; Refused when there are none."""
        cells = self.recording.rows.get((operator, precision))
        if cells is None:
            raise Refused(_not_recorded(self.recording, operator, precision))
        if self.asked in cells:
            return cells[self.asked]
        if self.interpolate:
            key = (operator, precision, self.asked)
            if key not in self.made:
                self.made[key] = (interpolated(cells, self.asked),)
            return self.made[key]
        close = "; ".join(str(each) for each in nearest(self.asked, cells))
        raise Refused(f"{operator} was not recorded at {self.asked}; nearest: {close} (or open it with interpolation)")

    def play(self, operator: str, precision: str) -> None:
        """Let the next repeat of an operator happen; after the last one it starts over."""
        rows, key = self.rows(operator, precision), (operator, precision, self.asked)
        row = rows[self.played.get(key, 0) % len(rows)]
        self.played[key] = self.played.get(key, 0) + 1
        self.pass_time(row.latency_s, row.power_w)

    def pass_time(self, duration_s: float, power_w: float | None) -> None:
        """Let time pass at a power [W]; None makes the energy of this span unknown."""
        self.now_s += duration_s
        if power_w is None:
            self.gaps += 1
        else:
            self.energy_j += duration_s * power_w


@dataclass(frozen=True, slots=True)
class _TapeClock:
    tape: _Tape

    def now_s(self) -> float:
        return self.tape.now_s

    def sleep(self, duration_s: float) -> None:
        if duration_s > 0:
            self.tape.pass_time(duration_s, self.tape.recording.idle_w.get(self.tape.asked))


@dataclass(frozen=True, slots=True)
class _TapeMeter:
    tape: _Tape

    def read(self) -> Reading:
        if not self.tape.recording.powered:
            return Reading(self.tape.now_s, None)
        return _Counted(self.tape.now_s, self.tape.energy_j, self.tape.gaps)


class _TapeActuator:
    """Settings are those that were asked for when recording; ``current`` tells the clocks that ran then."""

    def __init__(self, tape: _Tape, settings: tuple[Clocks, ...]) -> None:
        self._tape = tape
        self._settings = settings
        self._observed = _observed(tape.recording)
        self._readings = Readings()

    def available(self) -> tuple[Clocks, ...]:
        return self._settings

    def current(self) -> Clocks:
        asked = self._tape.asked
        reading = self._observed.get(asked, asked)
        self._readings.note(reading, asked)
        return reading

    def apply(self, clocks: Clocks) -> None:
        asked = clocks if clocks in self._settings else self._readings.asked(clocks)
        if asked not in self._settings and not (self._tape.interpolate and _between(asked, self._settings)):
            close = "; ".join(str(each) for each in nearest(asked, self._settings))
            raise Refused(f"{asked} was not recorded in {self._tape.recording.name}; nearest: {close}")
        self._tape.asked = asked


class _TapeRunner:
    def __init__(self, tape: _Tape, compute: Runner | None) -> None:
        self._tape = tape
        self._compute = compute

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        if inputs and self._compute is None:
            raise Refused("a recording has no outputs; open it with compute=, a runner that computes them")
        for operator in graph.operators:
            self._tape.play(operator.name, point.precision)
        return self._compute.run(graph, point, inputs) if inputs and self._compute else {}

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Return medians over what was recorded, ``repeats`` of it at most; nothing is repeated that was not."""
        rows = [self._tape.rows(operator.name, point.precision)[: max(1, repeats)] for operator in graph.operators]
        count = min(len(each) for each in rows)
        runs = [[each[run] for each in rows] for run in range(count)]
        totals_s = [sum(row.latency_s for row in run) for run in runs]
        whole = _timing(totals_s, [_sum(row.energy_j for row in run) for run in runs])
        for _ in range(count):
            for operator in graph.operators:
                self._tape.play(operator.name, point.precision)
        return Timings(
            operators=tuple(_timing([r.latency_s for r in each], [r.energy_j for r in each]) for each in rows),
            whole=whole,
            ran_at=_middle_clocks([row.ran_at for each in rows for row in each]),
            repeats=count,
            ratios=tuple(total_s / whole.latency_s for total_s in totals_s),
        )


def _timing(latencies_s: Sequence[float], energies_j: Sequence[float | None]) -> Timing:
    low_s, high_s = np.quantile(latencies_s, (0.1, 0.9)).tolist()
    total_j = _sum(energies_j)
    return Timing(median(latencies_s), high_s - low_s, None if total_j is None else total_j / len(energies_j))


def _sum(energies_j: Iterable[float | None]) -> float | None:
    known = list(energies_j)
    return None if None in known else sum(each for each in known if each is not None)


def _observed(recording: Recording) -> Mapping[Clocks, Clocks]:
    """Return the clocks that ran at each setting that was asked for: the median over everything recorded there."""
    ran: dict[Clocks, list[Clocks]] = defaultdict(list)
    for cells in recording.rows.values():
        for asked, rows in cells.items():
            ran[asked].extend(row.ran_at for row in rows)
    return {asked: _middle_clocks(clocks) for asked, clocks in ran.items()}


def _middle_clocks(clocks: Sequence[Clocks]) -> Clocks:
    """Return the clocks with the median core clock; the other knobs are those that were set, so they are all alike."""
    cores_hz = [each.core_hz for each in clocks if each.core_hz is not None]
    return replace(clocks[0], core_hz=median(cores_hz) if cores_hz else None)


def _between(asked: Clocks, settings: Sequence[Clocks]) -> bool:
    """Tell whether every knob lies in its recorded range."""
    for knob in KNOBS:
        levels = [getattr(each, knob) for each in settings]
        value = getattr(asked, knob)
        if value is None or None in levels:
            if value not in levels:
                return False
        elif not min(levels) <= value <= max(levels):
            return False
    return True


def _not_recorded(recording: Recording, operator: str, precision: str) -> str:
    precisions = [each for name, each in recording.rows if name == operator]
    if precisions:
        return f"{operator} was not recorded in {precision}, only in {', '.join(precisions)}"
    return (
        f"{operator} is no workload of {recording.name}; a recorded device runs what was recorded, such as "
        f"{', '.join(recording.operators[:3])}, or all"
    )
