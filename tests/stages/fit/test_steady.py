"""Measurements that went wrong are seen, said and left out; the other settings are predicted as if they had not been.

The spoiled tables are made here, from sweeps that come with amble and from a device that is made up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.table import read_table
from amble.devices import recorded
from amble.stages.fit.checks import checked
from amble.stages.fit.models import Measured, predict
from amble.stages.fit.steady import steady
from amble.stages.fit.sweep import Sweep, farthest_points, sweep_of
from amble.stages.fit.tables import fit_table, predict_table
from tests.stages.fit import synthetic

SHIPPED = Path(recorded.__file__).parent / "tables"
ONE_MEMORY_CLOCK = synthetic.MEMORIES_HZ[2:]


def sweep(name: str, *, every: int = 1) -> Sweep:
    """One memory clock of a sweep that is shipped, and some of its workloads."""
    table = read_table(SHIPPED / f"{name}.csv.gz")
    if not np.isnan(table.memory_hz).all():
        table = table.rows(table.memory_hz == np.nanmax(table.memory_hz))
    keys = sorted(set(table.workloads()))[::every]
    return sweep_of(table.rows(np.array([key in keys for key in table.workloads()])))


@dataclass(frozen=True)
class Spoilt:
    """One workload's settings, of which some are measured wrong by a factor."""

    source: Sweep
    row: int
    chosen: np.ndarray
    spoilt: np.ndarray
    output: str  # latency_s or power_w
    factor: float
    repeats: int = 3
    spoilt_repeats: int = 3

    def rows(self) -> list[dict[str, str]]:
        rng = np.random.default_rng(3)
        found = []
        for point in self.chosen:
            for repeat in range(self.repeats):
                cells = {"device": "d", "workload": "w", "repeat": str(repeat + 1)}
                cells |= dict(zip(self.source.knobs, map(repr, self.source.points[point].tolist()), strict=True))
                for name in ("latency_s", "power_w"):
                    value = float(getattr(self.source, name)[self.row, point] * np.exp(0.005 * rng.standard_normal()))
                    wrong = point in self.spoilt and repeat < self.spoilt_repeats and name == self.output
                    cells[name] = repr(value * (self.factor if wrong else 1.0))
                found.append(cells)
        return found

    def errors(self, folder: Path) -> tuple[float, float, tuple[str, ...]]:
        """Mean error at the settings that were not measured: of the fit, and of interpolating what is steady."""
        fitted = fit_table(synthetic.table(folder, self.rows()), hold_out=0)
        held = np.setdiff1d(np.arange(len(self.source.points)), self.chosen)
        asked = [
            {"device": "d", "workload": "w", **dict(zip(self.source.knobs, map(repr, point), strict=True))}
            for point in self.source.points[held].tolist()
        ]
        found = getattr(predict_table(fitted, synthetic.table(folder, asked))[0], self.output)
        good = self.chosen if self.spoilt_repeats < self.repeats else np.setdiff1d(self.chosen, self.spoilt)
        values = {name: getattr(self.source, name)[[self.row]][:, good] for name in ("latency_s", "power_w")}
        measured = Measured(self.source.knobs, self.source.points[good], **values)
        lines = getattr(predict("interpolate", measured, at=self.source.points[held]), self.output)[0]
        true = getattr(self.source, self.output)[self.row, held]
        ours, straight = (float(np.mean(np.abs(np.log(each / true)))) for each in (found, lines))
        return ours, straight, fitted.notes


