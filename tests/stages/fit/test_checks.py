"""Bad tables are refused in one line that names file, line, column and suspicion."""

from __future__ import annotations

import pytest

from amble.core.errors import Refused
from amble.stages.fit.checks import checked
from tests.stages.fit import synthetic


def changed(row: int, **cells: str) -> list[dict[str, str]]:
    rows = synthetic.rows(2)
    rows[row].update(cells)
    return rows


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"latency_s": "0"}, r"measured\.csv: line 5, column latency_s: 0 is not a positive number"),
        ({"latency_s": "-0.1"}, r"line 5, column latency_s: -0\.1 is not a positive"),
        ({"power_w": "inf"}, r"line 5, column power_w: inf is not a positive"),
        ({"core_hz": "1300"}, r"line 5, column core_hz: 1300 looks like MHz"),
        ({"core_hz": "1300000"}, r"line 5, column core_hz: 1\.3e\+06 looks like kHz"),
        ({"memory_hz": "3.2e12"}, r"line 5, column memory_hz: 3\.2e\+12 looks a thousand times too large"),
        ({"power_w": "80000"}, r"line 5, column power_w: 80000 looks like mW"),
        ({"power_limit_w": "250000"}, r"line 5, column power_limit_w: 250000 looks like mW"),
        ({"latency_s": "12.5"}, r"line 5, column latency_s: 12\.5 is \d+ times too large .* another unit \(milli\)"),
        ({"latency_s": "1.2e-5"}, r"line 5, column latency_s: 1\.2e-05 is \d+ times too small"),
    ],
)
def test_a_wrong_cell_is_named_with_the_suspicion(tmp_path, cells, said):
    with pytest.raises(Refused, match=said) as raised:
        checked(synthetic.table(tmp_path, changed(3, **cells)))
    assert "\n" not in str(raised.value)


def test_power_in_kilowatts_shows_beside_the_limit(tmp_path):
    rows = [{**row, "power_limit_w": "250"} for row in synthetic.rows(1)]
    rows[0]["power_w"] = "0.06"
    with pytest.raises(Refused, match="looks like kW"):
        checked(synthetic.table(tmp_path, rows))


def test_a_good_table_passes_without_notes(tmp_path):
    table = synthetic.table(tmp_path, synthetic.rows(3, noise=0.02))
    kept, notes = checked(table)
    assert kept.num_rows == table.num_rows
    assert notes == ()


def test_a_row_repeated_word_for_word_is_dropped_and_said(tmp_path):
    rows = synthetic.rows(1)
    kept, notes = checked(synthetic.table(tmp_path, [*rows, rows[2]]))
    assert kept.num_rows == len(rows)
    assert notes == ("dropped 1 rows that repeat another word for word",)


def test_a_second_measurement_nearby_is_taken_as_a_repeat(tmp_path):
    rows = synthetic.rows(1)
    again = {**rows[2], "latency_s": str(float(rows[2]["latency_s"]) * 1.1)}
    kept, notes = checked(synthetic.table(tmp_path, [*rows, again]))
    assert kept.num_rows == len(rows) + 1
    assert "repeats" in notes[0]


def test_contradictory_rows_are_refused_with_both_lines(tmp_path):
    rows = synthetic.rows(1)
    again = {**rows[2], "latency_s": str(float(rows[2]["latency_s"]) * 2)}
    with pytest.raises(Refused, match=r"lines 4 and 20, column latency_s: .* contradict each other"):
        checked(synthetic.table(tmp_path, [*rows, again]))


def test_a_table_without_any_value_is_refused(tmp_path):
    rows = [{**row, "latency_s": "", "power_w": ""} for row in synthetic.rows(1)]
    with pytest.raises(Refused, match="neither a time nor a power"):
        checked(synthetic.table(tmp_path, rows))


def test_a_wide_range_that_the_clocks_explain_is_no_wrong_unit(tmp_path):
    rows = [
        {"workload": "a", "core_hz": str(core), "memory_hz": str(memory), "latency_s": str(1e16 / core / memory)}
        for core in (50e6, 400e6, 1600e6)
        for memory in (50e6, 400e6, 1600e6)
    ]
    assert checked(synthetic.table(tmp_path, rows))[1] == ()
