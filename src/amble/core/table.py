"""A measured table in the recorded schema (.csv, .tsv, .txt, each also .gz) ↔ its columns as arrays.

One row is one measurement. Columns may be missing (`batch`, `cpu_hz`, …): they read as empty text or NaN. Names that
are nearly those of the schema are read where they leave no doubt (`columns`), and said in ``notes``; what is not read
is kept beside the table. What the numbers mean, and which numbers cannot be right, is judged by whoever uses them; here
only a text that is no number is refused.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amble.core.columns import ENERGY, Claim, assigned, claim, is_unit, notes_of
from amble.core.delimited import Delimited, read_delimited
from amble.core.errors import Refused
from amble.core.files import write_bytes, write_text

__all__ = ["KNOBS", "NUMBERS", "SCHEMA", "TEXTS", "Table", "Unread", "read_table", "write_table"]

Floats = NDArray[np.float64]

TEXTS = ("device", "workload", "kernel", "precision", "batch")
NUMBERS = (
    "core_hz",
    "memory_hz",
    "cpu_hz",
    "power_limit_w",
    "latency_s",
    "power_w",
    "repeat",
    "requested_core_hz",
)
SCHEMA = TEXTS + NUMBERS
_TELLING = {"core_hz", "memory_hz", "cpu_hz", "power_limit_w", "latency_s", "power_w", "requested_core_hz", ENERGY}
KNOBS = ("core_hz", "memory_hz", "cpu_hz", "power_limit_w")


@dataclass(frozen=True, slots=True)
class Unread:
    """A column that is not read: what its name claims, and its cells [row]."""

    claim: Claim
    cells: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of a measured table; every array is [row], NaN or "" where the file says nothing."""

    source: str
    line: NDArray[np.int64]  # line of the file that a row came from, the header being line 1
    device: NDArray[np.str_]
    workload: NDArray[np.str_]
    kernel: NDArray[np.str_]
    precision: NDArray[np.str_]
    batch: NDArray[np.str_]
    core_hz: Floats  # the clock that ran, or the one asked for where requested_core_hz is empty
    memory_hz: Floats
    cpu_hz: Floats
    power_limit_w: Floats
    latency_s: Floats
    power_w: Floats
    repeat: Floats
    requested_core_hz: Floats
    notes: tuple[str, ...] = field(default=(), kw_only=True)  # on how its names were read
    unread: tuple[Unread, ...] = field(default=(), kw_only=True)

    @property
    def num_rows(self) -> int:
        """Number of measurements."""
        return len(self.line)

    def number(self, column: str) -> Floats:
        """Return a numeric column [row] by its name in the schema; ValueError for another name."""
        if column not in NUMBERS:
            raise ValueError(f"{column!r} is not a numeric column; there are {', '.join(NUMBERS)}")
        values: Floats = getattr(self, column)
        return values

    def knob(self, name: str) -> Floats:
        """Return what was asked of one knob [row]: the requested core clock where given, else `core_hz`."""
        if name == "core_hz":
            return np.where(np.isnan(self.requested_core_hz), self.core_hz, self.requested_core_hz)
        return self.number(name)

    def workloads(self) -> tuple[tuple[str, ...], ...]:
        """Return (device, workload, kernel, precision, batch) of each row."""
        return tuple(zip(*(getattr(self, name).tolist() for name in TEXTS), strict=True))

    def lacks(self, column: str) -> bool:
        """Tell whether a numeric column says nothing at all."""
        return bool(np.isnan(self.number(column)).all())

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Table:
        """Return the chosen rows as a table of their own."""
        columns = [item.name for item in fields(self) if item.name not in ("source", "notes", "unread")]
        unread = tuple(replace(each, cells=each.cells[chosen]) for each in self.unread)
        return replace(self, unread=unread, **{name: getattr(self, name)[chosen] for name in columns})

    def with_values(self, *, latency_s: Floats, power_w: Floats) -> Table:
        """Return the same rows with other times and powers."""
        return replace(self, latency_s=latency_s, power_w=power_w)


def read_table(path: Path | str) -> Table:
    """Read a table of the recorded schema; Refused (with file, line and column) when it is not one.

    A column of the schema that the file lacks is empty.
    """
    path = Path(path)
    file = read_delimited(path, _names_known)
    header, lines, cells = _cells(file, path)
    try:
        taken, left = assigned(header, SCHEMA)
    except Refused as both:
        raise Refused(f"{path}: {both}") from both
    columns = dict(zip(header, zip(*cells, strict=True), strict=True))
    line = np.array(lines, dtype=np.int64)
    number = {name: _number_column(columns, taken.get(name), line, path) for name in (*NUMBERS, ENERGY)}
    text = {name: _texts(columns[taken[name].name] if name in taken else None, len(line)) for name in TEXTS}
    notes = (*file.notes(), *notes_of(taken, left))
    energy = number.pop(ENERGY)
    if ENERGY in taken and "latency_s" in taken and "power_w" not in taken:
        number["power_w"] = energy / number["latency_s"]
        notes = (*notes, f"power_w is {taken[ENERGY].name}, taken for the energy of one run, over latency_s")
    elif ENERGY in taken:
        notes = (*notes, f"column {taken[ENERGY].name} is not read: power_w is the energy of a run over latency_s")
    unread = tuple(Unread(each, _texts(columns[each.name], len(line))) for each in left)
    arrays: dict[str, Any] = {**_batches(text), **number}
    return Table(source=str(path), line=line, **arrays, notes=notes, unread=unread)