@pytest.mark.parametrize("factor", [2.0, 5.0, 50.0])
@pytest.mark.parametrize(
    ("name", "output", "place"),
    [
        ("gtx-titan-x-ulisboa-micro", "latency_s", 0),
        ("gtx-titan-x-ulisboa-micro", "latency_s", 2),
        ("gtx-titan-x-ulisboa-micro", "power_w", 1),
        ("gtx-titan-x-ulisboa-micro", "power_w", 2),
        ("v100-zeus-training", "latency_s", 2),
        ("v100-zeus-training", "power_w", 2),
    ],
)
def test_one_setting_of_three_that_went_wrong_spoils_no_other(tmp_path, name, output, place, factor):
    source = sweep(name, every=9)
    chosen = farthest_points(source.points, 3)
    for row in (0, source.num_workloads // 2):
        case = Spoilt(source, row, chosen, chosen[[place]], output, factor)
        mine, lines, notes = case.errors(tmp_path)
        assert any("that cannot be beside the others" in note and "lines" in note for note in notes)
        assert mine <= 1.2 * lines + 0.02


@pytest.mark.parametrize("output", ["latency_s", "power_w"])
@pytest.mark.parametrize("factor", [2.0, 0.2, 10.0])
def test_a_third_of_twelve_settings_that_went_wrong_spoils_no_other(tmp_path, output, factor):
    source = sweep("gtx-titan-x-ulisboa-micro", every=20)
    chosen = farthest_points(source.points, 12)
    case = Spoilt(source, 2, chosen, chosen[[1, 4, 7, 10]], output, factor, repeats=1, spoilt_repeats=1)
    mine, lines, notes = case.errors(tmp_path)
    assert any("of 4 settings that cannot be beside the others" in note for note in notes)
    assert mine <= 1.2 * lines + 0.02


@pytest.mark.parametrize("repeats", [2, 3, 5])
@pytest.mark.parametrize("output", ["latency_s", "power_w"])
def test_one_repeat_that_went_wrong_changes_nothing(tmp_path, output, repeats):
    source = sweep("gtx-titan-x-ulisboa-micro", every=20)
    chosen = farthest_points(source.points, 4)
    for factor in (2.0, 50.0):
        case = Spoilt(source, 1, chosen, chosen[[2]], output, factor, repeats=repeats, spoilt_repeats=1)
        mine, lines, notes = case.errors(tmp_path)
        assert any("of 1 repeats that" in note for note in notes)
        assert mine <= 1.2 * lines + 0.02


def rows(clocks_hz, times_s, powers_w, **more) -> list[dict[str, str]]:
    columns = zip(clocks_hz, times_s, powers_w, strict=True)
    return [{"workload": "w", "core_hz": str(f), "latency_s": str(t), "power_w": str(p), **more} for f, t, p in columns]


def test_first_runs_that_are_cold_are_left_out_and_said(tmp_path):
    clocks = [400e6, 800e6, 1200e6]
    first = rows(clocks, [4.0, 2.6, 1.7], [5, 8, 13], repeat="1")
    second = rows(clocks, [2.5, 1.3, 0.9], [6, 9, 15], repeat="2")
    kept = steady(synthetic.table(tmp_path, [*first, *second]))
    assert kept.table.latency_s.tolist() == [2.5, 1.3, 0.9]
    assert kept.notes == ("first runs are cold: left out 3, which took 1.9 times as long as the next",)


def test_repeats_in_step_with_one_another_are_kept(tmp_path):
    clocks = [400e6, 800e6, 1200e6]
    both = [
        *rows(clocks, [2.5, 1.3, 0.9], [6, 9, 15], repeat="1"),
        *rows(clocks, [2.6, 1.28, 0.95], [6, 9.2, 14], repeat="2"),
    ]
    kept = steady(synthetic.table(tmp_path, both))
    assert (kept.table.num_rows, kept.notes, kept.doubt) == (6, (), {})


def test_of_two_repeats_the_one_that_fits_the_others_is_taken(tmp_path):
    odd = rows([400e6, 800e6, 800e6, 1200e6], [2.5, 9.0, 1.3, 0.9], [6, 9, 9, 15])
    odd = [{**row, "repeat": "2" if at == 2 else "1"} for at, row in enumerate(odd)]
    kept = steady(synthetic.table(tmp_path, odd))
    assert np.nanmax(kept.table.latency_s) == 2.5
    assert "left out the time of 1 repeats" in kept.notes[0]
    assert "lines 3" in kept.notes[0]


def test_a_card_that_ran_far_below_the_clock_asked_for_is_left_out_and_said(tmp_path):
    asked, ran = [600e6, 900e6, 1200e6, 1500e6], [600e6, 450e6, 1200e6, 1500e6]
    measured = [
        {
            "workload": "w",
            "requested_core_hz": str(a),
            "core_hz": str(r),
            "latency_s": str(1e9 / r),
            "power_w": str(r / 2e7),
        }
        for a, r in zip(asked, ran, strict=True)
    ]
    fitted = fit_table(synthetic.table(tmp_path, measured), hold_out=0)
    assert "left out 1 rows that ran far below the clock asked for (first: line 3, 450 of 900 MHz)" in fitted.notes[0]
    points = [{"workload": "w", "requested_core_hz": str(a)} for a in (750e6, 900e6, 1000e6)]
    found, _ = predict_table(fitted, synthetic.table(tmp_path, points))
    assert found.latency_s == pytest.approx([1e9 / 750e6, 1e9 / 900e6, 1e9 / 1000e6], rel=0.03)


def test_a_limit_that_bites_from_above_is_no_fault(tmp_path):
    asked, ran = [600e6, 1200e6, 1500e6, 2100e6], [600e6, 1200e6, 1200e6, 1190e6]
    measured = [
        {"workload": "w", "requested_core_hz": str(a), "core_hz": str(r), "latency_s": str(1e9 / r)}
        for a, r in zip(asked, ran, strict=True)
    ]
    kept = steady(synthetic.table(tmp_path, measured))
    assert (kept.table.num_rows, kept.notes) == (4, ())


def test_nothing_is_left_out_of_a_device_that_is_measured_well(tmp_path):
    kept = steady(synthetic.table(tmp_path, synthetic.rows(6, noise=0.02)))
    assert (kept.notes, kept.doubt) == ((), {})


def test_where_too_much_would_have_to_go_everything_stays(tmp_path):
    jumping = rows([400e6, 500e6, 600e6, 700e6], [1.0, 9.0, 1.0, 9.0], [5, 6, 7, 8])
    assert steady(synthetic.table(tmp_path, jumping)).table.num_rows == 4


def test_intervals_are_wider_where_settings_were_left_out(tmp_path):
    measured = rows([400e6, 600e6, 800e6, 1000e6, 1200e6], [2.5, 1.7, 1.3, 40.0, 0.9], [6, 7, 9, 12, 15])
    doubted = fit_table(synthetic.table(tmp_path, measured), hold_out=0)
    assert doubted.doubt == ((1.4, 1.0),)
    asked = synthetic.table(tmp_path, rows([700e6], [1], [1]))
    one, other = (predict_table(each, asked)[0] for each in (replace(doubted, doubt=()), doubted))
    assert np.log(other.latency_hi_s / other.latency_s) == pytest.approx(1.4 * np.log(one.latency_hi_s / one.latency_s))
    assert other.power_hi_w == pytest.approx(one.power_hi_w)


def test_repeats_without_numbers_are_repeats_where_settings_have_several(tmp_path):
    clocks = [400e6, 800e6, 1200e6]
    times = ([2.5, 1.3, 0.9], [2.6, 13.0, 0.91], [2.4, 1.31, 0.92])
    table = synthetic.table(tmp_path, [row for each in times for row in rows(clocks, each, [6, 9, 15])])
    kept, notes = checked(table)
    assert any("repeats" in note for note in notes)
    assert np.nanmax(steady(kept).table.latency_s) < 3
    twice = synthetic.table(tmp_path, [*rows(clocks, times[0], [6, 9, 15]), *rows(clocks[1:2], [13.0], [9])])
    with pytest.raises(Refused, match="contradict each other"):
        checked(twice)


@pytest.mark.parametrize("lines", [3, 6])
def test_rows_that_differ_in_a_column_that_is_not_read_are_no_contradiction_but_named(tmp_path, lines):
    path = tmp_path / "t.csv"
    text = "w,4e8,1.0,224\nw,4e8,4.0,448\nw,8e8,0.5,224\nw,8e8,2.1,448\nw,12e8,0.4,224\nw,12e8,1.4,448\n"
    path.write_text("workload,core_hz,latency_s,resolution\n" + "".join(text.splitlines(keepends=True)[:lines]))
    with pytest.raises(Refused, match="differ in resolution, which is not read: write it into workload or kernel"):
        checked(read_table(path))


def test_a_disturbed_power_is_no_other_unit(tmp_path):
    measured = rows([400e6, 800e6, 1200e6, 1600e6], [2.5, 1.3, 0.9, 0.7], [60, 90, 7000, 190])
    fitted = fit_table(synthetic.table(tmp_path, measured), hold_out=0)
    assert any("left out the power of 1 settings" in note for note in fitted.notes)


def test_a_faster_clock_that_is_somewhat_slower_is_kept_and_said(tmp_path):
    kept = steady(synthetic.table(tmp_path, rows([400e6, 800e6, 1200e6], [2.5, 1.3, 1.43], [6, 9, 15])))
    assert kept.table.num_rows == 3
    assert kept.doubt == {}
    assert kept.notes == (
        "1 workloads take longer at a faster setting, which is kept; most of all w at core 1200 MHz (line 4), 10% more "
        "than at core 800 MHz: a limit of power or heat?",
    )
    assert steady(synthetic.table(tmp_path, rows([400e6, 800e6, 1200e6], [2.5, 1.3, 1.31], [6, 9, 15]))).notes == ()
