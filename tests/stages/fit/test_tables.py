"""Measured tables, fitted from few points, predict the rest; what cannot be said is said."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.files import load, save
from amble.core.table import SCHEMA, read_table
from amble.stages.fit.models import MODELS
from amble.stages.fit.sweep import farthest_points, points_needed, sweep_of
from amble.stages.fit.tables import FITTED, fit_table, interpolation_share, predict_table, write_predictions
from tests.stages.fit import synthetic


def split(folder, measured, *, num_points=None):
    """Give the far points to the fit, and keep the others."""
    table = synthetic.table(folder, measured)
    sweep = sweep_of(table)
    chosen = sweep.points[farthest_points(sweep.points, num_points or points_needed(sweep.knobs))]
    asked = np.stack([table.knob(name) for name in sweep.knobs], axis=1)
    given = (asked[:, None, :] == chosen[None]).all(axis=2).any(axis=1)
    return table.rows(given), table.rows(~given)


def errors(given, rest, model):
    found, _ = predict_table(fit_table(given, model=model, hold_out=0), rest)
    return np.abs(found.latency_s / rest.latency_s - 1), np.abs(found.power_w / rest.power_w - 1), found


def test_five_points_of_two_clocks_predict_the_grid(tmp_path):
    time_error, power_error, _ = errors(*split(tmp_path, synthetic.rows(8)), "amble")  # type: ignore[call-arg]
    assert np.median(time_error) < 0.02
    assert np.percentile(time_error, 95) < 0.08
    assert np.median(power_error) < 0.03
    assert np.percentile(power_error, 95) < 0.08


def test_the_default_is_closer_than_interpolation(tmp_path):
    given, rest = split(tmp_path, synthetic.rows(8))
    own, plain = errors(given, rest, "amble"), errors(given, rest, "interpolate")
    assert np.median(own[0]) < np.median(plain[0])
    assert np.median(own[1]) < 0.5 * np.median(plain[1])


def test_most_measured_values_lie_in_the_interval(tmp_path):
    given, rest = split(tmp_path, synthetic.rows(8, noise=0.01))
    _, _, found = errors(given, rest, "amble")
    inside = (found.latency_lo_s <= rest.latency_s) & (rest.latency_s <= found.latency_hi_s)
    assert inside.mean() >= 0.85
    assert ((found.power_lo_w <= rest.power_w) & (rest.power_w <= found.power_hi_w)).mean() >= 0.85


def test_intervals_are_wider_with_two_points_than_with_five(tmp_path):
    few, _ = split(tmp_path, synthetic.rows(2), num_points=2)
    more, rest = split(tmp_path, synthetic.rows(2))
    wide, narrow = (errors(given, rest, "amble")[2] for given in (few, more))
    assert np.median(wide.latency_hi_s / wide.latency_lo_s) > np.median(narrow.latency_hi_s / narrow.latency_lo_s)


def test_a_new_workload_with_two_points_borrows_from_its_siblings(tmp_path):
    rows = synthetic.rows(12)
    two, _ = split(tmp_path, rows, num_points=2)
    whole = synthetic.table(tmp_path, rows)
    new = whole.workload == "kernel5"
    few = np.array(
        [
            key in set(zip(two.core_hz, two.memory_hz, strict=True))
            for key in zip(whole.core_hz, whole.memory_hz, strict=True)
        ]
    )
    known, asked = whole.rows(~new | few), whole.rows(new & ~few)
    alone = errors(whole.rows(new & few), asked, "amble")
    among = errors(known, asked, "amble")
    assert np.mean(among[0]) < 0.5 * np.mean(alone[0])
    assert np.percentile(among[1], 95) < 0.04


@pytest.mark.parametrize("model", MODELS)
def test_every_model_fits_a_table_of_one_clock_without_batch_or_cpu(tmp_path, model):
    rows = [row for row in synthetic.rows(2) if row["memory_hz"] == "3200000000"]
    columns = ("device", "workload", "core_hz", "memory_hz", "latency_s", "power_w")
    table = synthetic.table(tmp_path, rows, columns=columns)
    found, notes = predict_table(fit_table(table, model=model, hold_out=0), table)
    assert np.isfinite(found.latency_s).all()
    assert np.isfinite(found.power_w).all()
    assert notes == ()


def test_power_limits_alone_predict_slower_runs_under_lower_limits(tmp_path):
    limits = (100, 150, 200, 250)
    rows = [
        {"workload": "a", "power_limit_w": str(cap), "latency_s": f"{1 + 60 / cap:.5g}", "power_w": str(min(cap, 210))}
        for cap in limits
    ]
    fitted = fit_table(synthetic.table(tmp_path, rows), hold_out=0)
    asked = [{"workload": "a", "power_limit_w": str(cap)} for cap in (120, 175, 225)]
    found, _ = predict_table(fitted, synthetic.table(tmp_path, asked))
    assert (np.diff(found.latency_s) < 0.01).all()
    assert found.power_w[0] == pytest.approx(120, rel=0.06)


def test_only_the_request_is_needed_where_clocks_do_not_run_as_asked(tmp_path):
    asked, ran = (600, 1200, 1500, 2100), (600, 1200, 1500, 1700)
    rows = [
        {"workload": "a", "requested_core_hz": f"{a}e6", "core_hz": f"{r}e6", "latency_s": f"{1 / r:.6g}"}
        for a, r in zip(asked, ran, strict=True)
    ]
    fitted = fit_table(synthetic.table(tmp_path, rows), hold_out=0)
    assert any("did not run as asked" in note for note in fitted.notes)
    points = [{"workload": "a", "requested_core_hz": f"{a}e6"} for a in (900, 1900, 2000)]
    found, _ = predict_table(fitted, synthetic.table(tmp_path, points))
    assert found.latency_s == pytest.approx([1 / 900, 1 / 1700, 1 / 1700], rel=0.01)


def test_times_alone_leave_power_unknown(tmp_path):
    rows = [{**row, "power_w": ""} for row in synthetic.rows(2)]
    table = synthetic.table(tmp_path, rows)
    found, _ = predict_table(fit_table(table, hold_out=0), table)
    assert np.isfinite(found.latency_s).all()
    assert np.isnan(found.power_w).all()


def test_a_single_point_predicts_itself_and_says_what_to_add(tmp_path):
    rows = synthetic.rows(1)
    fitted = fit_table(synthetic.table(tmp_path, [*rows[:1]]), hold_out=0)
    assert any("no knob varies" in note for note in fitted.notes)
    found, _ = predict_table(fitted, synthetic.table(tmp_path, rows[:1]))
    assert found.latency_s[0] == pytest.approx(float(rows[0]["latency_s"]), rel=1e-4)


def test_too_few_points_are_named_with_those_to_add(tmp_path):
    fitted = fit_table(synthetic.table(tmp_path, [synthetic.rows(1)[0], synthetic.rows(1)[-1]]), hold_out=0)
    note = next(note for note in fitted.notes if "fewer than 5 points" in note)
    assert "kernel0" in note
    assert "add" in note


def test_a_law_with_too_few_points_names_the_simpler_form(tmp_path):
    rows = [row for row in synthetic.rows(1) if row["memory_hz"] == "3200000000"]
    fitted = fit_table(synthetic.table(tmp_path, [rows[0], rows[-1]]), model="han", hold_out=0)
    assert any("han-b1" in note for note in fitted.notes)


def test_unknown_workloads_and_other_fixed_clocks_are_widely_bounded_and_said(tmp_path):
    rows = [row for row in synthetic.rows(2) if row["memory_hz"] == "3200000000"]
    fitted = fit_table(synthetic.table(tmp_path, rows), hold_out=0)
    asked = [rows[0], {**rows[0], "workload": "stranger"}, {**rows[0], "memory_hz": "800000000"}]
    found, notes = predict_table(fitted, synthetic.table(tmp_path, asked))
    width = found.latency_hi_s / found.latency_lo_s
    assert found.latency_s[0] == pytest.approx(float(rows[0]["latency_s"]), rel=1e-6)
    assert width[1] > 1.5 * width[0]
    assert found.latency_lo_s[2] < found.latency_s[0] < 4 * found.latency_s[0] < found.latency_hi_s[2]
    assert any("not fitted" in note for note in notes)
    assert any("never measured" in note for note in notes)


def test_rows_beyond_the_measured_clocks_are_said(tmp_path):
    rows = [row for row in synthetic.rows(1) if row["memory_hz"] == "3200000000"]
    fitted = fit_table(synthetic.table(tmp_path, rows), hold_out=0)
    _, notes = predict_table(fitted, synthetic.table(tmp_path, [{**rows[0], "core_hz": "1900000000"}]))
    assert any("outside the measured clocks" in note for note in notes)


def test_a_fitted_table_survives_its_file_and_predicts_the_same(tmp_path):
    given, rest = split(tmp_path, synthetic.rows(3))
    fitted = fit_table(given, hold_out=0)
    save(fitted, tmp_path / "fitted.json", FITTED)
    again = load(tmp_path / "fitted.json", FITTED)
    assert again == fitted
    first, second = predict_table(fitted, rest)[0], predict_table(again, rest)[0]
    assert first.latency_s.tolist() == second.latency_s.tolist()


def test_predictions_are_written_beside_the_same_rows(tmp_path):
    given, rest = split(tmp_path, synthetic.rows(2))
    found, _ = predict_table(fit_table(given, hold_out=0), rest)
    write_predictions(rest, found, tmp_path / "out.csv")
    header = (tmp_path / "out.csv").read_text().splitlines()[0].split(",")
    assert header == [*SCHEMA, "latency_lo_s", "latency_hi_s", "power_lo_w", "power_hi_w"]
    written = read_table(tmp_path / "out.csv")
    assert written.core_hz.tolist() == rest.core_hz.tolist()
    assert written.latency_s == pytest.approx(found.latency_s, rel=1e-6)


def test_held_out_error_is_that_of_points_left_out(tmp_path):
    held_out = fit_table(synthetic.table(tmp_path, synthetic.rows(2)), model="cpu-dvfs").held_out
    better = fit_table(synthetic.table(tmp_path, synthetic.rows(2))).held_out
    assert held_out is not None
    assert better is not None
    assert better.time_median < 0.3 * held_out.time_median
    assert better.time_covered >= 0.8
    assert held_out.time_covered in (None, 0.0)


def test_an_unknown_model_is_a_wrong_argument(tmp_path):
    with pytest.raises(ValueError, match="there is no model 'tea-leaves'"):
        fit_table(synthetic.table(tmp_path, synthetic.rows(1)), model="tea-leaves")


def test_time_grows_hardly_faster_than_the_workloads(tmp_path):
    """A ratio of CPU times in one run: it holds on any machine, whatever else runs on it."""

    def taken_s(workloads: int) -> float:
        given, rest = split(tmp_path, synthetic.rows(workloads, noise=0.01))
        start_s = time.thread_time()
        predict_table(fit_table(given, hold_out=0), rest)
        return time.thread_time() - start_s

    assert taken_s(100) < 5.0**1.5 * taken_s(20)


def test_intervals_that_missed_what_was_left_out_are_stretched_but_not_where_measured(tmp_path):
    given, rest = split(tmp_path, synthetic.rows(8))
    fitted = fit_table(given, hold_out=0)
    left_out = replace(fit_table(given).held_out, time_wider=2.0, power_wider=1.0, time_lines=0.0, power_lines=0.0)
    stretched = replace(fitted, held_out=left_out)
    (before, _), (after, _) = predict_table(fitted, rest), predict_table(stretched, rest)
    assert np.log(after.latency_hi_s / after.latency_s) == pytest.approx(
        2 * np.log(before.latency_hi_s / before.latency_s)
    )
    assert after.power_lo_w == pytest.approx(before.power_lo_w)
    (before, _), (after, _) = predict_table(fitted, given), predict_table(stretched, given)
    assert after.latency_hi_s == pytest.approx(before.latency_hi_s)


def test_a_walk_that_follows_no_law_errs_hardly_more_than_straight_lines(tmp_path):
    rng = np.random.default_rng(5)
    clocks = np.linspace(3e8, 1.5e9, 25)
    wave = np.exp(np.cumsum(rng.normal(0, 0.25, len(clocks))))
    measured = [
        {"device": "odd", "workload": f"w{row}", "core_hz": f"{clock:.0f}", "latency_s": f"{level * (row + 1):.6g}"}
        for row in range(6)
        for clock, level in zip(clocks, wave, strict=True)
    ]
    fitted = fit_table(synthetic.table(tmp_path, measured))
    lines = fit_table(synthetic.table(tmp_path, measured), model="interpolate")
    assert fitted.held_out.time_median <= 1.3 * lines.held_out.time_median
    assert fitted.held_out.time_p95 <= 1.05 * lines.held_out.time_p95
    assert fitted.held_out.time_covered >= 0.9


def test_errors_that_interpolation_halves_give_it_a_share():
    own, lines = np.linspace(-0.2, 0.2, 40), np.linspace(-0.1, 0.1, 40)
    assert interpolation_share(own, lines) == 1.0
    assert interpolation_share(lines, own) == 0.0
    assert interpolation_share(own, -own) == 0.5
    assert interpolation_share(own, 0.95 * own) == 0.0


def test_a_stacked_prediction_lies_between_its_members(tmp_path):
    given, rest = split(tmp_path, synthetic.rows(8))
    fitted = fit_table(given, hold_out=0)
    halves = replace(fit_table(given).held_out, time_lines=0.5, power_lines=0.0, time_wider=1.0, power_wider=1.0)
    own, _ = predict_table(fitted, rest)
    lines, _ = predict_table(fit_table(given, model="interpolate", hold_out=0), rest)
    both, _ = predict_table(replace(fitted, held_out=halves), rest)
    assert both.latency_s == pytest.approx(np.sqrt(own.latency_s * lines.latency_s))
    assert both.power_w == pytest.approx(own.power_w)


def test_the_summary_says_what_the_points_left_out_changed(tmp_path):
    fitted = fit_table(synthetic.table(tmp_path, synthetic.rows(2)))
    plain = replace(fitted.held_out, time_wider=1.0, power_wider=1.0, time_lines=0.0, power_lines=0.0)
    changed = replace(fitted, held_out=replace(plain, time_wider=1.5))
    assert ("time, as they asked for", "interval x 1.50, 0% straight lines") in changed.summary()
    assert all("asked" not in what for what, _ in replace(fitted, held_out=plain).summary())


def two_devices():
    rows = [row for row in synthetic.rows(3) if row["memory_hz"] == "3200000000"]
    slow = [
        {
            **row,
            "device": "other",
            "core_hz": f"{float(row['core_hz']) / 2:.0f}",
            "latency_s": f"{7 * float(row['latency_s']):.7g}",
        }
        for row in synthetic.rows(3)
    ]
    return rows, slow


def test_devices_of_one_table_are_fitted_each_by_itself(tmp_path):
    one, other = two_devices()
    both = fit_table(synthetic.table(tmp_path, [*one, *other]), hold_out=0)
    apart = [fit_table(synthetic.table(tmp_path, rows), hold_out=0) for rows in (one, other)]
    assert (both.knobs, both.others[0].knobs) == (("core_hz",), ("core_hz", "memory_hz"))
    assert any("2 devices, each fitted by itself: made-up, other" in note for note in both.notes)
    assert [line for line in both.summary() if line[0] == "device"] == [("device", "made-up"), ("device", "other")]
    asked = [{**row, "core_hz": "600000000"} for row in (one[0], other[0])]
    together, _ = predict_table(both, synthetic.table(tmp_path, asked))
    for place, fitted in enumerate(apart):
        alone, _ = predict_table(fitted, synthetic.table(tmp_path, asked[place : place + 1]))
        assert together.latency_s[place] == alone.latency_s[0]
        assert together.power_hi_w[place] == alone.power_hi_w[0]
    save(both, tmp_path / "both.json", FITTED)
    assert load(tmp_path / "both.json", FITTED) == both


def test_a_device_that_was_not_measured_among_several_is_refused(tmp_path):
    one, other = two_devices()
    both = fit_table(synthetic.table(tmp_path, [*one, *other]), hold_out=0)
    for name, said in (
        ("third", "no device 'third'; it has made-up, other"),
        ("", "several devices; with --device name one of"),
    ):
        with pytest.raises(Refused, match=said):
            predict_table(both, synthetic.table(tmp_path, [{**one[0], "device": name, "workload": "kernel9"}]))


def test_names_that_are_left_out_are_filled_in_where_one_workload_is_meant(tmp_path):
    rows = [{**row, "batch": "8", "precision": "fp16"} for row in synthetic.rows(2)]
    fitted = fit_table(synthetic.table(tmp_path, rows), hold_out=0)
    asked = {"workload": "kernel1", "core_hz": rows[0]["core_hz"], "memory_hz": rows[0]["memory_hz"]}
    found, notes = predict_table(fitted, synthetic.table(tmp_path, [asked]))
    assert found.latency_s[0] == pytest.approx(float(rows[18]["latency_s"]), rel=1e-6)
    assert notes == ()


def test_how_names_were_read_is_said_by_the_fit_and_by_predictions(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("workload,core_mhz,Latency [ms],temp\nw,300,40,1\nw,600,21,1\nw,900,15,1\n")
    fitted = fit_table(read_table(path), hold_out=0)
    assert fitted.notes[:2] == (
        "read core_mhz as core_hz (x 1e+06), Latency [ms] as latency_s (x 0.001)",
        "columns that are not read: temp",
    )
    path.write_text("workload,core_mhz,latency,colour\nw,600,,red\n")
    found, notes = predict_table(fitted, read_table(path))
    assert found.latency_s[0] == pytest.approx(0.021)
    assert notes[0] == "read core_mhz as core_hz (x 1e+06)"
    assert notes[-1] == "columns that are not read: colour"
    path.write_text("workload,core\nw,600\n")
    with pytest.raises(Refused, match="line 1 names core: if it is core_hz, name it so"):
        predict_table(fitted, read_table(path))


def test_a_quantity_without_its_unit_is_refused_with_the_name_to_give_it(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("workload,core_mhz,latency_ms,power\nw,300,40,1\nw,600,21,1\n")
    with pytest.raises(Refused, match="column power: it has no unit; name it power_w, or power_mw and the like"):
        fit_table(read_table(path), hold_out=0)
