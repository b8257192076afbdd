from __future__ import annotations

import msgspec

from amble.stages.check.compare import comparison, comparison_table
from amble.stages.check.report import assess
from tests.stages.check.builders import BEST, IDLE_W, MAX, PLAN, log, schedule, without_meter

REPORT = assess([log(each) for each in (PLAN, MAX, BEST)], schedule(), idle_w=IDLE_W)


def test_there_is_a_row_for_each_policy_and_the_checked_one_is_last() -> None:
    rows = comparison(REPORT)
    assert [row.policy for row in rows] == ["maximum clocks", "best single clock", "amble"]
    assert [row.checked for row in rows] == [False, False, True]


def test_only_baselines_have_a_saving_and_only_the_plan_a_gap() -> None:
    *others, mine = comparison(REPORT)
    assert all(row.saving is not None and row.gap is None for row in others)
    assert mine.saving is None
    assert mine.gap == REPORT.gap


def test_a_row_repeats_what_the_report_says() -> None:
    row = comparison(REPORT)[0]
    each = REPORT.of("maximum clocks")
    assert each.period_j is not None
    assert row.energy_j == each.period_j.value
    assert row.p99_s == each.percentile(0.99).latency_s.value
    assert row.late == each.late.ratio.value
    assert row.saving == REPORT.saving("maximum clocks").ratio


def test_rows_are_plain_data() -> None:
    record = msgspec.to_builtins(comparison(REPORT)[0])
    assert record["deadline_s"] == 0.028
    assert record["verdict"] == "PASS"


def test_the_table_marks_the_plan_and_says_how_real_the_device_is() -> None:
    table = comparison_table(comparison(REPORT))
    assert table.marked == (2,)
    assert table.title == "resnet-small on sim:jetson-tx2"
    assert "sim:jetson-tx2: calibrated" in table.notes[0]
    assert table.rows[2][table.columns.index("gap")] == "≤ 0.09 %"


def test_a_column_that_nobody_can_fill_is_left_out() -> None:
    dark = comparison_table(comparison(assess([without_meter(log())], schedule().deadline)))
    assert "gap" not in dark.columns
    assert "plan saves" not in dark.columns
    assert dark.rows[0][dark.columns.index("energy")] == "unknown"
    assert comparison_table([]).rows == ()
