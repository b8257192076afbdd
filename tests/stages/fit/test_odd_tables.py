"""Odd tables end in good numbers or in one line that names the row and column; never in anything else."""

from __future__ import annotations

import csv
import gzip
import io

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.files import load, save
from amble.core.table import SCHEMA, read_table
from amble.stages.fit.tables import FITTED, fit_table, predict_table, write_predictions
from tests.stages.fit import synthetic

ASKED = [
    {"device": "made-up", "workload": workload, "core_hz": core, "memory_hz": memory}
    for workload in ("kernel0", "kernel1", "stranger")
    for core in ("600e6", "1400e6", "3000e6", "250e6")
    for memory in ("1600000000",)
]


def text_of(rows, columns=SCHEMA, newline="\n"):
    file = io.StringIO()
    writer = csv.writer(file, lineterminator=newline)
    writer.writerow(columns)
    writer.writerows([row.get(name, "") for name in columns] for row in rows)
    return file.getvalue()


def grid(num_workloads=2, every=1):
    return synthetic.rows(num_workloads)[::every]


def without(rows, *names):
    return [{key: value for key, value in row.items() if key not in names} for row in rows]


def changed(rows, place, **values):
    return [{**row, **values} if index == place else row for index, row in enumerate(rows)]


def only(rows, column, value):
    return [row for row in rows if row[column] == value]


def limits(num_workloads=2, *, clocks=("",)):
    return [
        {
            "workload": f"kernel{w}",
            "core_hz": clock,
            "power_limit_w": str(cap),
            "latency_s": f"{(w + 1) * (1 + 90 / cap):.5g}",
            "power_w": f"{min(cap, 180 + 10 * w):g}",
        }
        for w in range(num_workloads)
        for clock in clocks
        for cap in (100, 130, 160, 190, 220)
    ]


GOOD = {
    "grid": (grid(), ASKED),
    "unsorted": (grid()[::-3] + grid()[::2], ASKED),
    "one workload": (grid(1), ASKED),
    "one row a workload": ([grid(3)[0], grid(3)[20], grid(3)[40]], ASKED),
    "two rows": (grid(1)[:2], ASKED),
    "one row": (grid(1)[:1], ASKED),
    "three rows of which leaving one out fixes a clock": (
        [row for row in grid(1) if row["core_hz"] in ("500000000", "1500000000")][:3],
        ASKED,
    ),
    "one memory clock": (only(grid(), "memory_hz", "1600000000"), ASKED),
    "one core clock": (only(grid(), "core_hz", "900000000"), ASKED),
    "no memory column": (without(only(grid(), "memory_hz", "1600000000"), "memory_hz"), ASKED),
    "no device column": (without(grid(), "device"), without(ASKED, "device")),
    "no power": (without(grid(), "power_w"), ASKED),
    "no time": (without(grid(), "latency_s"), ASKED),
    "power of one workload only": (grid()[:18] + without(grid()[18:], "power_w"), ASKED),
    "time of some rows only": (without(grid()[::2], "latency_s") + grid()[1::2], ASKED),
    "repeats": ([{**row, "repeat": str(n)} for row in grid(2, 3) for n in (1, 2, 3)], ASKED),
    "rows twice": (grid(2, 3) * 2, ASKED),
    "constant time": ([{**row, "latency_s": "0.01"} for row in grid()], ASKED),
    "constant power": ([{**row, "power_w": "40"} for row in grid()], ASKED),
    "power limits": (limits(), [{"workload": "kernel0", "power_limit_w": value} for value in ("90", "145", "500")]),
    "power limits and clocks": (
        limits(clocks=("500e6", "1000e6", "1500e6")),
        [{"workload": "kernel1", "core_hz": "800e6", "power_limit_w": "140"}],
    ),
    "power limits beside a column of requests": (
        [{**row, "requested_core_hz": "1.2e9", "core_hz": "1.1e9"} for row in limits()],
        [{"workload": "kernel0", "requested_core_hz": "1.2e9", "power_limit_w": "150"}],
    ),
    "clocks that did not run as asked": (
        [
            {**row, "requested_core_hz": row["core_hz"], "core_hz": f"{min(float(row['core_hz']), 1e9)}"}
            for row in grid()
        ],
        [{**row, "requested_core_hz": row["core_hz"], "core_hz": ""} for row in ASKED],
    ),
    "ragged": ([row for index, row in enumerate(grid(6)) if index * 7919 % 5 < 2], ASKED),
    "three clocks": (
        [{**row, "cpu_hz": cpu} for row in grid(2, 2) for cpu in ("5e8", "1e9", "2e9")],
        [{**row, "cpu_hz": "1.5e9"} for row in ASKED],
    ),
    "unknown columns": ([{**row, "colour": "red"} for row in grid()], ASKED),
    "nan written out": (changed(grid(), 3, latency_s="nan"), ASKED),
    "huge and tiny times": (
        [{**row, "latency_s": f"{float(row['latency_s']) * 1e-7:.6g}"} for row in grid()[:18]] + grid()[18:],
        ASKED,
    ),
}
LEFT_OUT = (
    "three rows of which leaving one out fixes a clock",
    "ragged",
    "power limits",
    "one row",
    "constant time",
    "no time",
    "time of some rows only",
)
BAD = {  # rows to fit, line and column that are named
    "no time": (changed(grid(), 3, latency_s="0"), "line 5, column latency_s"),
    "negative time": (changed(grid(), 0, latency_s="-1"), "line 2, column latency_s"),
    "endless time": (changed(grid(), 0, latency_s="inf"), "line 2, column latency_s"),
    "negative power": (changed(grid(), 7, power_w="-3"), "line 9, column power_w"),
    "a word": (changed(grid(), 7, power_w="much"), "line 9, column power_w"),
    "no clock": (changed(grid(), 2, core_hz="0"), "line 4, column core_hz"),
    "an empty clock": (changed(grid(), 2, core_hz=""), "line 4, column core_hz"),
    "an endless clock": (changed(grid(), 2, core_hz="inf"), "line 4, column core_hz"),
    "MHz": ([{**row, "core_hz": f"{float(row['core_hz']) / 1e6}"} for row in grid()], "line 2, column core_hz"),
    "kHz": ([{**row, "memory_hz": f"{float(row['memory_hz']) / 1e3}"} for row in grid()], "column memory_hz"),
    "GHz for Hz": (changed(grid(), 4, core_hz="1.1"), "line 6, column core_hz"),
    "mW": ([{**row, "power_w": f"{float(row['power_w']) * 1e3}"} for row in grid()], "column power_w"),
    "one time in ms": (
        changed(grid(), 4, latency_s=f"{float(grid()[4]['latency_s']) * 1e3}"),
        "line 6, column latency_s",
    ),
    "one time in µs of many": (
        changed(grid(), 9, latency_s=f"{float(grid()[9]['latency_s']) * 1e6}"),
        "line 11, column latency_s",
    ),
    "limits in mW": ([{**row, "power_limit_w": f"{float(row['power_limit_w']) * 1e3}"} for row in limits()], "power_l"),
    "contradictions": ([*grid(), {**grid()[0], "latency_s": "0.5"}], "lines 2 and 38"),
    "nothing measured": (without(grid(), "latency_s", "power_w"), "latency_s"),
}


