"""Tables are read however programs and countries write them; what is no text is refused with the way out."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest

from amble.core.delimited import is_delimited, read_delimited
from amble.core.errors import Refused

ROWS = [["core_hz", "latency_s"], ["1e9", "0.25"]]


def known(names: Sequence[str]) -> int:
    return len({"core_hz", "latency_s"} & set(names))


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_encodings_are_found_out(tmp_path: Path, separator: str, encoding: str) -> None:
    text = "\n".join(separator.join(row) for row in ROWS)
    found = read_delimited(written(tmp_path / "t.csv", text.encode(encoding)), known)
    assert [cells for _, cells in found.rows] == ROWS
    assert (found.separator, found.decimal_commas) == (separator, False)


def test_decimal_commas_are_points_where_commas_do_not_separate_and_that_is_said(tmp_path: Path) -> None:
    found = read_delimited(written(tmp_path / "t.csv", b"core_hz;latency_s\n1e9;0,25\n"), known)
    assert found.rows[1] == (2, ["1e9", "0.25"])
    assert found.notes() == ("read decimal commas as points",)


def test_a_zipped_table_whatever_its_name_and_blank_lines_and_excels_first_line(tmp_path: Path) -> None:
    packed = gzip.compress(b"sep=;\ncore_hz;latency_s\n;\n1e9;0.25\n")
    found = read_delimited(written(tmp_path / "t.csv", packed), known)
    assert [cells for _, cells in found.rows] == ROWS
    assert found.rows[-1][0] == 4, "the line it stands on"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"PK\x03\x04...", "a spreadsheet or an archive.*export the sheet as CSV"),
        ("t.xlsx", b"core_hz", "a spreadsheet, not delimited text"),
        ("t.csv", b"\xff\x00\xe9\xe9", "not text in UTF-8"),
        ("t.csv.gz", gzip.compress(b"core_hz,latency_s")[:-9], "cannot read"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said):
        read_delimited(written(tmp_path / name, content), known)
    with pytest.raises(Refused, match="cannot read"):
        read_delimited(tmp_path / "nowhere.csv", known)


def test_tables_are_told_by_their_names() -> None:
    assert all(is_delimited(name) for name in ("a.csv", "b.TSV", "c.csv.gz", "d.xlsx"))
    assert not any(is_delimited(name) for name in ("a.json", "b.onnx", "csv"))
