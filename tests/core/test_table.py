import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.table import NUMBERS, SCHEMA, read_table, write_table

HEADER = ",".join(SCHEMA)
ROW = "v100,net,conv,fp32,8,1.3e9,877000000,,150,0.5,100,1,1.4e9"


@pytest.fixture
def table(tmp_path):
    def write(text: str, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_columns_are_arrays_and_empty_cells_are_nan_or_nothing(table):
    read = read_table(table(f"{HEADER}\n{ROW}\nv100,net,,,,,,,,2,,,\n"))
    assert read.num_rows == 2
    assert read.workloads()[0] == ("v100", "net", "conv", "fp32", "8")
    assert read.kernel.tolist() == ["conv", ""]
    np.testing.assert_array_equal(read.latency_s, [0.5, 2.0])
    np.testing.assert_array_equal(read.cpu_hz, [np.nan, np.nan])
    assert read.line.tolist() == [2, 3]


def test_the_knob_of_the_core_clock_is_what_was_requested_where_that_is_known(table):
    read = read_table(table(f"{HEADER}\n{ROW}\nv100,net,,,,1.2e9,,,,2,,,\n"))
    assert read.knob("core_hz").tolist() == [1.4e9, 1.2e9]
    assert read.number("core_hz").tolist() == [1.3e9, 1.2e9]
    with pytest.raises(ValueError, match="not a numeric column"):
        read.number("kernel")


def test_missing_columns_are_empty_unknown_ones_named_and_order_is_free(table):
    read = read_table(table("latency_s,colour,workload\n0.5,red,net\n"))
    assert read.notes == ("columns that are not read: colour",)
    assert read.unread[0].cells.tolist() == ["red"]
    assert read.workloads() == (("", "net", "", "", ""),)
    assert np.isnan(read.power_w).all()


def test_blank_lines_and_a_byte_order_mark_are_no_rows(table):
    read = read_table(table(f"\ufeff{HEADER}\n\n{ROW}\n,,,,,,,,,,,,\n"))
    assert read.line.tolist() == [3]


def test_blank_lines_before_the_header_are_passed_over(table):
    read = read_table(table(f"\n,,\n{HEADER}\n{ROW}\n"))
    assert (read.line.tolist(), read.latency_s.tolist()) == ([4], [0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; its first line must be: device,"),
        ("\n , \n", "is empty"),
        (
            "latency,colour\n1,2\n",
            "line 1 names latency: it has no unit; name it latency_s, or latency_ms and the like",
        ),
        ("p99_latency_ms,colour\n1,2\n", "line 1 names no knob, time or power"),
        ("lat_ms,latency_avg_us\n1,2\n", "the columns lat_ms and latency_avg_us could both be latency_s"),
        ("latency_ms\nfast\n", "line 2, column latency_ms (read as latency_s): 'fast' is not a number"),
        (f"\n# measured today\n{HEADER}\n{ROW}\n", "line 2 names no knob, time or power"),
        ("a,b\n1,2\n", "line 1 names no knob, time or power; the header must be: device,"),
        ("latency_s,latency_s\n1,2\n", "names the column latency_s twice"),
        (f"{HEADER}\n", "has a header and no rows"),
        (f"{HEADER}\n{ROW}\n1,2\n", "line 3 has 2 cells, the header has 13"),
        (f"{HEADER}\n{ROW}\n{ROW.replace('0.5', 'fast')}\n", "line 3, column latency_s: 'fast' is not a number"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(table, text, message):
    with pytest.raises(Refused, match=r"table\.csv") as refusal:
        read_table(table(text))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_files_that_cannot_be_read_are_refused(tmp_path, table):
    with pytest.raises(Refused, match=r"cannot read .*absent\.csv: No such file or directory$"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(Refused, match="cannot read"):
        read_table(table("no gzip", "bad.csv.gz"))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(f"{HEADER}\n{ROW}\n".encode() * 50)[:60])
    with pytest.raises(Refused, match="cannot read"):
        read_table(cut)
    whole = bytearray(gzip.compress(f"{HEADER}\n{ROW}\n".encode() * 50))
    whole[30:40] = b"\xff" * 10
    (tmp_path / "damaged.csv.gz").write_bytes(whole)
    with pytest.raises(Refused, match="cannot read"):
        read_table(tmp_path / "damaged.csv.gz")
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\n".encode() + b"\xff" + ROW.encode())
    with pytest.raises(Refused, match=r"latin\.csv: it is not text in UTF-8; save it as CSV \(UTF-8\)"):
        read_table(tmp_path / "latin.csv")


@pytest.mark.parametrize("name", ["copy.csv", "copy.csv.gz"])
def test_what_is_written_reads_the_same(table, tmp_path, name):
    read = read_table(table(f"{HEADER}\n{ROW}\nv100,net,,,,,,,,2.123456,,,\n"))
    write_table(read, tmp_path / name, extra=[("latency_lo_s", np.array([0.4, np.nan]))])
    copy = read_table(tmp_path / name)
    assert copy.workloads() == read.workloads()
    for column in NUMBERS:
        np.testing.assert_allclose(copy.number(column), read.number(column), rtol=1e-6)
    plain = tmp_path / name
    text = gzip.decompress(plain.read_bytes()).decode() if name.endswith("gz") else plain.read_text()
    assert text.splitlines()[0] == f"{HEADER},latency_lo_s"
    assert text.splitlines()[1].endswith(",0.4")
    assert text.splitlines()[2].endswith(",")


def test_a_table_that_cannot_be_saved_leaves_the_old_one(table, tmp_path):
    read = read_table(table(f"{HEADER}\n{ROW}\n"))
    with pytest.raises(Refused, match="cannot save"):
        write_table(read, tmp_path / "table.csv" / "below")
    assert os.listdir(tmp_path) == ["table.csv"]


def test_chosen_rows_keep_their_lines_and_values_can_be_replaced(table):
    read = read_table(table(f"{HEADER}\n{ROW}\nv100,other,,,,1e9,,,,2,7,,\n"))
    chosen = read.rows(read.workload == "other")
    assert (chosen.line.tolist(), chosen.latency_s.tolist()) == ([3], [2.0])
    changed = chosen.with_values(latency_s=np.array([3.0]), power_w=np.array([9.0]))
    assert (changed.latency_s.tolist(), chosen.latency_s.tolist()) == ([3.0], [2.0])


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_separator_is_found(table, separator):
    read = read_table(table(f"{HEADER}\n{ROW}\n".replace(",", separator), "table.txt"))
    assert (read.core_hz.tolist(), read.latency_s.tolist(), read.notes) == ([1.3e9], [0.5], ())


def test_blanks_separate_where_nothing_else_does(table):
    read = read_table(table("workload   core_mhz  latency_ms\nnet        300       41.2\nnet        600       21.5\n"))
    assert (read.core_hz.tolist(), read.latency_s.tolist()) == ([3e8, 6e8], [0.0412, 0.0215])


def test_decimal_commas_are_read_where_commas_do_not_separate_and_said(table):
    read = read_table(table("sep=;\nworkload;latency_s;power_w\nnet;0,5;1,25e2\n"))
    assert (read.latency_s.tolist(), read.power_w.tolist()) == ([0.5], [125.0])
    assert read.notes == ("read decimal commas as points",)
    with pytest.raises(Refused, match="'0,5' is not a number"):
        read_table(table('workload,latency_s\nnet,"0,5"\n'))


@pytest.mark.parametrize(("coding", "name"), [("utf-16", "a.csv"), ("utf-8-sig", "a.tsv"), ("utf-16", "a.txt.gz")])
def test_utf_16_byte_order_marks_and_gzip_change_nothing(tmp_path, coding, name):
    content = f"{HEADER}\n{ROW}\n".replace(",", "\t").encode(coding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    read = read_table(tmp_path / name)
    assert (read.device.tolist(), read.latency_s.tolist()) == (["v100"], [0.5])


@pytest.mark.parametrize(
    ("name", "content"), [("a.xlsx", b"PK\x03\x04rest"), ("a.csv", b"PK\x03\x04rest"), ("a.xls", b"?")]
)
def test_a_spreadsheet_is_refused_with_the_way_out(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=r"not delimited text; export the sheet as CSV \(UTF-8\)"):
        read_table(tmp_path / name)


def test_batch_sizes_are_written_alike(table):
    assert read_table(table("batch,latency_s\n8.0,1\n8,2\n")).batch.tolist() == ["8", "8"]


def test_energy_and_time_tell_power_and_it_is_said(table):
    read = read_table(table("core_hz,latency_ms,energy_mJ\n3e8,10,50\n"))
    assert read.power_w.tolist() == [5.0]
    assert any("power_w is energy_mJ, taken for the energy of one run, over latency_s" in note for note in read.notes)
    both = read_table(table("core_hz,latency_ms,energy_mJ,power_w\n3e8,10,50,7\n"))
    assert both.power_w.tolist() == [7.0]
    assert any("column energy_mJ is not read" in note for note in both.notes)


def test_a_unit_that_is_written_again_in_every_cell_is_read_and_another_is_refused(table):
    read = read_table(table("clocks.sm [MHz],power.draw [W],latency_s\n1410 MHz, 62.10 W,1e-3\n"))
    assert (read.core_hz.tolist(), read.power_w.tolist()) == ([1.41e9], [62.1])
    with pytest.raises(Refused, match=r"'62.10 mW' is not a number"):
        read_table(table("core_mhz,power.draw [W]\n1410,62.10 mW\n"))


@pytest.mark.parametrize(
    ("cell", "remedy"),
    [
        ('"300,000,000"', "separators of thousands"),
        ("300'000'000", "separators of thousands"),
        ("300\u202f000\u202f000", "separators of thousands"),
        ("300 MHz", "name the column core_mhz, not core_hz"),
        ("MHz", "name the column core_mhz, not core_hz"),
        ("core_hz", "leave out headers that are repeated"),
        ("300 ms", "leave unknowns empty"),
        ("N/A", "leave unknowns empty"),
    ],
)
def test_a_cell_that_is_no_number_comes_with_what_to_do(table, cell, remedy):
    with pytest.raises(Refused, match=f"line 2, column core_hz: .* is not a number; .*{remedy}"):
        read_table(table(f"core_hz,latency_s\n{cell},0.1\n"))