def check(found, name):
    for low, centre, high in (
        (found.latency_lo_s, found.latency_s, found.latency_hi_s),
        (found.power_lo_w, found.power_w, found.power_hi_w),
    ):
        said = ~np.isnan(centre)
        assert np.isfinite(centre[said]).all(), name
        assert (centre[said] > 0).all(), name
        assert (low[said] > 0).all(), name
        assert (low[said] <= centre[said]).all(), name
        assert (centre[said] <= high[said]).all(), name
        assert np.isfinite(high[said]).all(), name
        assert said.all() or not said.any(), name


@pytest.mark.parametrize("name", GOOD)
def test_odd_tables_are_fitted_and_every_row_is_answered(tmp_path, name):
    measured, asked = GOOD[name]
    columns = (*SCHEMA, "colour") if "unknown" in name else SCHEMA
    (tmp_path / "measured.csv").write_text(text_of(measured, columns))
    (tmp_path / "asked.csv").write_text(text_of(asked))
    table = read_table(tmp_path / "measured.csv")
    fitted = fit_table(table, hold_out=5 if name in LEFT_OUT else 0)  # a few stand for all: it takes five fits more
    save(fitted, tmp_path / "costs.json", FITTED)
    points = read_table(tmp_path / "asked.csv")
    found, _ = predict_table(load(tmp_path / "costs.json", FITTED), points)
    check(found, name)
    assert np.isfinite(found.latency_s).all() == any(row.get("latency_s") for row in measured)
    assert np.isfinite(found.power_w).all() == any(row.get("power_w") for row in measured)
    write_predictions(points, found, tmp_path / "out.csv")
    assert read_table(tmp_path / "out.csv").num_rows == len(asked)


@pytest.mark.parametrize("name", BAD)
def test_tables_that_cannot_be_right_are_refused_in_one_line(tmp_path, name):
    measured, named = BAD[name]
    (tmp_path / "measured.csv").write_text(text_of(measured))
    with pytest.raises(Refused) as refused:
        fit_table(read_table(tmp_path / "measured.csv"), hold_out=0)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("how", ["crlf", "bom", "gz", "spaces"])
def test_how_a_table_is_written_changes_nothing(tmp_path, how):
    rows = grid(1, 4)
    (tmp_path / "plain.csv").write_text(text_of(rows))
    path = tmp_path / ("other.csv.gz" if how == "gz" else "other.csv")
    text = text_of(rows, newline="\r\n" if how == "crlf" else "\n")
    text = text.replace(",", " , ") if how == "spaces" else text
    data = (b"\xef\xbb\xbf" if how == "bom" else b"") + text.encode()
    path.write_bytes(gzip.compress(data) if how == "gz" else data)
    plain, other = (fit_table(read_table(each), hold_out=0) for each in (tmp_path / "plain.csv", path))
    assert other.points == plain.points
    assert other.latency_s == plain.latency_s
    assert other.workloads == plain.workloads


def test_points_without_a_knob_that_varied_are_refused_with_its_name(tmp_path):
    (tmp_path / "measured.csv").write_text(text_of(grid(1)))
    (tmp_path / "asked.csv").write_text("workload,core_hz\nkernel0,900e6\n")
    fitted = fit_table(read_table(tmp_path / "measured.csv"), hold_out=0)
    with pytest.raises(
        Refused, match="line 2, column memory_hz is empty although it varied where the fit was measured"
    ):
        predict_table(fitted, read_table(tmp_path / "asked.csv"))


@pytest.mark.parametrize("value", ["-5", "0", "inf", "900", "fast", ""])
def test_points_that_cannot_be_right_are_refused_with_their_line(tmp_path, value):
    (tmp_path / "measured.csv").write_text(text_of(grid(1)))
    (tmp_path / "asked.csv").write_text(text_of(changed(ASKED, 2, core_hz=value)))
    fitted = fit_table(read_table(tmp_path / "measured.csv"), hold_out=0)
    with pytest.raises(Refused, match="line 4, column core_hz"):
        predict_table(fitted, read_table(tmp_path / "asked.csv"))
