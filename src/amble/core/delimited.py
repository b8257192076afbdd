"""A file of delimited text, as programs and countries write it → rows of cells with their line numbers.

UTF-8 or UTF-16, gzip or not; separated by commas, semicolons, tabs, bars or blanks; decimal commas where commas do not
separate. What is no text (a spreadsheet, a Parquet file) is refused with the way out.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from amble.core.errors import Refused

__all__ = ["TEXT_SUFFIXES", "Delimited", "is_delimited", "read_delimited"]

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".dat")
_OTHERS = {
    b"PK\x03\x04": "a spreadsheet or an archive",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"PAR1": "a Parquet file",
    b"SQLite": "a database",
    b"\x89HDF": "an HDF5 file",
}
_OTHER_SUFFIXES = (".xlsx", ".xls", ".ods", ".parquet", ".feather", ".numbers")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Delimited:
    """Rows [line number, cells] that are not blank, the first being the header; how they were separated."""

    rows: tuple[tuple[int, list[str]], ...]
    separator: str
    decimal_commas: bool

    def notes(self) -> tuple[str, ...]:
        """Say what was read otherwise than it was written."""
        return ("read decimal commas as points",) if self.decimal_commas else ()


def is_delimited(path: Path | str) -> bool:
    """Tell by its name whether a file is a table (or a spreadsheet, which ought to be one)."""
    name = Path(path).name.lower()
    return name.endswith((".gz", *TEXT_SUFFIXES, *_OTHER_SUFFIXES))


def read_delimited(path: Path, names_known: Callable[[Sequence[str]], int]) -> Delimited:
    """Read a file; ``names_known`` counts how many names of a header mean something, which tells the separator.

    Refused, in one line, where it is no delimited text.
    """
    try:
        text = _text(_unpacked(path), path)
        lines = _separated(text, names_known)
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, csv.Error, zlib.error) as error:
        raise Refused(f"cannot read {path}: {error}") from error
    return lines


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix.lower() == ".gz" or content.startswith(b"\x1f\x8b"):
        return gzip.decompress(content)
    return content


def _text(content: bytes, path: Path) -> str:
    what = next((what for magic, what in _OTHERS.items() if content.startswith(magic)), "")
    if what or path.suffix.lower() in _OTHER_SUFFIXES:
        raise Refused(
            f"{path} is {what or 'a spreadsheet'}, not delimited text; export the sheet as CSV (UTF-8) and give that"
        )
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"cannot read {path}: it is not text in UTF-8; save it as CSV (UTF-8)") from error


def _separated(text: str, names_known: Callable[[Sequence[str]], int]) -> Delimited:
    first = next((line for line in text.splitlines() if line.strip(' ,;|\t"')), "")
    declared = re.fullmatch(r"sep=(.)\s*", first)  # written by Excel, for itself
    skip = first if declared else None
    header = first
    if declared:
        rest = text.partition(first)[2]
        header = next((line for line in rest.splitlines() if line.strip(' ,;|\t"')), "")
    known = {
        each: names_known([name.strip() for name in next(csv.reader([header], delimiter=each), [])])
        for each in _SEPARATORS
    }
    best = max(known, key=lambda each: known[each])
    blanks = names_known(header.split()) > max(known[best], 1)
    found = _blank_separated(text) if blanks else _rows(text, best)
    rows = [(number, row) for number, row in found if any(cell.strip() for cell in row)]
    if skip is not None and rows:
        rows = rows[1:]
    commas = best != "," or blanks
    with_points, changed = _with_points(rows) if commas else (rows, False)
    return Delimited(tuple(with_points), " " if blanks else best, changed)


def _rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return list(enumerate(reader, start=1))


def _blank_separated(text: str) -> list[tuple[int, list[str]]]:
    return [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1)]


def _with_points(rows: list[tuple[int, list[str]]]) -> tuple[list[tuple[int, list[str]]], bool]:
    """Return the rows with decimal points, and whether any cell had a comma."""
    changed = False
    found = []
    for number, row in rows:
        cells = [
            cell.replace(",", ".") if number != rows[0][0] and _DECIMAL_COMMA.fullmatch(cell.strip()) else cell
            for cell in row
        ]
        changed = changed or cells != row
        found.append((number, cells))
    return found, changed
