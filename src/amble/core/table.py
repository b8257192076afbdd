"""A measured table in the recorded schema (.csv or .csv.gz) ↔ its columns as arrays.

One row is one measurement. Columns may be missing (`batch`, `cpu_hz`, …): they read as empty text or NaN. What the
numbers mean, and which numbers cannot be right, is judged by whoever uses them; here only a text that is no number is
refused.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from amble.core.errors import Refused
from amble.core.files import write_bytes, write_text

__all__ = ["KNOBS", "NUMBERS", "SCHEMA", "TEXTS", "Table", "read_table", "write_table"]

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
_TELLING = {"core_hz", "memory_hz", "cpu_hz", "power_limit_w", "latency_s", "power_w", "requested_core_hz"}
KNOBS = ("core_hz", "memory_hz", "cpu_hz", "power_limit_w")


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

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Table:
        """Return the chosen rows as a table of their own."""
        return replace(self, **{item.name: getattr(self, item.name)[chosen] for item in fields(self)[1:]})

    def with_values(self, *, latency_s: Floats, power_w: Floats) -> Table:
        """Return the same rows with other times and powers."""
        return replace(self, latency_s=latency_s, power_w=power_w)


def read_table(path: Path | str) -> Table:
    """Read a table of the recorded schema; Refused (with file, line and column) when it is not one.

    A column of the schema that the file lacks is empty; a column that the schema lacks is ignored.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            header, lines, cells = _cells(csv.reader(file), path)
    except UnicodeDecodeError as error:
        raise Refused(f"cannot read {path}: it is not text in UTF-8; save it as CSV (UTF-8)") from error
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, csv.Error, zlib.error) as error:
        raise Refused(f"cannot read {path}: {error}") from error
    columns = dict(zip(header, zip(*cells, strict=True), strict=True))
    line = np.array(lines, dtype=np.int64)
    text = {name: _texts(columns.get(name), len(line)) for name in TEXTS}
    number = {name: _numbers(columns.get(name), line, path, name) for name in NUMBERS}
    return Table(
        source=str(path),
        line=line,
        device=text["device"],
        workload=text["workload"],
        kernel=text["kernel"],
        precision=text["precision"],
        batch=text["batch"],
        core_hz=number["core_hz"],
        memory_hz=number["memory_hz"],
        cpu_hz=number["cpu_hz"],
        power_limit_w=number["power_limit_w"],
        latency_s=number["latency_s"],
        power_w=number["power_w"],
        repeat=number["repeat"],
        requested_core_hz=number["requested_core_hz"],
    )


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


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _cells(rows: Iterator[list[str]], path: Path) -> tuple[list[str], list[int], list[list[str]]]:
    """Return header, line numbers and cells of every row that is not blank."""
    filled = [(number, row) for number, row in enumerate(rows, start=1) if any(cell.strip() for cell in row)]
    if not filled:
        raise Refused(f"{path} is empty; its first line must be: {','.join(SCHEMA)}")
    (first, names), kept = filled[0], filled[1:]
    header = [name.strip() for name in names]
    if not _TELLING & set(header):
        raise Refused(f"{path}: line {first} {_no_header(header)}; the header must be: {','.join(SCHEMA)}")
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


def _no_header(header: list[str]) -> str:
    """Say what is wrong with a first line that names no column of the schema that tells anything."""
    whole = ",".join(header)
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if _TELLING & {part.strip() for part in whole.split(separator)}:
            return f"is separated by {name}; separate cells by commas, and decimals by points"
    if _TELLING & {name.lower() for name in header}:
        return "has names in capitals; write them small"
    return "names no knob, time or power"


def _texts(cells: Sequence[str] | None, num_rows: int) -> NDArray[np.str_]:
    return np.array([cell.strip() for cell in cells] if cells is not None else [""] * num_rows, dtype=np.str_)


def _numbers(cells: Sequence[str] | None, line: NDArray[np.int64], path: Path, name: str) -> Floats:
    if cells is None:
        return np.full(len(line), math.nan)
    try:
        return np.array([float(cell) if cell else math.nan for cell in cells], dtype=np.float64)
    except ValueError:
        return np.array([_number(cell, at, path, name) for cell, at in zip(cells, line.tolist(), strict=True)])


def _number(cell: str, line: int, path: Path, name: str) -> float:
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError as error:
        raise Refused(f"{path}: line {line}, column {name}: {cell!r} is not a number; leave unknowns empty") from error


def _written(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.7g}"
