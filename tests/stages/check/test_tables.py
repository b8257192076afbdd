from __future__ import annotations

from dataclasses import replace

import pytest

from amble.core.subject import Where
from amble.stages.check.cells import Table, percent, signed
from amble.stages.check.report import assess
from amble.stages.check.tables import Costs, tables
from tests.stages.check.builders import BEST, IDLE_W, MAX, NAMES, PLAN, costs, log, profile, schedule, without_meter

REPORT = assess([log(each) for each in (PLAN, MAX, BEST)], schedule(), idle_w=IDLE_W)


def cells(found: tuple[Table, ...]) -> str:
    return "\n".join(" | ".join(row) for table in found for row in table.rows)


def column(table: Table, name: str) -> list[str]:
    return [row[table.columns.index(name)] for row in table.rows]


@pytest.mark.parametrize("artefact", [profile(), costs(), schedule(), log(), REPORT])
def test_every_row_has_a_cell_for_each_column(artefact: object) -> None:
    found = tables(artefact)
    assert found
    for table in found:
        assert table.title
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_what_is_no_artefact_cannot_be_shown() -> None:
    with pytest.raises(ValueError, match="a list cannot be shown"):
        tables([])


def test_a_profile_lists_each_operator_with_its_extremes() -> None:
    operators = next(table for table in tables(profile()) if table.title == "Operators")
    assert column(operators, "operator") == list(NAMES)
    assert operators.rows[0][1:] == ("100 µs", "309 µs", "1.05 mJ")
    assert "uncalibrated" in cells(tables(profile()))


def test_costs_without_energy_read_unknown() -> None:
    dark = replace(costs().table, energy_j=costs().table.energy_j * float("nan"))
    points, operators = tables(Costs(NAMES, dark))
    assert set(column(points, "energy")) == {"unknown"}
    assert set(column(operators, "least energy")) == {"unknown"}


def test_a_schedule_lists_runs_of_equal_clocks() -> None:
    segments = tables(schedule())[1]
    assert column(segments, "operators") == ["0–7", "8–15", "16–23"]
    assert column(segments, "predicted") == ["7.65 ms"] * 3
    assert any("waits at core 114.75 MHz" in note for note in segments.notes)


def test_a_schedule_says_its_distance_from_the_optimum_or_that_it_is_unknown() -> None:
    assert "at most 0.090 %" in cells(tables(schedule()))
    dark = replace(schedule(), lower_bound_j=None, predicted=replace(schedule().predicted, energy_j=None))
    assert "distance from the optimum | unknown" in cells(tables(dark))
    assert set(column(tables(dark)[2], "the plan saves")) == {"unknown"}


def test_a_schedule_names_each_baseline_with_its_clocks() -> None:
    baselines = tables(schedule())[2]
    assert column(baselines, "clocks")[0] == "core 1300.5 MHz, memory 1866 MHz"
    assert column(baselines, "clocks")[2] == "its own"
    assert column(baselines, "the plan saves")[0] == "33.4 %"


def test_a_log_counts_its_late_answers_and_right_ones() -> None:
    whole = log()
    text = cells(tables(whole))
    assert f"{sum(bool(each.correct) for each in whole.served)} of 600" in text
    assert "late | 0" in text
    assert "energy of the window | unknown" in cells(tables(without_meter(whole)))


def test_a_report_begins_with_the_verdict_and_how_real_the_device_is() -> None:
    first = tables(REPORT)[0]
    assert first.rows[0][1].startswith("PASS: no answer of 600 was late")
    assert "calibrated: 6.1 % median" in first.rows[1][1]
    assert "open loop" in first.rows[2][1]


def test_savings_have_a_baseline_its_clocks_an_accounting_and_an_interval() -> None:
    savings = next(table for table in tables(REPORT) if table.title.startswith("What"))
    assert savings.rows[0][:3] == ("maximum clocks", "core 1300.5 MHz, memory 1866 MHz", "period")
    assert " to " in savings.rows[0][3]
    assert len(savings.rows) == 2 * 3


def test_unknown_energies_never_read_zero() -> None:
    dark = tables(assess([without_meter(log())], schedule()))
    energies = next(table for table in dark if table.title.startswith("Energy"))
    assert energies.rows[0][1:6] == ("unknown",) * 5


def test_an_end_that_the_data_cannot_bound_is_a_question_mark() -> None:
    latencies = next(table for table in tables(REPORT) if table.title == "Latency")
    assert column(latencies, "p99.9")[0].endswith("–?)")


def test_ratios_are_written_as_percentages() -> None:
    assert percent(0.12345, 2) == "12.35 %"
    assert (signed(0.02), signed(-0.02)) == ("+2.0 %", "−2.0 %")


def test_plans_and_costs_of_this_machine_say_that_their_times_are_cpu_time() -> None:
    plan, made_of = replace(schedule(), where=Where("host")), "CPU time of the thread"
    (facts, *_) = tables(plan)
    assert ("predicted times are", made_of) in facts.rows
    assert made_of in facts.notes[0]
    assert made_of in str(plan)
    assert made_of in [row[-1] for row in tables(replace(profile(), where=Where("host")))[0].rows]
    assert all(made_of not in text for text in (str(schedule()), str(tables(schedule()))))


def test_a_report_about_a_plan_for_this_machine_says_that_its_predictions_are_cpu_time() -> None:
    ran = replace(log(), where=Where("host"))
    assert "CPU time of the thread" in str(tables(assess([ran], schedule()))[0].notes)
    assert "CPU time" not in str(assess([log()], schedule()).notes)
