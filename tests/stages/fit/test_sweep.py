"""Tables become arrays, and points to measure are the far ones."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.stages.fit.sweep import farthest_points, knobs_of, points_needed, sweep_of
from tests.stages.fit import synthetic


def test_only_knobs_that_vary_are_knobs(tmp_path):
    table = synthetic.table(tmp_path, synthetic.rows(1, memories_hz=np.array([3.2e9])))
    assert knobs_of(table) == ("core_hz",)


def test_repeats_become_a_median_and_a_spread(tmp_path):
    row = {"workload": "a", "core_hz": "500000000"}
    rows = [{**row, "latency_s": value, "repeat": str(n)} for n, value in enumerate(("1", "3", "2"))]
    sweep = sweep_of(synthetic.table(tmp_path, [*rows, {**row, "core_hz": "900000000", "latency_s": "1"}]))
    assert sweep.latency_s[0].tolist() == [2.0, 1.0]
    assert sweep.latency_spread[0, 0] == pytest.approx(np.std(np.log([1, 2, 3]), ddof=1))


def test_the_requested_clock_is_the_knob_and_the_other_is_what_ran(tmp_path):
    rows = [
        {"workload": "a", "requested_core_hz": "2100000000", "core_hz": "1740000000", "latency_s": "1"},
        {"workload": "a", "requested_core_hz": "900000000", "core_hz": "900000000", "latency_s": "2"},
    ]
    sweep = sweep_of(synthetic.table(tmp_path, rows))
    assert sweep.points[:, 0].tolist() == [9e8, 2.1e9]
    assert sweep.ran_core_hz.tolist() == [9e8, 1.74e9]


def test_an_empty_knob_that_varies_elsewhere_is_refused_with_its_line(tmp_path):
    rows = synthetic.rows(1)
    rows[4]["memory_hz"] = ""
    with pytest.raises(Refused, match=r"line 6, column memory_hz is empty"):
        sweep_of(synthetic.table(tmp_path, rows))


def test_farthest_points_start_with_the_highest_and_the_lowest_then_spread():
    points = np.array([[float(x)] for x in (100, 110, 200, 390, 400)])
    assert farthest_points(points, 3).tolist() == [4, 0, 2]


def test_farthest_points_of_a_grid_are_its_corners_first():
    points = np.array([[c, m] for c in (1.0, 2.0, 4.0) for m in (1.0, 3.0)])
    corners = {(1.0, 1.0), (1.0, 3.0), (4.0, 1.0), (4.0, 3.0)}
    assert {tuple(points[i]) for i in farthest_points(points, 4)} == corners


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        (("core_hz",), 3),
        (("power_limit_w",), 4),
        (("core_hz", "power_limit_w"), 4),
        (("core_hz", "memory_hz"), 5),
        (("core_hz", "memory_hz", "cpu_hz"), 12),
    ],
)
def test_points_needed_by_kind_of_sweep(knobs, expected):
    assert points_needed(knobs) == expected
