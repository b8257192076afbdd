"""A fitted table tells what its workloads cost at the settings that a plan may choose."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.table import Table
from amble.stages.fit.settings import costs_of_table, names_of
from amble.stages.fit.tables import FittedTable, fit_table
from tests.stages.fit import synthetic

CLOCKS_HZ = (400e6, 800e6, 1200e6)


def rows(workload: str, level: float, **more: str) -> list[dict[str, str]]:
    cells = ((f, f"{level / f:.6g}", f"{f / 5e7 + 10:.6g}") for f in CLOCKS_HZ)
    return [
        {"device": "d", "workload": workload, "core_hz": str(f), "latency_s": t, "power_w": p, **more}
        for f, t, p in cells
    ]


def fitted(folder, *parts) -> FittedTable:
    return fit_table(synthetic.table(folder, [row for part in parts for row in part]), hold_out=0)


def test_measured_settings_cost_what_was_measured(tmp_path):
    graph, costs = costs_of_table(fitted(tmp_path, rows("net", 4e6)), None)
    assert [operator.name for operator in graph.operators] == ["net"]
    assert [point.clocks for point in costs.points] == [Clocks(core_hz=f) for f in CLOCKS_HZ]
    assert costs.latency_s[0] == pytest.approx([4e6 / f for f in CLOCKS_HZ], rel=1e-5)
    assert costs.energy_j[0] == pytest.approx([4e6 / f * (f / 5e7 + 10) for f in CLOCKS_HZ], rel=1e-5)
    assert costs.table(graph).latency_s.shape == (1, 3)


def test_further_settings_are_predicted_and_the_margin_grows(tmp_path):
    known = fitted(tmp_path, rows("net", 4e6))
    further: Table = synthetic.table(
        tmp_path, [{"core_hz": "600e6"}, {"core_hz": "1000e6"}, {"core_hz": "500e6"}, {"core_hz": "900e6"}]
    )
    alone, more = costs_of_table(known, None)[1], costs_of_table(known, None, also=further)[1]
    assert len(more.points) == 7
    assert more.latency_s[0][2] == pytest.approx(4e6 / 600e6, rel=0.03)
    assert more.margin(0.99) > alone.margin(0.99) >= 1


def test_repeats_that_differ_more_ask_for_more_margin(tmp_path):
    margins = []
    for spread in (1.01, 1.1):
        again = [{**row, "latency_s": str(float(row["latency_s"]) * spread), "repeat": "2"} for row in rows("net", 4e6)]
        margins.append(costs_of_table(fitted(tmp_path, rows("net", 4e6, repeat="1"), again), None)[1].margin(0.99))
    assert margins[1] > margins[0] > 1.01
    notes = costs_of_table(fitted(tmp_path, rows("net", 4e6)), None)[1].notes
    assert any("no setting was measured twice" in note for note in notes)


def test_workloads_are_named_like_recorded_operators_and_chosen_by_name(tmp_path):
    known = fitted(
        tmp_path,
        rows("net", 4e6, batch="1"),
        rows("net", 7e6, batch="8"),
        rows("big", 9e6, kernel="a"),
        rows("big", 8e6, kernel="b"),
        rows("mixed", 5e6, precision="fp32"),
        rows("mixed", 3e6, precision="fp16"),
    )
    assert names_of(known) == ("net@1", "net@8", "big/a", "big/b", "mixed:fp32", "mixed:fp16")
    assert costs_of_table(known, "net@8")[0].batch == 8
    graph, costs = costs_of_table(known, "big")
    assert [operator.name for operator in graph.operators] == ["big/a", "big/b"]
    assert any("change of clocks" in note for note in costs.notes)
    assert costs_of_table(known, "mixed:fp16")[1].points[0].precision == "fp16"
    for name, said in (
        ("mixed", "several precisions"),
        (None, "6 workloads; name one"),
        ("nett", "no workload 'nett'"),
    ):
        with pytest.raises(Refused, match=said):
            costs_of_table(known, name)


def test_a_workload_without_power_has_no_energy_and_idle_power_is_used(tmp_path):
    idle = [{**row, "latency_s": "", "power_w": str(3 + place)} for place, row in enumerate(rows("idle", 1.0))]
    silent = [{**row, "power_w": ""} for row in rows("silent", 4e6)]
    known = fitted(tmp_path, rows("net", 4e6), silent, idle)
    assert costs_of_table(known, "silent")[1].energy_j == ()
    costs = costs_of_table(known, "net")[1]
    assert costs.idle_power_w == pytest.approx((3, 4, 5), rel=1e-3)
    assert list(costs_of_table(known, "all")[1].operators) == ["net", "silent"]
    with pytest.raises(Refused, match="no workload 'idle'"):
        costs_of_table(known, "idle")


def test_one_of_several_devices_is_named(tmp_path):
    other = [{**row, "device": "e"} for row in rows("net", 8e6)]
    known = fitted(tmp_path, rows("net", 4e6), other)
    assert costs_of_table(known, None, device="e")[1].latency_s[0][0] == pytest.approx(8e6 / 400e6)
    with pytest.raises(Refused, match="several devices; with --device name one of d, e"):
        costs_of_table(known, None)


def test_fixed_knobs_are_part_of_the_settings(tmp_path):
    known = fitted(tmp_path, rows("net", 4e6, memory_hz="2e9"))
    clocks = [point.clocks for point in costs_of_table(known, None)[1].points]
    assert clocks == [Clocks(core_hz=f, memory_hz=2e9) for f in CLOCKS_HZ]
    assert np.isfinite(costs_of_table(known, None)[1].latency_s).all()