def write_table(table: Table, path: Path | str, *, extra: Sequence[tuple[str, Floats]] = ()) -> None:
    """Write a table with the whole header of the schema, and extra numeric columns [row] after it."""
    columns: list[list[str]] = [getattr(table, name).tolist() for name in TEXTS]
    columns += [[_written(value) for value in table.number(name).tolist()] for name in NUMBERS]
    columns += [[_written(value) for value in values.tolist()] for _, values in extra]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*SCHEMA, *(name for name, _ in extra)])
    writer.writerows(zip(*columns, strict=True))
    if Path(path).suffix == ".gz":
        write_bytes(path, gzip.compress(text.getvalue().encode(), mtime=0))
    else:
        write_text(path, text.getvalue())


def _names_known(names: Sequence[str]) -> int:
    return sum(bool(claim(name, SCHEMA).column) for name in names)


def _cells(file: Delimited, path: Path) -> tuple[list[str], list[int], list[list[str]]]:
    """Return header, line numbers and cells of every row that is not blank."""
    if not file.rows:
        raise Refused(f"{path} is empty; its first line must be: {','.join(SCHEMA)}")
    (first, names), kept = file.rows[0], file.rows[1:]
    header = [name.strip() for name in names]
    claims = [claim(name, SCHEMA) for name in header]
    if not _TELLING & {each.column for each in claims if each.certain}:
        raise Refused(f"{path}: line {first} {_no_header(claims)}; the header must be: {','.join(SCHEMA)}")
    twice = {name for name in header if name and header.count(name) > 1}
    if twice:
        raise Refused(f"{path}: line {first} names the column {sorted(twice)[0]} twice; keep one of them")
    for number, row in kept:
        if len(row) != len(header):
            raise Refused(
                f"{path}: line {number} has {len(row)} cells, the header has {len(header)}; write one a column"
            )
    if not kept:
        raise Refused(f"{path} has a header and no rows; measure at least one point")
    return header, [number for number, _ in kept], [row for _, row in kept]


def _no_header(claims: Sequence[Claim]) -> str:
    """Say what is wrong with a first line that names no column of the schema that tells anything."""
    likely = next((each for each in claims if each.column in _TELLING), None)
    return f"names {likely.name}: {likely.advice}" if likely is not None else "names no knob, time or power"


def _batches(text: dict[str, NDArray[np.str_]]) -> dict[str, NDArray[np.str_]]:
    """Write batch sizes alike: programs write 8 as 8.0 where some row has none."""
    whole = [size.removesuffix(".0") if size.removesuffix(".0").isdigit() else size for size in text["batch"].tolist()]
    return {**text, "batch": np.array(whole, dtype=np.str_)}


def _texts(cells: Sequence[str] | None, num_rows: int) -> NDArray[np.str_]:
    return np.array([cell.strip() for cell in cells] if cells is not None else [""] * num_rows, dtype=np.str_)


def _number_column(
    columns: Mapping[str, Sequence[str]], said: Claim | None, line: NDArray[np.int64], path: Path
) -> Floats:
    """Return a column in SI units."""
    if said is None:
        return np.full(len(line), math.nan)
    cells = columns[said.name]
    try:
        values = np.array([float(cell) if cell else math.nan for cell in cells])
    except ValueError:  # blanks, or a word whose place is to be named
        values = np.array([_number(cell, at, path, said) for cell, at in zip(cells, line.tolist(), strict=True)])
    if said.factor == 1:
        return values
    return np.array([float(f"{value * said.factor:.13g}") for value in values.tolist()])


def _number(cell: str, line: int, path: Path, said: Claim) -> float:
    with_unit = re.fullmatch(r"\s*([-+.\d]+(?:[eE][-+]?\d+)?)\s*([A-Za-zµμ]+)\s*", cell)
    if with_unit and with_unit[2].lower() in re.findall(r"[a-zµμ]+", said.name.lower()):
        cell = with_unit[1]  # the unit of the header written again, as nvidia-smi does
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError as error:
        named = said.name if said.name == said.column else f"{said.name} (read as {said.column})"
        remedy = _remedy(cell, said)
        raise Refused(f"{path}: line {line}, column {named}: {cell!r} is not a number; {remedy}") from error


def _remedy(cell: str, said: Claim) -> str:
    """Return what to do about a cell that is not a number."""
    if cell.strip() == said.name:
        return "leave out headers that are repeated"
    if re.fullmatch(r"\s*[-+]?\d{1,3}([., '’_\u00a0\u2009\u202f]\d{3})+([.,]\d+)?\s*", cell):
        return "write it without separators of thousands"
    units = re.fullmatch(r"\s*(?:[-+.\d]+(?:[eE][-+]?\d+)?)?\s*([A-Za-zµμ]+)\s*", cell)
    stem, _, unit = said.column.rpartition("_")
    if units and stem and is_unit(units[1], said.column):
        return f"write numbers alone, and name the column {stem}_{units[1].lower()}, not {stem}_{unit}"
    return "leave unknowns empty"


def _written(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.7g}"
